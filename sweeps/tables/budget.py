"""Budget: the best validation value that so many trials of a search are expected to find.

Searches compare at one budget, not by who had more trials. The formula is in
`sweeps.statistics.budget`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from medrec.measures import Measure
from sweeps.best import eligible
from sweeps.record import SearchPlan
from sweeps.statistics.budget import expected_maximum
from sweeps.statistics.exact import settled
from sweeps.statistics.inference import Value
from sweeps.statistics.results import StudyResults, marked
from sweeps.tables._base import (
    Cell,
    Column,
    Row,
    Table,
    TableData,
    cohort_sentence,
    count_column,
    text_column,
)
from sweeps.tables.search import STATES

STEPS = (1, 2, 5)  # and ten times, a hundred times as many, …


def build(results: StudyResults) -> list[TableData] | None:
    """Returns the table; None without searches."""
    plans = results.record.searches
    if not plans:
        return None
    found = {plan.name: expected(results, plan) for plan in plans}
    longest = max(map(len, found.values()))
    budgets = trial_budgets(longest)
    decimals = max(results.metrics[plan.objectives[0]].decimals for plan in plans)
    columns = (
        text_column("search", "Search"),
        text_column("model", "Model"),
        text_column("objective", "Objective"),
        count_column("asked", "Asked"),
        *(count_column(state, state.capitalize()) for state in STATES),
        *(
            Column(f"expected_{m}", f"E[best of {m}]", decimals=decimals, numeric=True)
            for m in budgets
        ),
        Column("expected_all", "E[best of all]", decimals=decimals, numeric=True),
    )
    rows = tuple(_row(results, plan, found[plan.name], budgets) for plan in plans)
    return [TableData("budget", "Searches by budget", columns, rows, _caption(results, plans))]


def expected(results: StudyResults, plan: SearchPlan) -> Float64[np.ndarray, " trials"]:
    """Returns the expected best of the first objective after 1, 2, … n trials.

    A configuration that was suggested twice is one trial. Rounded to ten decimals: further ones
    may differ between machines.
    """
    sign = _sign(results.metrics[plan.objectives[0]])
    values = {
        str(record["key"]): sign * record["values"][0]
        for record in results.searches[plan.name]
        if eligible(plan, record) and math.isfinite(record["values"][0])
    }
    if not values:
        return np.zeros(0)
    return settled(sign * expected_maximum(np.array(list(values.values()), dtype=np.float64)))


def trial_budgets(most: int) -> tuple[int, ...]:
    """Returns 1, 2, 5, 10, 20, 50, … up to a number of trials.

    Example:
        >>> trial_budgets(30)
        (1, 2, 5, 10, 20)
    """
    powers = range(len(str(most)))
    return tuple(m for power in powers for step in STEPS if (m := step * 10**power) <= most)


def _sign(metric: Measure) -> float:
    return -1.0 if metric.higher_is_better is False else 1.0


def _row(
    results: StudyResults, plan: SearchPlan, values: np.ndarray, budgets: Sequence[int]
) -> Row:
    records: list[Mapping[str, Any]] = list(results.searches[plan.name])
    counts = [sum(record.get("state") == state for record in records) for state in STATES]
    metric = results.metrics[plan.objectives[0]]
    goal = f"{metric.title} {'↓' if _sign(metric) < 0 else '↑'}"
    cells: list[Cell] = [
        marked(Value(float(values[m - 1])), metric, plan) if m <= len(values) else None
        for m in budgets
    ]
    cells.append(marked(Value(float(values[-1])), metric, plan) if len(values) else None)
    return Row((plan.name, plan.model, goal, plan.trials, *counts, *cells))


def _caption(results: StudyResults, plans: Sequence[SearchPlan]) -> str:
    several = any(len(plan.objectives) > 1 for plan in plans)
    first = " Of several objectives, the first." if several else ""
    bounded = any(
        bound is not None for plan in plans for bound in (plan.ddi_ceiling, plan.medication_floor)
    )
    bounds = " and keeps the search's bounds" if bounded else ""
    pruned = [
        f"{plan.name}: {stopped}"
        for plan in plans
        if (stopped := sum(r.get("state") == "pruned" for r in results.searches[plan.name]))
    ]
    early = (
        f" Trials were stopped early ({'; '.join(pruned)}): those trained in full are then the "
        "better ones, and what m trials are expected to find is told too high."
        if pruned
        else ""
    )
    seeds = "; ".join(
        f"{plan.name}: training seed {plan.base.seed}, sampler seed {plan.sampler_seed}"
        for plan in plans
    )
    return (
        f"Study {results.record.name}. E[best of m]: expected best validation value of m trials "
        "drawn with replacement from the search's own, each trained in full"
        f"{bounds}; trials stopped early or failed are not drawn, so m counts full trials only."
        f"{early}{first} The last column takes as many as there are. For comparing "
        "searches at one m: later trials of a search are proposed from earlier ones, so that it "
        "is no forecast of a longer search (Dodge et al. 2019). Values are of the "
        "validation split, without intervals (no resamples); a search never reads the test "
        f"split. Seeds: {seeds}. {cohort_sentence(results)}"
    )


TABLE = Table("Searches by budget", build, needs="searches")
