"""What every metric promises."""

from dataclasses import replace

import numpy as np
import pytest

from medrec import plugins
from medrec.evaluation import evaluate, patient_terms
from medrec.metrics._base import Metric
from tests.medrec.test_metrics import random_predictions

NAMES = plugins.names("medrec.metrics")
INTERACTS = np.triu(np.ones((8, 8), dtype=bool), 5)
INTERACTS |= INTERACTS.T


@pytest.fixture(params=NAMES)
def metric(request) -> Metric:
    return plugins.load("medrec.metrics", request.param, "METRIC")


@pytest.fixture
def predictions():
    return random_predictions(patients=12, drugs=8, seed=0)


def test_it_says_what_it_is(metric):
    assert metric.title
    assert metric.unit
    assert metric.decimals > 0


def test_terms_are_finite_and_not_negative(metric, predictions):
    numerators, denominators = metric.terms(predictions, INTERACTS)
    assert numerators.shape == denominators.shape == predictions.patient.shape
    for values in (numerators, denominators):
        assert values.dtype == np.float64
        assert np.isfinite(values).all()
        assert (values >= 0).all()
    assert (numerators[denominators == 0] == 0).all()


def test_fractions_lie_between_0_and_1(metric, predictions):
    if not metric.unit.startswith("fraction"):
        pytest.skip(f"its unit is {metric.unit}")
    numerators, denominators = metric.terms(predictions, INTERACTS)
    assert (numerators <= denominators + 1e-12).all()


def test_visits_do_not_see_one_another(metric, predictions):
    together = np.stack(metric.terms(predictions, INTERACTS))
    for row in range(len(predictions.patient)):
        alone = metric.terms(predictions.select(np.array([row])), INTERACTS)
        np.testing.assert_allclose(np.concatenate(alone), together[:, row], atol=1e-12)


def test_the_order_of_patients_does_not_matter(metric, predictions):
    order = np.random.default_rng(1).permutation(len(predictions.patient))
    plain = patient_terms(metric, predictions, INTERACTS)
    mixed = patient_terms(metric, predictions.select(order), INTERACTS)
    np.testing.assert_array_equal(plain.patients, mixed.patients)
    np.testing.assert_allclose(plain.numerator, mixed.numerator, atol=1e-12)
    np.testing.assert_allclose(plain.denominator, mixed.denominator, atol=1e-12)


def test_perfect_predictions_are_best(metric, predictions):
    if metric.higher_is_better is not True:
        pytest.skip("higher is not better")
    perfect = replace(
        predictions, chosen=predictions.truth, scores=predictions.truth.astype(np.float32)
    )
    terms = patient_terms(metric, perfect, INTERACTS)
    np.testing.assert_allclose(terms.numerator, terms.denominator)


def test_no_visit_at_all_is_0(predictions):
    none = predictions.select(np.zeros(len(predictions.patient), dtype=bool))
    assert evaluate(none, INTERACTS) == dict.fromkeys(NAMES, 0.0)
