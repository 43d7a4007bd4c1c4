"""ManyDG: every patient a domain of their own (Yang et al., ICLR 2023).

v      features of a visit, from an encoder: RETAIN's with the current visit, or GAMENet's
z      q(v): what is the patient's own in it
e      v - (v·ẑ)ẑ with ẑ = z/‖z‖: what remains when that is projected out
logits cos(e, W_m)/T, with a prototype W_m of each drug

In training, visits i and j of the same patient are paired, with the loss

    BCE_i + BCE_j - cos(z_i, z_j) - cos(v'_j, v_j) - cos(v'_i, v_i) + ‖z̄ - v̄‖²/‖v̄‖²

where v'_j = p([z_i; Σ W_m over the drugs m of j]) rebuilds j's features from the patient's part of
i and the drugs of j. The published classifier and losses; what is ours:

* Pairs are not drawn. A patient's visits stand in a ring, and each is paired with the one r
  further on; r = 1 in the first epoch and goes round, so that every pair has its turn. Whoever
  has one visit has no pair, and adds its cross-entropy alone.
* z̄ and v̄ are means over a patient's visits. Published, they are means over the batch: then the
  loss of one patient depends on the others, and on how a batch is shared among workers.
* Losses of pairs are halved, as each visit is in two of them, and averaged over all visits.

Not taken over from the released code: patients with one visit paired with other patients; a
softmax and embeddings that padding enters, so that the answer depends on the rest of the batch; a
mask that is changed while in use; its threshold 0.4; its choice of the first 500 patients.
"""

from dataclasses import replace
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int64
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from medrec import losses
from medrec.batching import Batch
from medrec.knowledge.base import Knowledge
from medrec.layers import full_precision
from medrec.models._base import Model, NeuralRecommender, Step
from medrec.models.gamenet import GAMENetConfig, GAMENetEncoder
from medrec.models.retain import RETAINConfig, RETAINEncoder
from medrec.spec import ModelConfig, Training, preset

# Where the released code (f9f77a5) departs from the paper.
RELEASED: dict[str, Any] = {
    # Earlier medications are filled with the padding code: M where not given, 1 where given.
    "medication_fill": "drugs",
    # Pairs leave out a patient's last visit, which never trains; one of two pairs with itself.
    "pair_last": False,
}


class ManyDGConfig(ModelConfig):
    """Settings of ManyDG; defaults from its code (f9f77a5), dropout from the encoders' code."""

    encoder: Literal["retain", "gamenet"] = Field(
        default="retain", description="what a visit's features come from"
    )
    dim: int = Field(default=64, ge=1, description="of code vectors, features and prototypes")
    dropout: float = Field(default=0.5, ge=0, lt=1, description="of code vectors")
    graph_dropout: float = Field(
        default=0.3, ge=0, lt=1, description="between graph layers of the gamenet encoder"
    )
    temperature: float = Field(default=0.5, gt=0, description="T; logits lie within ±1/T")
    projection: bool = Field(
        default=True, description="classify what is orthogonal to z; otherwise v itself"
    )
    similarity_weight: float = Field(default=1.0, ge=0, description="of -cos(z_i, z_j)")
    reconstruction_weight: float = Field(default=1.0, ge=0, description="of -cos(v', v)")
    matching_weight: float = Field(default=1.0, ge=0, description="of ‖z̄ - v̄‖²/‖v̄‖²")
    medication_fill: Literal["zero", "drugs"] = Field(
        default="zero",
        description="value in the history of a drug not given; drugs: their number, as released",
    )
    pair_last: bool = Field(
        default=True, description="a patient's last visit trains; otherwise as released"
    )

    _fill = preset(RELEASED)


