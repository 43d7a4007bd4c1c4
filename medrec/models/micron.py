"""MICRON: what to change in the last prescription (Yang et al., IJCAI 2021).

h_t    Linear([Σ diagnosis vectors; Σ procedure vectors]) of visit t; no recurrence
u_t    f(h_t): full prediction, f a network with one hidden layer
ρ_t    f(h_t - h_{t-1}): what changes since the visit before
b_t    u_1 + ρ_2 + ... + ρ_t, from which sets are updated: drugs with σ(b_t) >= θ1 are added,
       those with σ(b_t) < θ2 taken away, others stay as they were
"""

from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from pydantic import Field, model_validator
from torch import Tensor, nn

from medrec import losses
from medrec.batching import Batch
from medrec.controllers import CONTROLLERS, PUBLISHED_GAIN, Control, Controller
from medrec.knowledge.base import Knowledge
from medrec.layers import CodeBag
from medrec.models._base import CalibratedRecommender, DdiLossConfig, Model, Prediction, Step
from medrec.predictions import Predictions
from medrec.spec import Training, preset

# Where the released code (8a8676c) departs from the paper. Its evaluation, which answers all
# visits of a patient with the last one's set, reads later visits and is not taken over.
RELEASED: dict[str, Any] = {
    "weights": "frozen",  # its counter of samples never moves, so the weights stay as they start
}
TERMS = 4  # reconstruction, cross-entropy, margin, interactions


class MICRONConfig(DdiLossConfig):
    """Settings of MICRON; defaults from paper and code (8a8676c)."""

    dim: int = Field(default=64, ge=1, description="of code vectors and visits")
    feed_forward: int = Field(default=256, ge=1, description="hidden units of f")
    dropout: float = Field(default=0.5, ge=0, lt=1, description="of code vectors")
    bce_weight: float = Field(default=1.0, ge=0, description="of the cross-entropy")
    margin_weight: float = Field(default=0.05, ge=0, description="of the margin loss")
    reconstruction_weight: float = Field(
        default=1.0, ge=0, description="of the reconstruction, u_t from u_{t-1} and ρ_t"
    )
    current_share: float = Field(
        default=0.75, ge=0, le=1, description="of u_t in accuracy; the rest is u_{t-1}'s"
    )
    weights: Literal["adaptive", "frozen"] = Field(
        default="adaptive",
        description="of the four terms; adaptive: more for those that fell least; frozen: .25",
    )
    momentum: float = Field(default=0.75, ge=0, lt=1, description="of the adaptive weights")
    controller: Controller = Field(default="threshold", description="rule of the DDI loss")
    ddi_target: float = Field(default=0.08, ge=0, le=1, description="acceptable DDI rate")
    state: Literal["carried", "true"] = Field(
        default="carried",
        description="set that is updated; carried: the model's own since the second visit, so "
        "errors add up; true: what the visit before was prescribed",
    )
    thresholds: Literal["validation", "fixed"] = Field(
        default="validation", description="θ1 and θ2; fixed: `add_from` and `keep_from` throughout"
    )
    add_from: float = Field(default=0.8, ge=0.5, le=0.9, description="θ1 before any validation")
    keep_from: float = Field(default=0.2, ge=0.1, le=0.5, description="θ2 before any validation")

    _fill = preset(RELEASED)

    @model_validator(mode="after")
    def _fill_gain(self) -> "MICRONConfig":
        if self.ddi_gain is None:
            # Beside accuracy the interaction loss counts in full; both have weight .25 in front.
            gain = 1.0 if self.controller == "threshold" else PUBLISHED_GAIN[self.controller]
            object.__setattr__(self, "ddi_gain", gain)
        return self

    @property
    def first_visit(self) -> str:
        """The published code starts from the true first prescription."""
        return "its own full prediction u_1, trained as the earlier visit of a pair"


