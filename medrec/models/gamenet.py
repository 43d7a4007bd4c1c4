"""GAMENet: graph-augmented memory networks (Shang et al., AAAI 2019).

q_t    query of visit t, from the states of two GRUs over diagnoses and procedures
MB     memory bank [drugs, dim]: GCN(co-prescription graph) - β GCN(interaction graph)
o_b    what the query reads from the memory: softmax(q MBᵀ) MB
o_d    what it reads from history: attention over earlier queries, their drugs, the memory
"""

from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from medrec.batching import Batch
from medrec.controllers import Controller
from medrec.knowledge.base import Knowledge
from medrec.layers import CausalEncoder, GraphConvolution, read_history
from medrec.models._base import DdiLossConfig, Model, NeuralRecommender, Step, controlled_loss
from medrec.spec import Training, preset

# Where SafeDrug's copy of GAMENet (88ce5c3, src/GAMENet.py), the source of most published GAMENet
# rows, differs from GAMENet's own repository (da695b4). Its co-prescription graph over *all*
# patients is not taken over: graphs come from the training split.
RELEASED: dict[str, Any] = {
    "dropout": 0.5,
    "margin_weight": 0.1,
    "controller": "gamenet",
    "ddi_target": 0.06,
    "ddi_gain": 2.0,  # T of that controller
}


class GAMENetConfig(DdiLossConfig):
    """Settings of GAMENet; defaults from its repository (da695b4)."""

    dim: int = Field(default=64, ge=1, description="of code vectors, queries and memory")
    dropout: float = Field(default=0.4, ge=0, lt=1, description="of code vectors")
    graph_dropout: float = Field(default=0.3, ge=0, lt=1, description="between graph layers")
    bce_weight: float = Field(default=0.9, ge=0, description="of the cross-entropy")
    margin_weight: float = Field(default=0.01, ge=0, description="of the margin loss")
    controller: Controller = Field(default="gamenet", description="rule of the DDI loss")
    ddi_target: float = Field(default=0.05, ge=0, le=1, description="acceptable DDI rate")
    memory: bool = Field(default=True, description="read from the memory bank (o_b and o_d)")
    history: bool = Field(default=True, description="read from history (o_d); otherwise o_d = o_b")
    ddi_memory: bool = Field(default=True, description="interaction graph in the memory bank")

    _fill = preset(RELEASED)


class GAMENetEncoder(nn.Module):
    """GAMENet up to its head; manydg puts another one on top.

    All visits of all patients in one pass: history attention is strictly lower triangular.
    """

    def __init__(self, config: GAMENetConfig, knowledge: Knowledge) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.encoder = CausalEncoder(
            knowledge.diagnoses, knowledge.procedures, dim, 2 * dim, config.dropout, mean=True
        )
        self.query = nn.Linear(4 * dim, dim)
        interacts = torch.from_numpy(knowledge.interacts)
        self.register_buffer("interacts", interacts.float(), persistent=False)
        self.interacts: Tensor
        self.width = dim  # of `features`
        if config.memory:
            self.width = 3 * dim
            co_prescribed = torch.from_numpy(knowledge.co_prescribed)
            self.prescription_graph = GraphConvolution(co_prescribed, dim, config.graph_dropout)
            if config.ddi_memory:
                self.interaction_graph = GraphConvolution(interacts, dim, config.graph_dropout)
                self.beta = nn.Parameter(torch.empty(()).uniform_(-0.1, 0.1))

    def memory_bank(self) -> Float[Tensor, "drugs dim"]:
        """Returns MB; the same for every visit, so computed once a step."""
        bank = self.prescription_graph()
        return bank - self.beta * self.interaction_graph() if self.config.ddi_memory else bank

    def features(self, batch: Batch) -> Float[Tensor, "patients visits width"]:
        """Returns [q; o_b; o_d] of every visit; q alone without the memory."""
        states = self.encoder(batch.diagnoses, batch.procedures)
        query: Tensor = self.query(torch.relu(states))
        if not self.config.memory:
            return query
        bank = self.memory_bank()
        from_bank = torch.softmax(query @ bank.T, dim=-1) @ bank
        from_history = from_bank
        if self.config.history:
            from_history = read_history(query, batch.medications, bank, from_bank)
        return torch.cat([query, from_bank, from_history], dim=-1)


class GAMENet(GAMENetEncoder, NeuralRecommender):
    """The encoder under a head of two layers."""

    def __init__(self, config: GAMENetConfig, knowledge: Knowledge) -> None:
        super().__init__(config, knowledge)
        hidden = 2 * config.dim
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.Linear(self.width, hidden),
            nn.ReLU(),
            nn.Linear(hidden, knowledge.drugs),
        )

    def forward(self, batch: Batch) -> Float[Tensor, "patients visits drugs"]:
        """Returns logits for every visit."""
        return self.head(self.features(batch))

    def loss(
        self, logits: Float[Tensor, "patients visits drugs"], batch: Batch, step: Step
    ) -> Float[Tensor, ""]:
        """Returns the controlled loss; interactions are averaged over drug pairs, as published."""
        scale = 1.0 / logits.shape[-1] ** 2
        return controlled_loss(logits, batch, self.interacts, scale, self.config, step)


MODEL = Model(
    title="GAMENet",
    source="Shang et al., AAAI 2019; code da695b4",
    config=GAMENetConfig,
    build=GAMENet,
    # One step per 16 patients instead of per visit: the published 1e-4 is far too small. Chosen on
    # the validation split of synthetic cohorts.
    training=Training(epochs=20, batch_size=16, learning_rate=5e-3),
    embeddings={
        "diagnoses": "encoder.diagnoses.embedding.weight",
        "procedures": "encoder.procedures.embedding.weight",
        "medications": "prescription_graph.first",
    },
)
