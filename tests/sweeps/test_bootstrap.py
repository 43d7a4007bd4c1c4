"""The crossed bootstrap against plain loops, scipy, and a simulation with a known truth."""

import numpy as np
import pytest
import scipy.stats

from sweeps.statistics import bootstrap
from sweeps.statistics.bootstrap import crossed_draws, patient_weights
from sweeps.statistics.comparisons import (
    Sample,
    arm_draws,
    beats,
    contrasts,
    differences,
    estimates,
)


def sample(numerator, denominator, present, resamples=200, seed=0, seeded=None) -> Sample:
    return Sample(
        numerator=numerator,
        denominator=denominator,
        present=present,
        seeded=np.ones(len(present), bool) if seeded is None else np.array(seeded),
        resamples=resamples,
        seed=seed,
    )


def both(own: Sample):
    """Estimates, and differences of every arm to the first."""
    draws = arm_draws(own)
    first = np.zeros(len(own.present), dtype=np.int64)
    return estimates(own, draws), differences(own, draws, first)


def table(rng, metrics=2, arms=3, seeds=3, patients=15):
    numerator = rng.random((metrics, arms, seeds, patients))
    denominator = np.ones_like(numerator)
    denominator[1] = rng.integers(0, 9, denominator[1].shape)
    numerator[1] *= denominator[1]
    return numerator, denominator, np.ones((arms, seeds), dtype=bool)


def test_draws_equal_a_plain_loop_over_the_same_patients_and_seeds():
    numerator, denominator, present = table(np.random.default_rng(0))
    present[1] = [True, False, True]
    present[2] = [True, False, False]
    numerator[:, ~present] = denominator[:, ~present] = 0
    draws = crossed_draws(numerator, denominator, present, 7, seed=5)
    counts = np.concatenate(list(patient_weights(15, 7, 5)))
    for arm in range(3):
        slots = [s for s in range(3) if present[arm, s]]
        size = len(slots)
        rng = np.random.default_rng([5, 1 + arm])
        picks = rng.multinomial(size, [1 / size] * size, size=7) if size > 1 else None
        for metric in range(2):
            for draw in range(7):
                values = []
                for s in slots:
                    people = [p for p in range(15) for _ in range(int(counts[draw, p]))]
                    top = sum(numerator[metric, arm, s, p] for p in people)
                    values.append(top / sum(denominator[metric, arm, s, p] for p in people))
                expected = sum(values) / size
                if size > 1:
                    drawn = [i for i in range(size) for _ in range(picks[draw, i])]
                    deviation = sum(values[i] - expected for i in drawn) / size
                    expected += (size / (size - 1)) ** 0.5 * deviation
                assert draws[draw, metric, arm] == pytest.approx(expected, abs=1e-12)


def test_estimates_and_differences_by_hand():
    numerator = np.array([[[[1.0, 0.0], [0.5, 0.5]], [[1.0, 1.0], [0.0, 0.0]]]])
    present = np.array([[True, True], [True, False]])
    arms, gaps = both(sample(numerator, np.ones_like(numerator), present))
    assert arms.estimate.tolist() == [[0.5, 1.0]]
    assert gaps.estimate.tolist() == [[0.0, 0.5]]


def test_the_number_of_draws_at_a_time_changes_nothing(monkeypatch):
    numerator, denominator, present = table(np.random.default_rng(1))
    whole = crossed_draws(numerator, denominator, present, 50, 3)
    monkeypatch.setattr(bootstrap, "_CHUNK", 7)
    np.testing.assert_allclose(crossed_draws(numerator, denominator, present, 50, 3), whole)


def test_every_draw_has_as_many_patients_as_there_are():
    weights = np.concatenate(list(patient_weights(13, 600, 0)))
    assert weights.shape == (600, 13)
    assert set(weights.sum(axis=1)) == {13.0}
    assert weights.mean() == pytest.approx(1.0)
    assert weights.var(ddof=1) == pytest.approx(12 / 13, rel=0.05)  # multinomial


def test_one_arm_and_one_seed_agree_with_scipy_percentiles():
    values = np.random.default_rng(2).beta(2, 3, 200)
    terms = values[None, None, None]
    draws = crossed_draws(terms, np.ones_like(terms), np.ones((1, 1), bool), 9999, 1)
    other = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=9999, rng=np.random.default_rng(3)
    ).confidence_interval
    low, high = np.quantile(draws[:, 0, 0], [0.025, 0.975])
    assert low == pytest.approx(other.low, abs=0.002)
    assert high == pytest.approx(other.high, abs=0.002)


def test_the_variance_over_seeds_is_the_unbiased_one():
    """Patients that do not differ leave the variance of the mean over seeds: s^2 / K."""
    levels = np.array([0.2, 0.5, 0.6, 0.9])
    terms = np.broadcast_to(levels[:, None], (4, 30))[None, None]
    draws = crossed_draws(terms, np.ones((1, 1, 4, 30)), np.ones((1, 4), bool), 40_000, 0)
    assert draws.var() == pytest.approx(levels.var(ddof=1) / 4, rel=0.02)


