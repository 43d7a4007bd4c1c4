"""What attempts at a trial took whose process died without a word.

An attempt notes every few seconds, in `running/<key>/attempt.json`, how long it has taken. The
next attempt at the trial finds the note, takes off what the checkpoint had kept, and books the
rest as lost, beside what failed attempts lost. So the cost of a trial is the time that it held its
processors, over kills too; what is missed is the time since the last note.
"""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sweeps.errors import StoreError
from sweeps.store import ResultsStore

EVERY = 5.0
"""Seconds from one note of an attempt to the next."""

_NAME = "attempt"


@dataclass(frozen=True)
class Unfinished:
    """What was spent on a trial that is not stored.

    Attributes:
        attempts: that failed, or whose process died.
        seconds: of the clock, of all attempts; epochs that a checkpoint keeps among them.
        lost: of these, seconds that nothing was kept of.
    """

    attempts: int
    seconds: float
    lost: float


class Attempt:
    """One attempt at a trial, from its start on; books an earlier one that died.

    Args:
        store: the results directory.
        key: the trial's key.
        kept: training seconds of earlier attempts that this one goes on from.
    """

    def __init__(self, store: ResultsStore, key: str, kept: float, every: float = EVERY) -> None:
        self.store, self.key, self.kept, self.every = store, key, kept, every
        self._began = self._noted = time.monotonic()
        _book_death(store, key, kept)
        self._write(kept, 0.0)

    def beat(self) -> None:
        """Notes the time that was taken, if the last note is old; cheap to ask at every step."""
        now = time.monotonic()
        if now - self._noted >= self.every:
            self._noted = now
            self._write(self.kept, now - self._began)

    def end(self, kept: float) -> float:
        """Notes that the attempt ended in order, its trial not being stored.

        Args:
            kept: training seconds that the next attempt goes on from.

        Returns:
            seconds of the attempt that nothing was kept of, for who records them.
        """
        self._write(kept, 0.0)
        return max(0.0, time.monotonic() - self._began - max(0.0, kept - self.kept))

    def _write(self, kept: float, seconds: float) -> None:
        note = json.dumps({"kept": kept, "seconds": seconds})
        try:
            self.store.write_text(f"running/{self.key}/{_NAME}.json", note)
        except StoreError:
            return  # where it matters, the trial's own files cannot be written either


def _book_death(store: ResultsStore, key: str, kept: float) -> None:
    """Adds to a trial's failed attempts one that ended without a word, if there was one."""
    noted, seconds = _told(store.read_all(f"running/{key}"))
    if seconds > 0:
        lost = max(0.0, seconds - max(0.0, kept - noted))
        store.record_failure(key, "its process was lost", lost)
        store.try_again(key)


def _told(notes: Mapping[str, Mapping[str, Any]]) -> tuple[float, float]:
    """Returns what an attempt went on from and the seconds it took; zero where nothing is told."""
    note = notes.get(_NAME, {})
    values = (note.get("kept"), note.get("seconds"))
    kept, seconds = (float(v) if isinstance(v, int | float) and v > 0 else 0.0 for v in values)
    return kept, seconds


def unfinished(store: ResultsStore, keys: Iterable[str]) -> dict[str, Unfinished]:
    """Returns what was spent on trials that are not stored; those not begun are left out.

    Args:
        store: the results directory.
        keys: of trials that are not stored.
    """
    failed = store.read_all("failed")
    found = {}
    for key in keys:
        note = failed.get(key, {})
        kept, seconds = _told(store.read_all(f"running/{key}"))
        lost, attempts = float(note.get("seconds", 0.0)), int(note.get("attempts", 0))
        if attempts or lost or kept or seconds:
            found[key] = Unfinished(attempts, lost + kept + seconds, lost)
    return found
