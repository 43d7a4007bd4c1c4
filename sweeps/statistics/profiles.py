"""Performance profiles: in what share of test patients and seeds does a model exceed a value?

A mean hides whether a model is middling everywhere or good for some and useless for others; the
profile shows the whole distribution, and one that lies above another everywhere is better by any
mean that grows with the value.

Reference:
    Agarwal, Schwarzer, Castro, Courville, Bellemare, "Deep reinforcement learning at the edge of
    the statistical precipice", NeurIPS 2021, section 4.2. The resampling here also draws test
    patients, not runs alone.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from sweeps.statistics.bootstrap import patient_weights, ratio, seed_weights

RESAMPLES = 200  # the band is read by eye
_TAIL = (0.025, 0.975)


@dataclass(frozen=True)
class Profiles:
    """Share of (seed, patient) above each value, and its band; NaN for an arm without any trial.

    Attributes:
        share: of the arm's trials and all patients.
        low: 2.5th percentile of the draws at this value.
        high: 97.5th percentile.
    """

    share: Float64[np.ndarray, "arms values"]
    low: Float64[np.ndarray, "arms values"]
    high: Float64[np.ndarray, "arms values"]


def profiles(
    numerator: Float64[np.ndarray, "arms seeds patients"],
    denominator: Float64[np.ndarray, "arms seeds patients"],
    present: Bool[np.ndarray, "arms seeds"],
    above: Float64[np.ndarray, " values"],
    seed: int,
) -> Profiles:
    """Returns the share of patients whose numerator / denominator is larger than each value.

    The draws are those of `sweeps.statistics.bootstrap`: patients shared by all arms, seeds drawn
    within each arm, their deviations widened.

    Args:
        numerator: sufficient statistics of one metric, as in `medrec.evaluation`.
        denominator: the same; a patient with 0 is left out.
        present: which trials there are; the others are not used.
        above: the values, ascending.
        seed: of the draws.
    """
    arms, _, patients = numerator.shape
    share = np.full((arms, len(above)), np.nan)
    low, high = share.copy(), share.copy()
    if patients == 0:
        return Profiles(share, low, high)
    weights = np.concatenate(list(patient_weights(patients, RESAMPLES, seed)))
    mix = seed_weights(numerator[None], denominator[None], present, RESAMPLES, seed)
    for arm in np.flatnonzero(present.any(axis=1)):
        trials = present[arm]
        defined = denominator[arm, trials] != 0
        values = ratio(numerator[arm, trials], denominator[arm, trials])
        exceeds = defined[..., None] & (values[..., None] > above)
        share[arm] = ratio(exceeds.sum(axis=1), defined.sum(axis=1, keepdims=True)).mean(axis=0)
        # Whole weights times 0 or 1: these sums are exact on every machine.
        drawn = [
            ratio(weights @ over.astype(np.float64), (weights @ whole.astype(np.float64))[:, None])
            for over, whole in zip(exceeds, defined, strict=True)
        ]
        draws = np.einsum("sbv,bs->bv", np.stack(drawn), mix[:, arm, trials])
        low[arm], high[arm] = np.clip(np.quantile(draws, _TAIL, axis=0), 0.0, 1.0)
    return Profiles(share, low, high)
