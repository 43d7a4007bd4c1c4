"""Medications per visit: how many drugs are recommended."""

import numpy as np
from jaxtyping import Bool

from medrec.metrics._base import Metric, Terms
from medrec.predictions import Predictions


def medication_terms(
    predictions: Predictions, interacts: Bool[np.ndarray, "drugs drugs"]
) -> Terms:
    """Returns (drugs chosen, 1) of each visit."""
    count = predictions.chosen.sum(axis=1).astype(np.float64)
    return count, np.ones_like(count)


METRIC = Metric("Med./visit", "drugs per visit", None, True, medication_terms, decimals=2)
