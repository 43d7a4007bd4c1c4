"""DDI rate: interacting pairs among all pairs of recommended drugs, pooled over visits."""

import numpy as np
from jaxtyping import Bool

from medrec.metrics._base import Metric, Terms
from medrec.predictions import Predictions


def ddi_terms(predictions: Predictions, interacts: Bool[np.ndarray, "drugs drugs"]) -> Terms:
    """Returns (pairs that interact, pairs) among the drugs chosen at each visit.

    One product counts the pairs of all visits: ½ Σ_m (chosen · A)_m chosen_m.
    No pair at all gives a rate of 0 (`medrec.evaluation.ratio`).
    """
    chosen = predictions.chosen.astype(np.float32)  # counts stay exact: far below 2^24
    interacting = ((chosen @ interacts.astype(np.float32)) * chosen).sum(axis=1) / 2
    drugs = predictions.chosen.sum(axis=1)
    return interacting.astype(np.float64), drugs * (drugs - 1) / 2.0


METRIC = Metric("DDI rate", "fraction of drug pairs", False, True, ddi_terms)
