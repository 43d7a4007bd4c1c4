"""Cost: what every arm and search took, failed attempts included.

Hours are those of the clock while a trial held its processors or its share of a GPU, times what it
held. They are read from the stored trials, so the table is the same each time it is made.
"""

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from medrec.spec import Resources
from sweeps.attempts import Unfinished
from sweeps.provenance import trial_seconds
from sweeps.record import Arm, SearchPlan
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

_HOUR = 3600.0


@dataclass(frozen=True)
class Spent:
    """What one trial took.

    Attributes:
        complete: whether it was trained in full.
        epochs: trained.
        seconds: of the clock, of all attempts.
        lost: of these, seconds of failed attempts that nothing was kept of.
        failed: failed attempts.
        epoch_seconds: mean seconds of its epochs; None where it is unknown.
        resources: what it held.
    """

    complete: bool
    epochs: int
    seconds: float
    lost: float
    failed: int
    epoch_seconds: float | None
    resources: Resources


def build(results: StudyResults) -> list[TableData] | None:
    """Returns the table; None where no trial was run."""
    usual = _usual_resources(results)
    arms = {arm.name: _arm_trials(results, arm, usual) for arm in results.record.arms}
    searches = {
        search.name: _search_trials(results, search, usual) for search in results.record.searches
    }
    every: dict[str, Spent] = {}
    for trials in (*searches.values(), *arms.values()):
        every |= trials
    if not every:
        return None
    rows = [_row(arm.title, arms[arm.name], "arms") for arm in results.record.arms]
    rows += [_row(f"Search {name}", trials, "searches") for name, trials in searches.items()]
    rows.append(_row("Total", every, "total"))
    return [TableData("cost", "Cost", _columns(), tuple(rows), _caption(results))]


def _columns() -> tuple[Column, ...]:
    return (
        text_column("name", "Arm or search"),
        count_column("trials", "Trials"),
        count_column("epochs", "Epochs"),
        Column("cpu_hours", "CPU hours", "hours × cores", decimals=3, numeric=True),
        Column("gpu_hours", "GPU hours", "hours × GPUs", decimals=3, numeric=True),
        count_column("failed_attempts", "Failed attempts"),
        Column("lost", "Share lost", "fraction of the time, in [0, 1]", decimals=3, numeric=True),
        Column("epoch_seconds", "Seconds per epoch", "s, median", decimals=3, numeric=True),
    )


def _row(title: str, trials: Mapping[str, Spent], block: str) -> Row:
    spent = trials.values()
    seconds = sum(trial.seconds for trial in spent)
    cpus = sum(t.seconds * t.resources.cpus * t.resources.workers for t in spent)
    gpus = sum(t.seconds * t.resources.gpus * t.resources.workers for t in spent)
    rates = [trial.epoch_seconds for trial in spent if trial.epoch_seconds is not None]
    cells = (
        title,
        sum(trial.complete for trial in spent),
        sum(trial.epochs for trial in spent),
        Value(cpus / _HOUR),
        Value(gpus / _HOUR),
        sum(trial.failed for trial in spent),
        Value(sum(trial.lost for trial in spent) / seconds) if seconds else None,
        Value(statistics.median(rates)) if rates and block != "total" else None,
    )
    return Row(cells, block=block)


def _arm_trials(results: StudyResults, arm: Arm, usual: Resources) -> dict[str, Spent]:
    found = {}
    for key in arm.trials.values():
        if key in results.summaries:
            history = results.histories[key].get("seconds", [])
            found[key] = stored_trial(results.summaries[key], len(history), sum(history))
        elif key in results.unfinished:
            found[key] = unfinished_trial(results.unfinished[key], usual)
    return found


