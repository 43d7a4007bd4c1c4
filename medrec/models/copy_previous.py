"""Copy previous: a visit gets the drugs of the visit before. A control that is hard to beat."""

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from medrec.batching import Batch
from medrec.cohort import Cohort
from medrec.knowledge.base import Knowledge
from medrec.models._base import FittedRecommender, Model, Prediction
from medrec.models.most_popular import MostPopular
from medrec.spec import ModelConfig


class CopyPrevious(FittedRecommender):
    """The previous visit's drugs; the most popular ones at a first visit.

    Scores are 1 for a copied drug plus its training frequency, halved, so that ranking among
    copied and among other drugs is by frequency.
    """

    def __init__(self, knowledge: Knowledge) -> None:
        self.popular = MostPopular(knowledge)

    def fit(self, cohort: Cohort, patients: Int64[np.ndarray, " members"]) -> None:
        """Counts each drug over the training visits, for first visits and for ranking."""
        self.popular.fit(cohort, patients)

    def predict(self, batch: Batch, threshold: float) -> Prediction:
        """Returns the previous set; the threshold does not apply."""
        popular = self.popular.predict(batch, threshold)
        previous = batch.previous
        scores = (previous + popular.scores) / 2
        chosen = previous > 0
        chosen[:, 0] = popular.chosen[:, 0]
        scores = torch.where(torch.arange(scores.shape[1])[:, None] > 0, scores, popular.scores)
        return Prediction(scores, chosen)

    def tensors(self) -> dict[str, Tensor]:
        """Returns the frequencies."""
        return self.popular.tensors()

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Takes back the frequencies."""
        self.popular.restore(tensors)


MODEL = Model(
    title="Copy previous",
    source="control",
    config=ModelConfig,
    build=lambda config, knowledge: CopyPrevious(knowledge),
    seeded=False,
)