def test_an_arm_with_the_reference_arms_trials_differs_by_nothing():
    numerator, denominator, present = table(np.random.default_rng(4), patients=120)
    numerator[:, 2], denominator[:, 2] = numerator[:, 0], denominator[:, 0]
    _, gaps = both(sample(numerator, denominator, present))
    for ends in (gaps.estimate, gaps.low, gaps.high):
        assert not ends[:, [0, 2]].any()
    assert (gaps.high > gaps.low)[:, 1].all()
    assert (gaps.p[:, 2] == 1).all()


def test_arms_with_the_same_trials_count_as_one_in_every_combination():
    numerator, denominator, present = table(np.random.default_rng(10), arms=4, patients=120)
    numerator[:, 3], denominator[:, 3] = numerator[:, 2], denominator[:, 2]
    own = sample(numerator, denominator, present)
    found = contrasts(own, arm_draws(own), np.array([[-0.5, -0.5, 0.5, 0.5], [-0.5, -0.5, 1, 0]]))
    np.testing.assert_array_equal(found.low[:, 0], found.low[:, 1])
    np.testing.assert_array_equal(found.crossed.error[:, 0], found.crossed.error[:, 1])


def test_arms_without_trials_do_not_pass_for_the_same():
    numerator, denominator, present = table(np.random.default_rng(11), patients=120)
    present[1:] = False
    numerator[:, 1:] = denominator[:, 1:] = 0
    own = sample(numerator, denominator, present)
    gaps = differences(own, arm_draws(own), np.array([0, 0, 1]))
    assert np.isnan(gaps.estimate[:, 1:]).all()
    assert np.isnan(gaps.p[:, 1:]).all()


def test_one_patient_has_an_estimate_and_neither_interval_nor_p_value():
    numerator, denominator, present = table(np.random.default_rng(12), patients=1)
    arms, gaps = both(sample(numerator, denominator + 1, present))
    assert np.isfinite(arms.estimate).all()
    for ends in (arms.low, arms.high, gaps.low, gaps.p):
        assert np.isnan(ends[:, 1:]).all()


def test_an_arms_interval_does_not_depend_on_arms_after_it():
    numerator, denominator, present = table(np.random.default_rng(5), patients=120)
    _, three = both(sample(numerator, denominator, present))
    _, two = both(sample(numerator[:, :2], denominator[:, :2], present[:2]))
    np.testing.assert_array_equal(two.low, three.low[:, :2])
    np.testing.assert_array_equal(two.high, three.high[:, :2])


def test_an_arm_without_trials_is_nan_and_no_pairs_at_all_is_zero():
    numerator, denominator, present = table(np.random.default_rng(6))
    present[1] = False
    denominator[1, 0] = numerator[1, 0] = 0  # recommends nothing: no pairs
    arms, gaps = both(sample(numerator, denominator, present, 20))
    assert np.isnan(arms.estimate[:, 1]).all()
    assert np.isnan(gaps.low[:, 1]).all()
    assert np.isnan(gaps.p[:, 1]).all()
    assert arms.estimate[1, 0] == arms.low[1, 0] == arms.high[1, 0] == 0
    arms, _ = both(sample(numerator[..., :0], denominator[..., :0], present, 20))
    assert np.isnan(arms.estimate).all()
    assert np.isnan(arms.low).all()


@pytest.mark.parametrize("trainings", [1, 2])
def test_few_trainings_of_an_arm_that_depends_on_its_seed_have_no_p_value(trainings):
    numerator, denominator, present = table(np.random.default_rng(7), patients=120)
    present[1] = np.arange(3) < trainings
    present[2] = [True, False, False]
    _, gaps = both(sample(numerator, denominator, present, seeded=[True, True, False]))
    assert np.isnan(gaps.p[:, 1]).all()  # its other trainings are not known
    assert not np.isnan(gaps.p[:, 2]).any()  # it has no others
    assert np.isfinite(gaps.low[:, 1]).all()


def test_probability_of_beating_is_the_share_of_draws_and_pairs_of_seeds():
    numerator, denominator, present = table(np.random.default_rng(9), metrics=2, patients=20)
    present[2] = [True, True, False]
    own = sample(numerator, denominator, present, resamples=300, seed=4)
    found = beats(own, 0, np.zeros(3, dtype=np.int64), higher_is_better=True)
    lower = beats(own, 0, np.zeros(3, dtype=np.int64), higher_is_better=False)
    weights = np.concatenate(list(patient_weights(20, 300, 4)))
    for arm in range(3):
        won = []
        for draw in weights:
            for k in np.flatnonzero(present[arm]):
                for other in np.flatnonzero(present[0]):
                    gap = (draw * (numerator[0, arm, k] - numerator[0, 0, other])).sum()
                    won.append(1.0 if gap > 1e-12 else 0.5 if abs(gap) <= 1e-12 else 0.0)
        assert found[arm] == pytest.approx(np.mean(won), abs=1e-9)
    np.testing.assert_allclose(found + lower, 1)
