"""From visits to patients to one number, against a plain loop."""

from itertools import combinations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, jaccard_score

from medrec import plugins
from medrec.evaluation import evaluate, metrics, patient_terms, ratio
from medrec.predictions import Predictions
from tests.medrec.test_metrics import random_predictions

DRUGS = 8


@pytest.fixture
def interacts():
    upper = np.triu(np.random.default_rng(9).random((DRUGS, DRUGS)) < 0.3, 1)
    return upper | upper.T


def visits_by_patient(predictions):
    found = {}
    for row, patient in enumerate(predictions.patient.tolist()):
        found.setdefault(patient, []).append(row)
    return found


def patient_mean(predictions, value):
    """Mean over a patient's visits, then over patients; None is left out at either step."""
    means = []
    for rows in visits_by_patient(predictions).values():
        values = [value(row) for row in rows]
        values = [v for v in values if v is not None]
        if values:
            means.append(sum(values) / len(values))
    return sum(means) / len(means)


def loop(predictions: Predictions, interacts) -> dict[str, float]:
    truth, chosen, scores = predictions.truth, predictions.chosen, predictions.scores

    def agreement(reference):
        def value(row):
            nothing = not (truth[row].any() or chosen[row].any())
            return reference(truth[row], chosen[row], zero_division=float(nothing))

        return value

    def precision(row):
        return average_precision_score(truth[row], scores[row]) if truth[row].any() else None

    bad = pairs = drugs = 0
    for row in range(len(chosen)):
        given = np.flatnonzero(chosen[row]).tolist()
        drugs += len(given)
        for i, j in combinations(given, 2):
            pairs += 1
            bad += int(interacts[i, j])
    return {
        "jaccard": patient_mean(predictions, agreement(jaccard_score)),
        "f1": patient_mean(predictions, agreement(f1_score)),
        "prauc": patient_mean(predictions, precision),
        "ddi_rate": bad / pairs,
        "medications": drugs / len(chosen),
    }


@pytest.mark.parametrize("seed", range(3))
def test_every_metric_equals_the_loop(interacts, seed):
    predictions = random_predictions(patients=25, drugs=DRUGS, seed=seed)
    expected = loop(predictions, interacts)
    found = evaluate(predictions, interacts)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def test_transitions_leave_first_visits_out(interacts):
    predictions = random_predictions(patients=25, drugs=DRUGS, seed=4)
    rows = [row for row, visit in enumerate(predictions.visit) if visit > 0]
    expected = loop(predictions.select(np.array(rows)), interacts)
    found = evaluate(predictions.transitions(), interacts)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def test_duplicated_visits_change_neither_means_nor_rates(interacts):
    predictions = random_predictions(patients=10, drugs=DRUGS, seed=5)
    twice = predictions.select(np.repeat(np.arange(len(predictions.patient)), 2))
    found, expected = evaluate(twice, interacts), evaluate(predictions, interacts)
    assert found == pytest.approx(expected, abs=1e-12)


def by_hand(patient, truth, chosen):
    chosen = np.array(chosen, dtype=bool)
    return Predictions(
        np.array(patient, np.int32),
        np.zeros(len(patient), np.int16),
        np.array(truth, dtype=bool),
        chosen,
        chosen.astype(np.float32),
    )


def test_a_patient_counts_once_however_many_visits():
    """Patient 4: visits of Jaccard 1, 1, 1; patient 7: one of 0. Patients mean .5, not .75."""
    truth = [[1, 0]] * 3 + [[1, 0]]
    chosen = [[1, 0]] * 3 + [[0, 1]]
    found = evaluate(by_hand([4, 4, 4, 7], truth, chosen), np.zeros((2, 2), dtype=bool))
    assert found["jaccard"] == 0.5
    assert found["medications"] == 1.0


def test_pairs_are_pooled_over_patients():
    """3 drugs with 1 bad pair of 3, and 2 drugs with 1 bad of 1: 2/4, not the mean of rates."""
    interacts = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=bool)
    chosen = [[1, 1, 1], [1, 1, 0]]
    assert evaluate(by_hand([0, 1], chosen, chosen), interacts)["ddi_rate"] == 0.5


def test_without_any_pair_the_rate_is_0():
    found = evaluate(
        by_hand([0, 1], [[1, 0], [0, 1]], [[1, 0], [0, 0]]), np.eye(2, dtype=bool) < 0
    )
    assert found["ddi_rate"] == 0.0
    assert ratio(0.0, 0.0) == 0.0


def test_a_patient_without_prescriptions_is_left_out_of_prauc(interacts):
    predictions = random_predictions(patients=6, drugs=DRUGS, seed=6)
    predictions.truth[predictions.patient == predictions.patient[0]] = False
    terms = patient_terms(metrics()["prauc"], predictions, interacts)
    assert terms.denominator.tolist() == [0.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert evaluate(predictions, interacts)["prauc"] == pytest.approx(
        loop(predictions, interacts)["prauc"]
    )


def test_statistics_suffice_for_any_weights(interacts):
    """Weighted patients through the statistics equal patients that are really repeated."""
    predictions = random_predictions(patients=8, drugs=DRUGS, seed=7)
    weights = np.array([0, 1, 2, 0, 3, 1, 1, 0])
    for metric in metrics().values():
        terms = patient_terms(metric, predictions, interacts)
        weighted = ratio(weights @ terms.numerator, weights @ terms.denominator)
        rows, patients = [], []
        for copy, patient in enumerate(np.repeat(terms.patients, weights)):
            mine = np.flatnonzero(predictions.patient == patient)
            rows += mine.tolist()
            patients += [copy] * len(mine)
        repeated = predictions.select(np.array(rows))
        repeated = Predictions(
            np.array(patients, np.int32),
            repeated.visit,
            repeated.truth,
            repeated.chosen,
            repeated.scores,
        )
        drawn = patient_terms(metric, repeated, interacts)
        assert weighted == pytest.approx(ratio(drawn.numerator.sum(), drawn.denominator.sum()))


def test_every_metric_is_evaluated(interacts):
    predictions = random_predictions(patients=3, drugs=DRUGS, seed=8)
    assert sorted(evaluate(predictions, interacts)) == plugins.names("medrec.metrics")
