"""What a study has spent over every time it was run, and whether that is all it may spend.

Each driver notes what had been spent when it started and what it spends itself (see
`sweeps.session`), so hours count once and survive kills: what is lost is the time since its last
beat. GPU hours are those of the clock while a trial held its GPUs, whatever became of the trial:
stored, stopped early, failed, its process lost, interrupted, or still running.
"""

from collections.abc import Collection, Mapping
from typing import Any

from sweeps.errors import DamagedTrialError, StoreError
from sweeps.provenance import trial_seconds
from sweeps.session_notes import Totals, sessions
from sweeps.store import ResultsStore
from sweeps.study import RunBudget

Spent = Totals

_HOUR = 3600.0
_ENDED = ("complete", "pruned", "failed")


def spent(store: ResultsStore, stored: Collection[str] | None = None) -> Spent:
    """Returns what was spent on a study until now, over all its drivers.

    Args:
        store: the results directory.
        stored: keys of its stored trials, where they are known already.
    """
    keys = set(store.trial_keys() if stored is None else stored)
    notes = sessions(store)
    if not notes:  # results of drivers that left no notes
        return Spent(trials=finished(store, keys), gpu_hours=_gpu_hours(store, keys))
    # Totals only rise. Where one note is lost, the next one still holds what it had said.
    totals = [note.spent() for note in notes]
    return Spent(
        trials=finished(store, keys),
        hours=max(total.hours for total in totals),
        gpu_hours=max(total.gpu_hours for total in totals),
    )


def finished(store: ResultsStore, stored: Collection[str]) -> int:
    """Returns how many trials ended: stored ones, and those that a search stopped or that failed.

    Trials that several suggestions share count once.
    """
    try:
        searches = store.study().searches
    except StoreError:
        return len(stored)
    ended = {
        str(note["key"])
        for search in searches
        for note in store.search_records(search.name)
        if note["state"] in _ENDED
    }
    return len(ended.union(stored))


def _gpu_hours(store: ResultsStore, stored: Collection[str]) -> float:
    """Returns the GPU hours that stored trials and their failed attempts tell of."""
    seconds = 0.0
    for key in stored:
        try:
            summary = store.summary(key)
        except DamagedTrialError:
            continue
        lost = (summary.get("failed_attempts") or {}).get("seconds", 0.0)
        seconds += ((trial_seconds(summary) or 0.0) + float(lost)) * gpus_of(summary)
    return seconds / _HOUR


def gpus_of(summary: Mapping[str, Any]) -> float:
    """Returns how many GPUs a stored trial held over all its workers, as its spec asked."""
    asked = (summary.get("spec") or {}).get("resources") or {}
    return float(asked.get("gpus", 0.0)) * int(asked.get("workers", 1))


def over(budget: RunBudget, spent: Spent) -> str | None:
    """Returns what to say where a limit is reached, and None where there is room."""
    for name, unit in (("max_trials", "trials"), ("max_hours", "hours"),
                       ("max_gpu_hours", "GPU hours")):  # fmt: skip
        limit = getattr(budget, name)
        used = getattr(spent, name.removeprefix("max_"))
        if limit is not None and used >= limit:
            return (
                f"budget.{name}: {_shown(used)} of {_shown(limit)} {unit} are spent, so no "
                "further trial starts. What is finished is kept; to go on, raise the limit and "
                "run the same command."
            )
    return None


def told(budget: RunBudget, spent: Spent) -> str:
    """Returns the limits and what is spent of them, as `3 of 10 trials, 0.25 of 2 hours`."""
    parts = []
    for name, unit in (("trials", "trials"), ("hours", "hours"), ("gpu_hours", "GPU hours")):
        limit, used = getattr(budget, f"max_{name}"), getattr(spent, name)
        if limit is not None:
            parts.append(f"{_shown(used)} of {_shown(limit)} {unit}")
    return ", ".join(parts)


def _shown(amount: float) -> str:
    return f"{amount:,}" if isinstance(amount, int) else f"{round(amount, 3):g}"
