"""The one training loop, of one worker or of all workers of a group.

Validation chooses the epoch; the weights of the best one are what remains. The test split is not
named here. The workers of a group hold the same weights throughout; the one of rank 0 alone
reports, and reads and writes the checkpoint.
"""

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import load, save
from torch import Tensor

from medrec.checkpoint import (
    Progress,
    optimiser_tensors,
    read_checkpoint,
    restore_optimiser,
    save_checkpoint,
)
from medrec.data import Data
from medrec.distributed import ALONE, Group
from medrec.errors import CheckpointError, Interrupted, NonFiniteLossError
from medrec.generation._base import FittedGenerator, NeuralGenerator
from medrec.generation._histories import histories
from medrec.hierarchy._base import HierarchyBuilder
from medrec.models._base import FittedRecommender, NeuralRecommender, Step
from medrec.random_state import random_states, take_up
from medrec.spec import Training, TrialSpec
from medrec.steps import Stepper, adam
from medrec.validation import Trained, validate

Fitted = FittedRecommender | FittedGenerator | HierarchyBuilder
Report = Callable[[dict[str, float]], None]
Notice = Callable[[], bool]


def never() -> bool:
    """The notice of a trial that nobody interrupts."""
    return False


def derived_seed(seed: int, *stream: int) -> int:
    """Returns a seed for one purpose; streams of one trial are independent."""
    return int(np.random.SeedSequence([seed, *stream]).generate_state(1)[0])


def learning_rate(settings: Training, epoch: int) -> float:
    """Returns Adam's learning rate in an epoch, counted from 0.

    Example:
        >>> linear = Training(learning_rate=0.1, epochs=4, schedule="linear")
        >>> learning_rate(linear, 0), learning_rate(linear, 3)
        (0.1, 0.025)
    """
    if settings.schedule == "constant":
        return settings.learning_rate
    return settings.learning_rate * (1 - epoch / settings.epochs)


def train(
    model: Trained,
    data: Data,
    spec: TrialSpec,
    report: Report,
    checkpoint: Path | None,
    *,
    group: Group = ALONE,
    notice: Notice = never,
) -> Progress:
    """Trains or fits `model` in place, leaving it at its best validation epoch.

    Args:
        model: freshly built, or to be continued from the checkpoint.
        data: cohort, training and validation patients.
        spec: the trial.
        report: called after each epoch with its row of history.
        checkpoint: file to resume from and to write after each epoch; None keeps nothing.
        group: the workers that train it; each calls this, with its own copy of the model. A fitted
            model is fitted by each that calls.
        notice: asked at every step whether to stop; if one worker hears so, all do.

    Raises:
        NonFiniteLossError: the loss became NaN or infinite.
        Interrupted: `notice` said so; the checkpoint, if there is one, holds every step taken.
        LostWorkerError: another worker is gone.
    """
    if isinstance(model, Fitted):
        return _fit(model, data, spec, report)
    return _Loop(model, data, spec, checkpoint, group, notice).run(report)


def _fit(model: Fitted, data: Data, spec: TrialSpec, report: Report) -> Progress:
    started = time.perf_counter()
    if isinstance(model, FittedRecommender):
        model.fit(data.cohort, data.train)
    elif isinstance(model, FittedGenerator):
        model.fit(histories(data.cohort, data.train))
    else:
        model.fit(data.knowledge, spec.seed)
    seconds = time.perf_counter() - started
    metrics = validate(model, data, spec)
    row = {"epoch": 1.0, **metrics, **_best(metrics), "seconds": seconds}
    report(row)
    return Progress(spec.key, 1, 1, (row,), seconds)


def _best(metrics: dict[str, float]) -> dict[str, float]:
    return {f"best_{name}": value for name, value in metrics.items()}


