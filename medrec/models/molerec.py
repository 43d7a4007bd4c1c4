"""MoleRec: molecular substructures matched to the patient (Yang et al., WWW 2023).

w_t    relevance of each substructure to visit t: σ of a linear map of the query of two GRUs
X      substructures [fragments, dim]: graph isomorphism network, then self-attention among them
G      drug classes [drugs, dim]: a second network over the molecules of each class
a      attention of each drug class over the substructures that it contains: (W_q G)(W_k X)ᵀ/√dim
o_m    Σ_s a_ms w_ts X_s, of drug class m at visit t
logit  W2 relu(W1 o_m + b1) + b2

All but w_t is the same for every visit, and computed once a step. W1 o_m = Σ_s w_ts a_ms (W1 X_s),
so W1 meets each substructure once and not each visit, and a class sums over its own substructures
alone: a batched product of [visits, slots] and [slots, hidden] for each class.
"""

from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from medrec.batching import Batch
from medrec.controllers import Controller
from medrec.knowledge.atom_features import load_graphs
from medrec.knowledge.base import Knowledge
from medrec.layers import CausalEncoder, full_precision, masked_softmax
from medrec.models._base import DdiLossConfig, Model, NeuralRecommender, Step, controlled_loss
from medrec.molecule_gin import GraphIsomorphismEncoder
from medrec.spec import Training, preset

# Where the released code (dd5afaf) falls short of what a recommender must do.
RELEASED: dict[str, Any] = {
    # Classes without a substructure attend to all of them equally, so their scores are the same.
    "without_structure": "uniform",
}


class MoleRecConfig(DdiLossConfig):
    """Settings of MoleRec; defaults from its code (dd5afaf) where no other source is named."""

    dim: int = Field(
        default=64, ge=2, multiple_of=2, description="of code vectors, states and substructures"
    )
    dropout: float = Field(default=0.7, ge=0, lt=1, description="of code vectors")
    molecule_dropout: float = Field(
        default=0.7, ge=0, lt=1, description="after each layer of the molecule networks"
    )
    molecule_layers: int = Field(default=4, ge=1, le=6, description="of the molecule networks")
    feed_forward: int = Field(
        default=64, ge=1, description="hidden width of the molecule networks' layers; our choice"
    )
    hidden: int = Field(
        default=32,
        ge=1,
        description="units of the score's hidden layer: half the published dim",
    )
    substructures: Literal["gin", "table"] = Field(
        default="gin", description="their vectors: network over their atoms, or a table"
    )
    self_attention: bool = Field(
        default=True, description="among substructures, two heads (Lee et al., ICML 2019)"
    )
    molecule_attention: bool = Field(
        default=True,
        description="weigh a class's substructures by its molecules; otherwise they count equally",
    )
    without_structure: Literal["learned", "uniform"] = Field(
        default="learned",
        description="how a class without a structure attends to all substructures: by a vector "
        "of its own, or to all equally",
    )
    controller: Controller = Field(default="molerec", description="rule of the DDI loss")
    ddi_scale: float = Field(default=0.0005, ge=0, description="factor c of pᵀAp")

    _fill = preset(RELEASED)


