"""What a driver hands to its executor: where results go, who watches, and when to stop."""

from collections.abc import Callable
from dataclasses import dataclass

from medrec.spec import TrialSpec
from sweeps.gate import Gate
from sweeps.progress import Progress
from sweeps.store import ResultsStore


def _no_limit(wants: int) -> int:
    return wants


def _as_it_is(spec: TrialSpec) -> TrialSpec:
    return spec


@dataclass(frozen=True)
class Job:
    """One driver's work.

    Attributes:
        store: of the results.
        progress: is told of every trial.
        gate: says whether trials may start, and whether they are to stop.
        allowed: given how many trials could run, returns how many may run at a time.
        published: gives a trial's spec with places that every machine of a cluster reaches.
    """

    store: ResultsStore
    progress: Progress
    gate: Gate
    allowed: Callable[[int], int] = _no_limit
    published: Callable[[TrialSpec], TrialSpec] = _as_it_is
