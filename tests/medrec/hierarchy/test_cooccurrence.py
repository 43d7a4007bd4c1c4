"""Counts, SPPMI and vectors of codes that are recorded together."""

import math

import numpy as np
import pytest
from scipy import sparse

from medrec.cohort import KINDS, Codes
from medrec.errors import ConfigError
from medrec.hierarchy._cooccurrence import (
    Times,
    counts,
    embed,
    factors,
    occurrences,
    sppmi,
    trusted,
)
from tests.medrec.small import lists_of, small_cohort

SIZES = {kind: len(small_cohort().vocabulary[kind]) for kind in KINDS}


def has() -> sparse.csr_array:
    return occurrences(small_cohort().codes, SIZES)


def numbers() -> list[list[int]]:
    """Returns the numbers of each visit's codes."""
    cohort = small_cohort()
    found: list[list[int]] = [[] for _ in cohort.age]
    first = 0
    for kind in KINDS:
        for visit, codes in enumerate(lists_of(cohort, kind)):
            found[visit] += [first + code for code in codes]
        first += SIZES[kind]
    return found


def plain_counts(window_days: float) -> np.ndarray:
    cohort = small_cohort()
    patient = np.repeat(np.arange(cohort.patients), cohort.visits)
    visits = numbers()
    matrix = np.zeros((sum(SIZES.values()),) * 2)
    for v, first in enumerate(visits):
        for w, second in enumerate(visits):
            near = abs(cohort.admitted[v] - cohort.admitted[w]) <= window_days
            if v == w or (window_days and patient[v] == patient[w] and near):
                for i in first:
                    for j in second:
                        matrix[i, j] += i != j
    return matrix


def plain_sppmi(matrix: np.ndarray, shift: float) -> np.ndarray:
    total, one = matrix.sum(), matrix.sum(axis=1)
    result = np.zeros_like(matrix)
    for i, j in np.argwhere(matrix > 0).tolist():
        pmi = math.log(matrix[i, j] * total / (one[i] * one[j]))
        result[i, j] = max(0.0, pmi - math.log(shift))
    return result


@pytest.mark.parametrize("window_days", [0.0, 30.0, 75.0])
def test_counts_are_those_of_a_plain_loop(window_days: float) -> None:
    cohort = small_cohort()
    patient = np.repeat(np.arange(cohort.patients), cohort.visits)
    times = Times(patient, cohort.admitted)
    found = counts(has(), times, window_days).toarray()
    assert np.array_equal(found, plain_counts(window_days))
    assert np.array_equal(found, found.T)


def test_a_window_needs_times() -> None:
    with pytest.raises(ConfigError, match="window_days"):
        counts(has(), None, 30.0)


@pytest.mark.parametrize("shift", [1.0, 1.5])
def test_sppmi_is_that_of_a_plain_loop(shift: float) -> None:
    together = counts(has())
    expected = plain_sppmi(together.toarray(), shift)
    assert (expected > 0).sum() > 50
    np.testing.assert_allclose(sppmi(together, shift).toarray(), expected, atol=1e-12)


def test_without_the_total_every_entry_would_be_0() -> None:
    together = counts(has()).toarray()
    one = together.sum(axis=1)
    row, column = np.nonzero(together)
    assert np.all(np.log(together[row, column] / (one[row] * one[column])) <= 0)
    assert sppmi(counts(has())).nnz > 50


def test_a_shift_below_1_is_refused() -> None:
    with pytest.raises(ConfigError, match="shift"):
        sppmi(counts(has()), 0.5)


def test_no_visits_give_vectors_of_zeros() -> None:
    none = {kind: Codes(np.array([0]), np.empty(0, np.int64)) for kind in KINDS}
    vectors = embed(sppmi(counts(occurrences(none, SIZES))), 4)
    assert vectors.shape == (sum(SIZES.values()), 4)
    assert not vectors.any()


@pytest.mark.parametrize("size", [30, 900])  # the whole spectrum, and a part of it
def test_vectors_reproduce_the_matrix_up_to_their_rank(size: int) -> None:
    rng = np.random.default_rng(0)
    root = rng.standard_normal((size, 6)) * np.arange(6, 0, -1)
    matrix = sparse.csr_array(root @ root.T)
    vectors, values = factors(matrix, 6)
    half = vectors * np.sqrt(values)
    np.testing.assert_allclose(half @ half.T, matrix.toarray(), atol=1e-8 * size)
    left, singular, right = np.linalg.svd(matrix.toarray())
    fewer, few = factors(matrix, 3)
    np.testing.assert_allclose(
        (fewer * few) @ fewer.T, (left[:, :3] * singular[:3]) @ right[:3], atol=1e-8 * size
    )


def test_singular_values_of_an_indefinite_matrix() -> None:
    matrix = sppmi(counts(has()))
    expected = np.linalg.svd(matrix.toarray(), compute_uv=False)
    np.testing.assert_allclose(factors(matrix, 5)[1], expected[:5], rtol=1e-9)


def test_rows_have_length_1_and_signs_are_fixed() -> None:
    matrix = sppmi(counts(has()))
    vectors = embed(matrix, 4)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0)
    axes, _ = factors(matrix, 4)
    assert np.all(axes[np.abs(axes).argmax(axis=0), np.arange(4)] > 0)
    assert np.array_equal(vectors, embed(matrix, 4))


def test_zeros_fill_what_a_low_rank_leaves() -> None:
    matrix = sparse.csr_array(np.ones((5, 5)))
    vectors, values = factors(matrix, 3)
    np.testing.assert_allclose(values, [5.0, 0.0, 0.0])
    assert not vectors[:, 1:].any()


def test_vectors_of_rare_codes_are_shorter() -> None:
    vectors = np.eye(3)
    shorter = trusted(vectors, np.array([0, 30, 90]), 30.0)
    np.testing.assert_allclose(np.linalg.norm(shorter, axis=1) ** 2, [0.0, 0.5, 0.75])
    assert np.array_equal(trusted(vectors, np.array([1, 30, 90]), 0.0), vectors)
