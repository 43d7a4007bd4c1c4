"""Most popular: every visit gets the drugs most often prescribed in training. A control."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from medrec.batching import Batch
from medrec.cohort import Cohort
from medrec.knowledge.base import Knowledge
from medrec.models._base import FittedRecommender, Model, Prediction
from medrec.spec import ModelConfig


def popular_set(frequency: Float[Tensor, " drugs"]) -> Bool[Tensor, " drugs"]:
    """Returns the drugs of highest training frequency, as many as a training visit has.

    Of equal frequencies the lower number wins.
    """
    chosen = torch.zeros_like(frequency, dtype=torch.bool)
    size = int(frequency.sum().round())
    chosen[torch.argsort(frequency, descending=True, stable=True)[:size]] = True
    return chosen


class PopularAtFirst(nn.Module):
    """Answers first visits with the most popular drugs, for networks that predict none."""

    def __init__(self, knowledge: Knowledge) -> None:
        super().__init__()
        hot = knowledge.training_visits["medications"].multi_hot(knowledge.drugs)
        self.register_buffer("frequency", torch.from_numpy(hot.mean(axis=0)).float())
        self.frequency: Tensor

    def forward(self, prediction: Prediction) -> Prediction:
        """Returns the prediction with every first visit's answer replaced."""
        visits = prediction.scores.shape[1]
        first = torch.arange(visits, device=self.frequency.device)[:, None] == 0
        return Prediction(
            torch.where(first, self.frequency, prediction.scores),
            torch.where(first, popular_set(self.frequency), prediction.chosen),
        )


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
        chosen, shape = popular_set(self.frequency), batch.medications.shape
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
