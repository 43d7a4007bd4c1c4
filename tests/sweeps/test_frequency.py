"""Quartiles of how common codes are, against loops over the cohort."""

import math
from dataclasses import replace

import numpy as np
import pytest

from medrec import splits
from medrec.cohort import Codes
from sweeps.frequency import NO_QUARTILE, drug_quartiles, training_visits, visit_quartiles
from tests.sweeps import tiny


@pytest.fixture(scope="module")
def cohort():
    return tiny.data().cohort


def visits_of(cohort, kind):
    """Yields patient, split and codes of each visit."""
    row = 0
    for patient, count in enumerate(cohort.visits.tolist()):
        for _ in range(count):
            codes = cohort.codes[kind]
            own = codes.values[codes.offsets[row] : codes.offsets[row + 1]]
            yield patient, cohort.split[patient], own
            row += 1


def seen(cohort, kind, but=None):
    """Counts training visits by code, one by one; without those of one patient."""
    found = dict.fromkeys(range(len(cohort.vocabulary[kind])), 0)
    for patient, split, codes in visits_of(cohort, kind):
        if split == splits.TRAIN and patient != but:
            for code in codes.tolist():
                found[code] += 1
    return found


def quartile(value, among):
    """1 plus how many quartiles of `among` lie below the value."""
    return 1 + sum(value > np.quantile(among, q) for q in (0.25, 0.5, 0.75))


@pytest.mark.parametrize("kind", ["diagnoses", "medications"])
def test_frequencies_count_training_visits_alone(cohort, kind):
    expected = seen(cohort, kind)
    assert training_visits(cohort, kind).tolist() == list(expected.values())
    assert sum(expected.values()) < len(cohort.codes[kind].values)


def test_drug_quartiles_equal_a_loop(cohort):
    counts = list(seen(cohort, "medications").values())
    found = drug_quartiles(cohort).tolist()
    assert found == [quartile(count, counts) for count in counts]
    assert set(found) == {1, 2, 3, 4}


def test_visit_quartiles_equal_a_loop_with_boundaries_of_training_visits(cohort):
    means, training, others = [], [], {}
    for patient, split, codes in visits_of(cohort, "diagnoses"):
        counts = others.setdefault(patient, seen(cohort, "diagnoses", but=patient))
        means.append(sum(math.log(1 + counts[code]) for code in codes.tolist()) / len(codes))
        training += [means[-1]] if split == splits.TRAIN else []
    found = visit_quartiles(cohort)
    assert found.tolist() == [quartile(mean, training) for mean in means]
    rows = np.repeat(cohort.split, cohort.visits) == splits.TRAIN
    parts = np.bincount(found[rows], minlength=5)[1:]
    assert parts.max() - parts.min() <= 2  # quartiles of the training visits are quarters


def test_test_visits_change_no_quartile(cohort):
    """What is common is told by training visits alone."""
    rows = np.repeat(cohort.split, cohort.visits)
    lists = [codes.copy() for *_, codes in visits_of(cohort, "diagnoses")]
    other = next(i for i in np.flatnonzero(rows == splits.TEST) if len(lists[i]) > 1)
    lists[other] = lists[other][:1]
    offsets = np.concatenate([[0], np.cumsum([len(codes) for codes in lists])])
    codes = {**cohort.codes, "diagnoses": Codes(offsets, np.concatenate(lists))}
    found = visit_quartiles(replace(cohort, codes=codes))
    changed = np.flatnonzero(found != visit_quartiles(cohort))
    assert set(changed.tolist()) <= {other}


def test_a_visit_without_diagnoses_has_none(cohort):
    lists = [codes for *_, codes in visits_of(cohort, "diagnoses")]
    lists[0] = lists[0][:0]
    offsets = np.concatenate([[0], np.cumsum([len(codes) for codes in lists])])
    codes = {**cohort.codes, "diagnoses": Codes(offsets, np.concatenate(lists))}
    found = visit_quartiles(replace(cohort, codes=codes))
    assert found[0] == NO_QUARTILE
    assert (found[1:] != NO_QUARTILE).all()


def test_a_cohort_without_training_visits_has_none(cohort):
    nobody = replace(cohort, split=np.full_like(cohort.split, splits.TEST))
    assert set(visit_quartiles(nobody).tolist()) == {NO_QUARTILE}
