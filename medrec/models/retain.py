"""RETAIN: reverse time attention (Choi et al., NeurIPS 2016), as a baseline of this field.

v_s    a visit that is over: the sum of its diagnoses', procedures' and medications' vectors
g, h   states of two GRUs over the visits, one for each kind of attention
α_s    softmax over the visits of w·g_s: how much visit s counts
β_s    tanh(W h_s): how much each element of v_s counts
c_t    Σ_{s<t} α_s β_s ⊙ v_s, from which the drugs of visit t are predicted

Visit t is predicted from earlier visits alone, not from its own diagnoses and procedures, and a
first visit not at all: so in the code behind most published rows. `retain_current` tells it the
visit's own codes as well.

The original reads the visits backwards from the visit in question. The code behind the published
rows of this field reads them forwards, which is the default here; `direction` chooses.
"""

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from medrec import losses
from medrec.batching import Batch
from medrec.knowledge.base import Knowledge
from medrec.layers import CodeBag, DrugBag, masked_softmax, strictly_earlier
from medrec.models._base import Model, NeuralRecommender, Prediction, Step
from medrec.models.most_popular import PopularAtFirst
from medrec.spec import ModelConfig, Training, preset

# Where the released code (SafeDrug's repository, 88ce5c3) departs from the paper. Its threshold of
# 0.4 (GAMENet's repository: 0.3) is not taken over: one protocol measures every model.
RELEASED: dict[str, Any] = {
    "visit_attention": False,  # the softmax runs over an axis of size 1, so that every α is 1
}

States = dict[str, Float[Tensor, "rows visits dim"]]


class RETAINConfig(ModelConfig):
    """Settings of RETAIN; defaults from SafeDrug's repository (88ce5c3)."""

    dim: int = Field(default=64, ge=1, description="of code vectors and states")
    dropout: float = Field(default=0.5, ge=0, lt=1, description="of code vectors")
    visit_attention: bool = Field(
        default=True, description="α is a softmax over the visits; otherwise every α is 1"
    )
    code_attention: bool = Field(
        default=True, description="β weighs the elements of a visit; otherwise every β is 1"
    )
    direction: Literal["forward", "reverse"] = Field(
        default="forward",
        description="in which the GRUs read: forward as in this field's code; reverse, from the "
        "predicted visit backwards, as in the original",
    )

    _fill = preset(RELEASED)

    @property
    def first_visit(self) -> str:
        """A first visit has no earlier one to be predicted from."""
        return "the most popular drugs of training"


