"""HiSGT: a GPT told the codes' titles and hierarchy (Zhou and Barbieri, arXiv 2502.20719).

s(x), g(x)  vectors of token x's title (medrec.generation._side) and of its place in the tree
            (medrec.generation._code_graph), both fixed; special tokens have no place: zeros
h⁰_t = drop(E[x_t] + P[t] + W_s s(x_t) + W_g g(x_t) + b)      released: g(x_t) as it is
h_t    pre-norm Transformer;  logits E h_t
ŝ_t = W_1 h_t + b_1,  ĝ_t = W_2 h_t + b_2

loss = L_seq + β mean_t |ŝ_t - s(x_t)|² + γ mean_t |ĝ_t - g(x_t)|²

The means are over all tokens t: of the token read, not of the next one. L_seq is the
cross-entropy of the next token.

Paper and released code differ: the paper speaks of siblings and of a dedicated fusion without
giving it; the code has edges from parents to children alone, and adds. Ours for the paper: edges
in both ways and between siblings, and a projection of either vector, both of length 1; the code's
g, of length √dim, outweighs E at first. Neither knows procedures and drugs: whole visits are ours,
see `medrec.generation._records`; so are n-grams in place of Bio_ClinicalBERT where the bundle has
no vectors of a language model.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor, nn

from medrec.generation._autoregressive import Outputs
from medrec.generation._code_graph import TreeEdges, TreeSettings, hierarchy_vectors
from medrec.generation._records import Sequences
from medrec.generation._side import text_vectors, text_width
from medrec.generation.gpt import Gpt, GptConfig
from medrec.knowledge.base import Knowledge
from medrec.models._base import Model, Step
from medrec.spec import Training, preset

# Where the released code departs from the paper.
RELEASED: dict[str, Any] = {"tree_edges": "parent_to_child", "fusion": "addition"}


class HisgtConfig(GptConfig):
    """Settings of HiSGT; defaults are those of the published run on MIMIC-III."""

    layers: int = Field(default=6, ge=1, le=24, description="of the Transformer")
    heads: int = Field(default=8, ge=1, description="of the attention")
    use_semantics: bool = Field(default=True, description="tokens are told their titles")
    use_hierarchy: bool = Field(
        default=True, description="tokens are told their place in the tree"
    )
    semantic_weight: float = Field(
        default=0.987076, ge=0, description="β, of the titles' reconstruction"
    )
    hierarchy_weight: float = Field(
        default=0.53691, ge=0, description="γ, of the places' reconstruction"
    )
    fusion: Literal["projection", "addition"] = Field(
        default="projection",
        description="of places: projected, of length 1; or added as they are (released)",
    )
    text_dim: int = Field(
        default=128, ge=1, description="of titles, where the bundle has no vectors of them"
    )
    tree_edges: TreeEdges = Field(
        default="parent_child_sibling",
        description="of the graph of codes; parent_to_child: as released, in this way alone",
    )
    tree_hidden: int = Field(default=768, ge=1, description="width of the graph auto-encoder")
    tree_epochs: int = Field(default=200, ge=1, description="of the graph auto-encoder")
    tree_learning_rate: float = Field(default=1e-3, gt=0, le=1, description="of its Adam")
    tree_rows: int = Field(
        default=1024,
        ge=1,
        description="nodes whose edges it reconstructs at each step; published: all",
    )

    _fill = preset(RELEASED)


@dataclass(frozen=True)
class GuidedOutputs(Outputs):
    """What HiSGT says besides: reconstructions, where they are asked for."""

    semantics: Float[Tensor, "tokens width"] | None
    hierarchy: Float[Tensor, "tokens dim"] | None


class Hisgt(Gpt):
    """Titles and places lie in buffers of the checkpoint; `pretrain` makes them."""

    def __init__(self, config: HisgtConfig, knowledge: Knowledge) -> None:
        super().__init__(config, knowledge)
        self.config, self.knowledge = config, knowledge
        size, dim = self.tokens.size, config.dim
        self.semantics: Tensor
        self.hierarchy: Tensor
        self.tell_semantics = self.tell_hierarchy = None
        self.guess_semantics = self.guess_hierarchy = None
        if config.use_semantics:
            width = text_width(knowledge, config.text_dim)
            self.register_buffer("semantics", torch.zeros(size, width))
            self.tell_semantics = _linear(width, dim)
            if config.semantic_weight:
                self.guess_semantics = _linear(dim, width)
        if config.use_hierarchy:
            self.register_buffer("hierarchy", torch.zeros(size, dim))
            if config.fusion == "projection":
                self.tell_hierarchy = _linear(dim, dim, bias=False)
            if config.hierarchy_weight:
                self.guess_hierarchy = _linear(dim, dim)

    def pretrain(self) -> None:
        """Makes the vectors of titles and trains the auto-encoder of the tree."""
        config = self.config
        if config.use_semantics:
            found = torch.from_numpy(text_vectors(self.knowledge, config.text_dim))
            self.semantics.copy_(found)
        if config.use_hierarchy:
            settings = TreeSettings(
                edges=config.tree_edges,
                dim=config.dim,
                hidden=config.tree_hidden,
                epochs=config.tree_epochs,
                learning_rate=config.tree_learning_rate,
                rows=config.tree_rows,
            )
            places = hierarchy_vectors(self.knowledge, settings, self.device)
            if config.fusion == "projection":  # lest they outweigh tokens, titles and L_seq
                places = nn.functional.normalize(places, dim=1)
            self.hierarchy[: self.tokens.codes] = places

    def vectors(self, tokens: Int64[Tensor, " some"]) -> Float[Tensor, "some dim"]:
        """Returns what the Transformer is told of these tokens."""
        found = super().vectors(tokens)
        if self.tell_semantics is not None:
            found = found + self.tell_semantics(self.semantics[tokens])
        if self.config.use_hierarchy:
            places = self.hierarchy[tokens]
            found = found + (
                places if self.tell_hierarchy is None else self.tell_hierarchy(places)
            )
        return found

    def forward(self, batch: Sequences) -> GuidedOutputs:
        """Returns predictions of the next tokens, and reconstructions of those read."""
        found = super().forward(batch)
        semantics = hierarchy = None
        if self.guess_semantics is not None:
            semantics = self.guess_semantics(found.states)
        if self.guess_hierarchy is not None:
            hierarchy = self.guess_hierarchy(found.states)
        return GuidedOutputs(found.parts, found.states, semantics, hierarchy)

    def loss(self, outputs: Outputs, batch: Sequences, step: Step) -> Float[Tensor, ""]:
        """Returns L_seq + β L_sem + γ L_hier."""
        total = super().loss(outputs, batch, step)
        for weight, part in self.reconstruction(outputs, batch):
            total = total + weight * part
        return total

    def reconstruction(
        self, outputs: Outputs, batch: Sequences
    ) -> list[tuple[float, Float[Tensor, ""]]]:
        """Returns weight and value of L_sem and L_hier, without those that are switched off."""
        assert isinstance(outputs, GuidedOutputs)  # noqa: S101  its own
        read, found = batch.tokens[batch.mask], []
        if outputs.semantics is not None:
            lost = _distance(outputs.semantics, self.semantics[read])
            found.append((self.config.semantic_weight, lost))
        if outputs.hierarchy is not None:
            lost = _distance(outputs.hierarchy, self.hierarchy[read])
            found.append((self.config.hierarchy_weight, lost))
        return found


def _distance(
    guess: Float[Tensor, "tokens width"], truth: Float[Tensor, "tokens width"]
) -> Float[Tensor, ""]:
    """Returns the mean over tokens of the squared distance."""
    return (guess.float() - truth).square().sum(dim=1).mean()


def _linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.normal_(layer.weight, std=0.02)  # as GPT-2
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


MODEL = Model(
    title="HiSGT",
    source="Zhou and Barbieri, arXiv 2502.20719; code jameszhou-gl/HiSGT",
    config=HisgtConfig,
    build=Hisgt,
    training=Training(epochs=100, batch_size=48, learning_rate=1e-4),
)
