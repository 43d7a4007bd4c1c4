"""How common codes are: quartiles by frequency in the training split, 1 the rarest.

What is common is told by training visits alone, as models know them. Equal values share a
quartile, so that the four need not be equally large.
"""

import numpy as np
from jaxtyping import Float64, Int8, Int64

from medrec import splits
from medrec.cohort import Codes, Cohort, Kind

QUARTERS = (0.25, 0.5, 0.75)
NO_QUARTILE = 0


def training_visits(cohort: Cohort, kind: Kind) -> Int64[np.ndarray, " codes"]:
    """Returns in how many visits of training patients each code of a kind occurs."""
    rows = cohort.visits_of(cohort.members(splits.TRAIN))
    values = cohort.codes[kind].take(rows).values
    return np.bincount(values, minlength=len(cohort.vocabulary[kind]))


def drug_quartiles(cohort: Cohort) -> Int8[np.ndarray, " drugs"]:
    """Returns the quartile of each drug among all drugs by their number of training visits."""
    visits = training_visits(cohort, "medications").astype(np.float64)
    return _quartile(visits, visits)


def visit_quartiles(cohort: Cohort) -> Int8[np.ndarray, " visits"]:
    """Returns the quartile of each visit by how common its diagnosis codes are.

    A visit's value is the mean over its codes of log(1 + training visits of other patients with
    the code); one counts up since there may be none. Were a training patient's own visits
    counted, every code of training visits would be in one at least, and test visits would look
    rare beside them. Boundaries are the quartiles of the training visits. `NO_QUARTILE` where a
    visit has no diagnosis.
    """
    codes = cohort.codes["diagnoses"]
    visit = np.repeat(np.arange(len(codes.counts)), codes.counts)
    level = np.log1p(_visits_of_others(cohort, codes, visit))
    total = np.bincount(visit, level, minlength=len(codes.counts))
    known = codes.counts > 0
    mean = np.where(known, total / np.maximum(codes.counts, 1), np.nan)
    training = cohort.visits_of(cohort.members(splits.TRAIN))
    return _quartile(mean, mean[training[known[training]]])


def _visits_of_others(
    cohort: Cohort, codes: Codes, visit: Int64[np.ndarray, " entries"]
) -> Int64[np.ndarray, " entries"]:
    """Returns for each code of each visit how many training visits of other patients have it."""
    visits = training_visits(cohort, "diagnoses")
    patient = np.repeat(np.arange(cohort.patients), cohort.visits)[visit]
    pair = patient * len(visits) + codes.values
    _, place, times = np.unique(pair, return_inverse=True, return_counts=True)
    own = np.where(cohort.split[patient] == splits.TRAIN, times[place], 0)
    return np.asarray(visits[codes.values] - own)


def _quartile(
    values: Float64[np.ndarray, " some"], among: Float64[np.ndarray, " others"]
) -> Int8[np.ndarray, " some"]:
    """Returns 1 to 4 by the quartiles of `among`; `NO_QUARTILE` for NaN, or among none."""
    if not len(among):
        return np.full(len(values), NO_QUARTILE, np.int8)
    found = 1 + np.searchsorted(np.quantile(among, QUARTERS), values, side="left")
    return np.where(np.isnan(values), NO_QUARTILE, found).astype(np.int8)
