r"""Crossed variance in closed form: t intervals of contrasts over training seeds and patients.

Y[a,k,i]: what patient i contributes to the metric of arm a trained with seed k, so that the mean
over patients is the metric; of a ratio its linearisation, R + (num_i - R den_i) / mean(den).
Patients and seeds are crossed within an arm, patients are shared by all arms, seeds are each
arm's own:

    Y[a,k,i] = mu_a + s_ak + p_ai + e_aki

A contrast D = sum_a c_a mean(Y_a) has the variance

    V = sum_a c_a^2 S_a / K_a  +  P / n  -  sum_a c_a^2 E_a / (K_a n)

S_a: variance of the arm's means per seed; P: variance over patients of sum_a c_a mean_k Y[a,k,i];
E_a: variance of what is left of Y without patient and seed. The last sum takes out what both
others count; with it the first is not let below 0. The degrees of freedom are
Satterthwaite's. Where not several arms with equally many trainings share the seed term, they are
worked out with S_a at a value that the truth exceeds as often as not, S_a (K_a - 1) / median of
chi^2(K_a - 1): three trainings often seem to agree by chance, and then a test of one such arm
would reject equal arms in 7 to 8 % of studies instead of 5. An arm with one trial, or whose
training needs no seed, has no seed term: the interval is conditional on that trained model.

References:
    Obuchowski and Rockette, Communications in Statistics 24(2), 1995; Hillis, Statistics in
    Medicine 26(3), 2007: the same model for readers and cases. Satterthwaite, Biometrics Bulletin
    2(6), 1946.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from scipy import stats

from sweeps.statistics.bootstrap import ratio
from sweeps.statistics.exact import exact, settled


@dataclass(frozen=True)
class Crossed:
    """Estimates of contrasts with their standard errors.

    Attributes:
        estimate: the contrast of the arms' estimates; NaN where an arm has no trial.
        error: its standard error.
        freedom: Satterthwaite's degrees of freedom.
        cautious: the same with the median's variance everywhere: far out in its tails, where a
            family's tests are decided, a test of three seeds would be too liberal without.
        skewness: third moment of what patients contribute to the contrast, over the error cubed:
            the skewness of the estimate, as far as patients cause it.
    """

    estimate: Float64[np.ndarray, "metrics contrasts"]
    error: Float64[np.ndarray, "metrics contrasts"]
    freedom: Float64[np.ndarray, "metrics contrasts"]
    cautious: Float64[np.ndarray, "metrics contrasts"]
    skewness: Float64[np.ndarray, "metrics contrasts"]


def contributions(
    numerator: Float64[np.ndarray, "*trials patients"],
    denominator: Float64[np.ndarray, "*trials patients"],
) -> Float64[np.ndarray, "*trials patients"]:
    """Returns each patient's Y; the mean over patients is sum(numerator) / sum(denominator)."""
    upper, lower = exact(numerator), exact(denominator)
    value = ratio(upper.sum(axis=-1), lower.sum(axis=-1))[..., None]
    share = lower.sum(axis=-1)[..., None] / max(upper.shape[-1], 1)
    return value + ratio(upper - value * lower, share)


def crossed_contrasts(
    numerator: Float64[np.ndarray, "metrics arms seeds patients"],
    denominator: Float64[np.ndarray, "metrics arms seeds patients"],
    present: Bool[np.ndarray, "arms seeds"],
    contrasts: Float64[np.ndarray, "contrasts arms"],
) -> Crossed:
    """Returns estimate, standard error and degrees of freedom of each contrast of arms.

    Args:
        numerator: sufficient statistics, as in `medrec.evaluation`.
        denominator: the same.
        present: which trials there are; the others are not used.
        contrasts: weight of each arm; a difference is +1 and -1, an arm by itself +1.
    """
    metrics, arms, _, patients = numerator.shape
    mean = np.full((metrics, arms, patients), np.nan)
    value = np.full((metrics, arms), np.nan)
    seeds, rest = (np.zeros((metrics, arms)) for _ in range(2))
    for arm in range(arms):
        slots = np.flatnonzero(present[arm])
        if not len(slots) or not patients:
            continue
        own = contributions(numerator[:, arm, slots], denominator[:, arm, slots])
        by_seed = own.mean(axis=2)
        mean[:, arm] = own.mean(axis=1)
        value[:, arm] = by_seed.mean(axis=1)
        if len(slots) > 1 and patients > 1:
            between = by_seed.var(axis=1, ddof=1)
            left = (
                own - own.mean(axis=1, keepdims=True) - (by_seed - value[:, arm, None])[..., None]
            )
            error = (left**2).sum(axis=(1, 2)) / ((len(slots) - 1) * (patients - 1))
            seeds[:, arm] = between / len(slots)
            rest[:, arm] = error / (len(slots) * patients)
    return _combine(value, mean, seeds, rest, present.sum(axis=1), contrasts)


