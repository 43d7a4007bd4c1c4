"""What an executor runs: trials one after another, from a plan or from a search.

A trial that was interrupted is given back, and suggested again.
"""

from collections import deque
from collections.abc import Iterable
from typing import Protocol

from medrec.spec import TrialSpec
from sweeps.store import ResultsStore

Row = dict[str, float]


class Suggestions(Protocol):
    """Numbered trials, each of which ends or is given back."""

    def suggest(self) -> tuple[int, TrialSpec] | None:
        """Returns the next trial and its number, or None while there is none."""

    def finish(self, number: int, rows: list[Row], *, lost: str | None = None) -> object:
        """Notes that a trial ended: the store tells how, or `lost` why it died without a word."""

    def give_back(self, number: int) -> None:
        """Takes back a trial that stopped before its end, to be suggested again."""

    def remaining(self) -> int:
        """Returns how many trials have not ended."""


class PlanQueue:
    """The trials of a plan, in its order."""

    def __init__(self, trials: Iterable[TrialSpec], store: ResultsStore) -> None:
        self.store = store
        self._specs = dict(enumerate({spec.key: spec for spec in trials}.values()))
        self._waiting = deque(self._specs)

    def suggest(self) -> tuple[int, TrialSpec] | None:
        """Returns the next trial and its number, or None while there is none."""
        if not self._waiting:
            return None
        number = self._waiting.popleft()
        return number, self._specs[number]

    def finish(self, number: int, rows: list[Row], *, lost: str | None = None) -> None:
        """Notes that a trial ended; one whose process was lost for good has failed."""
        key = self._specs.pop(number).key
        if lost is not None and not self.store.has(key) and self.store.failure(key) is None:
            self.store.record_failure(key, lost)

    def give_back(self, number: int) -> None:
        """Takes back a trial that stopped before its end, to be suggested again."""
        self._waiting.appendleft(number)

    def remaining(self) -> int:
        """Returns how many trials have not ended."""
        return len(self._specs)
