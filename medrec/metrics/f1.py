"""F1: harmonic mean of precision and recall of a visit."""

import numpy as np
from jaxtyping import Bool

from medrec.metrics._base import Metric, Terms
from medrec.predictions import Predictions


def f1_terms(predictions: Predictions, interacts: Bool[np.ndarray, "drugs drugs"]) -> Terms:
    """Returns each visit's F1 with denominator 1.

    2PR/(P+R) = 2|truth ∩ chosen| / (|truth| + |chosen|), which is 0 as soon as one of the two is
    empty; both empty is full agreement: 1, as for Jaccard.
    """
    both = (predictions.truth & predictions.chosen).sum(axis=1)
    total = predictions.truth.sum(axis=1) + predictions.chosen.sum(axis=1)
    value = np.where(total == 0, 1.0, 2.0 * both / np.maximum(total, 1))
    return value, np.ones_like(value)


METRIC = Metric("F1", "fraction", True, False, f1_terms)
