"""Statistics behind the figures, against plain loops and scikit-learn."""

import itertools

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from medrec.predictions import Predictions
from sweeps.statistics.attainment import attainment, pareto_front
from sweeps.statistics.budget import deviation_of_maximum, expected_maximum
from sweeps.statistics.profiles import profiles
from sweeps.statistics.reliability import (
    curve,
    expected_calibration_error,
    pooled,
    reliability,
)

# ------------------------------------------------------------------ Pareto front and attainment


def beats(one, other) -> bool:
    (gain, cost), (own, own_cost) = one, other
    return gain >= own and cost <= own_cost and (gain > own or cost < own_cost)


@pytest.mark.parametrize("seed", range(20))
def test_the_front_is_what_no_other_point_beats(seed):
    points = np.random.default_rng(seed).integers(0, 6, (12, 2)).astype(float)  # with ties
    expected = [not any(beats(other, own) for other in points) for own in points]
    assert pareto_front(points).tolist() == expected


def test_equal_points_stay_together_and_unknown_ones_count_for_nothing():
    points = np.array([[1.0, 1.0], [1.0, 1.0], [np.nan, 0.0], [2.0, np.nan], [0.5, 2.0]])
    assert pareto_front(points).tolist() == [True, True, False, False, False]
    assert pareto_front(np.zeros((0, 2))).tolist() == []


@pytest.mark.parametrize("seed", range(20))
def test_a_place_is_attained_where_enough_runs_have_a_point_as_good(seed):
    rng = np.random.default_rng(seed)
    runs = [rng.integers(0, 6, (rng.integers(0, 4), 2)).astype(float) for _ in range(5)]
    for least in range(1, 6):
        corners = attainment(runs, least)
        assert (np.diff(corners, axis=0) < 0).all()  # gain falls, and cost with it
        for gain, cost in itertools.product(np.arange(-0.5, 6.5, 0.5), repeat=2):
            count = sum(any(g >= gain and c <= cost for g, c in run) for run in runs)
            inside = any(g >= gain and c <= cost for g, c in corners)
            assert inside == (count >= least), (gain, cost, least)


def test_attainment_of_more_runs_than_there_are_is_nothing_and_of_none_refused():
    one = [np.array([[0.5, 0.1]])]
    assert attainment(one, 2).shape == (0, 2)
    assert attainment([np.array([[np.nan, 0.1]])], 1).shape == (0, 2)
    with pytest.raises(ValueError, match="at least 1"):
        attainment(one, 0)


# ------------------------------------------------------------------ budget


@pytest.mark.parametrize("values", [[0.3], [0.1, 0.4], [0.5, 0.2, 0.9, 0.2], [1.0, 1.0, 1.0]])
def test_the_best_of_draws_is_as_counted_over_all_draws(values):
    every = [
        [max(draw) for draw in itertools.product(values, repeat=m)]
        for m in range(1, len(values) + 1)
    ]
    given = np.array(values)
    assert expected_maximum(given) == pytest.approx([np.mean(found) for found in every])
    assert deviation_of_maximum(given) == pytest.approx(
        [np.std(found) for found in every], abs=1e-12
    )


def test_with_one_draw_it_is_the_mean_and_it_never_falls():
    values = np.random.default_rng(0).random(200)
    found = expected_maximum(values)
    assert found[0] == pytest.approx(values.mean())
    assert (np.diff(found) > 0).all()
    assert found[-1] < values.max()
    assert expected_maximum(np.zeros(0)).shape == (0,)


# ------------------------------------------------------------------ calibration


def predictions(seed: int, visits: int = 400, drugs: int = 9, threshold: float = 0.5):
    rng = np.random.default_rng(seed)
    scores = rng.beta(0.7, 1.5, (visits, drugs)).astype(np.float32)
    truth = rng.random((visits, drugs)) < scores**2
    number = np.arange(visits)
    return Predictions(
        number.astype(np.int32), np.zeros(visits, np.int16), truth, scores >= threshold, scores
    )


@pytest.mark.parametrize("seed", range(5))
def test_bins_are_those_of_scikit_learn(seed):
    given = predictions(seed)
    share, mean = calibration_curve(given.truth.ravel(), given.scores.ravel(), n_bins=10)
    across, up = curve(reliability(given, 0.5))
    np.testing.assert_allclose(across, mean, rtol=1e-6)
    np.testing.assert_allclose(up, share, rtol=1e-12)


def test_counts_of_trials_add_up_to_those_of_all_cells_together():
    one, two = predictions(1), predictions(2)
    both = Predictions(
        *(
            np.concatenate([getattr(one, name), getattr(two, name)])
            for name in ("patient", "visit", "truth", "chosen", "scores")
        )
    )
    together, whole = (
        pooled([reliability(one, 0.5), reliability(two, 0.5)]),
        reliability(both, 0.5),
    )
    np.testing.assert_array_equal(together.cells, whole.cells)
    np.testing.assert_array_equal(together.prescribed, whole.prescribed)
    np.testing.assert_allclose(together.total, whole.total)
    assert whole.cells.sum() == both.scores.size
    assert pooled([]).cells.sum() == 0


