"""Copy previous: a visit gets the drugs of the visit before. A control that is hard to beat."""

import torch

from medrec.batching import Batch
from medrec.models._base import Model, Prediction
from medrec.models.nearest import Nearest
from medrec.spec import ModelConfig


class CopyPrevious(Nearest):
    """The previous visit's drugs; the most popular ones at a first visit."""

    def predict(self, batch: Batch, threshold: float) -> Prediction:
        """Returns the previous set; the threshold does not apply."""
        copied = super().predict(batch, threshold)
        popular = self.popular.predict(batch, threshold)
        first = torch.arange(batch.visit_mask.shape[1])[:, None] == 0
        return Prediction(
            torch.where(first, popular.scores, copied.scores),
            torch.where(first, popular.chosen, copied.chosen),
        )


MODEL = Model(
    title="Copy previous",
    source="control",
    config=ModelConfig,
    build=lambda config, knowledge: CopyPrevious(knowledge),
    seeded=False,
)