class MICRON(CalibratedRecommender):
    """All visits in one pass; the scan over visits is left to the sets."""

    def __init__(self, config: MICRONConfig, knowledge: Knowledge) -> None:
        super().__init__()
        self.config = config
        self.diagnoses = CodeBag(knowledge.diagnoses, config.dim, config.dropout, mean=False)
        self.procedures = CodeBag(knowledge.procedures, config.dim, config.dropout, mean=False)
        self.visit = nn.Linear(2 * config.dim, config.dim)
        self.prescribe = nn.Sequential(
            nn.Linear(config.dim, config.feed_forward),
            nn.ReLU(),
            nn.Linear(config.feed_forward, knowledge.drugs),
        )
        interacts = torch.from_numpy(knowledge.interacts).float()
        self.register_buffer("interacts", interacts, persistent=False)
        self.interacts: Tensor
        thresholds = torch.tensor([config.add_from, config.keep_from])
        self.register_buffer("thresholds", thresholds)
        self.thresholds: Tensor
        self.balance = Balance(config.momentum) if config.weights == "adaptive" else None
        self._changes: Tensor | None = None

    def forward(self, batch: Batch) -> Float[Tensor, "patients visits drugs"]:
        """Returns u of every visit; ρ is kept for the loss and for the sets."""
        codes = [self.diagnoses(batch.diagnoses), self.procedures(batch.procedures)]
        visits = self.visit(torch.cat(codes, dim=2))
        self._changes = self.prescribe(visits[:, 1:] - visits[:, :-1]).float()
        return self.prescribe(visits)

    def loss(
        self, logits: Float[Tensor, "patients visits drugs"], batch: Batch, step: Step
    ) -> Float[Tensor, ""]:
        """Returns the weighted terms' sum over pairs of visits over the number of all visits."""
        assert self._changes is not None  # noqa: S101  since `forward`
        config, pairs = self.config, batch.visit_mask[:, 1:]
        now, before = logits[:, 1:][pairs], logits[:, :-1][pairs]
        changes = self._changes[pairs]
        given, given_before = batch.medications[:, 1:][pairs], batch.medications[:, :-1][pairs]
        scores, earlier = torch.sigmoid(now), torch.sigmoid(before)
        share = config.current_share
        reconstruction = (scores - torch.sigmoid(before + changes)).square().mean(dim=1)
        accuracy = share * losses.cross_entropy(now, given)
        accuracy = accuracy + (1 - share) * losses.cross_entropy(before, given_before)
        margin = share * losses.margin(scores, given)
        margin = margin + (1 - share) * losses.margin(earlier, given_before)
        penalty = losses.interaction(scores, self.interacts) / logits.shape[2]
        with torch.no_grad():
            rates = losses.visit_ddi_rate(scores >= step.threshold, self.interacts)
            assert config.ddi_gain is not None  # noqa: S101  filled by the validator
            control = Control(config.ddi_target, config.ddi_gain, config.ddi_decay)
            on_accuracy, on_ddi = CONTROLLERS[config.controller](rates, control, step.epoch)
        terms = torch.stack(
            [
                (on_accuracy * config.reconstruction_weight * reconstruction).sum(),
                (on_accuracy * config.bce_weight * accuracy).sum(),
                (on_accuracy * config.margin_weight * margin).sum(),
                (on_ddi * penalty).sum(),
            ]
        )
        weights = torch.full_like(terms, 1 / TERMS)
        if self.balance is not None:
            weights = self.balance(terms.detach(), len(now), step.epoch)
        return (weights * terms).sum() / batch.visit_mask.sum()

    def predict(self, batch: Batch, threshold: float) -> Prediction:
        """Returns σ(b_t), and sets updated from visit to visit.

        The first visit gets the drugs with σ(u_1) from the threshold on, the second one starts
        from what the first was prescribed.
        """
        logits = self(batch).float()
        assert self._changes is not None  # noqa: S101  since `forward`
        base = torch.cat([logits[:, :1], self._changes], dim=1).cumsum(dim=1)
        scores = torch.sigmoid(base)
        given = batch.medications > 0
        if self.config.state == "true":
            before = given[:, :-1]
            later = updated(before, scores[:, 1:], self.thresholds)
        else:
            later = scan(given[:, 0], scores[:, 1:], self.thresholds)
        return Prediction(scores, torch.cat([scores[:, :1] >= threshold, later], dim=1))

    def calibrate(self, validation: Predictions) -> None:
        """Chooses θ1 and θ2 on the visits that have a predecessor."""
        found = validation.transitions()
        if self.config.thresholds == "validation" and len(found.scores):
            chosen = torch.tensor(roc_thresholds(found.truth, found.scores))
            self.thresholds.copy_(chosen)


