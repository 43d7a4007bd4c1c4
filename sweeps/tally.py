"""What is known of a run's trials while it goes on: counts, running ones, best, time left.

Its size depends on how many trials run at a time, not on how many have ended.
"""

import math
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from medrec.spec import TrialSpec

State = Literal["complete", "pruned", "failed", "interrupted"]
ERRORS = 10  # the newest are kept
_SUGGESTED = 1000  # labels of a search's trials that are kept
_LONGEST = 500  # characters of a reason


@dataclass
class Running:
    """A trial that runs now.

    Attributes:
        label: what a person calls it.
        epochs: that it is to train; None where that is not known.
        gpus: that it holds, over all its workers.
        epoch: the last that it finished.
        best: of the selecting metric on validation.
        restarts: how often it started again, its process having been lost.
        began: first start, on the monotonic clock.
        again: last start; None while its process is lost.
    """

    label: str
    epochs: int | None
    gpus: float
    epoch: int = 0
    best: float | None = None
    restarts: int = 0
    began: float = 0.0
    again: float | None = None

    def held(self, now: float) -> float:
        """Returns what it held of GPUs since its last start: s × GPUs."""
        return 0.0 if self.again is None else (now - self.again) * self.gpus


@dataclass
class Tally:
    """Counts trials as they start, report and end.

    Attributes:
        total: trials that the study asks for.
        cached: of these, stored before, or found stored by a search.
        labels: what a person calls each trial of a plan, by key.
        metric: that selects the best epoch; higher is better.
        counts: ends by state. An interrupted trial is none that ended: it goes on another time.
        running: trials that run now, by key.
        best: highest validation value, and whose it is.
        errors: label and reason of the last trials that failed.
        spent: trials that count against `max_trials`.
    """

    total: int
    cached: int
    labels: dict[str, str]
    metric: str = "jaccard"
    clock: Callable[[], float] = time.monotonic
    counts: Counter[str] = field(default_factory=Counter)
    running: dict[str, Running] = field(default_factory=dict)
    best: tuple[float, str] | None = None
    errors: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=ERRORS))
    spent: int = 0

    def __post_init__(self) -> None:
        self.started = self.clock()
        self._ended_gpu_seconds = 0.0
        self._suggested: OrderedDict[str, str] = OrderedDict()

    def name(self, search: str, number: int, key: str, known: bool) -> str:
        """Notes what a search calls its next trial.

        Returns:
            what the trial was called first: by an arm, or by another suggestion.
        """
        own = f"{search} {number}"
        twin = self.labels.get(key) or self._suggested.setdefault(key, own)
        if len(self._suggested) > _SUGGESTED:
            self._suggested.popitem(last=False)
        self.cached += known
        return twin

    def label(self, key: str) -> str:
        """Returns what a person calls a trial."""
        return self.labels.get(key) or self._suggested.get(key, key)

    def begin(self, key: str, spec: TrialSpec | None) -> Running:
        """Notes that a trial starts; one that is running starts again."""
        now = self.clock()
        trial = self.running.get(key)
        if trial is not None:
            self.lose(key)
            trial.restarts, trial.again = trial.restarts + 1, now
            return trial
        held = spec.resources.gpus * spec.resources.workers if spec else 0.0
        epochs = spec.training.epochs if spec else None
        trial = Running(self.label(key), epochs, held, began=now, again=now)
        self.running[key] = trial
        return trial

    def advance(self, key: str, row: dict[str, float]) -> None:
        """Notes an epoch that a trial reported."""
        trial = self.running.get(key) or self.begin(key, None)
        trial.epoch, trial.best = int(row["epoch"]), row[f"best_{self.metric}"]
        if math.isfinite(trial.best) and (self.best is None or trial.best > self.best[0]):
            self.best = (trial.best, trial.label)

    def lose(self, key: str) -> None:
        """Notes that a running trial's process was lost: it holds no GPU until it starts again."""
        if (trial := self.running.get(key)) is not None:
            self._ended_gpu_seconds += trial.held(self.clock())
            trial.again = None

    def end(self, key: str, state: State, reason: str | None) -> Running:
        """Notes that a trial ended, and returns what was known of it; it is forgotten here."""
        now = self.clock()
        trial = self.running.pop(key, None) or Running(self.label(key), None, 0.0, began=now)
        self._ended_gpu_seconds += trial.held(now)
        self.counts[state] += 1
        searched = key in self._suggested
        self.spent += state in ("complete", "pruned") or (state == "failed" and searched)
        if state == "failed":
            self.errors.append((trial.label, (reason or "no reason was recorded")[:_LONGEST]))
        return trial

    @property
    def finished(self) -> int:
        """Trials that are done with, those stored before among them."""
        return self.cached + self.ended

    @property
    def ended(self) -> int:
        """Trials that ended in this run."""
        return self.counts.total() - self.counts["interrupted"]

    def left(self) -> int:
        """Returns how many trials have not ended."""
        return max(0, self.total - self.finished)

    def seconds_left(self) -> float | None:
        """Returns an estimate from the trials that ended; None while or once there are none."""
        if not self.ended or not self.left():
            return None
        return (self.clock() - self.started) / self.ended * self.left()

    def gpu_seconds(self) -> float:
        """Returns what trials held of GPUs until now, ended, failed and running ones: s × GPUs."""
        now = self.clock()
        running = list(self.running.values())  # another thread may ask
        return self._ended_gpu_seconds + sum(trial.held(now) for trial in running)
