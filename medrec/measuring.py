"""What a trial takes of the machine that it asks for, measured by its largest and typical steps.

Call `measure` in a process that has done nothing else: on a CPU the peak is that of the whole
process, so that earlier work would be counted.
"""

import math
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from medrec.batching import evaluation_batches
from medrec.data import Data
from medrec.distributed import ALONE
from medrec.generation._base import NeuralGenerator
from medrec.models._base import NeuralRecommender, Step
from medrec.spec import Frozen, TrialSpec
from medrec.steps import Stepper, adam
from medrec.training import Fitted, derived_seed
from medrec.trial import prepared
from medrec.validation import validate

_TYPICAL = 3
_FLOAT_BYTES = 4


class Measured(Frozen):
    """What one worker of a trial takes.

    Attributes:
        device: `cuda` or `cpu`.
        peak_bytes: largest memory in use. On a GPU: what torch reserved there, and what the device
            had in use besides, the context above all; other processes on it count too. On a CPU:
            of the whole process, libraries (which processes of a machine share) and the loading of
            the cohort included. For a fitted model without the fit, so a lower bound.
        total_bytes: of the device, or of the machine.
        step_seconds: of a training step, the mean of one with short, one with middling and one
            with long histories; None for a fitted model.
        steps: of an epoch; None for a fitted model.
        seconds: training and validation of all epochs; neither pre-training nor the start, nor
            the exchange between workers, is in it. None for a fitted model.
    """

    device: str
    peak_bytes: int
    total_bytes: int
    step_seconds: float | None = None
    steps: int | None = None
    seconds: float | None = None


def measure(spec: TrialSpec, cache: Path | None = None) -> Measured:
    """Builds the trial's model where the spec asks for, takes a few steps, and keeps nothing.

    Of several workers, this is the one with most of the largest batch.

    Args:
        spec: the trial.
        cache: folder for derived knowledge.

    Raises:
        MedrecError: input or settings are at fault, or there is no GPU though one is asked for.
        torch.OutOfMemoryError: the largest step does not fit the GPU.
    """
    model, data, device = prepared(spec, cache)
    if isinstance(model, Fitted):
        return Measured(
            device="cpu", peak_bytes=_peak_of_process(), total_bytes=_memory_of_machine()
        )
    steps, step_seconds, look_seconds = _work(model, data, spec, device)
    looks = math.ceil(_looks(data) / spec.resources.workers)
    each = steps * step_seconds + looks * look_seconds
    peak, total = _peak_and_total(device)
    if spec.resources.workers > 1:  # gradients once more, in a row, and that as it is built
        peak += 2 * _FLOAT_BYTES * sum(p.numel() for p in model.parameters() if p.requires_grad)
    return Measured(
        device=device.type,
        peak_bytes=peak,
        total_bytes=total,
        step_seconds=step_seconds,
        steps=steps,
        seconds=each * spec.training.epochs,
    )


def _work(
    model: NeuralRecommender | NeuralGenerator, data: Data, spec: TrialSpec, device: torch.device
) -> tuple[int, float, float]:
    """Returns steps of an epoch, seconds of a typical one, and of a batch of validation."""
    sizes = data.sizes
    order = np.random.default_rng(derived_seed(spec.seed, 2, 0))
    size, workers = spec.training.batch_size, spec.resources.workers
    batches = [batch[::workers] for batch in data.batches(size, order)]
    batches.sort(key=lambda batch: int(sizes[batch.numpy()].sum()))
    places = [(2 * i + 1) * len(batches) // (2 * _TYPICAL) for i in range(_TYPICAL)]
    settings = spec.training
    stepper = Stepper(model, adam(model, settings), data.resident, settings, ALONE)
    where = Step(0, spec.protocol.threshold)

    def take(batch: Int64[Tensor, " patients"]) -> None:
        stepper.take(batch, sizes[batch.numpy()], where, stop=False)

    def look() -> None:
        validate(model, data, spec)

    torch.manual_seed(derived_seed(spec.seed, 1, 0))
    model.train()
    best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for _ in range(2):  # the optimiser's state is there from the second step on
        take(_longest(data, math.ceil(size / workers)))
    step_seconds = statistics.mean(
        _seconds(partial(take, batches[place]), device) for place in places
    )
    whole = _seconds(look, device)
    del best
    return len(batches), step_seconds, whole / max(1, _looks(data))


def _looks(data: Data) -> int:
    """Returns the batches of validation."""
    return len(list(evaluation_batches(data.validation, data.sizes[data.validation])))


def _longest(data: Data, size: int) -> Int64[Tensor, " patients"]:
    sizes = data.sizes[data.train]
    return torch.from_numpy(data.train[np.argsort(sizes, kind="stable")[-size:]])


def _seconds(work: Callable[[], None], device: torch.device) -> float:
    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    started = now()
    work()
    return now() - started


def _peak_and_total(device: torch.device) -> tuple[int, int]:
    if device.type != "cuda":
        return _peak_of_process(), _memory_of_machine()
    free, total = torch.cuda.mem_get_info(device)
    besides = max(0, total - free - torch.cuda.memory_reserved(device))
    return torch.cuda.max_memory_reserved(device) + besides, total


def _peak_of_process() -> int:
    """Returns the largest memory that the process had, in bytes."""
    status = Path("/proc/self/status")  # getrusage of Linux knows of the parent's size as well
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _memory_of_machine() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
