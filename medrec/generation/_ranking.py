"""AUROC and average precision of visits, with the influence of each patient.

Visits are ranked, patients are sampled: each patient's weight multiplies all of his visits, and
the influence is the derivative of the statistic with respect to that weight.

For the AUROC it is DeLong's: with V the placement value of a visit (for a positive one the share
of negatives that score less, ties a half; for a negative one the share of positives that score
more),

    influence_p = n ( sum over p's positives of (V - A) / positives
                    + sum over p's negatives of (V - A) / negatives )

for n patients. Average precision is the mean over positives of the precision among the visits
that score at least as much (scikit-learn's, thresholds taken at distinct scores). Both do not
change when all weights are multiplied, so the mean influence is 0.

Source: DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988); for clusters Obuchowski,
Biometrics 53 (1997).
"""

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

Influence = tuple[float, Float64[np.ndarray, " patients"]]


def auroc(
    scores: Float[np.ndarray, " visits"],
    target: Bool[np.ndarray, " visits"],
    patient: Int64[np.ndarray, " visits"],
    patients: int,
) -> Influence:
    """Returns the area under the ROC curve and each patient's influence on it.

    Args:
        scores: of the visits.
        target: both values occur.
        patient: position of each visit's patient.
        patients: how many there are; those without a visit have no influence.
    """
    positive, negative = np.sort(scores[target]), np.sort(scores[~target])
    less = np.searchsorted(negative, scores, "left") + np.searchsorted(negative, scores, "right")
    more = np.searchsorted(positive, scores, "left") + np.searchsorted(positive, scores, "right")
    placement = np.where(target, less / (2 * len(negative)), 1.0 - more / (2 * len(positive)))
    value = float(placement[target].mean())
    size = np.where(target, len(positive), len(negative))
    return value, _by_patient((placement - value) / size, patient, patients)


def average_precision(
    scores: Float[np.ndarray, " visits"],
    target: Bool[np.ndarray, " visits"],
    patient: Int64[np.ndarray, " visits"],
    patients: int,
) -> Influence:
    """Returns the average precision and each patient's influence on it; see `auroc`.

    With T and B the positives and the visits that score at least as much as positive i, the value
    is the mean of T_i / B_i. A visit's weight enters as that of a positive, and in T and B of
    every positive that scores no more than it.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, hit = scores[order], target[order]
    last = np.searchsorted(-ranked, -ranked, "right") - 1  # of those that score the same
    above = np.cumsum(hit)[last]
    both = last + 1.0
    precision = above / both
    positives = int(hit.sum())
    value = float(precision[hit].mean())
    begin = np.searchsorted(-ranked, -ranked, "left")
    as_hit = _from_there(hit / both)[begin]
    as_visit = _from_there(hit * precision / both)[begin]
    slope = (hit * (precision - value + as_hit) - as_visit) / positives
    return value, _by_patient(slope, patient[order], patients)


def _from_there(values: Float64[np.ndarray, " visits"]) -> Float64[np.ndarray, " visits"]:
    """Returns the sum of each value and all after it."""
    return np.cumsum(values[::-1])[::-1]


def _by_patient(
    slope: Float64[np.ndarray, " visits"], patient: Int64[np.ndarray, " visits"], patients: int
) -> Float64[np.ndarray, " patients"]:
    """Returns the patients' influences, of weights 1 / patients, from slopes at weights 1."""
    return patients * np.bincount(patient, slope, minlength=patients).astype(np.float64)
