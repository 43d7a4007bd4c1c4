"""The last visit's drugs, and nothing at a first visit."""

import torch

from medrec import light, splits, trial
from tests.medrec.models import reference
from tests.medrec.small import make_spec, small_cohort, small_knowledge, whole_batch


def answer(name):
    cohort = small_cohort()
    model = trial.build(make_spec(name), small_knowledge())
    model.fit(cohort, cohort.members(splits.TRAIN))
    return model.predict(whole_batch(), 0.5)


def test_a_visit_gets_the_drugs_of_the_visit_before_and_a_first_visit_none():
    chosen = answer("nearest").chosen
    for row, patient in enumerate(reference.patients()):
        expected = [set(), *(set(visit[2]) for visit in patient[:-1])]
        for visit, drugs in enumerate(expected):
            assert set(chosen[row, visit].nonzero()[:, 0].tolist()) == drugs


def test_it_differs_from_copy_previous_at_the_first_visit_alone():
    ours, other = answer("nearest"), answer("copy_previous")
    assert torch.equal(ours.scores[:, 1:], other.scores[:, 1:])
    assert torch.equal(ours.chosen[:, 1:], other.chosen[:, 1:])
    assert other.chosen[:, 0].any(dim=1).all()


def test_first_visits_are_ranked_by_training_frequency():
    first = answer("nearest").scores[:, 0]
    torch.testing.assert_close(2 * first, answer("most_popular").scores[:, 0])


def test_the_settings_say_what_a_first_visit_gets():
    assert light.model_facts("nearest").config().first_visit == "nothing"
    assert light.model_facts("copy_previous").config().first_visit == ""
