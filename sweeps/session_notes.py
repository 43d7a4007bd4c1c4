"""What drivers leave of themselves, `sessions/<id>.json`: one note each time a study is run.

A note is written anew every few seconds while its driver lives, and once more when it ends; one
without an end whose beat stands still belongs to a driver that was killed. Notes name neither host
nor user, and no address but that of a dashboard on loopback.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import Field, ValidationError

from medrec.spec import Frozen
from sweeps.store import ResultsStore
from sweeps.study import RunBudget

FOLDER = "sessions"
EVERY = 5.0
"""Seconds from one beat of a driver to the next."""
SILENT = 6 * EVERY
"""Seconds without a beat after which a driver counts as gone."""

_ID = re.compile(r"[0-9]{5}-[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}")
_SECONDS = Field(ge=0, allow_inf_nan=False)
Reason = Literal["complete", "failed", "interrupted", "budget", "error"]


class Totals(Frozen):
    """What was spent: trials that ended, hours that drivers ran, hours times GPUs."""

    trials: int = Field(default=0, ge=0)
    hours: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    gpu_hours: float = Field(default=0.0, ge=0, allow_inf_nan=False)


class RunningNote(Frozen):
    """A trial that runs."""

    key: str
    label: str
    epoch: int
    epochs: int | None
    best: float | None = Field(description="of the selecting metric, on validation")
    seconds: float = Field(description="since its first start by this driver", ge=0)
    gpus: float
    restarts: int


class NodeNote(Frozen):
    """A machine of the cluster, by the head of its Ray node id."""

    id: str
    alive: bool
    cpus: float
    cpus_used: float
    gpus: float
    gpus_used: float


class ErrorNote(Frozen):
    """A trial that failed."""

    label: str
    reason: str


class BestNote(Frozen):
    """The best validation value of the session."""

    value: float
    label: str


class End(Frozen):
    """How a driver ended."""

    reason: Reason
    text: str = ""


class SessionNote(Frozen):
    """One driver, as it last told."""

    schema_version: Literal[1] = 1
    id: str
    started: str
    seen: str = Field(description="time of the last beat, by the driver's clock")
    beat: int = Field(ge=0, description="counts on with every beat, whatever clocks say")
    seconds: float = Field(ge=0, allow_inf_nan=False, description="by the monotonic clock")
    pid: int
    executor: str
    dashboard: str | None = Field(default=None, pattern=r"^http://127\.0\.0\.1:[0-9]+/?$")
    end: End | None = None
    budget: RunBudget = RunBudget()
    before: Totals = Field(description="what was spent when it started")
    own: Totals = Field(description="what it spent itself")
    metric: str
    concurrency: int | None = None
    total: int
    stored_before: int
    left: int
    counts: dict[str, int]
    eta_seconds: float | None
    best: BestNote | None
    running: tuple[RunningNote, ...] = Field(description="the first of those that run")
    running_trials: int = Field(description="all of those that run")
    errors: tuple[ErrorNote, ...] = Field(description="the newest, the last one last")
    nodes: tuple[NodeNote, ...]

    def spent(self) -> Totals:
        """Returns what had been spent on the study at its last beat."""
        return Totals(
            trials=self.before.trials + self.own.trials,
            hours=self.before.hours + self.own.hours,
            gpu_hours=self.before.gpu_hours + self.own.gpu_hours,
        )


def sessions(store: ResultsStore) -> list[SessionNote]:
    """Returns the notes of all drivers of a results directory, in the order of their start.

    A note that is none is left out: nothing but what is told of the past depends on it.
    """
    found = store.read_all(FOLDER)
    notes = [_note(name, content) for name, content in sorted(found.items())]
    return [note for note in notes if note is not None]


def _note(name: str, content: Mapping[str, Any]) -> SessionNote | None:
    try:
        note = SessionNote.model_validate(content, strict=False)
    except ValidationError:
        return None
    return note if _ID.fullmatch(name) and note.id == name else None


def next_number(store: ResultsStore) -> int:
    """Returns the number of a driver that starts now; it orders notes, whatever clocks say."""
    taken = [int(name[:5]) for name in store.read_all(FOLDER) if _ID.fullmatch(name)]
    return max(taken, default=0) + 1


def live(note: SessionNote, earlier: SessionNote | None = None) -> bool:
    """Returns whether a driver still works.

    Args:
        note: what it told last.
        earlier: what it had told when it was read before. If it beat since then it lives, and no
            clock is asked; otherwise its time must be near ours.
    """
    if note.end is not None:
        return False
    if earlier is not None and earlier.id == note.id and earlier.beat != note.beat:
        return True
    return silence(note) < SILENT


def silence(note: SessionNote) -> float:
    """Returns seconds between a note's time and now, by two clocks that may differ."""
    try:
        seen = datetime.fromisoformat(note.seen)
        return abs((datetime.now(UTC) - seen).total_seconds())
    except (ValueError, TypeError):
        return float("inf")
