"""Logistic regression against scikit-learn on features made here."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression as Estimator
from sklearn.multiclass import OneVsRestClassifier

from medrec import splits, trial
from tests.medrec.small import (
    lists_of,
    make_spec,
    small_cohort,
    small_knowledge,
    to_codes,
    whole_batch,
)


def with_constants(cohort):
    """Drug 8 is given at every visit and drug 9 at none."""
    lists = [sorted({8, *codes} - {9}) for codes in lists_of(cohort, "medications")]
    return replace(cohort, codes={**cohort.codes, "medications": to_codes(lists)})


def features_of(cohort):
    """One row a visit: 1 at each diagnosis, then at each procedure, code by code."""
    diagnoses = lists_of(cohort, "diagnoses")
    procedures = lists_of(cohort, "procedures")
    rows = np.zeros((len(diagnoses), 12 + 6))
    for visit in range(len(rows)):
        for code in diagnoses[visit]:
            rows[visit, code] = 1
        for code in procedures[visit]:
            rows[visit, 12 + code] = 1
    return rows


def training_rows(cohort):
    split = np.repeat(cohort.split, cohort.visits)
    return split == splits.TRAIN


def scores(cohort, **config):
    model = trial.build(make_spec("logistic_regression", config), small_knowledge())
    model.fit(cohort, cohort.members(splits.TRAIN))
    batch = whole_batch(cohort)
    prediction = model.predict(batch, 0.5)
    return prediction.scores[batch.visit_mask], prediction.chosen[batch.visit_mask]


@pytest.mark.parametrize("strength", [0.1, 1.0, 10.0])
def test_scores_equal_scikit_learn(strength):
    cohort = with_constants(small_cohort())
    found, chosen = scores(cohort, inverse_regularisation=strength)
    rows, target = features_of(cohort), cohort.codes["medications"].multi_hot(10).astype(int)
    seen = training_rows(cohort)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of constant labels
        theirs = OneVsRestClassifier(Estimator(C=strength, max_iter=100))
        theirs.fit(rows[seen], target[seen])
    np.testing.assert_allclose(found, theirs.predict_proba(rows), atol=1e-5)
    assert np.array_equal(chosen.numpy(), theirs.predict(rows) == 1)


def test_constant_drugs_are_always_or_never_given():
    found, chosen = scores(with_constants(small_cohort()))
    assert torch.equal(chosen[:, 8], torch.ones(len(chosen), dtype=torch.bool))
    assert not chosen[:, 9].any()
    assert found[:, 8].min() > 1 - 1e-6
    assert found[:, 9].max() < 1e-6


def test_stopping_early_is_silent_and_as_scikit_learn_does_it():
    cohort = small_cohort()
    found, _ = scores(cohort, iterations=2)
    rows, target = features_of(cohort), cohort.codes["medications"].multi_hot(10)
    seen = training_rows(cohort)
    for drug in range(10):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            theirs = Estimator(max_iter=2).fit(rows[seen], target[seen, drug])
        expected = theirs.predict_proba(rows)[:, 1]
        np.testing.assert_allclose(found[:, drug], expected, atol=1e-5)


def test_history_does_not_count():
    cohort = small_cohort()
    model = trial.build(make_spec("logistic_regression"), small_knowledge())
    model.fit(cohort, cohort.members(splits.TRAIN))
    batch = whole_batch()
    swapped = replace(
        batch,
        diagnoses=batch.diagnoses.flip(1),
        procedures=batch.procedures.flip(1),
        medications=batch.medications.flip(1),
    )
    together = model.predict(batch, 0.5).scores.flip(1)
    torch.testing.assert_close(model.predict(swapped, 0.5).scores, together)
