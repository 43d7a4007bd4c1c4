"""Trials on Ray Tune: a frozen list for plans, our searcher and ASHA for searches.

Ray schedules, places, retries and stops. It keeps no results: workers write the store.
"""

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# Before ray is imported: no event files and no tables of its own; final reports need no metric;
# Ctrl-C ends the run instead of looking like its end.
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS", "0")

from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search.basic_variant import BasicVariantGenerator

from medrec.spec import Resources, TrialSpec
from sweeps.errors import StoreError
from sweeps.progress import Progress
from sweeps.search import Search
from sweeps.searcher import StoreSearcher
from sweeps.store import ResultsStore
from sweeps.worker import run_trial

RETRIES = 3  # of a trial whose process died; it resumes from its last epoch
_STORE_ERROR = "store_error"


def run_plan(trials: Iterable[TrialSpec], root: Path, progress: Progress) -> None:
    """Runs every trial of a plan, each with its full budget.

    Raises:
        StoreError: results cannot be recorded.
    """
    specs = {spec.key: spec for spec in trials}
    if not specs:
        return
    space = {
        "spec": tune.grid_search([spec.model_dump_json() for spec in specs.values()]),
        "root": str(root),
    }
    resources = next(iter(specs.values())).resources
    _fit(space, resources, BasicVariantGenerator(), FIFOScheduler(), 1, None, root, progress)
    store = ResultsStore(root)
    for key in specs:
        if not store.has(key) and key not in store.failures():
            store.record_failure(key, f"its process was lost {RETRIES + 1} times")


def run_search(search: Search, root: Path, progress: Progress) -> None:
    """Runs a search; ASHA stops the trials that fall behind, if the study asks for it.

    Raises:
        StoreError: results cannot be recorded.
    """
    plan = search.plan
    scheduler: TrialScheduler = FIFOScheduler()
    epochs = plan.base.training.epochs
    if plan.early_stopping is not None:
        scheduler = AsyncHyperBandScheduler(
            time_attr="epoch",
            metric=f"best_{plan.objectives[0]}",
            mode="max",  # the plan refuses early stopping by a metric where lower is better
            max_t=epochs + 1,  # the last epoch is never stopped
            grace_period=min(plan.early_stopping["grace_epochs"], epochs),
            reduction_factor=plan.early_stopping["reduction"],
        )
    searcher = StoreSearcher(search, root)
    resources = plan.base.resources
    _fit({}, resources, searcher, scheduler, plan.trials, plan.concurrent, root, progress)


def _fit(
    space: dict[str, Any],
    resources: Resources,
    searcher: Any,
    scheduler: TrialScheduler,
    samples: int,
    concurrent: int | None,
    root: Path,
    progress: Progress,
) -> None:
    scratch = tempfile.mkdtemp(prefix="medsweep-tune-")  # Tune's own notes; worthless afterwards
    watch = _Watch(progress, ResultsStore(root))
    requested = {"cpu": resources.cpus, "gpu": resources.gpus}
    trainable = tune.with_resources(_trainable, requested)
    tuner = tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=samples,
            max_concurrent_trials=concurrent,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            storage_path=scratch,
            verbose=0,
            callbacks=[watch],
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            stop=watch.stopper,
        ),
    )
    try:
        tuner.fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if watch.store_error is not None:
        raise StoreError(watch.store_error)


def _trainable(config: dict[str, Any]) -> None:
    """Runs in the worker's process, which serves many trials."""
    spec = TrialSpec.model_validate_json(config["spec"])
    try:
        run_trial(spec, Path(config["root"]), tune.report)
    except StoreError as error:
        tune.report({_STORE_ERROR: str(error)})


class _Watch(tune.Callback):
    """Turns Tune's events into progress, and a full disk into the end of the study."""

    def __init__(self, progress: Progress, store: ResultsStore) -> None:
        self.progress = progress
        self.store = store
        self.store_error: str | None = None
        self.stopper = _StopOnStoreError(self)

    def __getstate__(self) -> dict[str, Any]:
        """Leaves nothing in the copy of itself that Tune pickles and we never read."""
        return {}

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.progress.start(_key(trial))

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if _STORE_ERROR in result:
            self.store_error = result[_STORE_ERROR]
        elif "epoch" in result:
            self.progress.epoch(_key(trial), result)

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        key = _key(trial)
        if self.store.has(key):
            self.progress.finish(key, "complete", None)
        elif (failure := self.store.failures().get(key)) is not None:
            self.progress.finish(key, "failed", failure["reason"])
        else:
            self.progress.finish(key, "pruned", None)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.progress.finish(_key(trial), "failed", "its process was lost")


class _StopOnStoreError(tune.Stopper):
    def __init__(self, watch: _Watch) -> None:
        self.watch = watch

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return _STORE_ERROR in result

    def stop_all(self) -> bool:
        return self.watch.store_error is not None


def _key(trial: Any) -> str:
    return TrialSpec.model_validate_json(trial.config["spec"]).key
