"""The crossed bootstrap against plain loops, scipy, and a simulation with a known truth."""

import numpy as np
import pytest
import scipy.stats

from sweeps.statistics import bootstrap
from sweeps.statistics.bootstrap import crossed_draws, crossed_intervals, patient_weights


def to_the_first(present: np.ndarray) -> np.ndarray:
    """Every arm is compared with the first."""
    return np.zeros(len(present), dtype=np.int64)


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
    denominator = np.ones_like(numerator)
    present = np.array([[True, True], [True, False]])
    found = crossed_intervals(numerator, denominator, present, to_the_first(present), 50, 0)
    assert found.estimate.tolist() == [[0.5, 1.0]]
    assert found.difference.tolist() == [[0.0, 0.5]]
    assert found.seeds.tolist() == [2, 1]


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
    found = crossed_intervals(
        terms, np.ones_like(terms), np.ones((1, 1), bool), np.zeros(1, int), 9999, 1
    )
    other = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=9999, rng=np.random.default_rng(3)
    ).confidence_interval
    assert found.low[0, 0] == pytest.approx(other.low, abs=0.002)
    assert found.high[0, 0] == pytest.approx(other.high, abs=0.002)


def test_an_arm_with_the_reference_arms_trials_differs_by_nothing():
    numerator, denominator, present = table(np.random.default_rng(4))
    numerator[:, 2], denominator[:, 2] = numerator[:, 0], denominator[:, 0]
    found = crossed_intervals(numerator, denominator, present, to_the_first(present), 100, 0)
    assert not found.difference[:, [0, 2]].any()
    assert not found.difference_low[:, [0, 2]].any()
    assert not found.difference_high[:, [0, 2]].any()
    assert (found.difference_high > found.difference_low)[:, 1].all()


def test_an_arms_interval_does_not_depend_on_arms_after_it():
    numerator, denominator, present = table(np.random.default_rng(5))
    three = crossed_intervals(numerator, denominator, present, to_the_first(present), 100, 0)
    two = crossed_intervals(
        numerator[:, :2], denominator[:, :2], present[:2], to_the_first(present[:2]), 100, 0
    )
    np.testing.assert_allclose(two.low, three.low[:, :2])
    np.testing.assert_allclose(two.difference_high, three.difference_high[:, :2])


def test_an_arm_without_trials_is_nan_and_no_pairs_at_all_is_zero():
    numerator, denominator, present = table(np.random.default_rng(6))
    present[1] = False
    denominator[1, 0] = numerator[1, 0] = 0  # recommends nothing: no pairs
    found = crossed_intervals(numerator, denominator, present, to_the_first(present), 20, 0)
    assert np.isnan(found.estimate[:, 1]).all()
    assert np.isnan(found.difference_low[:, 1]).all()
    assert found.estimate[1, 0] == found.low[1, 0] == found.high[1, 0] == 0
    empty = crossed_intervals(
        numerator[..., :0], denominator[..., :0], present, to_the_first(present), 20, 0
    )
    assert np.isnan(empty.estimate).all()
    assert np.isnan(empty.low).all()


@pytest.mark.parametrize("seeds", [1, 5])
def test_coverage_of_a_known_difference(seeds):
    """Two equal arms; seeds move an arm's level only where there are several to see it."""
    rng, hits, rounds = np.random.default_rng(8), 0, 200
    for turn in range(rounds):
        person = rng.normal(0, 0.2, 120)
        level = rng.normal(0, 0.02 if seeds > 1 else 0.0, (2, seeds, 1))
        terms = (0.5 + person + level + rng.normal(0, 0.1, (2, seeds, 120)))[None]
        found = crossed_intervals(
            terms, np.ones_like(terms), np.ones((2, seeds), bool), np.zeros(2, int), 400, turn
        )
        hits += found.difference_low[0, 1] <= 0 <= found.difference_high[0, 1]
    assert 0.89 <= hits / rounds <= 0.99
