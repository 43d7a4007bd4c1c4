"""Whether intervals and tests keep their promises, on simulated studies whose truth is known.

A simulated study has arms trained with K seeds each and n test patients. Per patient a metric is

    patient's own level + arm's effect + (arm, seed) + (arm, patient) + (arm, seed, patient)

The Jaccard-like metric is the mean of it. The DDI-like metric is a ratio: patients have numbers of
visits and drugs like recorded cohorts, a rate of their own, and pairs that weigh it. Sizes of the
effects are those of real comparisons: patients differ by 0.12, an arm suits a patient better or
worse by 0.06, one training differs from the next on a patient by 0.08; trainings differ as a
whole by 0 (training hardly varies), 0.006 (usual) or 0.03 (it varies more than patients do).

Studies are analysed by the code that makes the tables, many at once: each study's arms are arms
of one large sample.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64
from scipy import stats

from sweeps.statistics import families
from sweeps.statistics.comparisons import (
    Contrasts,
    Sample,
    arm_draws,
    differences,
    estimates,
)
from sweeps.statistics.legacy import rounds

SEED_DEVIATIONS = {"stable": 0.0, "usual": 0.006, "varying": 0.03}
SEEDS, PATIENTS = (3, 5, 10), (100, 300, 1000)
COVERAGE, SIZE, FAMILY_ERROR = (0.93, 0.97), (0.03, 0.07), 0.06
EFFECT = 0.01  # of the arm, where it has one
LEVELS = (0.45, 0.07)  # true Jaccard and DDI rate
_PATIENT, _SUITS, _TRAINING = 0.12, 0.08, 0.08
_RATE, _RATE_SHARE = 0.02, 0.25  # DDI rates vary by a quarter of what Jaccard does
NOMINAL = 0.05


@dataclass(frozen=True)
class World:
    """One kind of simulated study."""

    seeds: int
    patients: int
    training: str  # of SEED_DEVIATIONS
    arms: int = 2
    effect: float = 0.0  # of every arm but each study's first


@dataclass(frozen=True)
class Figures:
    """Shares of simulated studies, for the Jaccard-like and the DDI-like metric.

    Attributes:
        studies: how many were simulated.
        coverage: printed intervals of differences that hold the truth.
        analytic: analytic intervals of differences that do.
        own: printed intervals of arms that do.
        plain: intervals of the crossed bootstrap without its corrections that do.
        size: tests of no difference that reject at 5 %.
    """

    studies: int
    coverage: Float64[np.ndarray, " metrics"]
    analytic: Float64[np.ndarray, " metrics"]
    own: Float64[np.ndarray, " metrics"]
    plain: Float64[np.ndarray, " metrics"]
    size: Float64[np.ndarray, " metrics"]


def simulate(world: World, studies: int, rng: np.random.Generator, resamples: int) -> Sample:
    """Returns that many studies side by side: study s has the arms s * arms, s * arms + 1, ..."""
    shape = (studies, world.arms, world.seeds, world.patients)
    deviation = SEED_DEVIATIONS[world.training]
    shared = (studies, 1, 1, world.patients)
    moved = rng.normal(0, _SUITS / np.sqrt(2), (studies, world.arms, 1, world.patients))
    moved = moved + rng.normal(0, _TRAINING, shape)
    moved += rng.normal(0, deviation, (*shape[:3], 1))
    moved[:, 1:] += world.effect
    jaccard = LEVELS[0] + rng.normal(0, _PATIENT, shared) + moved
    visits = 1 + rng.poisson(1.35, shared)
    drugs = np.exp(rng.normal(2.45, 0.35, shared) + rng.normal(0, 0.08, shape))
    pairs = visits * drugs * (drugs - 1) / 2
    rate = LEVELS[1] + _RATE * (rng.gamma(4, 0.5, shared) - 2) + _RATE_SHARE * moved
    flat = (studies * world.arms, world.seeds, world.patients)
    return Sample(
        numerator=np.stack([jaccard.reshape(flat), (rate * pairs).reshape(flat)]),
        denominator=np.stack([np.ones(flat), pairs.reshape(flat)]),
        present=np.ones(flat[:2], dtype=bool),
        seeded=np.ones(flat[0], dtype=bool),
        pooled=np.array([False, True]),
        resamples=resamples,
        seed=0,
    )


def truth(world: World) -> Float64[np.ndarray, " metrics"]:
    """Returns the true difference of each metric."""
    return world.effect * np.array([1.0, _RATE_SHARE])


def measure(world: World, studies: int, rng: np.random.Generator, resamples: int) -> Figures:
    """Returns how often what is promised of one comparison holds."""
    sample = simulate(world, studies, rng, resamples)
    draws = arm_draws(sample)
    first = np.arange(0, studies * world.arms, world.arms)
    gaps = differences(sample, draws, np.repeat(first, world.arms))
    arms = estimates(sample, draws)
    second, true = first + 1, truth(world)[:, None]
    plain = np.quantile(draws[:, :, second] - draws[:, :, first], [0.025, 0.975], axis=0)
    level = np.array(LEVELS)[:, None]
    return Figures(
        studies=studies,
        coverage=_share(gaps.low[:, second], true, gaps.high[:, second]),
        analytic=_share(gaps.t_low[:, second], true, gaps.t_high[:, second]),
        own=_share(arms.low[:, first], level, arms.high[:, first]),
        plain=_share(plain[0], true, plain[1]),
        size=(gaps.p[:, second] < NOMINAL).mean(axis=1),
    )


def _share(low: np.ndarray, true: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.asarray(((low <= true) & (true <= high)).mean(axis=1))


def family_errors(
    world: World, studies: int, rng: np.random.Generator, resamples: int
) -> dict[str, float]:
    """Returns the share of studies with a false difference: by max-T, Holm, and uncorrected.

    Every arm is compared with its study's first; none differs. Jaccard-like metric.
    """
    both = simulate(world, studies, rng, resamples)
    sample = replace(
        both,
        numerator=both.numerator[:1],
        denominator=both.denominator[:1],
        pooled=both.pooled[:1],
    )
    draws = arm_draws(sample)
    first = np.arange(0, studies * world.arms, world.arms)
    gaps = differences(sample, draws, np.repeat(first, world.arms))
    wrong = {"max-T": 0, "Holm": 0, "uncorrected": 0}
    for start in first:
        family = list(range(start + 1, start + world.arms))
        for name, p in _corrected(gaps, family).items():
            wrong[name] += bool((p < NOMINAL).any())
    return {name: count / studies for name, count in wrong.items()}


def _corrected(gaps: Contrasts, family: list[int]) -> dict[str, np.ndarray]:
    p = gaps.p[0, family]
    return {
        "max-T": families.max_t(p, gaps.draws[:, 0, family]),
        "Holm": families.holm(p),
        "uncorrected": p,
    }


def legacy_size(world: World, studies: int, rng: np.random.Generator, replace: bool) -> float:
    """Returns how often the field's comparison finds a difference between equal arms.

    One training an arm, ten rounds of 80 % of the patients each, and Welch's t test on the two
    times ten means.
    """
    sample = simulate(world, studies, rng, resamples=1)
    found = 0
    for study in range(studies):
        one, other = (
            rounds(
                sample.numerator[0, study * world.arms + arm, 0],
                sample.denominator[0, study * world.arms + arm, 0],
                int(rng.integers(2**31)),
                replace,
            )
            for arm in (0, 1)
        )
        found += bool(stats.ttest_ind(one, other, equal_var=False).pvalue < NOMINAL)
    return found / studies
