"""Most popular: every visit gets the drugs most often prescribed in training. A control."""

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from medrec.batching import Batch
from medrec.cohort import Cohort
from medrec.knowledge.base import Knowledge
from medrec.models._base import FittedRecommender, Model, Prediction
from medrec.spec import ModelConfig


class MostPopular(FittedRecommender):
    """Scores are training frequencies; the set has the training visits' mean size.

    With a threshold on frequencies instead, hardly any drug would be recommended.
    """

    def __init__(self, knowledge: Knowledge) -> None:
        self.frequency = torch.zeros(knowledge.drugs)

    def fit(self, cohort: Cohort, patients: Int64[np.ndarray, " members"]) -> None:
        """Counts each drug over the training visits."""
        hot = cohort.codes["medications"].multi_hot(cohort.drugs)[cohort.visits_of(patients)]
        self.frequency = torch.from_numpy(hot.mean(axis=0)).float()

    def predict(self, batch: Batch, threshold: float) -> Prediction:
        """Returns the same set for every visit; the threshold does not apply."""
        size = int(self.frequency.sum().round())
        chosen = torch.zeros_like(self.frequency, dtype=torch.bool)
        chosen[torch.argsort(self.frequency, descending=True, stable=True)[:size]] = True
        shape = batch.medications.shape
        return Prediction(self.frequency.expand(shape), chosen.expand(shape))

    def tensors(self) -> dict[str, Tensor]:
        """Returns the frequencies."""
        return {"frequency": self.frequency}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Takes back the frequencies."""
        self.frequency = tensors["frequency"]


MODEL = Model(
    title="Most popular",
    source="control",
    config=ModelConfig,
    build=lambda config, knowledge: MostPopular(knowledge),
    seeded=False,
)
