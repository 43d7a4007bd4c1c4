"""Splits by hand."""

import numpy as np
import pytest

from medrec.errors import ConfigError
from medrec.splits import TEST, TRAIN, VALIDATION, split_patients

PUBLISHED = (2 / 3, 1 / 6, 1 / 6)


def test_sequential_is_train_then_test_then_validation():
    found = split_patients(12, "sequential", 0, PUBLISHED)
    assert found.tolist() == [TRAIN] * 8 + [TEST] * 2 + [VALIDATION] * 2


def test_sequential_takes_each_part_its_share():
    found = split_patients(10, "sequential", 0, (0.5, 0.3, 0.2))
    assert found.tolist() == [TRAIN] * 5 + [TEST] * 2 + [VALIDATION] * 3


def test_random_parts_have_their_sizes():
    found = split_patients(100, "random", 7, (0.6, 0.25, 0.15))
    assert [(found == part).sum() for part in (TRAIN, VALIDATION, TEST)] == [60, 25, 15]


def test_random_is_a_permutation_by_the_seed():
    order = np.random.default_rng(7).permutation(10)
    found = split_patients(10, "random", 7, (0.6, 0.2, 0.2))
    assert set(order[:6]) == set(np.flatnonzero(found == TRAIN))
    assert set(order[6:8]) == set(np.flatnonzero(found == VALIDATION))
    assert np.array_equal(found, split_patients(10, "random", 7, (0.6, 0.2, 0.2)))
    assert not np.array_equal(found, split_patients(10, "random", 8, (0.6, 0.2, 0.2)))


@pytest.mark.parametrize("rule", ["random", "sequential"])
@pytest.mark.parametrize("patients", [3, 4, 7, 50, 1001])
def test_every_patient_is_in_one_part(rule, patients):
    found = split_patients(patients, rule, 0, (0.4, 0.3, 0.3))
    assert len(found) == patients
    assert set(found.tolist()) == {TRAIN, VALIDATION, TEST}


@pytest.mark.parametrize("fractions", [(0.5, 0.5, 0.5), (1.0, 0.0, 0.0), (1.2, -0.1, -0.1)])
def test_wrong_fractions(fractions):
    with pytest.raises(ConfigError, match="`fractions` must be positive and sum to 1"):
        split_patients(10, "random", 0, fractions)


@pytest.mark.parametrize("rule", ["random", "sequential"])
@pytest.mark.parametrize("patients", [0, 1, 2])
def test_too_few_patients(rule, patients):
    with pytest.raises(ConfigError, match=f"{patients} patients cannot be split"):
        split_patients(patients, rule, 0, (0.34, 0.33, 0.33))


def test_published_sizes_of_the_mimic3_cohort():
    """4:1:1 of 6,350 patients; the odd one validates."""
    found = split_patients(6350, "sequential", 0, PUBLISHED)
    assert [(found == part).sum() for part in (TRAIN, TEST, VALIDATION)] == [4233, 1058, 1059]
    assert found.tolist() == [TRAIN] * 4233 + [TEST] * 1058 + [VALIDATION] * 1059


@pytest.mark.parametrize("patients", range(6, 400))
def test_sequential_is_integer_arithmetic(patients):
    """The published code: 2/3 rounded down, then half of the rest rounded down."""
    found = split_patients(patients, "sequential", 0, PUBLISHED)
    train = 2 * patients // 3
    test = (patients - train) // 2
    assert [(found == p).sum() for p in (TRAIN, TEST)] == [train, test]
