"""What a model says about visits, beside what was prescribed. The one input of every metric."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int16, Int32, Int64


@dataclass(frozen=True)
class Predictions:
    """Scores and chosen sets of a model, one row per visit, visits of a patient adjacent.

    Attributes:
        patient: the patient's row in the cohort; never an identifier of the source data.
        visit: position of the visit in its patient's history, 0 for the first.
        truth: drugs prescribed.
        chosen: drugs recommended.
        scores: score of each drug in [0, 1]; only their order within a visit is used.
    """

    patient: Int32[np.ndarray, " visits"]
    visit: Int16[np.ndarray, " visits"]
    truth: Bool[np.ndarray, "visits drugs"]
    chosen: Bool[np.ndarray, "visits drugs"]
    scores: Float32[np.ndarray, "visits drugs"]

    def select(
        self, rows: Bool[np.ndarray, " visits"] | Int64[np.ndarray, " some"]
    ) -> "Predictions":
        """Returns the visits where `rows` is true, or the rows of these numbers in their order."""
        return Predictions(
            self.patient[rows],
            self.visit[rows],
            self.truth[rows],
            self.chosen[rows],
            self.scores[rows],
        )

    def transitions(self) -> "Predictions":
        """Returns the visits that have a predecessor: the first visit of each patient left out."""
        return self.select(self.visit > 0)
