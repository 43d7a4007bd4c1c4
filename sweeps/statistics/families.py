"""Several comparisons at once: step-down max-T, Holm, Benjamini-Hochberg.

A family is every arm that is compared with one reference in the primary metric. Its error is to
call any of them different when it is not.

References:
    Romano and Wolf, "Stepwise multiple testing as formalized data snooping", Econometrica 73(4),
    2005. Westfall and Young, Resampling-Based Multiple Testing, 1993, algorithm 2.8. Holm,
    Scandinavian Journal of Statistics 6(2), 1979. Benjamini and Hochberg, JRSS B 57(1), 1995.
"""

import numpy as np
from jaxtyping import Float64
from scipy import stats

from sweeps.statistics.exact import settled


def normal_scores(
    draws: Float64[np.ndarray, "resamples family"],
) -> Float64[np.ndarray, "resamples family"]:
    """Returns each column's ranks as normal scores: its dependence without its scale."""
    ranks = stats.rankdata(draws, axis=0)
    return np.asarray(stats.norm.ppf((ranks - 0.5) / len(draws)))


def max_t(
    p_values: Float64[np.ndarray, " family"], draws: Float64[np.ndarray, "resamples family"]
) -> Float64[np.ndarray, " family"]:
    """Returns step-down max-T adjusted p values.

    Each comparison's own p value is put on the normal scale and held against the largest of the
    family's normal scores in each draw, then of what is left once the clearest is taken out. The
    draws bring how comparisons hang together through the shared reference and patients.
    """
    if not len(p_values):
        return p_values
    scores = np.abs(normal_scores(draws))
    observed = stats.norm.isf(p_values / 2)
    order = np.argsort(p_values, kind="stable")
    adjusted, largest = np.empty(len(p_values)), 0.0
    for place, arm in enumerate(order):
        highest = scores[:, order[place:]].max(axis=1)
        # One more draw, the data themselves: no p value is 0.
        beyond = (np.count_nonzero(highest >= observed[arm]) + 1) / (len(highest) + 1)
        # A family of one needs no draws; and no adjustment makes a p value smaller.
        largest = max(largest, float(p_values[arm]) if len(order) == 1 else beyond, p_values[arm])
        adjusted[arm] = largest
    return settled(np.minimum(adjusted, 1.0))


def max_t_score(draws: Float64[np.ndarray, "resamples family"], level: float) -> float:
    """Returns the normal score that no comparison of the family passes with that probability."""
    highest = np.abs(normal_scores(draws)).max(axis=1)
    return float(settled(np.quantile(highest, level)))


def holm(p_values: Float64[np.ndarray, " family"]) -> Float64[np.ndarray, " family"]:
    """Returns Holm's adjusted p values."""
    count = len(p_values)
    order = np.argsort(p_values, kind="stable")
    stepped = np.maximum.accumulate(p_values[order] * (count - np.arange(count)))
    adjusted = np.empty(count)
    adjusted[order] = np.minimum(stepped, 1.0)
    return settled(adjusted)


def benjamini_hochberg(p_values: Float64[np.ndarray, " tests"]) -> Float64[np.ndarray, " tests"]:
    """Returns q values: the false discovery rate at which each test would be called."""
    count = len(p_values)
    order = np.argsort(p_values, kind="stable")[::-1]
    scaled = p_values[order] * count / (count - np.arange(count))
    adjusted = np.empty(count)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled), 1.0)
    return settled(adjusted)


def tail_of(score: float) -> float:
    """Returns the probability beyond a normal score."""
    return float(settled(np.asarray(stats.norm.sf(score))))
