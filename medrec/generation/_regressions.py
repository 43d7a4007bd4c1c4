"""Logistic regressions of many targets on the same visits, targets without two values included."""

import numpy as np
import torch
from jaxtyping import Bool, Float32
from scipy import sparse

from medrec.logistic import solve
from medrec.visit_features import sparse_rows

_ITERATIONS = 100  # Newton steps; a dozen are enough
_SURE = 30.0  # logit of a target that is always or never there


def regressions(
    features: sparse.csr_matrix,
    target: Bool[np.ndarray, "visits targets"],
    inverse_regularisation: float,
) -> Float32[np.ndarray, "weights targets"]:
    """Returns the weights of each target, the intercept in the last row.

    A target with one value has weights 0 and an intercept that is sure of it; without any visit
    every target is one that never occurs.

    Args:
        features: zeros and ones, a row a visit.
        target: what to predict.
        inverse_regularisation: scikit-learn's C.
    """
    weights = np.zeros((features.shape[1] + 1, target.shape[1]), dtype=np.float32)
    share = target.sum(axis=0) / max(len(target), 1)
    weights[-1] = np.where(share > 0, _SURE, -_SURE)
    open_ = np.flatnonzero((share > 0) & (share < 1))
    if len(open_):
        allowed = torch.ones(features.shape[1], len(open_), dtype=torch.bool)
        wanted = target[:, open_]
        found = solve(sparse_rows(features), wanted, inverse_regularisation, _ITERATIONS, allowed)
        weights[:, open_] = found.numpy()
    return weights
