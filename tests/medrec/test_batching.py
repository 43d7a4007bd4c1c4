"""Batches against plain loops over patients and visits."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from medrec.batching import ResidentCohort, evaluation_batches, training_batches
from medrec.demographics import AGE_BINS
from tests.medrec.models.reference import patients
from tests.medrec.small import small_cohort, to_codes


def codes_of(row, pad):
    return [code for code in row.tolist() if code != pad]


@pytest.mark.parametrize("members", [[0], [4], [3, 1, 0], [23, 4, 3], list(range(24))])
def test_a_batch_holds_its_patients(members):
    batch = ResidentCohort(small_cohort()).gather(torch.tensor(members))
    expected = [patients()[p] for p in members]
    assert batch.patients.tolist() == members
    assert batch.visit_mask.shape == (len(members), max(map(len, expected)))
    for row, visits in enumerate(expected):
        mask = [t < len(visits) for t in range(batch.visit_mask.shape[1])]
        assert batch.visit_mask[row].tolist() == mask
        for t, exists in enumerate(mask):
            diagnoses, procedures, medications = visits[t] if exists else ([], [], [])
            assert codes_of(batch.diagnoses[row, t], 12) == diagnoses
            assert codes_of(batch.procedures[row, t], 6) == procedures
            assert batch.medications[row, t].nonzero()[:, 0].tolist() == medications


def test_padding_is_at_the_end_and_no_wider_than_needed():
    batch = ResidentCohort(small_cohort()).gather(torch.arange(24))
    for codes, pad in ((batch.diagnoses, 12), (batch.procedures, 6)):
        real = codes != pad
        assert (real[..., 1:] <= real[..., :-1]).all()
        assert real.sum(dim=2).max() == codes.shape[2]


def test_demographics_stand_beside_the_codes():
    known = small_cohort()
    age = known.age.copy()
    age[[0, 3]] = -1, 93  # patient 0 has visits 0 and 1, patient 2 visits 3 to 5
    cohort = replace(known, age=age)
    batch = ResidentCohort(cohort).gather(torch.tensor([2, 0]))
    assert batch.gender.tolist() == [cohort.gender[2], cohort.gender[0]]
    assert batch.group.tolist() == [cohort.group[2], cohort.group[0]]
    labels = [[(*AGE_BINS, "unknown")[i] for i in row] for row in batch.age.tolist()]
    assert labels == [["90+", "40-44", "40-44"], ["unknown", "40-44", "unknown"]]


def test_previous_are_the_medications_of_the_visit_before():
    batch = ResidentCohort(small_cohort()).gather(torch.arange(24))
    assert batch.previous.shape == batch.medications.shape
    assert batch.previous[:, 0].abs().max() == 0
    assert torch.equal(batch.previous[:, 1:], batch.medications[:, :-1])


def test_a_cohort_without_any_procedure():
    cohort = small_cohort()
    none = replace(
        cohort,
        vocabulary={**cohort.vocabulary, "procedures": ()},
        codes={**cohort.codes, "procedures": to_codes([[]] * 63)},
    )
    batch = ResidentCohort(none).gather(torch.tensor([0, 3]))
    assert batch.procedures.shape == (2, 5, 1)
    assert (batch.procedures == 0).all()  # the padding code, as the vocabulary is empty


def test_the_cohort_is_not_shared_with_its_tensors():
    cohort = small_cohort()
    ResidentCohort(cohort).visits.fill_(1)
    assert cohort.visits.max() == 5


MEMBERS = np.array([1, 4, 5, 9, 11, 12, 17, 20, 23])
COUNTS = small_cohort().visits[MEMBERS]


@pytest.mark.parametrize("size", [1, 2, 4, 9, 100])
def test_training_batches_have_each_patient_once(size):
    found = list(training_batches(MEMBERS, COUNTS, size, np.random.default_rng(0)))
    assert sorted(p for batch in found for p in batch.tolist()) == MEMBERS.tolist()
    assert max(len(batch) for batch in found) <= size
    assert len(found) == -(-len(MEMBERS) // size)


def test_training_batches_have_similar_histories():
    visits = small_cohort().visits
    everyone = np.arange(24)
    found = list(training_batches(everyone, visits, 6, np.random.default_rng(0)))
    spans = sorted((visits[b.numpy()].min(), visits[b.numpy()].max()) for b in found)
    assert all(one[1] <= two[0] for one, two in pairwise(spans))


def test_training_batches_follow_their_generator():
    def drawn(seed):
        rng = np.random.default_rng(seed)
        return [b.tolist() for b in training_batches(np.arange(24), small_cohort().visits, 5, rng)]

    assert drawn(1) == drawn(1)
    assert len({str(drawn(seed)) for seed in range(10)}) == 10


@pytest.mark.parametrize("size", [1, 4, 256])
def test_evaluation_batches_have_each_patient_once_shortest_first(size):
    found = list(evaluation_batches(MEMBERS, COUNTS, size))
    order = [p for batch in found for p in batch.tolist()]
    assert sorted(order) == MEMBERS.tolist()
    lengths = small_cohort().visits[order]
    assert (np.diff(lengths) >= 0).all()
