"""Nearest: a visit gets the drugs of the visit before, a first visit none.

Source: the baseline Nearest of GAMENet's repository, which answers later visits alone.
"""

import numpy as np
from jaxtyping import Int64
from torch import Tensor

from medrec.batching import Batch
from medrec.cohort import Cohort
from medrec.knowledge.base import Knowledge
from medrec.models._base import FittedRecommender, Model, Prediction
from medrec.models.most_popular import MostPopular
from medrec.spec import ModelConfig


class NearestConfig(ModelConfig):
    """Nothing to set."""

    @property
    def first_visit(self) -> str:
        """What a first visit is answered with."""
        return "nothing"


class Nearest(FittedRecommender):
    """The previous visit's drugs.

    Scores are 1 for a copied drug plus its training frequency, halved, so that ranking among
    copied and among other drugs is by frequency.
    """

    def __init__(self, knowledge: Knowledge) -> None:
        self.popular = MostPopular(knowledge)

    def fit(self, cohort: Cohort, patients: Int64[np.ndarray, " members"]) -> None:
        """Counts each drug over the training visits, for ranking."""
        self.popular.fit(cohort, patients)

    def predict(self, batch: Batch, threshold: float) -> Prediction:
        """Returns the previous set; the threshold does not apply."""
        previous = batch.previous
        return Prediction((previous + self.popular.frequency) / 2, previous > 0)

    def tensors(self) -> dict[str, Tensor]:
        """Returns the frequencies."""
        return self.popular.tensors()

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Takes back the frequencies."""
        self.popular.restore(tensors)


MODEL = Model(
    title="Nearest",
    source="control; as Nearest in GAMENet's repository, code da695b4; licence: MIT",
    config=NearestConfig,
    build=lambda config, knowledge: Nearest(knowledge),
    seeded=False,
)
