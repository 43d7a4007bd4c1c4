"""Our plans and searches as a Ray Tune searcher; Ray's own OptunaSearch is not used.

Tune asks for trials and tells how they end. What counts is in the store, not in Tune: a trial
whose process was lost, or that was interrupted, is given back, and goes on from its checkpoint as
a new trial of Tune's.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ray.tune.search import Searcher

from medrec.spec import TrialSpec
from sweeps.job import Job
from sweeps.suggestions import Row, Suggestions

INTERRUPTED = "interrupted"
_KEPT = ("epoch", "seconds")
LOSSES = 3  # of a trial's process with no epoch finished in between; then the trial has failed


@dataclass
class _Trial:
    """A trial of ours, over all the trials of Tune's that it takes."""

    number: int
    spec: TrialSpec
    rows: list[Row] = field(default_factory=list)
    interrupted: bool = False
    losses: int = 0
    epochs_at_loss: int = 0

    def lose(self) -> int:
        """Returns how often its process was lost since it last finished an epoch."""
        moved = len(self.rows) > self.epochs_at_loss
        self.losses = 1 if moved else self.losses + 1
        self.epochs_at_loss = len(self.rows)
        return self.losses


class StoreSearcher(Searcher):
    """Passes suggestions to Tune, and outcomes back.

    Args:
        suggestions: a plan's or a search's.
        job: where results go, who watches, and when to stop.
        metric: of the reported rows; higher is better.
        most: trials at a time; None leaves it to the job.
        why: returns what is known of how a trial of Tune's lost its process.
    """

    def __init__(
        self,
        suggestions: Suggestions,
        job: Job,
        metric: str,
        most: int | None,
        why: Callable[[str], str],
    ) -> None:
        super().__init__(metric=metric, mode="max")
        self.suggestions, self.job, self.most, self.why = suggestions, job, most, why
        self.error: Exception | None = None  # ends the study
        self._running: dict[str, _Trial] = {}
        self._given_back: dict[int, _Trial] = {}

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Keeps the first error: Tune would log it and go on, or not end at all."""
        try:
            yield
        except Exception as error:
            self.error = self.error or error

    def suggest(self, trial_id: str) -> Any:
        """Returns the next trial's configuration, None for later, or that there is none left."""
        with self._kept():
            return self._suggest(trial_id)
        return Searcher.FINISHED

    def _suggest(self, trial_id: str) -> Any:
        running = len(self._running)
        later = None if running else Searcher.FINISHED  # one that runs may be given back
        wants = self.suggestions.remaining()
        room = wants > 0 and self.job.gate.room(running)
        wants = wants if self.most is None else min(wants, self.most)
        # Asked also where nothing is to start: others are told so what runs here.
        allowed = self.job.allowed(wants if room else running)
        if not room:
            return later
        if running >= allowed:
            return None
        suggestion = self.suggestions.suggest()
        if suggestion is None:
            return later
        number, spec = suggestion
        trial = self._given_back.pop(number, None) or _Trial(number, spec)
        self._running[trial_id] = trial
        return {
            "spec": self.job.published(spec).model_dump_json(),
            "root": str(self.job.store.place),
            "session": self.job.gate.session,
            "told": len(trial.rows),
        }

    def started(self, trial_id: str) -> None:
        """Tune started the trial, maybe not for the first time."""
        trial = self._running[trial_id]
        self.job.progress.start(trial.spec.key, trial.spec)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Keeps an epoch's metrics, for trials that are stopped early."""
        trial = self._running.get(trial_id)
        if trial is not None:
            self._take(trial, result)

    def _take(self, trial: _Trial, result: dict[str, Any]) -> None:
        trial.interrupted = trial.interrupted or INTERRUPTED in result
        row = {k: v for k, v in result.items() if k.startswith("best_") or k in _KEPT}
        # An epoch that was told before is told again where an earlier checkpoint had to do.
        if row.get("epoch") == len(trial.rows) + 1:
            trial.rows.append(row)
            self.job.progress.epoch(trial.spec.key, row)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Notes how a trial ended: stored, failed, stopped early, interrupted, or lost."""
        trial = self._running.pop(trial_id, None)
        if trial is None or self.error is not None:
            return  # told twice; or the study stops, and whatever runs goes on another time
        with self._kept():
            self._complete(trial_id, trial, result or {}, error)

    def _complete(self, trial_id: str, trial: _Trial, result: dict[str, Any], error: bool) -> None:
        key = trial.spec.key
        self._take(trial, result)  # of a trial that is stopped, Tune tells the last result here
        if trial.interrupted:
            trial.interrupted = False
            self._give_back(trial)
            self.job.progress.finish(key, "interrupted", None)
        elif not error or self.job.store.has(key):
            self._end(trial, None)
        elif (losses := trial.lose()) < LOSSES:
            self.job.progress.lost(key)
            self._give_back(trial)
        else:
            self._end(trial, f"its process was lost {losses} times{self.why(trial_id)}")

    def _give_back(self, trial: _Trial) -> None:
        self._given_back[trial.number] = trial
        self.suggestions.give_back(trial.number)

    def _end(self, trial: _Trial, lost: str | None) -> None:
        key = trial.spec.key
        self.suggestions.finish(trial.number, trial.rows, lost=lost)
        failure = self.job.store.failure(key)
        if self.job.store.has(key):
            self.job.progress.finish(key, "complete", None)
        elif lost is not None or failure is not None:
            self.job.progress.finish(key, "failed", lost or (failure or {})["reason"])
        else:
            self.job.progress.finish(key, "pruned", None)

    def __getstate__(self) -> dict[str, Any]:
        """Leaves nothing in the copy of itself that Tune pickles and we never read."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Keeps nothing: the study is rebuilt from the store."""

    def restore(self, checkpoint_path: str) -> None:
        """Restores nothing: the study is rebuilt from the store."""
