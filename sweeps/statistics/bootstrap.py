"""Crossed bootstrap over training seeds and test patients: draws of every arm's estimate.

**Estimand.** The mean of a metric over training seeds of an arm, on the population the test
patients are drawn from; of a contrast of arms, the same combination of such means. Seeds and
patients are crossed (each trained model sees each patient), as readers and cases are in
multi-reader multi-case studies in radiology, so both are resampled.

**Draw.** Patients are drawn with replacement, all visits of a patient together, one draw shared
by every arm and seed: comparisons are paired. Seeds are drawn with replacement within each arm,
independently between arms. A plain draw of K seeds shows (K-1)/K of their variance, therefore
deviations from the arm's mean over seeds are multiplied by sqrt(K/(K-1)).

With one seed, or where training does not depend on the seed, only patients vary: what follows is
conditional on this trained model.

Every metric, macro or pooled, is a ratio of weighted sums over patients (`medrec.evaluation`), so
all draws of all arms are one matrix product, done a chunk of draws at a time. Sums are exact
(`sweeps.statistics.exact`): the draws are the same on every machine.

References:
    Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1(2), 2007: resampling both
    factors of a crossed table. Gallas, Bandos, Samuelson, Wagner, "A framework for random-effects
    ROC analysis", Communications in Statistics 38(15), 2009: seeds as readers, patients as cases.
"""

import hashlib
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float64

from sweeps.statistics.exact import exact

_CHUNK = 256  # draws at a time: bounds memory, changes no number


def point_estimates(
    numerator: Float64[np.ndarray, "metrics arms seeds patients"],
    denominator: Float64[np.ndarray, "metrics arms seeds patients"],
    present: Bool[np.ndarray, "arms seeds"],
) -> Float64[np.ndarray, "metrics arms"]:
    """Returns the mean over each arm's trials of sum(numerator) / sum(denominator).

    NaN for an arm without any trial, or without patients.
    """
    values = ratio(exact(numerator).sum(axis=3), exact(denominator).sum(axis=3))
    count = present.sum(axis=1)
    total = _over_seeds(values, present.astype(np.float64))
    known = (count > 0) & (numerator.shape[3] > 0)
    return np.where(known, total / np.maximum(count, 1), np.nan)


def crossed_draws(
    numerator: Float64[np.ndarray, "metrics arms seeds patients"],
    denominator: Float64[np.ndarray, "metrics arms seeds patients"],
    present: Bool[np.ndarray, "arms seeds"],
    resamples: int,
    seed: int,
) -> Float64[np.ndarray, "resamples metrics arms"]:
    """Returns the resampled estimates; NaN for an arm without any trial, or without patients.

    Args:
        numerator: sufficient statistics, as in `medrec.evaluation`.
        denominator: the same.
        present: which trials there are; the others are not used.
        resamples: number of draws, at least 1.
        seed: of the draws; the same seed gives the same numbers.
    """
    metrics, arms, _, patients = numerator.shape
    draws = np.full((resamples, metrics, arms), np.nan)
    known = present.any(axis=1)
    if patients == 0 or not known.any():
        return draws
    mix = seed_weights(numerator, denominator, present, resamples, seed)
    done = 0
    for values in patient_draws(numerator, denominator, resamples, seed):
        rows = slice(done, done + len(values))
        draws[rows] = _over_seeds(values, mix[rows, None])
        done += len(values)
    draws[:, :, ~known] = np.nan
    return draws


def patient_draws(
    numerator: Float64[np.ndarray, "metrics arms seeds patients"],
    denominator: Float64[np.ndarray, "metrics arms seeds patients"],
    resamples: int,
    seed: int,
) -> Iterator[Float64[np.ndarray, "chunk metrics arms seeds"]]:
    """Yields, a chunk of draws at a time, each trial's metrics on the patients drawn."""
    *shape, patients = numerator.shape
    upper, upper_place = _distinct(numerator)
    lower, lower_place = _distinct(denominator)
    for weights in patient_weights(patients, resamples, seed):
        above, below = weights @ upper.T, weights @ lower.T
        yield ratio(above[:, upper_place], below[:, lower_place]).reshape(-1, *shape)