class _Loop:
    """Epochs of one neural trial; state lies in the checkpoint or follows from (seed, epoch)."""

    def __init__(
        self,
        model: NeuralRecommender | NeuralGenerator,
        data: Data,
        spec: TrialSpec,
        checkpoint: Path | None,
        group: Group = ALONE,
        notice: Notice = never,
    ) -> None:
        self.model, self.data, self.spec = model, data, spec
        self.checkpoint, self.group, self.notice = checkpoint, group, notice
        self.optimiser = adam(model, spec.training)
        self.stepper = Stepper(model, self.optimiser, data.resident, spec.training, group)
        self.best: dict[str, Tensor] = {}
        self.progress = Progress(spec.key, 0, 0, (), 0.0)
        self.running: Tensor | None = None  # loss of an unfinished epoch so far
        self.random: dict[str, Tensor] = {}  # states of the workers' generators in it
        self.started = time.perf_counter()
        self._resume()

    def run(self, report: Report) -> Progress:
        for row in self.progress.history:
            report(row)
        if self.progress.epoch == 0 and self.progress.step == 0:
            torch.manual_seed(derived_seed(self.spec.seed, 3))
            self.model.train()
            self.model.pretrain()
            self._take_over_weights()
        while self.progress.epoch < self.spec.training.epochs:
            self.progress = self._epoch()
            report(self.progress.history[-1])
        self.model.load_state_dict(self.best)
        return self.progress

    def _take_over_weights(self) -> None:
        """Gives every worker the weights of rank 0: another machine may round otherwise."""
        if self.group.workers > 1:
            weights = {name: t.contiguous() for name, t in self.model.state_dict().items()}
            self.model.load_state_dict(load(self.group.share(save(weights))))

    def _take_over_buffers(self) -> None:
        """Gives every worker the buffers of rank 0: running averages differ by dropout."""
        if self.group.workers == 1:
            return
        learned = dict(self.model.named_parameters())
        state = self.model.state_dict().items()
        buffers = {name: t.contiguous() for name, t in state if name not in learned}
        if buffers:
            shared = load(self.group.share(save(buffers)))
            self.model.load_state_dict(shared, strict=False)

    def _epoch(self) -> Progress:
        epoch, before = self.progress.epoch, self.progress
        self.started = time.perf_counter()
        loss = self._pass(epoch)
        self._take_over_buffers()
        metrics = validate(self.model, self.data, self.spec, self.group)
        chosen = self.spec.protocol.select
        top = before.history[-1] if before.history else None
        best_epoch, best = before.best_epoch, {}
        if top is None or metrics[chosen] > top[f"best_{chosen}"]:
            best_epoch, best = epoch + 1, _best(metrics)
            self.best = {name: t.clone() for name, t in self.model.state_dict().items()}
        else:
            best = {name: value for name, value in top.items() if name.startswith("best_")}
        total = self._seconds()
        seconds = total - sum(row["seconds"] for row in before.history)
        row = {"epoch": epoch + 1.0, "loss": loss, **metrics, **best, "seconds": seconds}
        progress = Progress(self.spec.key, epoch + 1, best_epoch, (*before.history, row), total)
        if epoch + 1 < self.spec.training.epochs:
            self._save(progress, {})
        return progress

    def _pass(self, epoch: int) -> float:
        """Trains one epoch, or what is left of it; returns its mean loss a visit or token."""
        rank = self.group.rank
        torch.manual_seed(derived_seed(self.spec.seed, 1, epoch, *([rank] if rank else [])))
        order = np.random.default_rng(derived_seed(self.spec.seed, 2, epoch))
        where = Step(epoch, self.spec.protocol.threshold)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.spec.training, epoch)
        self.model.train()
        train, sizes = self.data.train, self.data.sizes
        total = torch.zeros((), device=self.data.resident.device)
        done = self.progress.step
        if done and self.running is not None:
            total += self.running.to(total.device)
            if not take_up(self.random, self.group, total.device):
                # Other workers than before: the same batches, but dropout is drawn anew.
                torch.manual_seed(derived_seed(self.spec.seed, 1, epoch, rank, done))
        size = self.spec.training.batch_size
        for patients in islice(self.data.batches(size, order), done, None):
            counts = sizes[patients.numpy()]
            weight = self.data.weight(patients.numpy())
            loss, stop = self.stepper.take(patients, counts, where, self.notice(), weight)
            total += loss * int(counts.sum())
            done += 1
            if stop:
                self._halt(done, total)
        mean = float(total) / int(sizes[train].sum())
        if not math.isfinite(mean):
            raise NonFiniteLossError(
                f"The loss of epoch {epoch + 1} is {mean}. Lower `training.learning_rate` "
                f"({self.spec.training.learning_rate}) or set `training.clip_norm`."
            )
        return mean

    def _seconds(self) -> float:
        return self.progress.seconds + time.perf_counter() - self.started

    def _halt(self, done: int, loss: Float[Tensor, ""]) -> NoReturn:
        """Writes the checkpoint of an unfinished epoch, and ends the attempt."""
        states = random_states(self.group, loss.device)
        progress = replace(self.progress, seconds=self._seconds(), step=done)
        self._save(progress, {"running": {"loss": loss}, "random": states})
        raise Interrupted(
            f"Trial {self.spec.key} was told to stop in epoch {progress.epoch + 1}, after step "
            f"{done}. It goes on from there."
        )

    def _save(self, progress: Progress, unfinished: dict[str, dict[str, Tensor]]) -> None:
        if self.checkpoint is None or not self.group.leads:
            return
        groups = {
            "model": self.model.state_dict(),
            "best": self.best,
            "optimiser": optimiser_tensors(self.optimiser),
        }
        save_checkpoint(self.checkpoint, progress, {**groups, **unfinished})

    def _resume(self) -> None:
        """Takes up the checkpoint; if it does not fit, training starts anew.

        Only the worker of rank 0 needs to have the file.
        """
        content = b""
        if self.checkpoint is not None and self.group.leads and self.checkpoint.exists():
            with suppress(OSError):
                content = self.checkpoint.read_bytes()
        content = self.group.share(content)
        if not content:
            return
        fresh = {name: t.clone() for name, t in self.model.state_dict().items()}
        unused = self.optimiser.state_dict()
        try:
            progress, groups = read_checkpoint(content, self.spec.key)
            best = groups["best"] if progress.best_epoch else {}
            running = groups["running"]["loss"] if progress.step else None
            self.model.load_state_dict(groups["model"])
            restore_optimiser(self.optimiser, groups.get("optimiser", {}))
        except (CheckpointError, KeyError, RuntimeError, ValueError, TypeError):
            self.model.load_state_dict(fresh)  # some tensors may have been taken over
            self.optimiser.load_state_dict(unused)
            return
        self.best, self.progress = best, progress
        self.running, self.random = running, groups.get("random", {})
