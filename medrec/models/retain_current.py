"""RETAIN told the diagnoses and procedures of the visit in question, like most models beside it.

Visit t is one more visit that c_t attends to, without its medications, which are not known yet;
to later visits it is over and has them. ManyDG and PyHealth read it so. Every visit is predicted,
the first one as well. The rest is `medrec.models.retain`.
"""

from jaxtyping import Float
from torch import Tensor, nn

from medrec import losses
from medrec.batching import Batch
from medrec.knowledge.base import Knowledge
from medrec.models._base import Model, NeuralRecommender, Step
from medrec.models.retain import RETAINConfig, RETAINEncoder
from medrec.spec import Training


class RETAINCurrentConfig(RETAINConfig):
    """Settings of RETAIN with the current visit; defaults are RETAIN's."""

    @property
    def first_visit(self) -> str:
        """First visits are predicted, from their own codes."""
        return ""


class RETAINCurrent(NeuralRecommender):
    """Predicts every visit."""

    def __init__(self, config: RETAINCurrentConfig, knowledge: Knowledge) -> None:
        super().__init__()
        self.encoder = RETAINEncoder(config, knowledge, current=True)
        self.head = nn.Linear(config.dim, knowledge.drugs)

    def forward(self, batch: Batch) -> Float[Tensor, "patients visits drugs"]:
        """Returns logits for every visit."""
        return self.head(self.encoder(batch))

    def loss(
        self, logits: Float[Tensor, "patients visits drugs"], batch: Batch, step: Step
    ) -> Float[Tensor, ""]:
        """Returns the mean cross-entropy of the visits."""
        exists = batch.visit_mask
        return losses.mean_cross_entropy(logits, batch.medications, exists, exists)


MODEL = Model(
    title="RETAIN + current codes",
    source="after Choi et al., NeurIPS 2016; the current visit as in PyHealth (BSD-3) 0a75f99",
    config=RETAINCurrentConfig,
    build=RETAINCurrent,
    # Chosen on the validation split of a synthetic cohort.
    training=Training(epochs=20, batch_size=16, learning_rate=3e-3),
    embeddings={
        "diagnoses": "encoder.diagnoses.embedding.weight",
        "procedures": "encoder.procedures.embedding.weight",
        "medications": "encoder.medications.weight",
    },
)