def _distinct(
    values: Float64[np.ndarray, "metrics arms seeds patients"],
) -> tuple[np.ndarray, np.ndarray]:
    """Returns distinct rows of patients, exact, and which of them each trial has.

    Numbers of visits, say, are the same for every trial: they are summed once.
    """
    found: dict[bytes, int] = {}
    rows: list[np.ndarray] = []
    place: list[int] = []
    for metric in values:
        for row in exact(metric.reshape(-1, values.shape[-1])):
            digest = hashlib.blake2b(row.tobytes(), digest_size=16).digest()
            if digest not in found:
                found[digest] = len(rows)
                rows.append(row)
            place.append(found[digest])
    return np.stack(rows), np.array(place)


def patient_weights(
    patients: int, resamples: int, seed: int
) -> Iterator[Float64[np.ndarray, "chunk patients"]]:
    """Yields, a chunk of draws at a time, how often each patient was drawn; rows sum to n."""
    rng = np.random.default_rng([seed, 0])
    for start in range(0, resamples, _CHUNK):
        size = min(_CHUNK, resamples - start)
        picks = rng.integers(patients, size=(size, patients))
        flat = (picks + patients * np.arange(size)[:, None]).ravel()
        counts = np.bincount(flat, minlength=size * patients)
        yield counts.reshape(size, patients).astype(np.float64)


def seed_weights(
    numerator: Float64[np.ndarray, "metrics arms seeds patients"],
    denominator: Float64[np.ndarray, "metrics arms seeds patients"],
    present: Bool[np.ndarray, "arms seeds"],
    resamples: int,
    seed: int,
) -> Float64[np.ndarray, "resamples arms seeds"]:
    """Returns each trial's weight in each draw of its arm; an arm's weights sum to 1.

    With c_s draws of seed s out of K, mean + f * (mean of drawn deviations), f = sqrt(K/(K-1)),
    is the weighted sum with (1 + f (c_s - 1)) / K. Arms made of the same trials share their
    draws, so that their difference is exactly 0.
    """
    weights = np.zeros((resamples, *present.shape))
    streams = same_trials(numerator, denominator, present)
    for arm, stream in enumerate(streams):
        slots = np.flatnonzero(present[arm])
        count = len(slots)
        if count < 2:
            weights[:, arm, slots] = 1.0
            continue
        rng = np.random.default_rng([seed, 1 + stream])
        drawn = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
        inflation = np.sqrt(count / (count - 1))
        weights[:, arm, slots] = (1 + inflation * (drawn - 1)) / count
    return weights


def same_trials(
    numerator: Float64[np.ndarray, "metrics arms seeds patients"],
    denominator: Float64[np.ndarray, "metrics arms seeds patients"],
    present: Bool[np.ndarray, "arms seeds"],
) -> list[int]:
    """Returns for each arm the first arm that has the same numbers in every trial."""
    first: dict[bytes, int] = {}
    streams = []
    for arm in range(present.shape[0]):
        digest = hashlib.sha256(present[arm].tobytes())
        digest.update(np.ascontiguousarray(numerator[:, arm]).tobytes())
        digest.update(np.ascontiguousarray(denominator[:, arm]).tobytes())
        streams.append(first.setdefault(digest.digest(), arm))
    return streams


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Returns numerator / denominator, 0 where the denominator is 0, as `medrec.evaluation`."""
    out = np.zeros(np.broadcast_shapes(numerator.shape, denominator.shape))
    return np.divide(numerator, denominator, out=out, where=denominator != 0)


def _over_seeds(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns the weighted sum over the last axis, added seed by seed: the same everywhere."""
    total = np.zeros(np.broadcast_shapes(values.shape, weights.shape)[:-1])
    for place in range(values.shape[-1]):
        total += values[..., place] * weights[..., place]
    return total
