"""Trials on Ray Tune: a frozen list for plans, our searcher and ASHA for searches.

Ray schedules, places and stops. It keeps no results: workers write the store.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# Before ray is imported: no event files and no tables of its own; final reports need no metric;
# Ctrl-C ends the run instead of looking like its end; no snapshots of what the store knows; our
# searcher alone says how many trials may wait.
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1e9")
os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "1000")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS", "0")

from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from cluster.drains import draining
from cluster.placement import Demand
from medrec.errors import Interrupted
from medrec.spec import Resources, TrialSpec
from sweeps.errors import StoreError, WorkerFailedError
from sweeps.executors.out_of_memory import taken_for_lost
from sweeps.gate import trial_notice
from sweeps.job import Job
from sweeps.search import Search
from sweeps.searcher import INTERRUPTED, StoreSearcher
from sweeps.store import ResultsStore
from sweeps.suggestions import PlanQueue, Row, Suggestions
from sweeps.worker import run_trial

_STORE_ERROR = "store_error"
_LEAVING = 0  # exit code of a process whose machine is taken away


def run_plan(trials: Iterable[TrialSpec], job: Job) -> None:
    """Runs every trial of a plan, each with its full budget.

    Raises:
        StoreError: results cannot be recorded.
    """
    specs = list(trials)
    if specs:
        metric = f"best_{specs[0].protocol.select}"
        queue = PlanQueue(specs, job.store)
        _fit(queue, specs[0].resources, FIFOScheduler(), None, job, metric)


def run_search(search: Search, job: Job) -> None:
    """Runs a search; ASHA stops the trials that fall behind, if the study asks for it.

    Raises:
        StoreError: results cannot be recorded.
    """
    plan = search.plan
    scheduler: TrialScheduler = FIFOScheduler()
    epochs = plan.base.training.epochs
    metric = f"best_{plan.objectives[0]}"
    if plan.early_stopping is not None:
        scheduler = AsyncHyperBandScheduler(
            time_attr="epoch",
            metric=metric,
            mode="max",  # the plan refuses early stopping by a metric where lower is better
            max_t=epochs + 1,  # the last epoch is never stopped
            grace_period=min(plan.early_stopping["grace_epochs"], epochs),
            reduction_factor=plan.early_stopping["reduction"],
        )
    _fit(search, plan.base.resources, scheduler, plan.concurrent, job, metric)


def _fit(
    suggestions: Suggestions,
    resources: Resources,
    scheduler: TrialScheduler,
    most: int | None,
    job: Job,
    metric: str,
) -> None:
    scratch = tempfile.mkdtemp(prefix="medsweep-tune-")  # Tune's own notes; worthless afterwards
    watch = _Watch(job)
    watch.searcher = StoreSearcher(suggestions, job, metric, most, watch.why)
    bundle = Demand(resources.cpus, resources.gpus, resources.memory).bundle()
    placement = tune.PlacementGroupFactory([bundle] * resources.workers, strategy="PACK")
    tuner = tune.Tuner(
        tune.with_resources(_trainable, placement),
        tune_config=tune.TuneConfig(
            search_alg=watch.searcher,
            scheduler=scheduler,
            num_samples=sys.maxsize,  # the searcher says when there is no other
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            storage_path=scratch,
            verbose=0,
            callbacks=[watch],
            failure_config=tune.FailureConfig(max_failures=0),  # lost trials are given back
            stop=watch.stopper,
        ),
    )
    try:
        with taken_for_lost():
            tuner.fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if watch.searcher.error is not None:
        raise watch.searcher.error


def _trainable(config: dict[str, Any]) -> None:
    """Runs in the worker's process, which serves many trials."""
    from sweeps.executors.group import grouped  # imports torch, which drivers do without

    spec = TrialSpec.model_validate_json(config["spec"])
    store = ResultsStore(config["root"])
    every = 1.0 if store.place.local else 5.0
    notice = trial_notice(store, config["session"], every, draining)

    def report(row: Row) -> None:
        if row["epoch"] > config["told"]:
            tune.report(row)

    try:
        with grouped(spec, store) as group:
            run_trial(spec, store, report, group=group, notice=notice)
    except Interrupted:
        tune.report({INTERRUPTED: True})
        if spec.resources.workers > 1 or draining():
            os._exit(_LEAVING)  # or the same machines would be given the trial again
    except WorkerFailedError:
        return  # as a trial that fails in its first worker
    except StoreError as error:
        tune.report({_STORE_ERROR: str(error)})


class _Watch(tune.Callback):
    """Turns Tune's events into progress, and a full disk into the end of the study."""

    searcher: StoreSearcher

    def __init__(self, job: Job) -> None:
        self.job = job
        self.stopper = _StopOnError(self)
        self._trials: dict[str, Any] = {}
        self._ended: list[Any] = []
        self._husk: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """Leaves nothing in the copy of itself that Tune pickles and we never read."""
        return {}

    def why(self, trial_id: str) -> str:
        """Returns what Ray says of how a trial lost its process, to follow a sentence."""
        trial = self._trials.get(trial_id)
        path = trial and trial.error_file
        try:
            text = Path(path).read_text() if path else ""
        except OSError:
            text = ""
        if "OutOfMemoryError" in text or "running low on memory" in text:
            return ": its machine ran out of memory. Give it less to hold, or fewer neighbours"
        return ""

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._trials[trial.trial_id] = trial
        self.searcher.started(trial.trial_id)

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if _STORE_ERROR in result:
            self.searcher.error = StoreError(result[_STORE_ERROR])

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._ended.append(trial)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._ended.append(trial)

    def on_step_begin(self, iteration: int, trials: Any, **info: Any) -> None:
        if iteration <= 1:
            self.job.gate.told.heed_again()  # Tune takes SIGUSR1 as it begins
        self.job.gate.look()

    def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
        """Empties trials that ended: Tune keeps all of them, at 65 KB each, until the end."""
        for trial in self._ended:
            self._trials.pop(trial.trial_id, None)
            self._husk = self._husk or trial
            for name in trial.__dict__.keys() & self._husk.__dict__.keys():
                if name not in ("trial_id", "status"):
                    trial.__dict__[name] = self._husk.__dict__[name]
        self._ended.clear()


class _StopOnError(tune.Stopper):
    def __init__(self, watch: _Watch) -> None:
        self.watch = watch

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return _STORE_ERROR in result

    def stop_all(self) -> bool:
        return self.watch.searcher.error is not None
