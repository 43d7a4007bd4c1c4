"""The only door into `medrec` that sweeps use: one spec in, one result out."""

import functools
import importlib.metadata
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor

from medrec import plugins
from medrec.checkpoint import load_checkpoint
from medrec.cohort import Cohort
from medrec.data import Data, data_for
from medrec.distributed import ALONE, Group
from medrec.errors import CheckpointError, CohortError, ConfigError
from medrec.judging import judge
from medrec.knowledge.base import Knowledge, load_knowledge
from medrec.measures import Measured
from medrec.models._base import Model
from medrec.predictions import Predictions
from medrec.producing import produced, rehearsed
from medrec.rehearsal import Rehearsal, later_look, rehearse_step
from medrec.spec import CohortRef, KnowledgeSpec, TrialSpec
from medrec.training import Fitted, Notice, Report, derived_seed, never, train
from medrec.validation import Trained

_VERSIONS = ("medsweep", "torch", "numpy", "pyarrow", "scikit-learn", "rdkit")


@dataclass(frozen=True)
class TrialResult:
    """What a finished trial leaves.

    Attributes:
        spec: the trial.
        history: a row an epoch: loss, validation metrics, best so far, seconds.
        best_epoch: from 1; its weights made the predictions.
        found: predictions of the test split, or what a generator or a builder of hierarchies was
            measured at.
        weights: safetensors.
        seconds: training time over all attempts, and wall time of this one.
        environment: versions and machine kind.
    """

    spec: TrialSpec
    history: tuple[dict[str, float], ...]
    best_epoch: int
    found: Predictions | Measured
    weights: bytes
    seconds: dict[str, float]
    environment: dict[str, str]

    @property
    def predictions(self) -> Predictions:
        """Predictions of the test split; of a recommender alone."""
        if not isinstance(self.found, Predictions):
            raise TypeError(f"{self.spec.model} is no recommender.")
        return self.found

    @property
    def validation(self) -> dict[str, float]:
        """Validation metrics of the best epoch."""
        last = self.history[-1]
        return {k.removeprefix("best_"): v for k, v in last.items() if k.startswith("best_")}


def run(
    spec: TrialSpec,
    report: Report,
    checkpoint: Path | None = None,
    cache: Path | None = None,
    *,
    group: Group = ALONE,
    notice: Notice = never,
) -> TrialResult:
    """Trains, selects on validation, and then reads the test split once.

    The process may be reused: seeds, dtype and threads are set anew. On a CPU the result is the
    same to the bit for the same spec and numbers of threads and workers, resumed or not. Another
    number of workers adds in another order and draws other dropout.

    Args:
        spec: the trial.
        report: called after each epoch with validation metrics; it learns nothing of the test.
        checkpoint: file for resuming an interrupted trial.
        cache: folder for derived knowledge.
        group: the workers of the trial, of which this one has rank 0; the others call `assist`.
        notice: asked at every step whether to stop; then the trial writes its checkpoint.

    Raises:
        Interrupted: `notice` said so; the same call goes on from the checkpoint.
        MedrecError: input, settings or training are at fault; the message says which.
    """
    started = time.perf_counter()
    model, data, device = prepared(spec, cache)
    progress = train(model, data, spec, report, checkpoint, group=group, notice=notice)
    judged = judge(model, data, spec)
    wall = time.perf_counter() - started
    return TrialResult(
        spec=spec,
        history=progress.history,
        best_epoch=progress.best_epoch,
        found=judged.found,
        weights=to_safetensors(weights(model)),
        seconds={
            "training": progress.seconds,
            "wall": wall,
            **({} if judged.drawing is None else {"drawing": judged.drawing}),
        },
        environment=_environment(device),
    )


def assist(
    spec: TrialSpec, cache: Path | None = None, *, group: Group, notice: Notice = never
) -> None:
    """Takes part in the training of a trial that another process runs; keeps nothing.

    Returns once training has ended, and at once where a model is fitted: that takes one worker.

    Args:
        spec: the trial, as given to `run`.
        cache: folder for derived knowledge.
        group: the workers of the trial, of which this one is not that of rank 0.
        notice: asked at every step whether all workers are to stop.

    Raises:
        MedrecError: as `run`.
    """
    model, data, _ = prepared(spec, cache)
    if not isinstance(model, Fitted):
        train(model, data, spec, lambda row: None, None, group=group, notice=notice)


