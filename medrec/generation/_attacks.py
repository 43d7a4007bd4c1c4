"""Distances between patients, and what an attacker who holds the generated ones learns by them.

Distances are counted in blocks of patients from products of sparse rows of zeros and ones: two
sets of sizes a and b with o common codes have Hamming distance a + b - 2 o (codes that one of
them has) and Jaccard distance 1 - o / (a + b - o).

Source: the attacks of evaluation/privacy.py of HiSGT's repository (jameszhou-gl/HiSGT 619e23e),
which has them from HALO (Theodorou, Xiao and Sun, Nature Communications 2023). Both also read
patients' phenotype labels there, which a cohort has not.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int, Int64
from scipy import sparse

from medrec.generation._numbered import Numbered

_BLOCK = 1 << 22  # distances at a time


@dataclass(frozen=True)
class Nearest:
    """Distances of some patients to the nearest of others, over codes that they ever had."""

    jaccard: Float64[np.ndarray, " patients"]
    hamming: Float64[np.ndarray, " patients"]


def nearest(some: sparse.csr_matrix, others: sparse.csr_matrix) -> Nearest:
    """Returns the least distance of each row to any other's row.

    Args:
        some: [patients, codes], 1 where a patient ever had a code.
        others: the same of others; at least one.
    """
    found = Nearest(np.empty(some.shape[0]), np.empty(some.shape[0]))
    theirs = _row_sums(others)
    for rows, common in _overlaps(some, others):
        both = _row_sums(some[rows])[:, None] + theirs
        found.hamming[rows] = (both - 2 * common).min(axis=1)
        either = np.maximum(both - common, 1)  # two empty sets are equal
        found.jaccard[rows] = 1 - np.where(both > 0, common / either, 1).max(axis=1)
    return found


def nearest_by_visits(some: Numbered, others: Numbered) -> Float64[np.ndarray, " patients"]:
    """Returns the least distance of each patient to any other, visit by visit, as published.

    The distance is the Hamming distance summed over the patient's own visits, each against the
    other's visit of the same position (an empty one where there is none), and 1 more where their
    numbers of visits differ. What the other has after the patient's last visit does not count.
    """
    positions = int(some.visits.max())
    # Codes of each other patient's first 0, 1, 2, ... visits.
    by_visit = np.zeros((others.patients, positions + 1))
    place = _positions(others)
    early = place < positions
    by_visit[others.patient[early], place[early] + 1] = others.codes.counts[early]
    theirs = np.cumsum(by_visit, axis=1).T
    own = some.total(some.codes.counts.astype(np.float64))
    found = np.empty(some.patients)
    for rows, common in _overlaps(_aligned(some, positions), _aligned(others, positions)):
        visits = some.visits[rows]
        distance = theirs[visits] - 2 * common
        distance += visits[:, None] != others.visits
        found[rows] = own[rows] + distance.min(axis=1)
    return found


def membership_threshold(
    members: Float64[np.ndarray, " members"], others: Float64[np.ndarray, " others"]
) -> float:
    """Returns the median of both groups' distances, the groups weighing the same."""
    distances = np.concatenate([members, others])
    weights = np.repeat([1 / len(members), 1 / len(others)], [len(members), len(others)])
    order = np.argsort(distances, kind="stable")
    sums = np.cumsum(weights[order])
    half = sums[-1] / 2
    low = np.searchsorted(sums, half * (1 - 1e-12))
    high = np.searchsorted(sums, half * (1 + 1e-12), side="right")
    return float(distances[order[[low, high]]].mean())


@dataclass(frozen=True)
class Guessed:
    """Codes guessed for each patient: F1 is 2 Σ right / Σ (guessed + had)."""

    twice_right: Float64[np.ndarray, " patients"]
    guessed_and_had: Float64[np.ndarray, " patients"]

    @property
    def f1(self) -> float:
        """Over all patients' codes together; 0 where there are none."""
        return float(self.twice_right.sum() / max(self.guessed_and_had.sum(), 1))


def guess_attributes(
    targets: sparse.csr_matrix, references: sparse.csr_matrix, known: Int64[np.ndarray, " known"]
) -> Guessed:
    """Guesses the other codes of each target: those of the nearest reference by the known codes.

    Args:
        targets: [patients, codes], 1 where a patient ever had a code.
        references: the records that the attacker holds; of equally near ones the first is taken.
        known: codes of the targets that the attacker knows.
    """
    other = np.setdiff1d(np.arange(targets.shape[1]), known)
    own, theirs = targets[:, known], references[:, known]
    size = _row_sums(theirs)
    which = np.empty(targets.shape[0], dtype=np.int64)
    for rows, common in _overlaps(own, theirs):
        which[rows] = np.argmin(size - 2 * common, axis=1)  # the target's own size is constant
    had, guessed = targets[:, other], references[:, other][which]
    right = _row_sums(had.multiply(guessed).tocsr())
    return Guessed(2 * right, _row_sums(had) + _row_sums(guessed))


def _overlaps(
    some: sparse.csr_matrix, others: sparse.csr_matrix
) -> Iterator[tuple[slice, Float64[np.ndarray, "block others"]]]:
    """Yields rows of `some` and how many columns each shares with every row of `others`."""
    step = max(1, _BLOCK // max(others.shape[0], 1))
    columns = others.T.tocsr()
    for start in range(0, some.shape[0], step):
        rows = slice(start, min(start + step, some.shape[0]))
        yield rows, (some[rows] @ columns).toarray()


def _positions(side: Numbered) -> Int[np.ndarray, " visits"]:
    """Returns how many visits each visit's patient had before."""
    first = np.cumsum(side.visits) - side.visits
    return np.arange(len(side.patient)) - first[side.patient]


def _aligned(side: Numbered, positions: int) -> sparse.csr_matrix:
    """Returns [patients, positions * codes]: what each of the first visits has."""
    place = _positions(side)
    early = np.flatnonzero(place < positions)
    codes = side.codes.take(early)
    columns = np.repeat(place[early] * side.size, codes.counts) + codes.values
    counts = np.bincount(side.patient[early], codes.counts, side.patients)
    ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    shape = (side.patients, positions * side.size)
    return sparse.csr_matrix((np.ones(len(columns)), columns, ends), shape=shape)


def _row_sums(matrix: sparse.csr_matrix) -> Float64[np.ndarray, " rows"]:
    return np.asarray(matrix.sum(axis=1), dtype=np.float64).ravel()
