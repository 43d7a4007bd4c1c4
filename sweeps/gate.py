"""Whether another trial may start, and whether those that run are to stop and go on later.

Three things close the gate: the study's budget, a notice that this machine will be taken away
(SIGTERM, SIGUSR1), and another driver that took the results directory over. A trial that runs
learns of it from a note in that directory, which every machine sees; it writes a checkpoint and
ends.
"""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Self

from sweeps.budgets import Spent, over
from sweeps.store import ResultsStore
from sweeps.study import RunBudget

_EVERY = 1.0  # seconds between two looks at what was spent
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


def stop_note(session: str) -> str:
    """Returns the file by which the trials of a driver learn that they are to stop."""
    return f"running/stop-{session}.json"


class Told:
    """Whether somebody told this driver to stop, and why."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self._handler: Callable[[int, FrameType | None], None] | None = None

    def notice(self, reason: str) -> None:
        """Tells to stop; the first word holds. Safe in a signal handler."""
        self.reason = self.reason or reason

    def heed_again(self) -> None:
        """Takes the signals back from a library that took them; none that came is forgotten."""
        for number in _SIGNALS:
            if self._handler is not None and self.reason is None:
                signal.signal(number, self._handler)

    @contextmanager
    def heeding_signals(self) -> Iterator[Self]:
        """Takes SIGTERM and SIGUSR1 as a notice; a second one ends the process as usual."""

        def heard(number: int, frame: FrameType | None) -> None:
            signal.signal(number, signal.SIG_DFL)
            self.notice(f"told to stop by {signal.Signals(number).name}")

        if threading.current_thread() is not threading.main_thread():
            yield self  # signals come to the main thread alone
            return
        before = {number: signal.signal(number, heard) for number in _SIGNALS}
        self._handler = heard
        try:
            yield self
        finally:
            self._handler = None
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)


class Gate:
    """Closed once and for all in a driver's life; the next driver has its own."""

    def __init__(
        self,
        store: ResultsStore,
        session: str = "",
        budget: RunBudget | None = None,
        spent: Callable[[], Spent] = Spent,
        told: Told | None = None,
    ) -> None:
        self.store, self.session = store, session
        self.told = told or Told()
        self._budget, self._spent = budget or RunBudget(), spent
        self._looked = float("-inf")
        self.reason: str | None = None
        self.budget_spent = False

    def room(self, running: int) -> bool:
        """Returns whether a trial may start beside `running` others."""
        self.look()
        if self.reason is not None:
            return False
        most = self._budget.max_trials
        if most is None or self._spent().trials + running < most:
            return True
        if not running:
            self._looked = float("-inf")
            self.look()
        return False

    def look(self) -> None:
        """Closes the gate if the budget is spent, or a notice came; at most once a second."""
        if self.reason is None and self.told.reason is not None:
            self._close(self.told.reason)
        now = time.monotonic()
        if self.reason is not None or now - self._looked < _EVERY:
            return
        self._looked = now
        reason = over(self._budget, self._spent())
        if reason is not None:
            self.budget_spent = True
            self._close(reason)

    @property
    def stopping(self) -> bool:
        """Whether trials that run are to write a checkpoint and end; for those in this process."""
        self.look()
        return self.reason is not None

    def _close(self, reason: str) -> None:
        self.reason = reason
        self.store.write_text(stop_note(self.session), json.dumps({"reason": reason}))

    def open_again(self) -> None:
        """Takes the note away; trials of later drivers would not heed it either."""
        if self.reason is not None:
            self.store.remove(stop_note(self.session))


def throttled(ask: Callable[[], bool], every: float = 1.0) -> Callable[[], bool]:
    """Returns a notice that asks at most every few seconds; a yes holds, an error is no answer."""
    asked, given = time.monotonic(), False

    def notice() -> bool:
        nonlocal asked, given
        now = time.monotonic()
        if not given and now - asked >= every:
            asked = now
            with suppress(Exception):
                given = ask()
        return given

    return notice


def trial_notice(
    store: ResultsStore,
    session: str,
    every: float = 1.0,
    drained: Callable[[], bool] = lambda: False,
) -> Callable[[], bool]:
    """Returns what a trial asks at every step: is it to write a checkpoint and end?

    Args:
        store: of the results.
        session: of the trial's driver.
        every: seconds between two looks.
        drained: whether this machine is about to be taken away.
    """
    note = stop_note(session)
    return throttled(lambda: drained() or store.note(note) is not None, every)
