"""G-BERT: graph-augmented Transformers, pre-trained (Shang et al., IJCAI 2019).

O      vectors of diagnoses and drugs, each from its own ontology (medrec.ontology_attention)
dx_t   Transformer over [CLS] and visit t's diagnoses: the vector of [CLS]
rx_t   the same Transformer over [CLS] and its drugs; a type vector tells the two apart
logits MLP of [mean_{s<t} dx_s; mean_{s<t} rx_s; dx_t] for t ≥ 2: no first visit, no procedures

Pre-training: from dx_t and rx_t, some codes hidden, four heads tell the visit's diagnoses and
drugs. Rounds of epochs alternate, pre-training first, within the one training loop: an epoch of
pre-training is validated like any other, and not chosen unless it is best. It costs one forward
pass of fine-tuning more than it needs, since a forward pass does not know the epoch.

Not taken over from the released code: mask tokens taken from the other kind's vocabulary; its
threshold 0.3 and its choice of the epoch by PRAUC, since one protocol measures every model.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int64
from pydantic import Field
from torch import Tensor, nn

from medrec.batching import Batch
from medrec.cohort import Kind
from medrec.knowledge.base import Knowledge
from medrec.losses import cross_entropy
from medrec.models._base import Model, NeuralRecommender, Prediction, Step
from medrec.models.most_popular import PopularAtFirst
from medrec.ontology_attention import OntologyAttention
from medrec.spec import ModelConfig, Training, preset, whole_heads
from medrec.visit_transformer import VisitTransformer, token_sets

# Where the released code departs from the paper.
RELEASED: dict[str, Any] = {
    "pooling": "halves",  # rows dx_1, rx_1, dx_2, rx_2, ... are cut in the middle
    "cls_masked": True,  # the mask of padding takes [CLS] with it
}
KINDS: tuple[Kind, Kind] = ("diagnoses", "medications")


class GBertConfig(ModelConfig):
    """Settings of G-BERT; defaults as published."""

    dim: int = Field(default=300, ge=1, description="of codes and visits; a multiple of `heads`")
    heads: int = Field(default=4, ge=1, description="of both attentions: ontology, Transformer")
    layers: int = Field(default=2, ge=1, le=4, description="of the Transformer")
    feed_forward: int = Field(default=300, ge=1, description="width inside a layer")
    dropout: float = Field(default=0.4, ge=0, lt=1, description="of what a half-layer adds")
    attention_dropout: float = Field(default=0.1, ge=0, lt=1, description="of attention weights")
    ontology: bool = Field(default=True, description="codes from their ontology; or a table")
    pretraining: Literal["alternating", "none"] = Field(
        default="alternating", description="rounds of epochs of pre-training and fine-tuning"
    )
    round_epochs: int = Field(
        default=5,
        ge=1,
        description="epochs of each round; without more epochs than these there is no fine-tuning",
    )
    masked: float = Field(default=0.15, ge=0, lt=1, description="codes hidden in pre-training")
    history: bool = Field(default=True, description="means of earlier visits; else dx_t alone")
    pooling: Literal["interleaved", "halves"] = Field(
        default="interleaved",
        description="halves: as released, of n visits the first n of the rows dx_1, rx_1, dx_2, "
        "... stand for dx, the others for rx; from the third visit on the target leaks",
    )
    cls_masked: bool = Field(
        default=False, description="no token attends to [CLS], unless it is alone; as released"
    )

    _fill = preset(RELEASED)

    def unreached(self, epochs: int) -> str:
        """Returns whether fine-tuning never begins."""
        if self.pretraining == "none" or epochs > self.round_epochs:
            return ""
        return f"fine-tuning begins after `round_epochs` {self.round_epochs} epochs"

    @property
    def first_visit(self) -> str:
        """No first visit is predicted: there is no history to average."""
        return "the most popular drugs of training"

    @property
    def leak(self) -> str:
        """What the released rows let through."""
        if self.pooling == "interleaved":
            return ""
        return "drugs of the visit itself and codes of later ones enter its features"

    _heads = whole_heads()


@dataclass(frozen=True)
class _Tokens:
    """Tokens of some visits, visit after visit, each visit's [CLS] first."""

    tokens: Int64[Tensor, " tokens"]
    sizes: Int64[Tensor, " visits"]


