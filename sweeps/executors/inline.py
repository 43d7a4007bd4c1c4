"""Trials one after another in this process: for tests, debugging, and machines without Ray.

Gives what the Ray executor gives, trial for trial. Searches run without early stopping here, and
a trial that asks for several workers has one.
"""

from collections.abc import Iterable

from medrec.errors import Interrupted
from medrec.spec import TrialSpec
from sweeps.job import Job
from sweeps.search import Search
from sweeps.suggestions import PlanQueue, Row, Suggestions
from sweeps.worker import run_trial


def run_plan(trials: Iterable[TrialSpec], job: Job) -> None:
    """Runs every trial of a plan.

    Raises:
        StoreError: results cannot be recorded.
    """
    _run(PlanQueue(trials, job.store), job)


def run_search(search: Search, job: Job) -> None:
    """Runs a search, one suggestion at a time.

    Raises:
        StoreError: results cannot be recorded.
    """
    _run(search, job)


def _run(suggestions: Suggestions, job: Job) -> None:
    while job.gate.room(0) and (suggestion := suggestions.suggest()) is not None:
        number, spec = suggestion
        rows = _one(spec, job)
        if rows is None:
            suggestions.give_back(number)
        else:
            suggestions.finish(number, rows)


def _one(spec: TrialSpec, job: Job) -> list[Row] | None:
    """Returns the epochs of a trial; None of one that was interrupted."""
    rows: list[Row] = []

    def report(row: Row) -> None:
        rows.append(row)
        job.progress.epoch(spec.key, row)

    job.progress.start(spec.key, spec)
    try:
        reason = run_trial(spec, job.store, report, notice=lambda: job.gate.stopping)
    except Interrupted:
        job.progress.finish(spec.key, "interrupted", None)
        return None
    job.progress.finish(spec.key, "complete" if reason is None else "failed", reason)
    return rows
