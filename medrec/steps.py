"""One optimiser step on a batch, by one worker or by all workers of a group.

The workers share out the batch's patients. Each takes the mean loss over its own visits, weighted
by its share of them; the weighted gradients are summed over the workers, and all take the same
step. The loss and what else the workers must agree on travel with the gradients: a step costs one
exchange.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from medrec.batching import ResidentCohort
from medrec.distributed import Group
from medrec.generation._base import NeuralGenerator
from medrec.generation._records import ResidentRecords
from medrec.models._base import NeuralRecommender, Step
from medrec.precision import forward
from medrec.spec import Training

Patients = Int64[Tensor, " patients"]
Sizes = Int64[np.ndarray, " patients"]


def adam(model: NeuralRecommender | NeuralGenerator, settings: Training) -> torch.optim.Adam:
    """Returns the optimiser of every neural trial."""
    return torch.optim.Adam(
        model.parameters(),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=True,
    )


class Stepper:
    """Takes the optimiser's steps of one trial.

    Args:
        model: in training mode.
        optimiser: of the model's parameters.
        resident: the cohort, on the model's device.
        settings: of the training loop.
        group: the workers; each has its own stepper, and all take the same steps.
    """

    def __init__(
        self,
        model: NeuralRecommender | NeuralGenerator,
        optimiser: torch.optim.Optimizer,
        resident: ResidentCohort | ResidentRecords,
        settings: Training,
        group: Group,
    ) -> None:
        self.model: Any = model  # its loss takes what its own batches are
        self.optimiser, self.resident = optimiser, resident
        self.settings, self.group = settings, group
        self.parameters = [p for p in model.parameters() if p.requires_grad]

    def take(
        self, patients: Patients, sizes: Sizes, step: Step, stop: bool, weight: float = 1.0
    ) -> tuple[Float[Tensor, ""], bool]:
        """Takes one step and returns the batch's mean loss, and whether to stop.

        Args:
            patients: of the whole batch, by length of history; every worker gives the same.
            sizes: visits of each patient, or tokens of each record: what a mean loss counts.
            step: where training stands.
            stop: whether this worker is told to stop; if one is, all do.
            weight: of the batch among others.
        """
        group = self.group
        own = slice(group.rank, None, group.workers)  # long and short histories for everybody
        mine, device = patients[own], self.resident.device
        self.optimiser.zero_grad(set_to_none=True)
        loss = torch.zeros((), device=device)
        if len(mine):
            share = float(sizes[own].sum() / sizes.sum())
            of_patients = len(mine) / len(patients)
            batch = self.resident.gather(mine.to(device))
            logits = forward(self.model, batch, self.settings.precision)
            told = Step(step.epoch, step.threshold, patient_weight=of_patients / share)
            loss = share * self.model.loss(logits, batch, told)
            (weight * loss).backward()
        loss = loss.detach()
        if group.workers > 1:
            loss, stop = self._summed(loss, stop)
        if self.settings.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimiser.step()
        return loss, stop

    def _summed(self, loss: Float[Tensor, ""], stop: bool) -> tuple[Float[Tensor, ""], bool]:
        """Replaces gradients by their sums over the workers; returns that of the loss, and stop.

        A parameter that no worker has a gradient for keeps none, so that the optimiser leaves it
        alone, as it does for one worker.
        """
        gradients = [p.grad for p in self.parameters]
        told = [float(g is not None) for g in gradients] + [float(stop)]
        parts = [
            torch.zeros_like(p).flatten() if g is None else g.flatten()
            for p, g in zip(self.parameters, gradients, strict=True)
        ]
        extra = torch.cat([loss.new_tensor(told), loss[None]])
        summed = self.group.sum(torch.cat([*parts, extra]))
        *flat, extra = summed.split([len(part) for part in parts] + [len(extra)])
        *present, stopping = extra[:-1].tolist()
        for parameter, gradient, given in zip(self.parameters, flat, present, strict=True):
            parameter.grad = gradient.view_as(parameter) if given else None
        return extra[-1], bool(stopping)
