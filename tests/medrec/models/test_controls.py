"""The controls, counted by hand."""

from collections import Counter

import numpy as np
import pytest
import torch

from medrec import splits, trial
from tests.medrec.models import reference
from tests.medrec.small import make_spec, small_cohort, small_knowledge, whole_batch


def fitted(name):
    cohort = small_cohort()
    model = trial.build(make_spec(name), small_knowledge())
    model.fit(cohort, cohort.members(splits.TRAIN))
    return model


def popularity():
    """Frequencies over training visits, and the most popular drugs, as many as a mean visit."""
    cohort = small_cohort()
    visits = [
        set(visit[2])
        for patient, split in zip(reference.patients(), cohort.split, strict=True)
        if split == splits.TRAIN
        for visit in patient
    ]
    count = Counter(drug for visit in visits for drug in visit)
    size = round(sum(count.values()) / len(visits))
    ranked = sorted(range(10), key=lambda drug: (-count[drug], drug))
    return [count[drug] / len(visits) for drug in range(10)], set(ranked[:size])


def test_most_popular_gives_every_visit_the_same():
    frequency, popular = popularity()
    batch = whole_batch()
    prediction = fitted("most_popular").predict(batch, 0.5)
    for scores, chosen in zip(
        prediction.scores[batch.visit_mask], prediction.chosen[batch.visit_mask], strict=True
    ):
        np.testing.assert_allclose(scores, frequency, atol=1e-6)
        assert set(chosen.nonzero()[:, 0].tolist()) == popular


def test_copy_previous_copies():
    _, popular = popularity()
    prediction = fitted("copy_previous").predict(whole_batch(), 0.5)
    for row, patient in enumerate(reference.patients()):
        expected = [popular, *(set(visit[2]) for visit in patient[:-1])]
        for visit, drugs in enumerate(expected):
            assert set(prediction.chosen[row, visit].nonzero()[:, 0].tolist()) == drugs


def test_copied_drugs_rank_above_all_others_and_by_frequency():
    frequency, _ = popularity()
    scores = fitted("copy_previous").predict(whole_batch(), 0.5).scores
    for row, patient in enumerate(reference.patients()):
        for visit in range(1, len(patient)):
            before = set(patient[visit - 1][2])
            for drug in range(10):
                expected = ((drug in before) + frequency[drug]) / 2
                assert scores[row, visit, drug].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["most_popular", "copy_previous"])
def test_the_threshold_does_not_apply(name):
    model, batch = fitted(name), whole_batch()
    low, high = (model.predict(batch, level).chosen for level in (0.01, 0.99))
    assert torch.equal(low, high)
