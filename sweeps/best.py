"""Which trials of a search are the best: complete, within its bounds, and beaten by none."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from medrec.measures import Measure
from sweeps.record import SearchPlan


def best_records(
    plan: SearchPlan, records: Sequence[dict[str, Any]], metrics: Mapping[str, Measure]
) -> list[dict[str, Any]]:
    """Returns the best complete trial, or the Pareto front in order of the first objective.

    Args:
        plan: the search.
        records: what became of each of its suggestions.
        metrics: definition of each objective by name.
    """
    complete: dict[str, dict[str, Any]] = {}
    for record in records:
        if eligible(plan, record):
            complete.setdefault(str(record["key"]), record)  # a repeated suggestion counts once
    signs = [1.0 if metrics[name].higher_is_better else -1.0 for name in plan.objectives]
    scored = [
        (tuple(s * v for s, v in zip(signs, record["values"], strict=True)), record)
        for record in complete.values()
    ]
    front = [
        (score, record)
        for score, record in scored
        if not any(_dominates(other, score) for other, _ in scored)
    ]
    front.sort(key=lambda pair: ([-value for value in pair[0]], int(pair[1]["number"])))
    found = [record for _, record in front]
    return found[:1] if len(plan.objectives) == 1 else found


def eligible(plan: SearchPlan, record: Mapping[str, Any]) -> bool:
    """Returns whether the trial is complete and known to keep the search's bounds, if any."""
    values = record.get("values") or ()
    if record.get("state") != "complete" or not _finite(values, len(plan.objectives)):
        return False
    held = record.get("held") or {}  # by how much each bound is exceeded
    bounds = {"ddi_ceiling": plan.ddi_ceiling, "medication_floor": plan.medication_floor}
    return all(
        bound is None or (name in held and held[name] <= 0) for name, bound in bounds.items()
    )


def _finite(values: Sequence[Any], count: int) -> bool:
    return len(values) == count and all(
        isinstance(value, int | float) and math.isfinite(value) for value in values
    )


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(a >= b for a, b in zip(one, other, strict=True)) and tuple(one) != tuple(other)
