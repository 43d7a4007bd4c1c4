"""Jaccard: |truth ∩ chosen| / |truth ∪ chosen| of a visit."""

import numpy as np
from jaxtyping import Bool

from medrec.metrics._base import Metric, Terms
from medrec.predictions import Predictions


def jaccard_terms(predictions: Predictions, interacts: Bool[np.ndarray, "drugs drugs"]) -> Terms:
    """Returns each visit's Jaccard with denominator 1.

    Nothing prescribed and nothing recommended is full agreement: 1. (The published code divides
    by zero there, because it compares a set with the number 0.)
    """
    both = (predictions.truth & predictions.chosen).sum(axis=1)
    either = (predictions.truth | predictions.chosen).sum(axis=1)
    value = np.where(either == 0, 1.0, both / np.maximum(either, 1))
    return value, np.ones_like(value)


METRIC = Metric("Jaccard", "fraction", True, False, jaccard_terms)