def _combine(
    value: np.ndarray,
    mean: np.ndarray,
    seeds: np.ndarray,
    rest: np.ndarray,
    count: np.ndarray,
    contrasts: np.ndarray,
) -> Crossed:
    """Returns the contrasts from means over seeds [metrics, arms, patients] and variances."""
    patients = mean.shape[2]
    shape = (value.shape[0], len(contrasts))
    estimate, error, freedom, cautious, skewness = (np.full(shape, np.nan) for _ in range(5))
    for row, weights in enumerate(contrasts):
        used = np.flatnonzero(weights)
        squared = weights[used] ** 2
        estimate[:, row] = value[:, used] @ weights[used]
        if patients < 2:  # nothing is known of how patients vary
            continue
        each = np.einsum("mai,a->mi", mean[:, used], weights[used])
        each = each - each.mean(axis=1, keepdims=True)
        over_patients = (each**2).sum(axis=1) / (patients - 1) / patients
        left = rest[:, used]
        variance = over_patients + np.maximum((seeds[:, used] - left) @ squared, 0.0)
        error[:, row] = np.sqrt(variance)
        fewer = np.maximum(count[used] - 1, 1)
        for found, alike in ((freedom, _alike(count[used])), (cautious, False)):
            doubt = seeds[:, used] * (1.0 if alike else _median_factor(fewer))
            likely = over_patients + np.maximum((doubt - left) @ squared, 0.0)
            weighed = over_patients**2 / (patients - 1)
            weighed = weighed + doubt**2 @ (squared**2 / fewer)
            weighed = weighed + left**2 @ (squared**2 / (fewer * (patients - 1)))
            found[:, row] = ratio(likely**2, weighed)
        cubes = (each**3).sum(axis=1)
        skewness[:, row] = ratio(cubes / patients**3, variance**1.5)
    freedom, cautious = np.maximum(freedom, 1.0), np.maximum(cautious, 1.0)
    cautious = np.minimum(freedom, cautious)
    return Crossed(*(settled(x) for x in (estimate, error, freedom, cautious, skewness)))


def _alike(counts: np.ndarray) -> bool:
    """Returns whether several arms have equally many trainings."""
    return len(counts) > 1 and bool((counts == counts[0]).all())


def _median_factor(freedom: np.ndarray) -> np.ndarray:
    """Returns by how much a variance of so many degrees of freedom falls short as often as not."""
    return np.asarray(freedom / stats.chi2.median(freedom))


def t_quantile(
    level: float, freedom: Float64[np.ndarray, "*shape"]
) -> Float64[np.ndarray, "*shape"]:
    """Returns the quantile of Student's t."""
    return settled(np.asarray(stats.t.ppf(level, freedom)))


def t_p_values(
    crossed: Crossed, *, cautious: bool = False
) -> Float64[np.ndarray, "metrics contrasts"]:
    """Returns two-sided p values of the contrasts being 0; 1 where both are exactly 0."""
    score = np.abs(ratio(crossed.estimate, crossed.error))
    found = 2 * stats.t.sf(score, crossed.cautious if cautious else crossed.freedom)
    certain = (crossed.error == 0) & (crossed.estimate != 0)
    return settled(np.where(np.isnan(crossed.estimate), np.nan, np.where(certain, 0.0, found)))
