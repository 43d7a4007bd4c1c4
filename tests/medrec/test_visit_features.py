"""Visits as rows of ones, as a matrix and as codes of a batch."""

import numpy as np
import torch

from medrec.cohort import Codes
from medrec.visit_features import codes_of, sparse_rows, visit_features
from tests.medrec.small import small_cohort, whole_batch, without

FEATURES = 18


def dense(cohort):
    return visit_features(cohort.codes, cohort.vocabulary).toarray()


def test_columns_are_diagnoses_and_then_procedures():
    codes = {
        "diagnoses": Codes(np.array([0, 1, 3]), np.array([2, 0, 1])),
        "procedures": Codes(np.array([0, 1, 1]), np.array([1])),
    }
    found = visit_features(codes, {"diagnoses": ("a", "b", "c"), "procedures": ("x", "y")})
    assert found.toarray().tolist() == [[0, 0, 1, 0, 1], [1, 1, 0, 0, 0]]


def test_a_batch_has_the_same_columns():
    cohort, batch = small_cohort(), whole_batch()
    codes = codes_of(batch, 12, FEATURES)
    hot = torch.zeros(*codes.shape[:2], FEATURES + 1).scatter_(2, codes, 1.0)
    assert np.array_equal(hot[batch.visit_mask][:, :FEATURES].numpy(), dense(cohort))
    assert (codes[~batch.visit_mask] == FEATURES).all()


def test_products_are_those_of_the_dense_matrix():
    cohort = small_cohort()
    matrix = dense(cohort)
    told = sparse_rows(visit_features(cohort.codes, cohort.vocabulary))
    generator = torch.Generator().manual_seed(0)
    wide, tall = (torch.randn(size, 3, generator=generator) for size in matrix.shape[::-1])
    np.testing.assert_allclose(told.times(wide), matrix @ wide.numpy(), atol=1e-5)
    np.testing.assert_allclose(told.transposed_times(tall), matrix.T @ tall.numpy(), atol=1e-5)


def test_a_cohort_may_have_no_codes_at_all():
    cohort = without(without(small_cohort(), "procedures"), "diagnoses")
    told = sparse_rows(visit_features(cohort.codes, cohort.vocabulary))
    visits = int(cohort.visits.sum())
    assert torch.equal(told.times(torch.zeros(0, 3)), torch.zeros(visits, 3))
    assert told.transposed_times(torch.ones(visits, 3)).shape == (0, 3)