def _search_trials(
    results: StudyResults, search: SearchPlan, usual: Resources
) -> dict[str, Spent]:
    """Returns a search's trials; of one stopped early, the time follows from its epochs."""
    found, stopped = {}, {}
    held = search.base.resources
    for record in results.searches[search.name]:
        key, epochs = str(record["key"]), int(record.get("epochs") or 0)
        summary = results.summaries.get(key) or results.searched.get(key)
        if summary is not None:
            found[key] = stored_trial(summary, epochs, None)
        elif record.get("seconds") is not None:
            found[key] = stopped_trial(record, results.unfinished.get(key), held)
        elif record.get("state") == "pruned":
            stopped[key] = epochs
        elif key in results.unfinished:
            found[key] = unfinished_trial(results.unfinished[key], held)
    rates = [trial.epoch_seconds for trial in found.values() if trial.epoch_seconds is not None]
    each = statistics.median(rates) if rates else 0.0
    for key, epochs in stopped.items():
        found[key] = Spent(False, epochs, epochs * each, 0.0, 0, None, usual)
    return found


def stored_trial(summary: Mapping[str, Any], epochs: int, training: float | None) -> Spent:
    """Returns what a stored trial took.

    Args:
        summary: its `trial.json`.
        epochs: that it was trained for.
        training: seconds of these epochs, where `trial.json` may not say it.
    """
    told = summary.get("seconds") or {}
    training = told.get("training", training)
    seconds = trial_seconds(summary)
    lost = summary.get("failed_attempts") or {}
    wasted = float(lost.get("seconds", 0.0))
    return Spent(
        complete=True,
        epochs=epochs,
        seconds=(training or 0.0 if seconds is None else seconds) + wasted,
        lost=wasted,
        failed=int(lost.get("attempts", 0)),
        epoch_seconds=training / epochs if training is not None and epochs else None,
        resources=_resources(summary) or Resources(),
    )


def unfinished_trial(told: Unfinished, resources: Resources) -> Spent:
    """Returns what a trial took that is not stored: it failed, or waits to go on."""
    return Spent(False, 0, told.seconds, told.lost, told.attempts, None, resources)


def stopped_trial(
    record: Mapping[str, Any], told: Unfinished | None, resources: Resources
) -> Spent:
    """Returns what a trial took that a search stopped early, as the search noted it."""
    lost, failed = (told.lost, told.attempts) if told else (0.0, 0)
    epochs, seconds = int(record.get("epochs") or 0), float(record["seconds"])
    each = seconds / epochs if epochs else None
    return Spent(False, epochs, seconds + lost, lost, failed, each, resources)


def _usual_resources(results: StudyResults) -> Resources:
    """Returns what trials asked for that left no spec: what most stored trials did."""
    asked = [found for s in results.summaries.values() if (found := _resources(s)) is not None]
    asked += [search.base.resources for search in results.record.searches]
    return statistics.mode(asked) if asked else Resources()


def _resources(summary: Mapping[str, Any]) -> Resources | None:
    told = (summary.get("spec") or {}).get("resources")
    if told is None:
        return None
    return Resources(cpus=told["cpus"], gpus=told["gpus"], workers=told.get("workers", 1))


def _caption(results: StudyResults) -> str:
    seeds = ", ".join(str(seed) for seed in results.record.seeds)
    return (
        f"Study {results.record.name}, training seeds {seeds}. Hours of the clock times the cores "
        "and GPUs that trials asked for, over all their workers, loading and prediction included; "
        "without intervals (no resamples). Trials are those trained in full. Share lost: of the "
        "time, in failed attempts and in those whose process died."
        f"{_estimated(results)} Trials that several arms or searches share "
        f"count in each, and once in the total. {cohort_sentence(results)}"
    )


def _estimated(results: StudyResults) -> str:
    records: Iterable[dict[str, Any]] = (r for found in results.searches.values() for r in found)
    stopped = sum(r.get("state") == "pruned" and r.get("seconds") is None for r in records)
    if not stopped:
        return ""
    return (
        f" The {stopped} trials that searches stopped early left no time: it is taken as their "
        "epochs times the median seconds of the others."
    )


TABLE = Table("Cost", build, needs="a trial that was run")
