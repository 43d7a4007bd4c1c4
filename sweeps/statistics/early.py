"""How early validation tells configurations apart: what early stopping may rest on.

A search that stops trials early believes that the order of configurations after some epochs is the
order at the end. How far that holds is a rank correlation, and differs between models: a model
whose loss changes on the way (an annealed DDI loss, rounds of pre-training) shows late.
"""

import numpy as np
from jaxtyping import Float64

ENOUGH = 0.8
"""Spearman's rank correlation with the final order from which stopping is justified."""
FEWEST_CONFIGURATIONS = 8


def best_so_far(values: Float64[np.ndarray, "configurations epochs"]) -> np.ndarray:
    """Returns the highest value up to each epoch, which is what early stopping compares.

    Example:
        >>> best_so_far(np.array([[0.1, 0.3, 0.2]]))
        array([[0.1, 0.3, 0.3]])
    """
    return np.maximum.accumulate(values, axis=1)


def rank_correlations(
    curves: Float64[np.ndarray, "configurations epochs"],
) -> Float64[np.ndarray, " epochs"]:
    """Returns Spearman's correlation of the values at each epoch with those at the last.

    Ties share their mean rank; 0 where all configurations are level at an epoch.

    Example:
        >>> rank_correlations(np.array([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0]]))
        array([-1.,  1.])
    """
    from scipy.stats import rankdata

    ranks = rankdata(curves, axis=0)
    centred = ranks - ranks.mean(axis=0)
    last = centred[:, -1:]
    size = np.sqrt((centred**2).sum(axis=0) * (last**2).sum(axis=0))
    products = (centred * last).sum(axis=0)
    found: np.ndarray = np.divide(products, size, out=np.zeros_like(size), where=size > 0)
    return found


def grace_epochs(curves: Float64[np.ndarray, "configurations epochs"]) -> int:
    """Returns the first epoch from which on the order holds, whichever configuration is left out.

    A correlation of a few configurations hangs on each of them, and stopping too early costs more
    than stopping late: of the epochs without one configuration, the latest counts.
    """
    rest = (np.delete(curves, place, axis=0) for place in range(len(curves)))
    return max(map(first_epoch, rest))


def first_epoch(curves: Float64[np.ndarray, "configurations epochs"]) -> int:
    """Returns the first epoch from which on the correlation stays at `ENOUGH` or above.

    Counted from 1; the last epoch at the latest.
    """
    below = np.flatnonzero(rank_correlations(curves) < ENOUGH)
    return min(int(below[-1]) + 2, curves.shape[1]) if len(below) else 1
