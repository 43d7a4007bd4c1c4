"""The field's protocol re-run literally: lists of visits, Python sums, one draw after another."""

import numpy as np
import pytest

from medrec.evaluation import metrics, patient_terms
from medrec.predictions import Predictions
from sweeps.statistics.legacy import (
    ten_rounds_with_replacement,
    ten_rounds_without_replacement,
)

DRUGS = 15


def predictions() -> Predictions:
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 7, 60)
    visits = counts.sum()
    truth = rng.random((visits, DRUGS)) < 0.4
    scores = np.clip(0.5 * truth + rng.normal(0.3, 0.25, truth.shape), 0, 1).astype(np.float32)
    return Predictions(
        np.repeat(np.arange(60), counts).astype(np.int32),
        np.concatenate([np.arange(n) for n in counts]).astype(np.int16),
        truth,
        scores > 0.5,
        scores,
    )


@pytest.fixture(scope="module")
def interacts():
    matrix = np.triu(np.random.default_rng(1).random((DRUGS, DRUGS)) < 0.2, 1)
    return matrix | matrix.T


def patients_of(given: Predictions) -> list[list[tuple[set, set]]]:
    rows: dict[int, list[tuple[set, set]]] = {}
    for row, patient in enumerate(given.patient.tolist()):
        sets = set(np.flatnonzero(given.truth[row])), set(np.flatnonzero(given.chosen[row]))
        rows.setdefault(patient, []).append(sets)
    return list(rows.values())


def jaccard(patients: list[list[tuple[set, set]]]) -> float:
    """Mean over a patient's visits, then over patients."""
    own = [[len(t & c) / len(t | c) if t | c else 1.0 for t, c in visits] for visits in patients]
    return np.mean([np.mean(values) for values in own])


def f1(patients: list[list[tuple[set, set]]]) -> float:
    own = []
    for visits in patients:
        values = []
        for truth, chosen in visits:
            both = len(truth & chosen)
            precision = both / len(chosen) if chosen else 0
            recall = both / len(truth) if truth else 0
            values.append(2 * precision * recall / (precision + recall) if both else 0.0)
        own.append(np.mean(values))
    return np.mean(own)


def ddi(patients, interacts) -> float:
    hits = pairs = 0
    for visits in patients:
        for _, chosen in visits:
            listed = sorted(chosen)
            for place, one in enumerate(listed):
                for other in listed[place + 1 :]:
                    pairs += 1
                    hits += bool(interacts[one, other])
    return hits / pairs if pairs else 0


def medications(patients) -> float:
    count = sum(len(visits) for visits in patients)
    return sum(len(chosen) for visits in patients for _, chosen in visits) / count


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("name", ["jaccard", "f1", "ddi_rate", "medications"])
def test_it_equals_the_protocol_run_again_to_the_bit(interacts, name, replace):
    given = predictions()
    data_test = patients_of(given)
    evaluate = {
        "jaccard": jaccard,
        "f1": f1,
        "ddi_rate": lambda patients: ddi(patients, interacts),
        "medications": medications,
    }[name]
    np.random.seed(1203)  # noqa: NPY002  as published
    found = []
    for _ in range(10):
        size = round(len(data_test) * 0.8)
        rows = np.random.choice(len(data_test), size, replace=replace)  # noqa: NPY002
        found.append(evaluate([data_test[row] for row in rows]))
    terms = patient_terms(metrics()[name], given, interacts)
    estimator = ten_rounds_with_replacement if replace else ten_rounds_without_replacement
    mean, deviation = estimator(terms.numerator, terms.denominator, 1203)
    if name == "f1":  # 2PR/(P+R) and 2|both|/(|t|+|c|) differ in the last bit
        assert (mean, deviation) == pytest.approx((np.mean(found), np.std(found)), abs=1e-14)
    else:
        assert (mean, deviation) == (np.mean(found), np.std(found))


def test_the_rounds_depend_on_the_seed_alone(interacts):
    terms = patient_terms(metrics()["jaccard"], predictions(), interacts)
    one = ten_rounds_with_replacement(terms.numerator, terms.denominator, 5)
    np.random.seed(0)  # noqa: NPY002  as published
    assert one == ten_rounds_with_replacement(terms.numerator, terms.denominator, 5)
    assert one != ten_rounds_with_replacement(terms.numerator, terms.denominator, 6)