class MoleRec(NeuralRecommender):
    """All visits in one pass; what does not depend on the patient is computed once a step."""

    def __init__(self, config: MoleRecConfig, knowledge: Knowledge) -> None:
        super().__init__()
        knowledge.require_structures("MoleRec")
        self.config = config
        dim = config.dim
        self.encoder = CausalEncoder(
            knowledge.diagnoses, knowledge.procedures, dim, dim, config.dropout, mean=False
        )
        self.query = nn.Linear(2 * dim, dim)
        interacts = torch.from_numpy(knowledge.interacts)
        self.register_buffer("interacts", interacts.float(), persistent=False)
        self.interacts: Tensor
        contains = knowledge.molecules.contains
        self.relevance = nn.Linear(dim, contains.shape[1])
        self.hidden = nn.Linear(dim, config.hidden)
        self.score = nn.Linear(config.hidden, 1)
        for part in (self.hidden, self.score):
            # o_m is small at first. With torch's biases it would hardly turn the sign of a unit,
            # so that units are dead for all classes or for none, nor of a score.
            nn.init.zeros_(part.bias)
        self._add_places(contains)
        self._add_substructures(knowledge)
        if config.molecule_attention:
            self._add_molecules(knowledge)

    def _add_places(self, contains: Bool[np.ndarray, "drugs fragments"]) -> None:
        """Keeps which class has which substructures, as a mask and as a list for each class."""
        has_any = np.asarray(contains.any(axis=1))
        visible = torch.from_numpy(contains | ~has_any[:, None])
        self.register_buffer("visible", visible, persistent=False)
        slots = np.argsort(~contains[has_any], axis=1, kind="stable")
        slots = slots[:, : contains.sum(axis=1).max()]
        used = np.take_along_axis(contains[has_any], slots, axis=1)
        known, unknown = np.flatnonzero(has_any), np.flatnonzero(~has_any)
        place = np.argsort(np.concatenate([known, unknown]))
        found = {"known": known, "unknown": unknown, "slots": slots, "used": used, "place": place}
        for name, array in found.items():
            self.register_buffer(name, torch.from_numpy(array), persistent=False)
        self.visible: Tensor
        self.known: Tensor
        self.unknown: Tensor
        self.slots: Tensor
        self.used: Tensor
        self.place: Tensor

    def _add_substructures(self, knowledge: Knowledge) -> None:
        config, fragments = self.config, knowledge.molecules.fragments
        if config.substructures == "gin":
            graphs = load_graphs(fragments, knowledge.cache)
            self.fragments: GraphIsomorphismEncoder | None = self._network(
                graphs, np.arange(len(fragments)), len(fragments)
            )
        else:
            self.fragments = None
            self.table = nn.Parameter(torch.empty(len(fragments), config.dim))
            nn.init.xavier_uniform_(self.table)
        if config.self_attention:
            self.attend = SelfAttentionBlock(config.dim)

    def _add_molecules(self, knowledge: Knowledge) -> None:
        dim = self.config.dim
        molecules = [smiles for found in knowledge.structures for smiles in found]
        graphs = load_graphs(molecules, knowledge.cache)
        self.molecules = self._network(graphs, knowledge.molecules.drug, knowledge.drugs)
        self.from_drug = nn.Linear(dim, dim)
        self.to_fragment = nn.Linear(dim, dim, bias=False)  # softmax would take it away
        if self.config.without_structure == "learned" and len(self.unknown):
            self.own = nn.Parameter(torch.empty(len(self.unknown), dim))
            nn.init.xavier_uniform_(self.own)

    def _network(self, graphs: Any, group: Any, groups: int) -> GraphIsomorphismEncoder:
        config = self.config
        return GraphIsomorphismEncoder(
            graphs,
            group,
            groups,
            config.dim,
            config.feed_forward,
            config.molecule_layers,
            config.molecule_dropout,
        )

    def forward(self, batch: Batch) -> Float[Tensor, "patients visits drugs"]:
        """Returns logits for every visit; of padding, 0."""
        states = self.encoder(batch.diagnoses, batch.procedures)
        rows = batch.visit_mask.flatten().nonzero()[:, 0]
        query = self.query(torch.relu(states.flatten(0, 1).index_select(0, rows)))
        relevance = torch.sigmoid(self.relevance(query))
        with full_precision(relevance.device):  # sums of few small products, then near-ties
            logits = self._scores(relevance.float())
        found = logits.new_zeros(batch.visit_mask.numel(), logits.shape[1])
        return found.index_copy(0, rows, logits).view(*batch.visit_mask.shape, -1)

    def _scores(
        self, relevance: Float[Tensor, "existing fragments"]
    ) -> Float[Tensor, "existing drugs"]:
        fragments = self.fragment_vectors()
        attention = self.attention(fragments)
        mapped = fragments @ self.hidden.weight.T
        weights = attention.index_select(0, self.known).gather(1, self.slots) * self.used
        own = weights[..., None] * mapped[self.slots]
        by_slot = relevance.T.contiguous().index_select(0, self.slots.flatten())
        by_slot = by_slot.view(*self.slots.shape, -1).transpose(1, 2)
        parts = [self._head(torch.baddbmm(self.hidden.bias, by_slot, own)).T]
        if len(self.unknown):
            free = attention.index_select(0, self.unknown).T[..., None] * mapped[:, None]
            product = (relevance @ free.flatten(1)).view(len(relevance), len(self.unknown), -1)
            parts.append(self._head(product + self.hidden.bias))
        return torch.cat(parts, dim=1).index_select(1, self.place)

    def _head(self, product: Float[Tensor, "a b hidden"]) -> Float[Tensor, "a b"]:
        return torch.relu_(product) @ self.score.weight[0] + self.score.bias

    def fragment_vectors(self) -> Float[Tensor, "fragments dim"]:
        """Returns X."""
        x = self.table if self.fragments is None else self.fragments()
        return self.attend(x) if self.config.self_attention else x

    def attention(
        self, fragments: Float[Tensor, "fragments dim"]
    ) -> Float[Tensor, "drugs fragments"]:
        """Returns the weights of each class's substructures; they sum to 1."""
        scores = fragments.new_zeros(self.visible.shape)
        if self.config.molecule_attention:
            drugs = self.molecules()
            if self.config.without_structure == "learned" and len(self.unknown):
                drugs = drugs.index_copy(0, self.unknown, self.own)
            scores = self.from_drug(drugs) @ self.to_fragment(fragments).T
            scores = scores / self.config.dim**0.5
            if self.config.without_structure == "uniform":
                scores = scores.index_fill(0, self.unknown, 0.0)
        return masked_softmax(scores, self.visible)

    def loss(
        self, logits: Float[Tensor, "patients visits drugs"], batch: Batch, step: Step
    ) -> Float[Tensor, ""]:
        """Returns the controlled loss."""
        scale = self.config.ddi_scale
        return controlled_loss(logits, batch, self.interacts, scale, self.config, step)


