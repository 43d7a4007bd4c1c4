"""The crossed variance against a plain analysis of variance and textbook t tests."""

import numpy as np
import pytest
from scipy import stats

from sweeps.statistics.crossed import (
    contributions,
    crossed_contrasts,
    t_p_values,
)
from sweeps.statistics.exact import exact, settled


def study(seed=0, arms=2, seeds=4, patients=30):
    rng = np.random.default_rng(seed)
    values = rng.normal(0.5, 0.1, patients) + rng.normal(0, 0.05, (arms, seeds, patients))
    return values + rng.normal(0, 0.03, (arms, seeds, 1))


def contrast(values, weights, present=None):
    terms = values[None]
    there = np.ones(values.shape[:2], bool) if present is None else present
    return crossed_contrasts(terms, np.ones_like(terms), there, np.array([weights], float))


def test_the_variance_equals_a_plain_two_way_analysis_of_variance():
    values = study()
    arms, seeds, patients = values.shape
    variance, doubt = 0.0, 0.0
    gap = [
        sum(values[0, k, i] for k in range(seeds)) / seeds
        - sum(values[1, k, i] for k in range(seeds)) / seeds
        for i in range(patients)
    ]
    middle = sum(gap) / patients
    people = sum((g - middle) ** 2 for g in gap) / (patients - 1) / patients
    doubt += people**2 / (patients - 1)
    training = 0.0
    for arm in range(arms):
        grand = values[arm].mean()
        by_seed = [values[arm, k].mean() for k in range(seeds)]
        by_patient = [values[arm, :, i].mean() for i in range(patients)]
        between = sum((m - grand) ** 2 for m in by_seed) / (seeds - 1) / seeds
        rest = 0.0
        for k in range(seeds):
            for i in range(patients):
                rest += (values[arm, k, i] - by_seed[k] - by_patient[i] + grand) ** 2
        rest /= (seeds - 1) * (patients - 1) * seeds * patients
        training += between - rest
        doubt += between**2 / (seeds - 1) + rest**2 / ((seeds - 1) * (patients - 1))
    variance = people + max(training, 0.0)
    found = contrast(values, [1, -1])
    assert found.estimate[0, 0] == pytest.approx(middle, abs=1e-9)
    assert found.error[0, 0] == pytest.approx(variance**0.5, abs=1e-9)
    assert found.freedom[0, 0] == pytest.approx(variance**2 / doubt, rel=1e-6)


def test_without_seeds_it_is_the_paired_t_test():
    values = study(seeds=1)
    found = contrast(values, [1, -1])
    other = stats.ttest_rel(values[0, 0], values[1, 0])
    assert t_p_values(found)[0, 0] == pytest.approx(other.pvalue, abs=1e-9)
    assert found.freedom[0, 0] == pytest.approx(29)


def test_where_patients_are_alike_it_is_welchs_t_test_over_seeds():
    levels = np.array([[0.51, 0.48, 0.55], [0.40, 0.47, 0.43]])
    values = np.broadcast_to(levels[:, :, None], (2, 3, 50))
    found = contrast(values, [1, -1])
    other = stats.ttest_ind(*levels, equal_var=False)
    assert t_p_values(found)[0, 0] == pytest.approx(other.pvalue, abs=1e-6)
    assert found.freedom[0, 0] == pytest.approx(other.df, rel=1e-6)


def test_where_one_arm_alone_was_trained_its_variance_counts_as_its_median_says():
    """Patients alike, the reference without seeds: freedom is K - 1 whatever the factor."""
    levels = np.array([[0.5, 0.5, 0.5], [0.40, 0.47, 0.43]])
    values = np.broadcast_to(levels[:, :, None], (2, 3, 50)).copy()
    values += np.random.default_rng(4).normal(0, 0.1, 50)  # the same for every arm and seed
    present = np.array([[True, False, False], [True] * 3])
    found = contrast(values, [1, -1], present)
    assert found.freedom[0, 0] == pytest.approx(2, rel=1e-6)
    values[1] += np.random.default_rng(5).normal(0, 0.1, 50)
    mixed = contrast(values, [1, -1], present)
    people = (values[0, 0] - values[1].mean(axis=0)).var(ddof=1) / 50
    seeds = levels[1].var(ddof=1) / 3 * 2 / stats.chi2.median(2)
    expected = (people + seeds) ** 2 / (people**2 / 49 + seeds**2 / 2)
    assert mixed.freedom[0, 0] == pytest.approx(expected, rel=1e-6)


def test_arms_may_have_different_numbers_of_seeds():
    values = study()
    present = np.array([[True, True, False, False], [True] * 4])
    found = contrast(values, [1, -1], present)
    expected = values[0, :2].mean() - values[1].mean()
    assert found.estimate[0, 0] == pytest.approx(expected, abs=1e-9)


def test_a_combination_of_four_arms():
    values = study(arms=4)
    found = contrast(values, [0.5, -0.5, -0.5, 0.5])
    means = values.mean(axis=(1, 2))
    expected = (means[0] - means[1] - means[2] + means[3]) / 2
    assert found.estimate[0, 0] == pytest.approx(expected, abs=1e-9)
    assert found.error[0, 0] > 0


def test_contributions_average_to_the_ratio_and_match_the_jackknife():
    rng = np.random.default_rng(1)
    below = rng.integers(0, 60, 40).astype(float)
    above = below * rng.random(40)
    own = contributions(above[None], below[None])[0]
    ratio = above.sum() / below.sum()
    assert own.mean() == pytest.approx(ratio, abs=1e-12)
    left_out = [(above.sum() - a) / (below.sum() - b) for a, b in zip(above, below, strict=True)]
    jackknife = (len(above) - 1) / len(above) * np.var(left_out) * len(above)
    assert own.var(ddof=1) / len(own) == pytest.approx(jackknife, rel=0.1)


def test_skewness_is_that_of_the_mean():
    values = np.random.default_rng(2).exponential(1, (1, 1, 200))
    found = contrast(values, [1])
    person = values[0, 0]
    assert found.skewness[0, 0] == pytest.approx(stats.skew(person) / 200**0.5, rel=0.02)


def test_no_patients_and_no_trials_are_nan():
    found = contrast(study()[..., :0], [1, -1])
    assert np.isnan(found.estimate).all()
    present = np.array([[True] * 4, [False] * 4])
    assert np.isnan(contrast(study(), [1, -1], present).estimate).all()


def test_sums_are_exact_in_any_order():
    rng = np.random.default_rng(3)
    values = exact(rng.random(997))
    assert np.abs(values - np.random.default_rng(3).random(997)).max() < 1e-12
    weights = rng.multinomial(997, np.full(997, 1 / 997)).astype(float)
    order = rng.permutation(997)
    forwards = sum((weights * values).tolist())
    assert forwards == sum((weights * values)[order].tolist()) == float(weights @ values)
    assert sum(rng.random(997).tolist()) != pytest.approx(0)


def test_whole_numbers_stay_what_they_are():
    counts = np.arange(2000.0)
    np.testing.assert_array_equal(exact(counts), counts)
    np.testing.assert_array_equal(exact(np.zeros(3)), np.zeros(3))


def test_settled_hides_the_last_bits():
    value = np.array([0.1 + 0.2])
    assert settled(value) == settled(np.array([0.3])) != value
