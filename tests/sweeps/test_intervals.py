"""Printed intervals against scipy, and which one is printed."""

import numpy as np
import pytest
import scipy.stats

from sweeps.statistics.bootstrap import crossed_draws
from sweeps.statistics.crossed import crossed_contrasts
from sweeps.statistics.intervals import bootstrap_interval, method, t_interval


def one_arm(values: np.ndarray):
    terms = values[None, None, None]
    ones = np.ones((1, 1), bool)
    draws = crossed_draws(terms, np.ones_like(terms), ones, 20_000, 1)[:, 0, 0]
    return draws, crossed_contrasts(terms, np.ones_like(terms), ones, np.ones((1, 1)))


@pytest.mark.parametrize(("kind", "skewed"), [("percentile", False), ("BCa", True)])
def test_one_arm_of_many_patients_agrees_with_scipy(kind, skewed):
    """With many patients Student's t and the two standard errors are what scipy's are."""
    values = np.random.default_rng(4).exponential(0.2, 2000)
    draws, crossed = one_arm(values)
    found = bootstrap_interval(
        draws,
        float(crossed.estimate[0, 0]),
        float(crossed.error[0, 0]),
        float(crossed.freedom[0, 0]),
        float(crossed.skewness[0, 0]) if skewed else None,
    )
    other = scipy.stats.bootstrap(
        (values,), np.mean, method=kind, n_resamples=20_000, rng=np.random.default_rng(3)
    ).confidence_interval
    width = other.high - other.low
    assert found[0] == pytest.approx(other.low, abs=0.03 * width)
    assert found[1] == pytest.approx(other.high, abs=0.03 * width)


def test_bca_moves_towards_the_long_tail():
    draws, crossed = one_arm(np.random.default_rng(5).exponential(0.2, 400))
    estimate, error = float(crossed.estimate[0, 0]), float(crossed.error[0, 0])
    plain = bootstrap_interval(draws, estimate, error, 399.0)
    moved = bootstrap_interval(draws, estimate, error, 399.0, float(crossed.skewness[0, 0]))
    assert moved[0] > plain[0]
    assert moved[1] > plain[1]


def test_normal_draws_give_students_interval():
    """Whatever their own width, draws bring the shape alone."""
    draws = np.random.default_rng(6).normal(3.0, 7.0, 400_000)
    low, high = bootstrap_interval(draws, 0.2, 0.1, 9.0)
    reach = scipy.stats.t.ppf(0.975, 9) * 0.1
    assert (low, high) == pytest.approx((0.2 - reach, 0.2 + reach), abs=0.003)


def test_the_analytic_interval_of_one_training_is_scipys():
    values = np.random.default_rng(7).normal(0.5, 0.1, 60)
    _, crossed = one_arm(values)
    low, high = t_interval(crossed)
    other = scipy.stats.ttest_1samp(values, 0).confidence_interval()
    assert (low[0, 0], high[0, 0]) == pytest.approx((other.low, other.high), abs=1e-9)


def test_what_does_not_vary_has_no_width():
    assert bootstrap_interval(np.full(100, 0.3), 0.3, 0.0, 5.0) == (0.3, 0.3)


@pytest.mark.parametrize(
    ("seeds", "patients", "freedom", "expected"),
    [
        (5, 1000, 50.0, "percentile"),
        (0, 1000, 999.0, "percentile"),
        (3, 100, 8.0, "percentile"),
        (2, 1000, 50.0, "t"),
        (5, 99, 50.0, "t"),
        (3, 1000, 4.0, "t"),
    ],
)
def test_which_interval_is_printed(seeds, patients, freedom, expected):
    assert method(seeds, patients, freedom) == expected
