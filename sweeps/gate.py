"""Whether another trial may start, and whether those that run are to stop and go on later.

Three things close the gate: the study's budget, a notice that this machine will be taken away
(SIGTERM, SIGUSR1), and an engine that is gone. A trial that runs learns of it from a note in the
results directory, which every machine sees; it writes a checkpoint and ends.
"""

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from sweeps.budgets import Spent, over
from sweeps.store import ResultsStore
from sweeps.study import RunBudget

STOP = "running/stop.json"
_EVERY = 1.0  # seconds between two looks at what was spent
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Gate:
    """Closed once and for all in a driver's life; the next driver has its own."""

    def __init__(
        self,
        store: ResultsStore,
        session: str = "",
        budget: RunBudget | None = None,
        spent: Callable[[], Spent] = Spent,
    ) -> None:
        self.store, self.session = store, session
        self._budget, self._spent = budget or RunBudget(), spent
        self._looked = float("-inf")
        self._told: str | None = None
        self._handler: Callable[[int, FrameType | None], None] | None = None
        self.reason: str | None = None
        self.budget_spent = False

    def room(self, running: int) -> bool:
        """Returns whether a trial may start beside `running` others."""
        self.look()
        if self.reason is not None:
            return False
        most = self._budget.max_trials
        return most is None or self._spent().trials + running < most

    def look(self) -> None:
        """Closes the gate if the budget is spent, or a notice came; at most once a second."""
        if self.reason is None and self._told is not None:
            self._close(self._told)
        now = time.monotonic()
        if self.reason is not None or now - self._looked < _EVERY:
            return
        self._looked = now
        reason = over(self._budget, self._spent())
        if reason is not None:
            self.budget_spent = True
            self._close(reason)

    def notice(self, reason: str) -> None:
        """Asks to close the gate; safe in a signal handler."""
        self._told = self._told or reason

    @property
    def stopping(self) -> bool:
        """Whether trials that run are to write a checkpoint and end; for those in this process."""
        self.look()
        return self.reason is not None

    def _close(self, reason: str) -> None:
        self.reason = reason
        self.store.write_text(STOP, json.dumps({"session": self.session, "reason": reason}))

    def open_again(self) -> None:
        """Takes the note away; trials of later drivers would not heed it either."""
        if self.reason is not None:
            self.store.remove(STOP)

    def heed_again(self) -> None:
        """Takes the signals back from a library that took them; none that came is forgotten."""
        for number in _SIGNALS:
            if self._handler is not None and self._told is None:
                signal.signal(number, self._handler)

    @contextmanager
    def heeding_signals(self) -> Iterator[None]:
        """Takes SIGTERM and SIGUSR1 as a notice; a second one ends the process as usual."""

        def told(number: int, frame: FrameType | None) -> None:
            signal.signal(number, signal.SIG_DFL)
            self.notice(f"told to stop by {signal.Signals(number).name}")

        before = {number: signal.signal(number, told) for number in _SIGNALS}
        self._handler = told
        try:
            yield
        finally:
            self._handler = None
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)


class Notice:
    """What a trial asks at every step: is it to stop? Looks up at most every few seconds."""

    def __init__(
        self,
        store: ResultsStore,
        session: str,
        every: float = 1.0,
        drained: Callable[[], bool] = lambda: False,
    ) -> None:
        self.store, self.session, self.every, self.drained = store, session, every, drained
        self._asked = time.monotonic()
        self._given = False

    def __call__(self) -> bool:
        """Returns whether the trial is to write a checkpoint and end."""
        now = time.monotonic()
        if self._given or now - self._asked < self.every:
            return self._given
        self._asked = now
        self._given = self.drained() or self._stop() == self.session
        return self._given

    def _stop(self) -> str | None:
        session = (self.store.note(STOP) or {}).get("session")
        return session if isinstance(session, str) else None
