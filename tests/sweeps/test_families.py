"""Corrections for several comparisons against statsmodels and by hand."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from sweeps.statistics.families import (
    benjamini_hochberg,
    holm,
    max_t,
    max_t_score,
    normal_scores,
)
from sweeps.statistics.verdicts import detectable, equivalence_p, verdict


@pytest.mark.parametrize("seed", range(5))
def test_holm_and_benjamini_hochberg_equal_statsmodels(seed):
    p = np.random.default_rng(seed).random(12) ** 3
    p[3] = p[7]
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1], atol=1e-9)
    np.testing.assert_allclose(
        benjamini_hochberg(p), multipletests(p, method="fdr_bh")[1], atol=1e-9
    )


def test_nothing_to_correct():
    none = np.zeros(0)
    assert len(holm(none)) == len(benjamini_hochberg(none)) == 0
    assert len(max_t(none, np.zeros((10, 0)))) == 0


def test_one_comparison_needs_no_correction():
    draws = np.random.default_rng(0).normal(size=(500, 1))
    assert max_t(np.array([0.0123]), draws).tolist() == [0.0123]


def test_independent_comparisons_are_corrected_as_sidak_steps_down():
    p = np.array([0.03, 0.004, 0.4, 0.02])
    draws = np.random.default_rng(1).normal(size=(60_000, 4))
    expected = multipletests(p, method="holm-sidak")[1]
    np.testing.assert_allclose(max_t(p, draws), expected, atol=0.006)


def test_comparisons_that_are_one_need_no_correction():
    """Three arms that move together are one comparison: the correction knows by the draws."""
    one = np.random.default_rng(2).normal(size=(60_000, 1))
    draws = np.repeat(one, 3, axis=1) * [1.0, 2.0, 0.5]
    p = np.full(3, 0.04)
    np.testing.assert_allclose(max_t(p, draws), 0.04, atol=0.003)
    assert holm(p).tolist() == pytest.approx([0.12] * 3)


def test_no_correction_makes_a_p_value_smaller_or_out_of_order():
    rng = np.random.default_rng(3)
    draws = rng.normal(size=(2000, 6)) @ rng.normal(size=(6, 6))
    p = rng.random(6) ** 2
    found = max_t(p, draws)
    assert (found >= p).all()
    assert (np.diff(found[np.argsort(p)]) >= 0).all()


def test_draws_count_by_rank_not_by_scale():
    draws = np.random.default_rng(4).normal(size=(999, 2))
    np.testing.assert_allclose(normal_scores(draws), normal_scores(draws**3 * 5), atol=1e-12)


def test_the_familys_score_is_a_quantile_of_the_largest():
    draws = np.random.default_rng(5).normal(size=(200_000, 5))
    exact = stats.norm.ppf((1 + 0.95 ** (1 / 5)) / 2)
    assert max_t_score(draws, 0.95) == pytest.approx(exact, abs=0.02)


def test_two_one_sided_tests_by_scipy():
    gaps = np.random.default_rng(6).normal(0.001, 0.02, 80)
    error, margin = gaps.std(ddof=1) / 80**0.5, 0.006
    below = stats.ttest_1samp(gaps, -margin, alternative="greater").pvalue
    above = stats.ttest_1samp(gaps, margin, alternative="less").pvalue
    found = equivalence_p(np.array(gaps.mean()), np.array(error), np.array(79.0), margin)
    assert float(found) == pytest.approx(max(below, above), abs=1e-9)


def test_arms_that_are_the_same_are_equivalent():
    zero = np.zeros(1)
    assert equivalence_p(zero, zero, np.ones(1), 0.01).tolist() == [0.0]
    assert equivalence_p(np.array([0.02]), zero, np.ones(1), 0.01).tolist() == [1.0]


@pytest.mark.parametrize(
    ("estimate", "p", "same", "higher", "word", "text"),
    [
        (-0.02, 0.01, 0.9, True, "hurts", "hurts"),
        (0.02, 0.01, 0.9, True, "helps", "helps"),
        (0.02, 0.01, 0.9, False, "hurts", "hurts"),
        (-0.001, 0.4, 0.01, True, "equivalent", "equivalent within ±0.005"),
        (-0.001, 0.4, 0.2, True, "undecided", "undecided"),
        (-0.001, 0.4, None, True, "undecided", "undecided"),
        (-0.002, 0.01, 0.01, True, "hurts", "hurts, by less than 0.005"),
        (-0.02, 0.05, 0.05, True, "undecided", "undecided"),
    ],
)
def test_verdicts(estimate, p, same, higher, word, text):
    found = verdict(estimate, p, same, higher, 0.005)
    assert (found.word, found.text) == (word, text)


def test_the_detectable_difference_is_found_in_four_of_five_studies():
    rng, n = np.random.default_rng(7), 40
    size = float(detectable(np.array(1 / n**0.5), np.array(n - 1.0)))
    samples = rng.normal(size, 1, (20_000, n))
    found = stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.015)
