"""Searches: what each asked for, how its trials ended, and what it found on validation.

A search with several objectives has a table of its own with its Pareto front. Only trials
trained in full count: a trial stopped early is no result.
"""

from collections.abc import Sequence
from typing import Any

from sweeps.best import best_records
from sweeps.record import SearchPlan
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

STATES = ("complete", "pruned", "failed", "running")


def build(results: StudyResults) -> list[TableData] | None:
    """Returns the overview and a table for each Pareto front; None without searches."""
    plans = results.record.searches
    if not plans:
        return None
    fronts = [_front_table(results, plan) for plan in plans if len(plan.objectives) > 1]
    return [_overview(results, plans), *fronts]


def best_trials(results: StudyResults, plan: SearchPlan) -> list[dict[str, Any]]:
    """Returns the best complete trial, or the Pareto front in order of the first objective."""
    return best_records(plan, results.searches[plan.name], results.metrics)


def _bounds(plan: SearchPlan) -> str:
    """Returns the search's bounds in words, empty if it has none."""
    text = ""
    if plan.ddi_ceiling is not None:
        text += f", DDI rate at most {plan.ddi_ceiling:g}"
    if plan.medication_floor is not None:
        text += f", at least {plan.medication_floor:g} drugs per visit"
    return text


def settings(params: dict[str, Any]) -> str:
    """Returns a configuration as text, sorted by name.

    Example:
        >>> settings({"dim": 64, "dropout": 0.30000000000000004})
        'dim=64, dropout=0.3'
    """
    return ", ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in sorted(params.items())
    )


def _overview(results: StudyResults, plans: Sequence[SearchPlan]) -> TableData:
    objectives = tuple(dict.fromkeys(name for plan in plans for name in plan.objectives))
    return TableData(
        name="search",
        title="Searches",
        columns=(
            text_column("search", "Search"),
            text_column("model", "Model"),
            text_column("objectives", "Objectives"),
            text_column("best", "Best configuration"),
            *(_objective(results, name) for name in objectives),
            count_column("asked", "Asked"),
            *(count_column(state, state.capitalize()) for state in STATES),
        ),
        rows=tuple(_overview_row(results, plan, objectives) for plan in plans),
        caption=_caption(results, plans),
    )


def _objective(results: StudyResults, name: str) -> Column:
    metric = results.metrics[name]
    return Column(
        f"validation_{name}",
        f"Validation {metric.title}",
        metric.unit,
        metric.decimals,
        metric.higher_is_better,
        numeric=True,
    )


def _overview_row(results: StudyResults, plan: SearchPlan, objectives: Sequence[str]) -> Row:
    records = results.searches[plan.name]
    counts = [sum(record.get("state") == state for record in records) for state in STATES]
    best = best_trials(results, plan)
    values: dict[str, Cell] = {}
    if not best:
        found = "none within the bounds" if _bounds(plan) else "none"
    elif len(plan.objectives) > 1:
        found = f"Pareto front of {len(best)}, see its table"
    else:
        found = settings(best[0]["params"])
        values = _values(results, plan, best[0])
    asked = ", ".join(results.metrics[name].title for name in plan.objectives)
    goals = (values.get(name) for name in objectives)
    return Row((plan.name, plan.model, asked + _bounds(plan), found, *goals, plan.trials, *counts))


def _values(results: StudyResults, plan: SearchPlan, record: dict[str, Any]) -> dict[str, Cell]:
    """Returns the objectives of a trial."""
    return {
        name: marked(Value(value), results.metrics[name], plan)
        for name, value in zip(plan.objectives, record["values"], strict=True)
    }


def _front_table(results: StudyResults, plan: SearchPlan) -> TableData:
    return TableData(
        name=f"search_{plan.name}",
        title=f"Pareto front of search {plan.name}",
        columns=(
            text_column("number", "Trial"),
            *(_objective(results, name) for name in plan.objectives),
            text_column("configuration", "Configuration"),
        ),
        rows=tuple(
            Row((str(r["number"]), *_values(results, plan, r).values(), settings(r["params"])))
            for r in best_trials(results, plan)
        ),
        caption=_caption(results, [plan]),
    )


def _caption(results: StudyResults, plans: Sequence[SearchPlan]) -> str:
    seeds = "; ".join(
        f"{plan.name}: training seed {plan.base.seed}, sampler seed {plan.sampler_seed}"
        for plan in plans
    )
    return (
        f"Study {results.record.name}. Values are of the validation split, without intervals "
        "(no resamples); a search never reads the test split. Only complete trials can be best. "
        f"Seeds: {seeds}. {cohort_sentence(results)}"
    )


TABLE = Table("Searches", build, needs="searches")