class GBert(NeuralRecommender):
    """Only the visits that some answer needs are encoded, all of them in one pass."""

    def __init__(self, config: GBertConfig, knowledge: Knowledge) -> None:
        super().__init__()
        self.config = config
        dim, drugs = config.dim, knowledge.drugs
        self.sizes = (knowledge.diagnoses, drugs)
        for kind, size in zip(KINDS, self.sizes, strict=True):
            codes = OntologyAttention(knowledge, kind, dim, config.heads)
            self.add_module(kind, codes if config.ontology else nn.Embedding(size, dim))
        special = 1 + (config.pretraining != "none")
        self.special = nn.Parameter(0.02 * torch.randn(special, dim))  # [CLS], [MASK]
        self.kind = nn.Parameter(0.02 * torch.randn(2, dim))
        self.transformer = VisitTransformer(
            config.layers,
            dim,
            config.heads,
            config.feed_forward,
            dropout=config.dropout,
            attention_dropout=config.attention_dropout,
        )
        parts = 3 if config.history else 1
        self.head = _mlp(parts * dim, 2 * dim, drugs, nn.ReLU())
        self.heads = nn.ModuleDict()
        if config.pretraining != "none":
            sizes = {kind: n for kind, n in zip(KINDS, self.sizes, strict=True) if n}
            for source in KINDS:
                for target, size in sizes.items():
                    self.heads[f"{source}_to_{target}"] = _mlp(dim, dim, size, nn.GELU())
        self.first = PopularAtFirst(knowledge)

    def forward(self, batch: Batch) -> Float[Tensor, "patients visits drugs"]:
        """Returns logits for every visit; 0 at first ones."""
        exists = batch.visit_mask
        several = exists & exists.sum(dim=1, keepdim=True).gt(1)
        known = several
        if self.config.pooling == "interleaved":
            known = nn.functional.pad(several[:, 1:], (0, 1))  # the last drugs are no history
        if not self.config.history:
            known = torch.zeros_like(known)
        visits = self._encode(batch, several, known, hidden=0.0)
        rows = _targets(batch).flatten().nonzero()[:, 0]
        features = self._features(visits, exists).flatten(0, 1).index_select(0, rows)
        found = self.head(features)
        logits = found.new_zeros(exists.numel(), found.shape[1]).index_copy(0, rows, found)
        return logits.view(*exists.shape, -1)

    def _features(
        self,
        visits: Float[Tensor, "patients visits two dim"],
        exists: Bool[Tensor, "patients visits"],
    ) -> Float[Tensor, "patients visits parts"]:
        """Returns [mean of earlier dx; mean of earlier rx; dx]."""
        if self.config.pooling == "halves":
            rows = visits.flatten(1, 2)  # dx_1, rx_1, dx_2, rx_2, ...
            at = torch.arange(exists.shape[1], device=exists.device).expand(exists.shape)
            at = torch.stack([at, at + exists.sum(dim=1, keepdim=True)], dim=2)
            at = at.clamp(max=rows.shape[1] - 1).flatten(1)[..., None]
            visits = rows.gather(1, at.expand(-1, -1, rows.shape[2])).view(visits.shape)
        current = visits[:, :, 0]
        if not self.config.history:
            return current
        number = torch.arange(exists.shape[1], device=exists.device).clamp(min=1)
        earlier = nn.functional.pad(visits.cumsum(dim=1), (0, 0, 0, 0, 1, 0))[:, :-1]
        means = earlier / number[:, None, None]
        return torch.cat([means.flatten(2), current], dim=2)

    def _encode(
        self,
        batch: Batch,
        diagnoses: Bool[Tensor, "patients visits"],
        medications: Bool[Tensor, "patients visits"],
        hidden: float,
    ) -> Float[Tensor, "patients visits two dim"]:
        """Returns dx and rx of the visits that are asked for; 0 elsewhere."""
        rows = [asked.flatten().nonzero()[:, 0] for asked in (diagnoses, medications)]
        found = [self._tokens(batch, kind, at) for kind, at in enumerate(rows)]
        tokens = torch.cat([each.tokens for each in found])
        if hidden:
            tokens = self._hide(tokens, hidden)
        used, which = self._vectors(tokens)
        sizes = torch.cat([each.sizes for each in found])
        sets = token_sets(which, sizes, first_hidden=self.config.cls_masked)
        vectors = self.transformer(used, sets).float()
        places = torch.cat([2 * at + kind for kind, at in enumerate(rows)])
        visits = vectors.new_zeros(2 * diagnoses.numel(), vectors.shape[1])
        return visits.index_copy(0, places, vectors).view(*diagnoses.shape, 2, -1)

    def _tokens(self, batch: Batch, kind: int, rows: Int64[Tensor, " visits"]) -> _Tokens:
        """Returns [CLS] and the codes of each visit.

        Tokens are numbered: diagnoses, drugs, [CLS] of either kind, [MASK] of either kind.
        """
        if kind == 0:
            codes = batch.diagnoses.flatten(0, 1).index_select(0, rows)
            exists = codes < self.sizes[0]
        else:
            exists = batch.medications.flatten(0, 1).index_select(0, rows) > 0
            codes = self.sizes[0] + torch.arange(self.sizes[1], device=rows.device)
            codes = codes.expand(exists.shape)
        first = sum(self.sizes) + kind
        codes = nn.functional.pad(codes, (1, 0), value=first)
        exists = nn.functional.pad(exists, (1, 0), value=True)
        return _Tokens(codes[exists], exists.sum(dim=1))

    def _hide(self, tokens: Int64[Tensor, " tokens"], share: float) -> Int64[Tensor, " tokens"]:
        """Returns the tokens with some codes replaced by [MASK]."""
        chosen = torch.rand(len(tokens), device=tokens.device) < share
        mask = sum(self.sizes) + 2 + (tokens >= self.sizes[0])
        return torch.where(chosen & (tokens < sum(self.sizes)), mask, tokens)

    def _vectors(
        self, tokens: Int64[Tensor, " tokens"]
    ) -> tuple[Float[Tensor, "used dim"], Int64[Tensor, " tokens"]]:
        """Returns the vectors of the tokens that occur, and the row of each token."""
        codes = sum(self.sizes)
        special = (self.special[:, None] + self.kind).flatten(0, 1)
        numbers = codes + torch.arange(len(special), device=tokens.device)  # all of them, at last
        used, which = torch.cat([tokens, numbers]).unique(return_inverse=True)
        used = used[: -len(special)]
        vectors = [
            self.get_submodule(kind)(part) + vector
            for kind, part, vector in (
                (KINDS[0], used[used < self.sizes[0]], self.kind[0]),
                (KINDS[1], used[used >= self.sizes[0]] - self.sizes[0], self.kind[1]),
            )
        ]
        return torch.cat([*vectors, special]), which[: len(tokens)]

    def loss(
        self, logits: Float[Tensor, "patients visits drugs"], batch: Batch, step: Step
    ) -> Float[Tensor, ""]:
        """Returns the cross-entropy of the epoch's task; the logits matter in fine-tuning alone.

        Fine-tuning: mean over drugs, of visits after the first. Pre-training: sum over the four
        heads of means over codes, of all visits; in float32 always.
        """
        config = self.config
        if config.pretraining != "none" and step.epoch // config.round_epochs % 2 == 0:
            return self._pretraining_loss(batch)
        rows = _targets(batch)
        return cross_entropy(logits[rows], batch.medications[rows]).sum() / batch.visit_mask.sum()

    def _pretraining_loss(self, batch: Batch) -> Float[Tensor, ""]:
        exists = batch.visit_mask
        visits = self._encode(batch, exists, exists, hidden=self.config.masked)[exists]
        truth: Mapping[Kind, Tensor] = {
            "diagnoses": _multi_hot(batch.diagnoses[exists], self.sizes[0]),
            "medications": batch.medications[exists],
        }
        total = visits.new_zeros(())
        for name, head in self.heads.items():
            source, _, target = name.partition("_to_")
            kind: Any = target
            logits = head(visits[:, int(source == KINDS[1])])
            total = total + cross_entropy(logits, truth[kind]).mean()
        return total

    def predict(self, batch: Batch, threshold: float) -> Prediction:
        """Returns scores and drugs from the threshold on; of first visits, the most popular."""
        return self.first(super().predict(batch, threshold))


def _targets(batch: Batch) -> Bool[Tensor, "patients visits"]:
    """Returns the visits that are predicted: all but first ones."""
    visits = batch.visit_mask.shape[1]
    return batch.visit_mask & torch.arange(visits, device=batch.visit_mask.device).gt(0)


def _multi_hot(codes: Int64[Tensor, "visits codes"], size: int) -> Float[Tensor, "visits size"]:
    """Returns the codes as 0 and 1; the padding code `size` is left out."""
    hot = torch.zeros(len(codes), size + 1, device=codes.device)
    return hot.scatter_(1, codes, 1.0)[:, :size]


def _mlp(wide: int, hidden: int, out: int, activation: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(wide, hidden), activation, nn.Linear(hidden, out))


MODEL = Model(
    title="G-BERT",
    source="Shang et al., IJCAI 2019; code jshang123/G-Bert; licence: MIT",
    config=GBertConfig,
    build=GBert,
    # The published rate, of a step per patient there; others were not tried. Half of the epochs
    # are pre-training.
    training=Training(epochs=40, batch_size=16, learning_rate=5e-4),
    embeddings={
        "diagnoses": "diagnoses.embedding.weight",
        "medications": "medications.embedding.weight",
    },
)
