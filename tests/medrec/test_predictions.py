"""Selecting visits of predictions."""

import jaxtyping
import numpy as np
import pytest

from medrec.predictions import Predictions


@pytest.fixture
def predictions():
    return Predictions(
        patient=np.array([2, 2, 5, 9, 9, 9], np.int32),
        visit=np.array([0, 1, 0, 0, 1, 2], np.int16),
        truth=np.eye(6, 4, dtype=bool),
        chosen=~np.eye(6, 4, dtype=bool),
        scores=np.arange(24, dtype=np.float32).reshape(6, 4) / 24,
    )


def test_select_takes_every_column(predictions):
    rows = np.array([True, False, False, True, False, True])
    found = predictions.select(rows)
    assert found.patient.tolist() == [2, 9, 9]
    assert found.visit.tolist() == [0, 0, 2]
    for name in ("truth", "chosen", "scores"):
        assert np.array_equal(getattr(found, name), getattr(predictions, name)[[0, 3, 5]])


def test_select_takes_rows_in_any_order(predictions):
    found = predictions.select(np.array([5, 0, 5]))
    assert found.patient.tolist() == [9, 2, 9]
    assert np.array_equal(found.scores, predictions.scores[[5, 0, 5]])


def test_transitions_are_all_but_first_visits(predictions):
    found = predictions.transitions()
    assert list(zip(found.patient.tolist(), found.visit.tolist(), strict=True)) == [
        (2, 1),
        (9, 1),
        (9, 2),
    ]


def test_columns_of_different_lengths_are_refused(predictions):
    with pytest.raises(jaxtyping.TypeCheckError):
        Predictions(
            predictions.patient[:3],
            predictions.visit,
            predictions.truth,
            predictions.chosen,
            predictions.scores,
        )
