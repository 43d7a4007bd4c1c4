"""Early against final: from which epoch on a search may stop trials, for each search."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from sweeps.record import SearchPlan
from sweeps.statistics.early import (
    ENOUGH,
    FEWEST_CONFIGURATIONS,
    best_so_far,
    grace_epochs,
    rank_correlations,
)
from sweeps.statistics.exact import settled
from sweeps.statistics.inference import Value
from sweeps.statistics.results import StudyResults
from sweeps.tables._base import (
    Column,
    Row,
    Table,
    TableData,
    cohort_sentence,
    count_column,
    text_column,
)

EPOCHS = (1, 2, 3, 5, 8, 10, 15, 20, 30, 50)


def build(results: StudyResults) -> list[TableData] | None:
    """Returns the table; None where no search has enough trials that were trained in full."""
    found = {plan.name: curves(results, plan) for plan in results.record.searches}
    plans = [p for p in results.record.searches if len(found[p.name]) >= FEWEST_CONFIGURATIONS]
    if not plans:
        return None
    longest = max(found[plan.name].shape[1] for plan in plans)
    epochs = [epoch for epoch in EPOCHS if epoch < longest]
    columns = (
        text_column("search", "Search"),
        text_column("model", "Model"),
        count_column("configurations", "Configurations"),
        count_column("epochs", "Epochs"),
        *(
            Column(f"rho_{epoch}", f"ρ at {epoch}", "rank correlation", 2, numeric=True)
            for epoch in epochs
        ),
        count_column("grace", "Earliest stop"),
    )
    rows = tuple(_row(plan, found[plan.name], epochs) for plan in plans)
    return [TableData("early", "Early against final", columns, rows, _caption(results, plans))]


def curves(
    results: StudyResults, plan: SearchPlan
) -> Float64[np.ndarray, "configurations epochs"]:
    """Returns the best first objective so far of each configuration trained in full."""
    name = plan.objectives[0]
    keys = dict.fromkeys(
        str(record["key"])
        for record in results.searches[plan.name]
        if record.get("state") == "complete"
    )
    values = [results.histories[key][name] for key in keys if key in results.histories]
    epochs = plan.base.training.epochs
    whole = [column for column in values if len(column) == epochs]
    sign = -1.0 if results.metrics[name].higher_is_better is False else 1.0
    return best_so_far(sign * np.array(whole, dtype=np.float64).reshape(-1, epochs))


def _row(plan: SearchPlan, found: np.ndarray, epochs: Sequence[int]) -> Row:
    correlations = settled(rank_correlations(found))
    cells = (
        Value(float(correlations[epoch - 1])) if epoch < found.shape[1] else None
        for epoch in epochs
    )
    counts = (len(found), found.shape[1])
    return Row((plan.name, plan.model, *counts, *cells, grace_epochs(found)))


def _caption(results: StudyResults, plans: Sequence[SearchPlan]) -> str:
    stopped = sum(plan.early_stopping is not None for plan in plans)
    warning = (
        f" {stopped} of the searches stopped trials early: what was stopped is not in here, and "
        "the correlations are too high."
        if stopped
        else ""
    )
    return (
        f"Study {results.record.name}. ρ at e: Spearman's rank correlation, over a search's "
        "configurations, of the best validation value of its first objective up to epoch e with "
        f"that at the last epoch. Earliest stop: the first epoch from which on ρ stays at "
        f"{ENOUGH:g} or above, whichever configuration is left out; no trial of an early-stopping "
        "search should be stopped before it. "
        f"Only trials trained in full, at least {FEWEST_CONFIGURATIONS}; without intervals (no "
        f"resamples). The test split is not read.{warning} {cohort_sentence(results)}"
    )


TABLE = Table(
    "Early against final", build, needs="a search with eight trials that were trained in full"
)
