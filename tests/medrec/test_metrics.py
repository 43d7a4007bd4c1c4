"""Metrics against scikit-learn, case by case."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, jaccard_score

from medrec.metrics.ddi_rate import ddi_terms
from medrec.metrics.f1 import f1_terms
from medrec.metrics.jaccard import jaccard_terms
from medrec.metrics.medications import medication_terms
from medrec.metrics.prauc import average_precision, prauc_terms
from medrec.predictions import Predictions

NO_INTERACTIONS = np.zeros((4, 4), dtype=bool)


def random_predictions(patients, drugs, seed) -> Predictions:
    """Returns 1 to 4 visits a patient, with coarse scores, so that many are tied.

    Every fifth visit has nothing prescribed, every seventh nothing chosen.
    """
    rng = np.random.default_rng(seed)
    visits = rng.integers(1, 5, size=patients)
    total = int(visits.sum())
    truth = rng.random((total, drugs)) < 0.4
    chosen = rng.random((total, drugs)) < 0.4
    truth[::5] = False
    chosen[::7] = False
    return Predictions(
        patient=np.repeat(np.arange(patients) * 3, visits).astype(np.int32),
        visit=np.concatenate([np.arange(n) for n in visits]).astype(np.int16),
        truth=truth,
        chosen=chosen,
        scores=(rng.integers(0, 6, size=(total, drugs)) / 5).astype(np.float32),
    )


def one_visit(truth, chosen=None, scores=None) -> Predictions:
    truth = np.array([truth], dtype=bool)
    chosen = np.zeros_like(truth) if chosen is None else np.array([chosen], dtype=bool)
    scores = chosen if scores is None else np.array([scores])
    return Predictions(
        np.zeros(1, np.int32), np.zeros(1, np.int16), truth, chosen, scores.astype(np.float32)
    )


SETS = {
    "some right, some wrong": ([1, 1, 0, 0], [1, 0, 1, 0]),
    "all right": ([1, 0, 1, 0], [1, 0, 1, 0]),
    "all wrong": ([1, 1, 0, 0], [0, 0, 1, 1]),
    "nothing recommended": ([1, 0, 0, 1], [0, 0, 0, 0]),
    "nothing prescribed": ([0, 0, 0, 0], [1, 0, 0, 1]),
    "nothing prescribed, nothing recommended": ([0, 0, 0, 0], [0, 0, 0, 0]),
    "everything, everywhere": ([1, 1, 1, 1], [1, 1, 1, 1]),
    "a single drug": ([0, 1, 0, 0], [0, 1, 0, 0]),
}


@pytest.mark.parametrize("case", SETS)
@pytest.mark.parametrize(
    ("terms", "reference"), [(jaccard_terms, jaccard_score), (f1_terms, f1_score)]
)
def test_sets_equal_scikit_learn(case, terms, reference):
    truth, chosen = SETS[case]
    value, weight = terms(one_visit(truth, chosen), NO_INTERACTIONS)
    assert weight.tolist() == [1.0]
    # Full agreement on nothing is 1; elsewhere scikit-learn's 0 for an empty side holds.
    agreed = not any(truth) and not any(chosen)
    assert value[0] == pytest.approx(reference(truth, chosen, zero_division=float(agreed)))


@pytest.mark.parametrize(
    ("terms", "reference"), [(jaccard_terms, jaccard_score), (f1_terms, f1_score)]
)
def test_many_visits_equal_scikit_learn(terms, reference):
    predictions = random_predictions(patients=60, drugs=9, seed=3)
    found, _ = terms(predictions, NO_INTERACTIONS)
    for value, truth, chosen in zip(found, predictions.truth, predictions.chosen, strict=True):
        agreed = not (truth.any() or chosen.any())
        assert value == pytest.approx(reference(truth, chosen, zero_division=float(agreed)))


RANKINGS = {
    "distinct": ([1, 0, 1, 0], [0.9, 0.8, 0.1, 0.3]),
    "all tied": ([1, 0, 0, 1], [0.5, 0.5, 0.5, 0.5]),
    "tied across the border": ([1, 0, 1, 0], [0.9, 0.4, 0.4, 0.1]),
    "tied at the top": ([0, 1, 1, 0], [0.7, 0.7, 0.2, 0.2]),
    "a set as scores": ([1, 1, 0, 0], [1.0, 0.0, 1.0, 0.0]),
    "the worst order": ([0, 0, 0, 1], [0.9, 0.8, 0.7, 0.1]),
    "everything given": ([1, 1, 1, 1], [0.1, 0.2, 0.2, 0.4]),
    "one drug given": ([0, 0, 1, 0], [0.2, 0.2, 0.2, 0.1]),
}


@pytest.mark.parametrize("case", RANKINGS)
def test_average_precision_equals_scikit_learn(case):
    truth, scores = RANKINGS[case]
    found = average_precision(np.array([scores], dtype=np.float32), np.array([truth], dtype=bool))
    assert found[0] == pytest.approx(average_precision_score(truth, scores), abs=1e-12)


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_average_precision_of_many_visits_with_ties(levels):
    rng = np.random.default_rng(levels)
    scores = (rng.integers(0, levels, size=(200, 11)) / levels).astype(np.float32)
    truth = rng.random((200, 11)) < 0.3
    truth[:, 0] |= ~truth.any(axis=1)
    found = average_precision(scores, truth)
    expected = [average_precision_score(y, p) for y, p in zip(truth, scores, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_visit_without_prescriptions_has_no_average_precision():
    predictions = one_visit([0, 0, 0, 0], scores=[0.1, 0.2, 0.3, 0.4])
    assert np.isnan(average_precision(predictions.scores, predictions.truth)).all()
    value, weight = prauc_terms(predictions, NO_INTERACTIONS)
    assert (value.tolist(), weight.tolist()) == ([0.0], [0.0])


@pytest.mark.parametrize(
    ("chosen", "bad", "pairs"),
    [
        ([0, 0, 0, 0], 0, 0),
        ([0, 1, 0, 0], 0, 0),  # a single drug has no pair
        ([1, 1, 0, 0], 1, 1),
        ([1, 1, 1, 0], 2, 3),
        ([1, 1, 1, 1], 3, 6),
        ([1, 0, 0, 1], 0, 1),
    ],
)
def test_interacting_pairs_by_hand(chosen, bad, pairs):
    interacts = np.zeros((4, 4), dtype=bool)
    for i, j in ((0, 1), (1, 2), (2, 3)):
        interacts[i, j] = interacts[j, i] = True
    found = ddi_terms(one_visit([0, 0, 0, 0], chosen), interacts)
    assert (found[0].tolist(), found[1].tolist()) == ([bad], [pairs])


def test_medications_are_counted():
    count, visits = medication_terms(one_visit([0, 0, 0, 0], [1, 0, 1, 1]), NO_INTERACTIONS)
    assert (count.tolist(), visits.tolist()) == ([3.0], [1.0])
