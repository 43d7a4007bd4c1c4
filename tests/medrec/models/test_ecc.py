"""Classifier chains beside scikit-learn's."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression as Estimator
from sklearn.multioutput import ClassifierChain

from medrec import light, splits, trial
from medrec.models.ecc import chain_order
from tests.medrec.models.test_logistic_regression import (
    features_of,
    training_rows,
    with_constants,
)
from tests.medrec.small import make_spec, small_cohort, small_knowledge, whole_batch


def fitted(cohort, **config):
    model = trial.build(make_spec("ecc", config), small_knowledge())
    model.fit(cohort, cohort.members(splits.TRAIN))
    return model


def answers(cohort, **config):
    batch = whole_batch(cohort)
    prediction = fitted(cohort, **config).predict(batch, 0.5)
    return prediction.scores[batch.visit_mask].numpy(), prediction.chosen[batch.visit_mask].numpy()


def theirs(cohort, chains, strength):
    """Mean probabilities and mean answers of scikit-learn's chains, constant drugs left out."""
    rows, target = features_of(cohort), cohort.codes["medications"].multi_hot(10)
    seen = training_rows(cohort)
    kept = [drug for drug in range(10) if 0 < target[seen, drug].mean() < 1]
    scores = np.zeros((2, len(rows), 10))
    scores[:, :, target[seen].all(axis=0)] = 1.0
    estimator = Estimator(C=strength, max_iter=10_000, tol=1e-9)
    for state in range(chains):
        chain = ClassifierChain(estimator, order="random", random_state=state)
        chain.fit(rows[seen], target[seen][:, kept].astype(int))
        assert chain.order_.tolist() == chain_order(state, len(kept)).tolist()
        scores[0][:, kept] += chain.predict_proba(rows) / chains
        scores[1][:, kept] += chain.predict(rows) / chains
    return scores


@pytest.mark.parametrize(("chains", "strength"), [(10, 1.0), (3, 10.0), (1, 0.1)])
def test_answers_equal_scikit_learn(chains, strength):
    cohort = with_constants(small_cohort())
    scores, chosen = answers(cohort, chains=chains, inverse_regularisation=strength)
    probable, given = theirs(cohort, chains, strength)
    np.testing.assert_allclose(scores, probable, atol=1e-4)
    assert np.array_equal(chosen, given >= 0.5 - 1e-9)


def test_chains_know_of_the_drugs_before():
    """Otherwise each chain would be the logistic regression, and all chains the same."""
    cohort = small_cohort()
    model = fitted(cohort, chains=2)
    for chain in range(2):
        place = model.order[chain].argsort()
        later = place[:, None] >= place
        assert model.links[chain][later].abs().max() == 0
        assert (model.links[chain][~later].abs() > 0).all()
    assert not torch.equal(model.weights[:, 0], model.weights[:, 1])


def test_more_steps_change_nothing_and_one_is_too_few():
    cohort = small_cohort()
    reached, further, short = (answers(cohort, iterations=n)[0] for n in (50, 500, 1))
    assert np.array_equal(reached, further)
    assert np.abs(reached - short).max() > 1e-2


def test_the_threshold_does_not_apply():
    model, batch = fitted(small_cohort()), whole_batch()
    low, high = (model.predict(batch, level).chosen for level in (0.01, 0.99))
    assert torch.equal(low, high)


def test_settings_are_the_published_ones():
    settings = light.model_facts("ecc").config()
    assert (settings.chains, settings.inverse_regularisation) == (10, 1.0)