class RETAINEncoder(nn.Module):
    """c_t of every visit.

    Args:
        config: settings.
        knowledge: sizes of the vocabularies.
        current: whether c_t also attends to visit t itself, as far as it is known when
            prescribing: to the sum of its diagnoses and procedures.
    """

    def __init__(self, config: RETAINConfig, knowledge: Knowledge, *, current: bool) -> None:
        super().__init__()
        self.config, self.current = config, current
        dim, dropout = config.dim, config.dropout
        self.diagnoses = CodeBag(knowledge.diagnoses, dim, dropout, mean=False)
        self.procedures = CodeBag(knowledge.procedures, dim, dropout, mean=False)
        self.medications = DrugBag(knowledge.drugs, dim, dropout)
        self.grus = nn.ModuleDict()
        if config.visit_attention:
            self.grus["visit"] = nn.GRU(dim, dim, batch_first=True)
            self.visit_score = nn.Linear(dim, 1, bias=False)  # a softmax ignores a bias
        if config.code_attention:
            self.grus["code"] = nn.GRU(dim, dim, batch_first=True)
            self.code_gate = nn.Linear(dim, dim)

    def forward(self, batch: Batch) -> Float[Tensor, "patients visits dim"]:
        """Returns c_t of every visit; 0 where there is nothing to attend to."""
        # Nobody attends to the last of the visits as one that is over: in most batches that is
        # the last visit of every patient, and nearly half the work.
        codes = (batch.diagnoses, batch.procedures)
        if not self.current:
            codes = (batch.diagnoses[:, :-1], batch.procedures[:, :-1])
        known = self.diagnoses(codes[0]) + self.procedures(codes[1])
        given = batch.medications[:, :-1]
        over = known[:, : given.shape[1]] + self.medications(given)
        if self.config.direction == "reverse":
            return self._backwards(known, over, batch.visit_mask)
        return self._forwards(known, over)

    def _forwards(
        self,
        known: Float[Tensor, "patients any dim"],
        over: Float[Tensor, "patients earlier dim"],
    ) -> Float[Tensor, "patients visits dim"]:
        """One pass: a visit's states, and so its score and gate, are the same for all later."""
        visits = over.shape[1] + 1
        allowed = strictly_earlier(visits, over.device)[:, :-1]
        states = self._states(over)
        gated = self._gated(states, over)
        scores = self._scores(states, over)[:, None].expand(-1, visits, -1)
        if not self.current:
            return self._weights(scores, allowed) @ gated
        # The visit itself is one more step from the state that the earlier ones left.
        before = {
            name: nn.functional.pad(state, (0, 0, 1, 0)).flatten(0, 1)[None]
            for name, state in states.items()
        }
        itself = known.flatten(0, 1)[:, None]
        states = self._states(itself, before)
        scores = torch.cat([scores, self._scores(states, itself).view(-1, visits, 1)], dim=2)
        weights = self._weights(scores, nn.functional.pad(allowed, (0, 1), value=True))
        own = self._gated(states, itself).view_as(known)
        return weights[..., :-1] @ gated + weights[..., -1:] * own

    def _backwards(
        self,
        known: Float[Tensor, "patients any dim"],
        over: Float[Tensor, "patients earlier dim"],
        exists: Bool[Tensor, "patients visits"],
    ) -> Float[Tensor, "patients visits dim"]:
        """Each visit's prefix, latest visit first, is a sequence of its own."""
        patient, visit = exists.nonzero(as_tuple=True)
        source = visit[:, None] - 1 - torch.arange(over.shape[1], device=over.device)
        sequence, allowed = over[patient[:, None], source.clamp(min=0)], source >= 0
        if self.current:
            sequence = torch.cat([known[patient, visit][:, None], sequence], dim=1)
            allowed = nn.functional.pad(allowed, (1, 0), value=True)
        states = self._states(sequence)
        weights = self._weights(self._scores(states, sequence), allowed)
        read = (weights[..., None] * self._gated(states, sequence)).sum(dim=1)
        return read.new_zeros(*exists.shape, read.shape[1]).index_put((patient, visit), read)

    def _states(
        self,
        sequence: Float[Tensor, "rows visits dim"],
        start: dict[str, Float[Tensor, "1 rows dim"]] | None = None,
    ) -> States:
        """Returns g and h, as far as there are such attentions."""
        if sequence.shape[1] == 0:  # torch's GRU refuses it
            return dict.fromkeys(self.grus, sequence)
        return {
            name: gru(sequence, start[name] if start else None)[0]
            for name, gru in self.grus.items()
        }

    def _scores(
        self, states: States, vectors: Float[Tensor, "rows visits dim"]
    ) -> Float[Tensor, "rows visits"]:
        if not self.config.visit_attention:
            return vectors.new_zeros(vectors.shape[:2])
        return self.visit_score(states["visit"])[..., 0]

    def _gated(
        self, states: States, vectors: Float[Tensor, "rows visits dim"]
    ) -> Float[Tensor, "rows visits dim"]:
        """Returns β ⊙ v."""
        if not self.config.code_attention:
            return vectors
        return torch.tanh(self.code_gate(states["code"])) * vectors

    def _weights(
        self,
        scores: Float[Tensor, "*batch targets sources"],
        allowed: Bool[Tensor, "targets sources"],
    ) -> Float[Tensor, "*batch targets sources"]:
        """Returns α over the allowed visits; a row without any is 0."""
        if not self.config.visit_attention:
            return allowed.to(scores.dtype).expand_as(scores)
        return masked_softmax(scores, allowed)


class RETAIN(NeuralRecommender):
    """Predicts later visits; a first one is answered by training frequencies."""

    def __init__(self, config: RETAINConfig, knowledge: Knowledge) -> None:
        super().__init__()
        self.encoder = RETAINEncoder(config, knowledge, current=False)
        self.head = nn.Linear(config.dim, knowledge.drugs)
        self.at_first = PopularAtFirst(knowledge)

    def forward(self, batch: Batch) -> Float[Tensor, "patients visits drugs"]:
        """Returns logits for every visit; those of first visits mean nothing."""
        return self.head(self.encoder(batch))

    def loss(
        self, logits: Float[Tensor, "patients visits drugs"], batch: Batch, step: Step
    ) -> Float[Tensor, ""]:
        """Returns the cross-entropy of the visits after the first, divided by all visits."""
        later = batch.visit_mask.clone()
        later[:, 0] = False
        return losses.mean_cross_entropy(logits, batch.medications, batch.visit_mask, later)

    def predict(self, batch: Batch, threshold: float) -> Prediction:
        """Returns scores and the drugs whose score reaches the threshold."""
        return self.at_first(super().predict(batch, threshold))


MODEL = Model(
    title="RETAIN",
    source="Choi et al., NeurIPS 2016; code 88ce5c3 (SafeDrug's repository, no licence)",
    config=RETAINConfig,
    build=RETAIN,
    # One step per 16 patients instead of per patient, so above the published 5e-4. Chosen among
    # 1e-3, 3e-3 and 1e-2 on the validation split of a synthetic cohort.
    training=Training(epochs=20, batch_size=16, learning_rate=3e-3),
    embeddings={
        "diagnoses": "encoder.diagnoses.embedding.weight",
        "procedures": "encoder.procedures.embedding.weight",
        "medications": "encoder.medications.weight",
    },
)
