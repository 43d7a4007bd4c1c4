"""The one training loop, and prediction over a split.

Validation chooses the epoch; the weights of the best one are what remains. The test split is not
named here.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from medrec.batching import ResidentCohort, evaluation_batches, training_batches
from medrec.checkpoint import (
    Progress,
    load_checkpoint,
    optimiser_tensors,
    restore_optimiser,
    save_checkpoint,
)
from medrec.cohort import Cohort
from medrec.errors import CheckpointError, NonFiniteLossError
from medrec.evaluation import evaluate
from medrec.knowledge.base import Knowledge
from medrec.models._base import FittedRecommender, NeuralRecommender, Recommender, Step
from medrec.predictions import Predictions
from medrec.spec import TrialSpec

Members = Int64[np.ndarray, " members"]
Report = Callable[[dict[str, float]], None]


@dataclass(frozen=True)
class Data:
    """What training may see: the cohort on a device and two sets of patients."""

    cohort: Cohort
    resident: ResidentCohort
    knowledge: Knowledge
    train: Int64[np.ndarray, " train"]
    validation: Int64[np.ndarray, " validation"]


def derived_seed(seed: int, *stream: int) -> int:
    """Returns a seed for one purpose; streams of one trial are independent."""
    return int(np.random.SeedSequence([seed, *stream]).generate_state(1)[0])


def predict(
    model: Recommender, cohort: Cohort, resident: ResidentCohort, members: Members, level: float
) -> Predictions:
    """Returns the model's answer for every visit of these patients, patients ascending.

    Args:
        model: a trained model.
        cohort: the cohort.
        resident: the same, on the model's device.
        members: patients.
        level: score from which a drug is recommended.
    """
    if isinstance(model, NeuralRecommender):
        model.eval()
    parts = []
    with torch.inference_mode():
        for patients in evaluation_batches(members, cohort.visits[members]):
            batch = resident.gather(patients.to(resident.visits.device))
            answer = model.predict(batch, level)
            exists = batch.visit_mask
            patient, visit = torch.nonzero(exists, as_tuple=True)
            parts.append(
                (
                    batch.patients[patient].cpu().numpy().astype(np.int32),
                    visit.cpu().numpy().astype(np.int16),
                    batch.medications[exists].cpu().numpy() > 0,
                    answer.chosen[exists].cpu().numpy(),
                    answer.scores[exists].float().cpu().numpy(),
                )
            )
    joined = Predictions(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    return joined.select(np.lexsort((joined.visit, joined.patient)))


def train(
    model: Recommender, data: Data, spec: TrialSpec, report: Report, checkpoint: Path | None
) -> Progress:
    """Trains or fits `model` in place, leaving it at its best validation epoch.

    Args:
        model: freshly built, or to be continued from the checkpoint.
        data: cohort, training and validation patients.
        spec: the trial.
        report: called after each epoch with its row of history.
        checkpoint: file to resume from and to write after each epoch; None keeps nothing.

    Raises:
        NonFiniteLossError: the loss became NaN or infinite.
    """
    if isinstance(model, FittedRecommender):
        return _fit(model, data, spec, report)
    return _Loop(model, data, spec, checkpoint).run(report)


def _validate(model: Recommender, data: Data, spec: TrialSpec) -> dict[str, float]:
    level = spec.protocol.threshold
    predictions = predict(model, data.cohort, data.resident, data.validation, level)
    if spec.protocol.visits == "transitions":
        predictions = predictions.transitions()
    return evaluate(predictions, data.knowledge.interacts)


def _fit(model: FittedRecommender, data: Data, spec: TrialSpec, report: Report) -> Progress:
    started = time.perf_counter()
    model.fit(data.cohort, data.train)
    seconds = time.perf_counter() - started
    metrics = _validate(model, data, spec)
    row = {"epoch": 1.0, **metrics, **_best(metrics), "seconds": seconds}
    report(row)
    return Progress(spec.key, 1, 1, (row,), seconds)


def _best(metrics: dict[str, float]) -> dict[str, float]:
    return {f"best_{name}": value for name, value in metrics.items()}


class _Loop:
    """Epochs of one neural trial; state lies in the checkpoint or follows from (seed, epoch)."""

    def __init__(
        self, model: NeuralRecommender, data: Data, spec: TrialSpec, checkpoint: Path | None
    ) -> None:
        self.model, self.data, self.spec, self.checkpoint = model, data, spec, checkpoint
        settings = spec.training
        self.optimiser = torch.optim.Adam(
            model.parameters(),
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.best: dict[str, Tensor] = {}
        self.progress = Progress(spec.key, 0, 0, (), 0.0)
        if checkpoint is not None and checkpoint.exists():
            self._resume(checkpoint)

    def run(self, report: Report) -> Progress:
        for row in self.progress.history:
            report(row)
        if self.progress.epoch == 0:
            torch.manual_seed(derived_seed(self.spec.seed, 3))
            self.model.train()
            self.model.pretrain()
        while self.progress.epoch < self.spec.training.epochs:
            self.progress = self._epoch()
            report(self.progress.history[-1])
        self.model.load_state_dict(self.best)
        return self.progress

    def _epoch(self) -> Progress:
        epoch, before = self.progress.epoch, self.progress
        started = time.perf_counter()
        loss = self._pass(epoch)
        metrics = _validate(self.model, self.data, self.spec)
        chosen = self.spec.protocol.select
        top = before.history[-1] if before.history else None
        best_epoch, best = before.best_epoch, {}
        if top is None or metrics[chosen] > top[f"best_{chosen}"]:
            best_epoch, best = epoch + 1, _best(metrics)
            self.best = {name: t.clone() for name, t in self.model.state_dict().items()}
        else:
            best = {name: value for name, value in top.items() if name.startswith("best_")}
        seconds = time.perf_counter() - started
        row = {"epoch": epoch + 1.0, "loss": loss, **metrics, **best, "seconds": seconds}
        history = (*before.history, row)
        total = before.seconds + seconds
        progress = Progress(self.spec.key, epoch + 1, best_epoch, history, total)
        if self.checkpoint is not None and epoch + 1 < self.spec.training.epochs:
            save_checkpoint(self.checkpoint, progress, self._state())
        return progress

    def _pass(self, epoch: int) -> float:
        """Trains one epoch and returns its mean loss a visit."""
        torch.manual_seed(derived_seed(self.spec.seed, 1, epoch))
        order = np.random.default_rng(derived_seed(self.spec.seed, 2, epoch))
        step = Step(epoch, self.spec.protocol.threshold)
        self.model.train()
        train, visits = self.data.train, self.data.cohort.visits[self.data.train]
        device = self.data.resident.visits.device
        total = torch.zeros((), device=device)
        for patients in training_batches(train, visits, self.spec.training.batch_size, order):
            batch = self.data.resident.gather(patients.to(device))
            loss = self.model.loss(self.model(batch), batch, step)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            if self.spec.training.clip_norm is not None:
                norm = self.spec.training.clip_norm
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), norm)
            self.optimiser.step()
            total += loss.detach() * batch.visit_mask.sum()
        mean = float(total) / int(visits.sum())
        if not math.isfinite(mean):
            raise NonFiniteLossError(
                f"The loss of epoch {epoch + 1} is {mean}. Lower `training.learning_rate` "
                f"({self.spec.training.learning_rate}) or set `training.clip_norm`."
            )
        return mean

    def _state(self) -> dict[str, dict[str, Tensor]]:
        return {
            "model": self.model.state_dict(),
            "best": self.best,
            "optimiser": optimiser_tensors(self.optimiser),
        }

    def _resume(self, path: Path) -> None:
        """Takes up the checkpoint; if it does not fit, training starts anew."""
        fresh = {name: t.clone() for name, t in self.model.state_dict().items()}
        try:
            progress, groups = load_checkpoint(path, self.spec.key)
            best = groups["best"]
            self.model.load_state_dict(groups["model"])
        except (CheckpointError, KeyError, RuntimeError):
            self.model.load_state_dict(fresh)  # some tensors may have been taken over
            return
        restore_optimiser(self.optimiser, groups.get("optimiser", {}))
        self.best, self.progress = best, progress
