"""One training step of a trial before it runs: is its loss finite, and what may it cost?

The step is taken on a CPU, on patients whose histories are about as long as the mean one, so that
parts that read a patient's past have one to read, and the step costs about what steps cost on
average. Weights, patients and random numbers follow from the spec's seed: two trials that differ
in one setting, and whose steps are the same to the last bit, differ in name alone or in what a
first step does not reach. `later_look` reaches further, and costs more.
"""

import hashlib
import math
import time
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from pydantic import Field
from torch import Tensor, nn

from medrec.data import Data
from medrec.errors import NonFiniteLossError
from medrec.generation._base import NeuralGenerator
from medrec.models._base import NeuralRecommender, SequenceRecommender, Step
from medrec.precision import forward
from medrec.spec import Frozen, TrialSpec
from medrec.training import Fitted, derived_seed
from medrec.validation import Trained

LARGEST = 64
"""Patients of a step at most; seconds of a larger batch are told in proportion, an upper end."""
RECOMMENDED = (2, 8, 32)
"""Drugs at each visit in the later look; of two, either every pair interacts or none."""


class Rehearsal(Frozen):
    """What a first step shows of a trial.

    Attributes:
        parameters: shape of each trainable parameter by name; none for a fitted model.
        loss: of the first batch; None for a fitted model.
        gradients: sha256 over the names and values of the gradients; empty for a fitted model.
        without_gradient: trainable parameters that the step gave no gradient, sorted.
        step_seconds: of a second step on a CPU, forward and backward; None where it is unknown.
        steps: of an epoch; None for a fitted model.
        seconds: steps of all epochs on a CPU; neither validation, nor pre-training, nor the start
            is in it. None where it is unknown.
    """

    parameters: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    loss: float | None = None
    gradients: str = ""
    without_gradient: tuple[str, ...] = ()
    step_seconds: float | None = None
    steps: int | None = None
    seconds: float | None = None

    @property
    def weights(self) -> int:
        """How many trainable numbers the model has."""
        return sum(math.prod(shape) for shape in self.parameters.values())

    def same_step(self, other: "Rehearsal") -> bool:
        """Returns whether parameters, loss and gradients are the same to the last bit."""
        return (self.parameters, self.loss, self.gradients) == (
            other.parameters,
            other.loss,
            other.gradients,
        )


def rehearse_step(model: Trained, data: Data, spec: TrialSpec) -> Rehearsal:
    """Takes a training step of a freshly built model, and times a second one.

    A fitted model is not fitted: how long that takes is not known before.

    Raises:
        NonFiniteLossError: the loss of the first batch is NaN or infinite.
    """
    if isinstance(model, Fitted):
        return Rehearsal()
    patients = typical_patients(data, spec.training.batch_size)
    batch = data.resident.gather(torch.from_numpy(patients))
    model.train()
    loss = _gradients(model, batch, spec)
    if not math.isfinite(loss):
        raise NonFiniteLossError(
            f"The loss of the first batch is {loss}. Mend the settings of the model, or the data."
        )
    trainable, found = _trainable(model), _found_gradients(model)
    digest = _digest(found)
    started = time.perf_counter()
    _gradients(model, batch, spec)  # the first one makes what later ones find made
    step = time.perf_counter() - started
    step *= max(1.0, min(spec.training.batch_size, len(data.train)) / len(patients))
    steps = math.ceil(len(data.train) / spec.training.batch_size)
    return Rehearsal(
        parameters={name: tuple(p.shape) for name, p in trainable.items()},
        loss=loss,
        gradients=digest,
        without_gradient=tuple(sorted(trainable.keys() - found.keys())),
        step_seconds=step,
        steps=steps,
        seconds=step * steps * spec.training.epochs,
    )


def later_look(model: NeuralRecommender | NeuralGenerator, data: Data, spec: TrialSpec) -> str:
    """Returns a digest of what a first step may not reach of a freshly built model.

    The model is pre-trained as before its first epoch. Then the loss and its gradients are taken
    on the patients with the longest histories, in the first and the last epoch, with noise on the
    scores and so that few or many drugs are recommended: the DDI rates of visits then spread from
    0 to 1, and a DDI controller that leaves untrained scores alone acts on some of them. At the
    end come the sets that the model recommends where every score reaches the threshold: what acts
    on recommendations alone, after training, shows there.
    """
    torch.manual_seed(derived_seed(spec.seed, 3))
    model.train()
    model.pretrain()
    sizes = data.sizes[data.train]
    size = min(spec.training.batch_size, LARGEST)
    longest = data.train[np.argsort(sizes, kind="stable")[-size:]]
    batch = data.resident.gather(torch.from_numpy(longest))
    seen = []
    for epoch in (0, spec.training.epochs - 1):
        for drugs in RECOMMENDED:
            loss = _gradients(model, batch, spec, epoch, drugs)
            seen += [repr(loss), _digest(_found_gradients(model))]
    model.eval()
    if isinstance(model, NeuralGenerator):
        return hashlib.sha256("\n".join(seen).encode()).hexdigest()
    with torch.no_grad():
        answer = model.predict(batch, 0.0)  # type: ignore[arg-type]  # a recommender's own
        seen.append(_digest({"chosen": answer.chosen}))
    return hashlib.sha256("\n".join(seen).encode()).hexdigest()


def typical_patients(data: Data, batch_size: int) -> Int64[np.ndarray, " batch"]:
    """Returns the training patients with the shortest histories from the mean length up.

    At most a batch and `LARGEST`; where too few are so long, shorter ones as well.
    """
    sizes = data.sizes[data.train]
    order = np.argsort(sizes, kind="stable")
    size = min(batch_size, LARGEST, len(order))
    start = int(np.searchsorted(sizes[order], sizes.mean()))
    start = min(start, len(order) - size)
    return data.train[order[start : start + size]]


def _trainable(model: nn.Module) -> dict[str, Tensor]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _found_gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in _trainable(model).items() if p.grad is not None}


def _gradients(
    model: Any,
    batch: Any,
    spec: TrialSpec,
    epoch: int = 0,
    drugs: int | None = None,
) -> float:
    """Returns the loss of a batch and leaves its gradients in the model.

    Args:
        model: in training mode.
        batch: some patients.
        spec: the trial; its seed decides the random numbers.
        epoch: that the loss is told.
        drugs: how many are to be recommended at each visit; None leaves the scores alone, as do
            models that write sequences.
    """
    torch.manual_seed(derived_seed(spec.seed, 1, 0))
    logits = forward(model, batch, spec.training.precision)
    threshold = spec.protocol.threshold
    if drugs is not None and not isinstance(model, SequenceRecommender | NeuralGenerator):
        # Untrained scores are nearly the same at every visit; trained ones are not.
        logits = logits + torch.randn(logits.shape)
        highest = logits.detach().topk(min(drugs + 1, logits.shape[2]), dim=2).values
        logits = logits - highest[..., -2:].mean(dim=2, keepdim=True)
        logits = logits + math.log(threshold / (1 - threshold))
    loss = model.loss(logits, batch, Step(epoch, threshold))
    model.zero_grad(set_to_none=True)
    loss.backward()
    return float(loss.detach())


def _digest(tensors: dict[str, Tensor]) -> str:
    """Returns the sha256 over names, shapes and values, in the order of the names."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().contiguous()
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        found.update(tensor.numpy().tobytes())
    return found.hexdigest()
