"""What a model is: neural ones are trained by the one loop, fitted ones fit themselves.

Both answer `predict(batch)` for every visit of every patient of the batch in one causal pass:
scores of visit t depend on diagnoses and procedures up to t and on medications before t.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from pydantic import Field, model_validator
from torch import Tensor, nn

from medrec import losses
from medrec.batching import Batch
from medrec.cohort import Cohort, Kind
from medrec.controllers import CONTROLLERS, PUBLISHED_GAIN, Control, Controller
from medrec.knowledge.base import Knowledge
from medrec.predictions import Predictions
from medrec.spec import ModelConfig, Training


@dataclass(frozen=True)
class Prediction:
    """Scores in [0, 1] and the recommended set, for every visit of a batch."""

    scores: Float[Tensor, "patients visits drugs"]
    chosen: Bool[Tensor, "patients visits drugs"]


class NeuralRecommender(nn.Module, ABC):
    """A model that the training loop trains."""

    @abstractmethod
    def forward(self, batch: Batch) -> Float[Tensor, "patients visits drugs"]:
        """Returns logits for every visit.

        What the loss needs besides may be kept until then: a loss follows its pass.
        """

    def pretrain(self) -> None:
        """Runs once before the first epoch, seeded; most models have nothing to do here.

        What it learns must lie in weights or buffers of the checkpoint: a resumed trial does not
        run it again.
        """

    @abstractmethod
    def loss(
        self, logits: Float[Tensor, "patients visits drugs"], batch: Batch, step: "Step"
    ) -> Float[Tensor, ""]:
        """Returns the mean loss over the visits that exist.

        A visit that a model is not trained on counts as one with loss 0, so that the mean over a
        batch is that of its parts, weighted by their visits.
        """

    def predict(self, batch: Batch, threshold: float) -> Prediction:
        """Returns scores and the drugs whose score reaches the threshold."""
        scores = torch.sigmoid(self(batch).float())  # in mixed precision, logits may be bfloat16
        return Prediction(scores, scores >= threshold)


class SequenceRecommender(NeuralRecommender):
    """A network that writes a visit's drugs one after another.

    `forward` takes the true drugs as written so far (teacher forcing) and returns what `loss`
    takes: log-probabilities or logits of each next token, [visits, steps, tokens], of the visits
    that exist. `predict` decodes; its scores rank drugs by the probabilities met on the way and
    are no probabilities of being prescribed.
    """

    @abstractmethod
    def forward(self, batch: Batch) -> Float[Tensor, "existing steps tokens"]:
        """Returns what `loss` takes."""

    @abstractmethod
    def predict(self, batch: Batch, threshold: float) -> Prediction:
        """Returns the decoded drugs; the threshold does not apply."""


class CalibratedRecommender(NeuralRecommender):
    """A network with settings that only validation can choose, thresholds for instance."""

    @abstractmethod
    def calibrate(self, validation: Predictions) -> None:
        """Chooses them, after each epoch, and keeps them in buffers of the checkpoint.

        Args:
            validation: its answers to the validation visits that the protocol counts, with the
                choice of the epoch before.
        """


class FittedRecommender(ABC):
    """A model that fits itself to the training patients, once."""

    @abstractmethod
    def fit(self, cohort: Cohort, patients: Int64[np.ndarray, " members"]) -> None:
        """Learns from these patients; reads no others."""

    @abstractmethod
    def predict(self, batch: Batch, threshold: float) -> Prediction:
        """Returns scores and the recommended drugs."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Returns everything `fit` learned."""

    @abstractmethod
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Takes back what `tensors` returned."""


Recommender = NeuralRecommender | FittedRecommender


@dataclass(frozen=True)
class Step:
    """Where training stands: what a loss may depend on besides the batch."""

    epoch: int  # from 0
    threshold: float
    # Of a mean over patients, beside a mean over visits, in the loss of a worker's part of a
    # batch: its share of the batch's patients over its share of the visits.
    patient_weight: float = 1.0


@dataclass(frozen=True)
class Model:
    """A model plug-in.

    Attributes:
        title: name in tables.
        source: where it is published.
        config: its settings.
        build: (settings, knowledge) to what is trained: a recommender here, a generator or a
            builder of hierarchies in the packages of these.
        seeded: whether the result depends on the seed; otherwise one trial stands for all seeds.
        training: settings of the loop that suit it, used where a study gives none.
        embeddings: name in the checkpoint of the vectors of each kind of code; a row a code, in
            the order of the vocabulary (further rows are ignored).
    """

    title: str
    source: str
    config: type[ModelConfig]
    build: Callable[[Any, Knowledge], Any]
    seeded: bool = True
    training: Training = field(default_factory=Training)
    embeddings: Mapping[Kind, str] = field(default_factory=dict)


class DdiLossConfig(ModelConfig):
    """Settings of the loss that GAMENet, SafeDrug and their kin share."""

    bce_weight: float = Field(default=0.95, ge=0, description="of the cross-entropy")
    margin_weight: float = Field(default=0.05, ge=0, description="of the multi-label margin loss")
    controller: Controller = Field(default="safedrug_paper", description="rule of the DDI loss")
    ddi_target: float = Field(
        default=0.06, ge=0, le=1, description="acceptable DDI rate of a prescription"
    )
    ddi_gain: float | None = Field(
        default=None, gt=0, description="see medrec.controllers; none takes the rule's own"
    )
    ddi_decay: float = Field(
        default=0.85, gt=0, le=1, description="of the gamenet rule's temperature at each epoch"
    )

    @model_validator(mode="after")
    def _fill_gain(self) -> "DdiLossConfig":
        if self.ddi_gain is None:
            object.__setattr__(self, "ddi_gain", PUBLISHED_GAIN[self.controller])
        return self


def loss_weights(
    rates: Float[Tensor, " visits"], config: DdiLossConfig, step: Step
) -> tuple[Float[Tensor, " visits"], Float[Tensor, " visits"]]:
    """Returns the controller's weights of accuracy and of interactions, from visits' DDI rates."""
    assert config.ddi_gain is not None  # noqa: S101  filled by the validator
    control = Control(config.ddi_target, config.ddi_gain, config.ddi_decay)
    return CONTROLLERS[config.controller](rates, control, step.epoch)


def controlled_loss(
    logits: Float[Tensor, "patients visits drugs"],
    batch: Batch,
    interacts: Float[Tensor, "drugs drugs"],
    ddi_scale: float,
    config: DdiLossConfig,
    step: Step,
) -> Float[Tensor, ""]:
    """Returns the mean over existing visits of w_pred (a BCE + b margin) + w_ddi c pᵀAp.

    The weights come from the controller, visit by visit; c is `ddi_scale`.
    """
    rows = batch.visit_mask.flatten().nonzero()[:, 0]
    logits = logits.flatten(0, 1).index_select(0, rows)
    target = batch.medications.flatten(0, 1).index_select(0, rows)
    scores = torch.sigmoid(logits)
    accuracy = config.bce_weight * losses.cross_entropy(logits, target)
    accuracy = accuracy + config.margin_weight * losses.margin(scores, target)
    with torch.no_grad():
        rates = losses.visit_ddi_rate(scores >= step.threshold, interacts)
        on_accuracy, on_ddi = loss_weights(rates, config, step)
    penalty = ddi_scale * losses.interaction(scores, interacts)
    return (on_accuracy * accuracy + on_ddi * penalty).mean()
