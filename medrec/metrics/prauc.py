"""PRAUC: average precision of a visit's drug scores (step-wise, not the trapezoid)."""

import numpy as np
from jaxtyping import Bool, Float, Float64

from medrec.metrics._base import Metric, Terms
from medrec.predictions import Predictions


def average_precision(
    scores: Float[np.ndarray, "visits drugs"], truth: Bool[np.ndarray, "visits drugs"]
) -> Float64[np.ndarray, " visits"]:
    """Returns Σ (R_k - R_{k-1}) P_k over the distinct scores of each visit, ties taken together.

    Equal to `sklearn.metrics.average_precision_score` row by row; NaN where nothing was
    prescribed.

    Example:
        >>> average_precision(np.array([[0.9, 0.8, 0.1]]), np.array([[True, False, True]]))
        array([0.83333333])
    """
    drugs = scores.shape[1]
    order = np.argsort(-scores, axis=1, kind="stable")
    ranked = np.take_along_axis(scores, order, axis=1)
    hit = np.take_along_axis(truth, order, axis=1)
    hits = np.cumsum(hit, axis=1)
    # A drug's precision is taken at the last rank that shares its score.
    group_ends = np.ones_like(hit)
    group_ends[:, :-1] = ranked[:, 1:] != ranked[:, :-1]
    ends = np.where(group_ends, np.arange(drugs), drugs)
    ends = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]
    precision = np.take_along_axis(hits, ends, axis=1) / (ends + 1.0)
    total = truth.sum(axis=1)
    value = (precision * hit).sum(axis=1) / np.maximum(total, 1)
    return np.where(total == 0, np.nan, value)


def prauc_terms(predictions: Predictions, interacts: Bool[np.ndarray, "drugs drugs"]) -> Terms:
    """Returns each visit's average precision; a visit without prescriptions is left out."""
    value = average_precision(predictions.scores, predictions.truth)
    defined = ~np.isnan(value)
    return np.where(defined, value, 0.0), defined.astype(np.float64)


METRIC = Metric("PRAUC", "fraction", True, False, prauc_terms, of_scores=True)