class ManyDG(NeuralRecommender):
    """The wrapper: a patient's part is found in the features and projected out."""

    def __init__(self, config: ManyDGConfig, knowledge: Knowledge) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        if config.encoder == "retain":
            settings = RETAINConfig(dim=dim, dropout=config.dropout)
            self.encoder: RETAINEncoder | GAMENetEncoder = RETAINEncoder(
                settings, knowledge, current=True
            )
        else:
            options = GAMENetConfig(
                dim=dim, dropout=config.dropout, graph_dropout=config.graph_dropout
            )
            self.encoder = GAMENetEncoder(options, knowledge)
            self.features = nn.Linear(self.encoder.width, dim)
        pairs = (config.similarity_weight, config.reconstruction_weight, config.matching_weight)
        self.paired = any(weight > 0 for weight in pairs)
        if config.projection or self.paired:
            self.domain = nn.Sequential(
                nn.ReLU(), nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim)
            )
        if config.reconstruction_weight > 0:
            self.rebuild = nn.Sequential(nn.Linear(2 * dim, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.prototypes = nn.Parameter(torch.empty(knowledge.drugs, dim))
        nn.init.uniform_(self.prototypes, -0.1, 0.1)  # as medrec.layers.CodeBag
        self._latest: tuple[Tensor, Tensor] | None = None  # v and z, for the loss

    def forward(self, batch: Batch) -> Float[Tensor, "patients visits drugs"]:
        """Returns logits for every visit."""
        visits = self._encode(batch)
        with full_precision(visits.device):  # e may be a small difference of large vectors
            visits = rest = visits.float()
            if hasattr(self, "domain"):
                domains = self.domain(visits)
                self._latest = (visits, domains)
                if self.config.projection:
                    own = functional.normalize(domains, dim=-1)
                    rest = visits - (visits * own).sum(dim=-1, keepdim=True) * own
            directions = functional.normalize(self.prototypes, dim=-1)
            return functional.normalize(rest, dim=-1) @ directions.T / self.config.temperature

    def _encode(self, batch: Batch) -> Float[Tensor, "patients visits dim"]:
        if self.config.medication_fill == "drugs":
            given = batch.medications
            batch = replace(batch, medications=given + given.shape[-1] * (1 - given))
        if isinstance(self.encoder, GAMENetEncoder):
            return self.features(torch.relu(self.encoder.features(batch)))
        return self.encoder(batch)

    def loss(
        self, logits: Float[Tensor, "patients visits drugs"], batch: Batch, step: Step
    ) -> Float[Tensor, ""]:
        """Returns the mean over visits of cross-entropy and half the terms of pairs."""
        exists, target = batch.visit_mask, batch.medications
        trained = trained_visits(exists, last=self.config.pair_last)
        total = losses.mean_cross_entropy(logits, target, exists, trained)
        if not self.paired:
            return total
        pairs = self._pair_terms(trained, exists.sum(dim=1) > 1, target, step.epoch)
        return total + 0.5 * pairs / exists.sum()

    def _pair_terms(
        self,
        trained: Bool[Tensor, "patients visits"],
        several: Bool[Tensor, " patients"],
        target: Float[Tensor, "patients visits drugs"],
        epoch: int,
    ) -> Float[Tensor, ""]:
        """Returns the sum over pairs of all terms but the cross-entropy."""
        assert self._latest is not None  # noqa: S101  the loss follows a pass
        config, (visits, domains) = self.config, self._latest
        total = visits.new_zeros(())
        i, j = ring_pairs(trained, several, epoch)
        v, z = visits.flatten(0, 1), domains.flatten(0, 1)
        if config.similarity_weight > 0:
            alike = functional.cosine_similarity(z[i], z[j], dim=1).sum()
            total = total - config.similarity_weight * alike
        if config.reconstruction_weight > 0:
            drugs = target.flatten(0, 1) @ self.prototypes
            one, other = torch.cat([i, j]), torch.cat([j, i])
            rebuilt = self.rebuild(torch.cat([z[one], drugs[other]], dim=1))
            alike = functional.cosine_similarity(rebuilt, v[other], dim=1).sum()
            total = total - config.reconstruction_weight * alike
        if config.matching_weight > 0:
            apart = mean_distance(domains[several], visits[several], trained[several])
            pairs_each = trained[several].sum(dim=1)
            total = total + config.matching_weight * (pairs_each * apart).sum()
        return total


def trained_visits(
    exists: Bool[Tensor, "patients visits"], *, last: bool
) -> Bool[Tensor, "patients visits"]:
    """Returns the visits that train: all, or all but the last of whoever has several."""
    if last:
        return exists
    count = exists.sum(dim=1, keepdim=True)
    place = torch.arange(exists.shape[1], device=exists.device)
    return place < torch.where(count > 1, count - 1, count)


def ring_pairs(
    trained: Bool[Tensor, "patients visits"], several: Bool[Tensor, " patients"], epoch: int
) -> tuple[Int64[Tensor, " pairs"], Int64[Tensor, " pairs"]]:
    """Returns visits i and j of each pair, numbered through the padded batch.

    Args:
        trained: the first n visits of each patient.
        several: patients who have pairs. A single visit of one of them is paired with itself.
        epoch: j is 1 + epoch mod (n - 1) visits after i in the ring.
    """
    patient, visit = (trained & several[:, None]).nonzero(as_tuple=True)
    count = trained.sum(dim=1)[patient]
    partner = (visit + 1 + epoch % (count - 1).clamp(min=1)) % count
    first = patient * trained.shape[1]
    return first + visit, first + partner


def mean_distance(
    domains: Float[Tensor, "patients visits dim"],
    visits: Float[Tensor, "patients visits dim"],
    counted: Bool[Tensor, "patients visits"],
) -> Float[Tensor, " patients"]:
    """Returns ‖z̄ - v̄‖²/‖v̄‖² of each patient; 0 where v̄ is, for want of any code."""
    shares = (counted / counted.sum(dim=1, keepdim=True))[..., None]
    mean = (shares * visits).sum(dim=1)
    difference = ((shares * domains).sum(dim=1) - mean).square().sum(dim=1)
    norm = mean.square().sum(dim=1)
    empty = norm == 0
    return torch.where(empty, 0.0, difference / norm.masked_fill(empty, 1.0))


MODEL = Model(
    title="ManyDG",
    source="Yang et al., ICLR 2023; code f9f77a5 (no licence)",
    config=ManyDGConfig,
    build=ManyDG,
    # The published rate and weight decay: a batch of 32 pairs there has about as many visits as
    # 16 patients have. Confirmed on the validation split of a synthetic cohort.
    training=Training(epochs=20, batch_size=16, learning_rate=1e-3, weight_decay=1e-5),
    embeddings={
        "diagnoses": "encoder.diagnoses.embedding.weight",
        "procedures": "encoder.procedures.embedding.weight",
        "medications": "encoder.medications.weight",
    },
)