def prepared(spec: TrialSpec, cache: Path | None) -> tuple[Trained, Data, torch.device]:
    """Returns the spec's untrained model, its data, and the device that both lie on.

    The process gets the seeds, dtype and threads that the trial asks for.
    """
    device = _prepare_process(spec)
    cohort, knowledge = produced(*_load(spec.cohort, spec.knowledge, cache), spec, cache)
    model = build(spec, knowledge)
    if isinstance(model, torch.nn.Module):
        model = model.to(device)
    else:
        device = torch.device("cpu")  # fitted models have no use for another
    return model, data_for(model, cohort, knowledge, device), device


def rehearse(spec: TrialSpec, cache: Path | None = None) -> Rehearsal:
    """Builds the trial's model and takes one training step on a CPU, whatever the trial asks for.

    Raises:
        MedrecError: input or settings are at fault, or the loss is not finite.
    """
    model, data = _on_cpu(spec, cache)
    return rehearse_step(model, data, spec)


def look_later(spec: TrialSpec, cache: Path | None = None) -> str:
    """Returns a digest of what a first step may not reach; see `medrec.rehearsal.later_look`.

    Empty for a fitted model.
    """
    model, data = _on_cpu(spec, cache)
    return "" if isinstance(model, Fitted) else later_look(model, data, spec)


def kept_seconds(spec: TrialSpec, checkpoint: Path) -> float:
    """Returns the training time that resuming from a checkpoint saves; 0 without a usable one."""
    if not checkpoint.exists():
        return 0.0
    try:
        return load_checkpoint(checkpoint, spec.key)[0].seconds
    except CheckpointError:
        return 0.0


def _on_cpu(spec: TrialSpec, cache: Path | None) -> tuple[Trained, Data]:
    cpus = spec.resources.model_copy(update={"gpus": 0.0})
    return prepared(rehearsed(spec).model_copy(update={"resources": cpus}), cache)[:2]


def build(spec: TrialSpec, knowledge: Knowledge) -> Trained:
    """Returns the spec's untrained model; its initial weights depend on the spec's seed alone."""
    plugin: Model = plugins.load_model(spec.model)
    torch.manual_seed(derived_seed(spec.seed, 0))
    built: Trained = plugin.build(plugin.config(**spec.config), knowledge)
    return built


def weights(model: Trained) -> dict[str, Tensor]:
    """Returns everything that a checkpoint of the model must hold."""
    state = model.tensors() if isinstance(model, Fitted) else model.state_dict()
    return {name: tensor.contiguous() for name, tensor in state.items()}


def restore(model: Trained, tensors: dict[str, Tensor]) -> None:
    """Puts stored weights into a model built from the same spec."""
    if isinstance(model, Fitted):
        model.restore(tensors)
    else:
        model.load_state_dict(tensors)


def _prepare_process(spec: TrialSpec) -> torch.device:
    torch.set_default_dtype(torch.float32)
    torch.set_num_threads(max(1, int(spec.resources.cpus)))
    if spec.resources.gpus and not torch.cuda.is_available():
        raise ConfigError(
            f"`resources.gpus` is {spec.resources.gpus}, but torch sees no GPU here. "
            "Set it to 0, or run where there is one."
        )
    return torch.device("cuda" if spec.resources.gpus else "cpu")


@functools.lru_cache(maxsize=2)
def _load(
    cohort: CohortRef, knowledge: KnowledgeSpec, cache: Path | None
) -> tuple[Cohort, Knowledge]:
    """Opens cohort and knowledge once per process; both are read-only."""
    opened = Cohort.open(Path(cohort.path))
    if opened.fingerprint != cohort.fingerprint:
        raise CohortError(
            f"{cohort.path} has fingerprint {opened.fingerprint[:12]}, but the study was planned "
            f"on {cohort.fingerprint[:12]}. Use that cohort, or another results directory."
        )
    return opened, load_knowledge(opened, knowledge, cache)


def _environment(device: torch.device) -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in _VERSIONS}
    machine = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    return {**versions, "python": platform.python_version(), "device": machine}
