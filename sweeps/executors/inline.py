"""Trials one after another in this process: for tests, debugging, and machines without Ray.

Gives what the Ray executor gives, trial for trial. Searches run without early stopping here.
"""

from collections.abc import Iterable
from pathlib import Path

from medrec.spec import TrialSpec
from sweeps.progress import Progress
from sweeps.search import Search
from sweeps.worker import Row, run_trial


def run_plan(trials: Iterable[TrialSpec], root: Path, progress: Progress) -> None:
    """Runs every trial of a plan."""
    for spec in trials:
        _run(spec, root, progress)


def run_search(search: Search, root: Path, progress: Progress) -> None:
    """Runs a search, one suggestion at a time."""
    while (suggestion := search.suggest()) is not None:
        number, spec = suggestion
        rows = _run(spec, root, progress)
        search.finish(number, rows)


def _run(spec: TrialSpec, root: Path, progress: Progress) -> list[Row]:
    rows: list[Row] = []

    def report(row: Row) -> None:
        rows.append(row)
        progress.epoch(spec.key, row)

    progress.start(spec.key)
    reason = run_trial(spec, root, report)
    progress.finish(spec.key, "complete" if reason is None else "failed", reason)
    return rows
