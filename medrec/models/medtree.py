"""Med-Tree, our reconstruction: GAMENet with code vectors from the trees of ICD.

    v_c    vector of a diagnosis or procedure: graph attention up and down its tree
           (medrec.ontology_attention) in place of the row of a table
    rest   as GAMENet: GRUs over visits, memory of the co-prescription and interaction graphs,
           attention to history, the loss with its controller

Of Yue et al. (Electronics 2022) only abstract and introduction are known here: trees of diagnoses
and procedures, graph attention over them, GRUs, a memory of both drug graphs, a dynamic memory of
history. No code is published. That the attention is G-BERT's, and that all else is GAMENet's,
loss and settings included, is our choice; no published number belongs beside it.
"""

from pydantic import Field

from medrec.knowledge.base import Knowledge
from medrec.models._base import Model
from medrec.models.gamenet import GAMENet, GAMENetConfig
from medrec.ontology_attention import OntologyBag
from medrec.spec import Training, preset, whole_heads


class MedTreeConfig(GAMENetConfig):
    """Settings of GAMENet, and of the attention over the trees; its own are not known."""

    heads: int = Field(default=4, ge=1, description="of the tree attention, a divisor of dim")

    _fill = preset({})  # no code is published, so nothing is released

    _heads = whole_heads()


class MedTree(GAMENet):
    """GAMENet whose bags of codes look vectors up in the trees, once a step for all visits."""

    def __init__(self, config: MedTreeConfig, knowledge: Knowledge) -> None:
        super().__init__(config, knowledge)
        for kind in ("diagnoses", "procedures"):
            bag = OntologyBag(
                knowledge, kind, config.dim, heads=config.heads, dropout=config.dropout, mean=True
            )
            setattr(self.encoder, kind, bag)


MODEL = Model(
    title="Med-Tree (reconstruction)",
    source="our reconstruction after Yue et al., Electronics 2022, 11(21):3558; no code published",
    config=MedTreeConfig,
    build=MedTree,
    # GAMENet's; on 800 synthetic patients the best epoch of 12 was the ninth.
    training=Training(epochs=20, batch_size=16, learning_rate=5e-3),
    embeddings={
        "diagnoses": "encoder.diagnoses.attention.embedding.weight",
        "procedures": "encoder.procedures.attention.embedding.weight",
        "medications": "prescription_graph.first",
    },
)