class SelfAttentionBlock(nn.Module):
    """Attention within a set, with two heads, and a residual layer after it.

    H = LN(Q + [softmax(Q_h K_hᵀ/√d_h) V_h]_h);  result LN(H + relu(W H + b)), where Q, K, V are
    linear in the set. Source: Lee et al., ICML 2019 (set transformer).
    """

    HEADS = 2

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(dim, 2 * dim)
        self.keys = nn.Linear(dim, dim, bias=False)  # softmax takes a bias away again
        self.feed = nn.Linear(dim, dim)
        self.first_norm = nn.LayerNorm(dim)
        self.second_norm = nn.LayerNorm(dim)
        # Elements differ little at first; a bias that they share would be all that norms leave.
        nn.init.zeros_(self.project.bias)

    def forward(self, x: Float[Tensor, "elements dim"]) -> Float[Tensor, "elements dim"]:
        """Returns the elements' new vectors."""
        queries, values = self.project(x).chunk(2, dim=1)
        heads = [each.unflatten(1, (self.HEADS, -1)).transpose(0, 1)
                 for each in (queries, self.keys(x), values)]  # fmt: skip
        scores = heads[0] * heads[0].shape[2] ** -0.5 @ heads[1].transpose(1, 2)
        read = torch.softmax(scores, dim=-1) @ heads[2]
        mixed = self.first_norm(queries + read.transpose(0, 1).flatten(1))
        return self.second_norm(mixed + torch.relu(self.feed(mixed)))


MODEL = Model(
    title="MoleRec",
    source="Yang et al., WWW 2023; code dd5afaf; licence: MIT",
    config=MoleRecConfig,
    build=MoleRec,
    # Of 1e-3, 2e-3 and 4e-3 the best validation Jaccard after 10 epochs of a synthetic cohort of
    # 1,000 patients: 0.322, 0.327 and 0.357. Published is 5e-4 for a step per visit.
    training=Training(epochs=20, batch_size=16, learning_rate=4e-3),
    embeddings={
        "diagnoses": "encoder.diagnoses.embedding.weight",
        "procedures": "encoder.procedures.embedding.weight",
    },
)