class Balance(nn.Module):
    """Weights of the loss's terms, updated at the start of each epoch.

    A term's mean over the last epoch, over that of the epoch before, says how it changed; the
    weights move to the softmax of these ratios, so that terms that fell least count more. The
    first epoch is compared with its own first step. Everything lies in buffers, so that a resumed
    trial goes on as it would have. Several workers of one trial each follow the terms of their
    own patients.
    """

    def __init__(self, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("weights", torch.full((TERMS,), 1 / TERMS))
        self.register_buffer("sums", torch.zeros(TERMS))
        self.register_buffer("pairs", torch.zeros(()))
        self.register_buffer("before", torch.zeros(TERMS))  # mean terms to compare with
        self.register_buffer("epoch", torch.zeros((), dtype=torch.long))
        self.weights: Tensor
        self.sums: Tensor
        self.pairs: Tensor
        self.before: Tensor
        self.epoch: Tensor

    def forward(
        self, terms: Float[Tensor, " terms"], pairs: int, epoch: int
    ) -> Float[Tensor, " terms"]:
        """Returns the epoch's weights, and in training counts these sums over pairs of visits."""
        if not self.training:
            return self.weights
        if epoch != int(self.epoch):
            self._close()
            self.epoch.fill_(epoch)
        if pairs and not bool(self.before.any()):
            self.before.copy_(terms / pairs)
        self.sums += terms
        self.pairs += pairs
        return self.weights.clone()  # the next epoch's update must not reach this one's graph

    def _close(self) -> None:
        mean = self.sums / self.pairs.clamp(min=1)
        known = self.before > 0  # a term that was 0, that of the interactions say, is left alone
        ratio = torch.where(known, mean / torch.where(known, self.before, 1.0), 1.0)
        target = torch.softmax(ratio, dim=0)
        self.weights.mul_(self.momentum).add_((1 - self.momentum) * target)
        self.before.copy_(mean)
        self.sums.zero_()
        self.pairs.zero_()


def updated(
    before: Bool[Tensor, "*visits drugs"],
    scores: Float[Tensor, "*visits drugs"],
    thresholds: Float[Tensor, " 2"],
) -> Bool[Tensor, "*visits drugs"]:
    """Returns sets after additions from the first threshold on and removals below the second."""
    return (before | (scores >= thresholds[0])) & (scores >= thresholds[1])


def scan(
    first: Bool[Tensor, "patients drugs"],
    scores: Float[Tensor, "patients later drugs"],
    thresholds: Float[Tensor, " 2"],
) -> Bool[Tensor, "patients later drugs"]:
    """Returns the set of each later visit, updated from that of the visit before it."""
    sets, state = torch.zeros_like(scores, dtype=torch.bool), first
    for visit in range(scores.shape[1]):
        state = updated(state, scores[:, visit], thresholds)
        sets[:, visit] = state
    return sets


def roc_thresholds(
    truth: Bool[np.ndarray, "visits drugs"], scores: Float32[np.ndarray, "visits drugs"]
) -> tuple[float, float]:
    """Returns θ1 and θ2: means over the drugs of two thresholds of each drug's ROC curve.

    A drug's list holds infinity and, falling, the scores at which its curve turns. θ1 takes the
    score at 5 % of the list, within [.5, .9], θ2 the one at 95 %, within [.1, .5].
    """
    found = []
    for given, score in zip(truth.T, scores.T, strict=True):
        turns = _turning_points(given, score)
        ends = [max(round(len(turns) * share) - 1, 0) for share in (0.05, 0.95)]
        found.append([np.clip(turns[ends[0]], 0.5, 0.9), np.clip(turns[ends[1]], 0.1, 0.5)])
    high, low = np.mean(found, axis=0).tolist()
    return high, low


def _turning_points(
    given: Bool[np.ndarray, " visits"], score: Float32[np.ndarray, " visits"]
) -> Float32[np.ndarray, " points"]:
    """Returns the falling thresholds of a ROC curve, without those on a straight line."""
    order = np.argsort(-score, kind="stable")
    falling = score[order]
    last = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)  # of equal scores
    hits = np.cumsum(given[order])[last]
    misses = last + 1 - hits
    keep = np.ones(len(last), dtype=bool)
    if len(last) > 2:  # two points have none between
        keep[1:-1] = (np.diff(hits, 2) != 0) | (np.diff(misses, 2) != 0)
    return np.append(np.float32(np.inf), falling[last[keep]])


MODEL = Model(
    title="MICRON",
    source="Yang et al., IJCAI 2021; code 8a8676c; no licence, written from the equations",
    config=MICRONConfig,
    build=MICRON,
    # Published: RMSprop, 2e-4, weight decay 1e-5, a step per patient. One step per 16 patients
    # with Adam: of 1e-3, 3e-3 and 6e-3 the best on the validation split of a synthetic cohort of
    # 1,000 patients, 15 epochs.
    training=Training(epochs=20, batch_size=16, learning_rate=3e-3),
    embeddings={
        "diagnoses": "diagnoses.embedding.weight",
        "procedures": "procedures.embedding.weight",
    },
)
