"""SafeDrug: dual molecular graph encoders (Yang et al., IJCAI 2021).

h_t    patient representation of visit t, from two GRUs over diagnoses and procedures
E      drug representations [drugs, dim]: message passing over the molecules of each class
g      global match: LayerNorm(m + W m) with m = σ(h Eᵀ)
u      local match: σ(W_s h) through a bipartite layer masked by which drug has which fragment
logits u ∘ g
"""

from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from medrec.batching import Batch
from medrec.controllers import Controller
from medrec.knowledge.base import Knowledge
from medrec.layers import CausalEncoder
from medrec.models._base import DdiLossConfig, Model, NeuralRecommender, Step, controlled_loss
from medrec.molecule_encoder import MoleculeEncoder
from medrec.spec import Training, preset

# Where the released code (88ce5c3, src/models.py and src/SafeDrug.py) departs from the paper.
RELEASED: dict[str, Any] = {
    "controller": "safedrug_released",  # SafeDrug.py:243, min for max
    "molecule_encoder": "frozen",  # models.py:183, run once at construction and thrown away
}


class SafeDrugConfig(DdiLossConfig):
    """Settings of SafeDrug; defaults from paper and code (88ce5c3) where both agree."""

    dim: int = Field(default=64, ge=1, description="of code vectors, states and molecules")
    dropout: float = Field(default=0.5, ge=0, lt=1, description="of code vectors")
    controller: Controller = Field(default="safedrug_paper", description="rule of the DDI loss")
    ddi_scale: float = Field(
        default=0.0005, ge=0, description="factor c of pᵀAp; models.py:250, a bare number there"
    )
    molecule_encoder: Literal["trained", "frozen"] = Field(
        default="trained", description="frozen: random weights, never trained, as released"
    )
    molecule_layers: int = Field(default=2, ge=1, le=4, description="of message passing")
    readout: Literal["sum", "mean"] = Field(
        default="sum", description="of a molecule's atoms; the released code sums"
    )
    global_match: bool = Field(default=True, description="use g; otherwise logits = u")
    local_match: bool = Field(default=True, description="use u; otherwise logits = g")

    _fill = preset(RELEASED)

    @model_validator(mode="after")
    def _some_match(self) -> "SafeDrugConfig":
        if not (self.global_match or self.local_match):
            raise ValueError("`global_match` and `local_match` cannot both be false")
        return self


class SafeDrug(NeuralRecommender):
    """All visits in one pass; the molecules are encoded once a step, not once a visit."""

    def __init__(self, config: SafeDrugConfig, knowledge: Knowledge) -> None:
        super().__init__()
        knowledge.require_structures("SafeDrug")
        self.config = config
        dim, drugs = config.dim, knowledge.drugs
        self.encoder = CausalEncoder(
            knowledge.diagnoses, knowledge.procedures, dim, dim, config.dropout, mean=False
        )
        self.query = nn.Linear(2 * dim, dim)
        interacts = torch.from_numpy(knowledge.interacts)
        self.register_buffer("interacts", interacts.float(), persistent=False)
        self.interacts: Tensor
        if config.global_match:
            self._add_global(knowledge)
        if config.local_match:
            self._add_local(knowledge)
        self.drugs = drugs

    def _add_global(self, knowledge: Knowledge) -> None:
        config = self.config
        encoder = MoleculeEncoder(
            knowledge.molecules,
            knowledge.drugs,
            config.dim,
            config.molecule_layers,
            config.readout,
        )
        if config.molecule_encoder == "trained":
            self.molecules: MoleculeEncoder | None = encoder
        else:
            # A buffer, unlike in the released code, so that a checkpoint holds it.
            self.molecules = None
            self.register_buffer("frozen_drugs", encoder().detach())
        self.frozen_drugs: Tensor
        self.mix = nn.Linear(knowledge.drugs, knowledge.drugs)
        self.norm = nn.LayerNorm(knowledge.drugs)

    def _add_local(self, knowledge: Knowledge) -> None:
        contains = torch.from_numpy(knowledge.molecules.contains)
        # A class without a structure would score 0 for ever; let it see every fragment.
        visible = contains | ~contains.any(dim=1, keepdim=True)
        self.register_buffer("mask", visible.T.float(), persistent=False)
        self.mask: Tensor
        fragments = contains.shape[1]
        self.fragments = nn.Linear(self.config.dim, fragments)
        bound = knowledge.drugs**-0.5  # as the published MaskLinear
        self.bipartite = nn.Parameter(torch.empty(fragments, knowledge.drugs))
        nn.init.uniform_(self.bipartite, -bound, bound)

    def forward(self, batch: Batch) -> Float[Tensor, "patients visits drugs"]:
        """Returns logits for every visit."""
        states = self.encoder(batch.diagnoses, batch.procedures)
        query = self.query(torch.relu(states))
        if not self.config.global_match:
            return self._local(query)
        if not self.config.local_match:
            return self._global(query)
        return self._local(query) * self._global(query)

    def _global(
        self, query: Float[Tensor, "patients visits dim"]
    ) -> Float[Tensor, "patients visits drugs"]:
        drugs = self.frozen_drugs if self.molecules is None else self.molecules()
        match = torch.sigmoid(query @ drugs.T)
        return self.norm(match + self.mix(match))

    def _local(
        self, query: Float[Tensor, "patients visits dim"]
    ) -> Float[Tensor, "patients visits drugs"]:
        return torch.sigmoid(self.fragments(query)) @ (self.bipartite * self.mask)

    def loss(
        self, logits: Float[Tensor, "patients visits drugs"], batch: Batch, step: Step
    ) -> Float[Tensor, ""]:
        """Returns the controlled loss."""
        scale = self.config.ddi_scale
        return controlled_loss(logits, batch, self.interacts, scale, self.config, step)


MODEL = Model(
    title="SafeDrug",
    source="Yang et al., IJCAI 2021; code 88ce5c3",
    config=SafeDrugConfig,
    build=SafeDrug,
    # One step per 16 patients instead of per visit, so above the published 5e-4; from 3e-3 the
    # rectified units die and training stalls at the base rates. Chosen on the validation split of
    # synthetic cohorts.
    training=Training(epochs=20, batch_size=16, learning_rate=1e-3),
    embeddings={
        "diagnoses": "encoder.diagnoses.embedding.weight",
        "procedures": "encoder.procedures.embedding.weight",
    },
)