def test_the_error_is_the_mean_distance_of_the_cells_bins():
    given = predictions(3)
    scores, truth = given.scores.ravel(), given.truth.ravel()
    expected = 0.0
    for low in range(10):
        inside = (scores >= low / 10) & ((scores < (low + 1) / 10) | (low == 9))
        if inside.any():
            expected += inside.mean() * abs(scores[inside].mean() - truth[inside].mean())
    assert expected_calibration_error(reliability(given, 0.5)) == pytest.approx(expected, abs=1e-6)
    assert np.isnan(expected_calibration_error(pooled([])))


def test_a_score_of_one_is_in_the_last_bin_and_one_that_is_no_number_in_none():
    scores = np.array([[0.0, 1.0, np.nan, 0.95]], dtype=np.float32)
    chosen = np.array([[False, True, False, True]])
    found = reliability(
        Predictions(np.zeros(1, np.int32), np.zeros(1, np.int16), chosen, chosen, scores), 0.5
    )
    assert found.cells.tolist() == [1, *[0] * 8, 2]
    assert found.prescribed.tolist() == [0, *[0] * 8, 2]


def test_scores_are_probabilities_only_where_the_threshold_decides():
    assert reliability(predictions(4), 0.5).cut
    assert not reliability(predictions(4), 0.4).cut
    assert not pooled([reliability(predictions(4), x) for x in (0.5, 0.4)]).cut


# ------------------------------------------------------------------ performance profiles


def fractions(seed: int, arms: int = 2, seeds: int = 3, patients: int = 30):
    rng = np.random.default_rng(seed)
    denominator = (rng.random((arms, 1, patients)) < 0.9) * np.ones((arms, seeds, patients))
    return rng.random((arms, seeds, patients)) * denominator, denominator


def test_the_share_is_counted_over_defined_patients_and_stored_seeds():
    numerator, denominator = fractions(0)
    present = np.array([[True, True, True], [True, False, True]])
    above = np.linspace(0, 1, 11)
    found = profiles(numerator, denominator, present, above, 5)
    for arm, place in itertools.product(range(2), range(11)):
        shares = []
        for seed in np.flatnonzero(present[arm]):
            defined = [p for p in range(30) if denominator[arm, seed, p]]
            over = [p for p in defined if numerator[arm, seed, p] > above[place]]
            shares.append(len(over) / len(defined))
        assert found.share[arm, place] == pytest.approx(np.mean(shares))
    assert (found.low <= found.share + 1e-9).all()
    assert (found.share <= found.high + 1e-9).all()
    assert (np.diff(found.share) <= 0).all()


def test_with_one_seed_the_band_is_that_of_a_share_of_drawn_patients():
    # 2,000 patients, half of them above: binomial, 1.96 standard deviations to either side.
    numerator = np.repeat([[0.2, 0.8]], 1000, axis=0).reshape(1, 1, -1)
    found = profiles(numerator, np.ones_like(numerator), np.ones((1, 1), bool), np.array([0.5]), 1)
    assert found.share[0, 0] == 0.5
    half = 1.96 * np.sqrt(0.25 / 2000)
    assert found.low[0, 0] == pytest.approx(0.5 - half, abs=0.3 * half)
    assert found.high[0, 0] == pytest.approx(0.5 + half, abs=0.3 * half)


def test_an_arm_without_trials_is_unknown_and_the_same_seed_gives_the_same_band():
    numerator, denominator = fractions(1)
    present = np.array([[True, True, False], [False, False, False]])
    above = np.linspace(0, 1, 5)
    one, two = (profiles(numerator, denominator, present, above, 3) for _ in range(2))
    np.testing.assert_array_equal(one.low, two.low)
    assert np.isnan(one.share[1]).all()
    empty = profiles(numerator[..., :0], denominator[..., :0], present, above, 3)
    assert np.isnan(empty.share).all()


def test_scores_of_a_copy_in_half_precision_are_still_probabilities():
    rng = np.random.default_rng(0)
    scores = rng.random((400, 20)).astype(np.float32)
    scores[0] = 0.49999
    chosen = scores >= 0.5
    halved = scores.astype(np.float16).astype(np.float32)
    assert ((halved >= 0.5) != chosen).any()
    visits = np.arange(400)
    given = Predictions(
        visits.astype(np.int32), np.zeros(400, np.int16), scores < 0.3, chosen, halved
    )
    assert reliability(given, 0.5).cut
    chosen[1] = ~chosen[1]
    assert not reliability(given, 0.5).cut
