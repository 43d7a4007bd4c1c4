"""Whether intervals and tests keep their promises, on simulated studies whose truth is known.

A simulated study has arms trained with K seeds each and n test patients. Per patient a metric is

    patient's own level + arm's effect + (arm, seed) + (arm, patient) + (arm, seed, patient)

The Jaccard-like metric is the mean of it. The DDI-like metric is a ratio: patients have numbers of
visits and drugs like recorded cohorts, a rate of their own, and pairs that weigh it. In a third
metric, a hard case, visits and drugs have heavy tails, a fifth of the patients have no
interactions at all, and rates rise with the number of drugs. Sizes of the effects are those of
real comparisons: patients differ by 0.12, an arm suits a patient better or worse by 0.06, one
training differs from the next on a patient by 0.08; trainings differ as a whole by 0 (training
hardly varies), 0.006 (usual) or 0.03 (it varies more than patients do).

Studies are analysed by the code that makes the tables, many at once: each study's arms are arms
of one large sample.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64
from scipy import stats

from sweeps.statistics import families
from sweeps.statistics.comparisons import Contrasts, Sample, arm_draws, differences, estimates
from sweeps.statistics.crossed import crossed_contrasts, t_p_values
from sweeps.statistics.intervals import bootstrap_interval
from sweeps.statistics.legacy import rounds

METRICS = ("Jaccard", "DDI rate", "heavy-tailed DDI rate")
SEED_DEVIATIONS = {"stable": 0.0, "usual": 0.006, "varying": 0.03}
SEEDS, PATIENTS = (3, 5, 10), (100, 300, 1000)
COVERAGE, SIZE, FAMILY_ERROR = (0.93, 0.97), (0.03, 0.07), 0.06
EFFECT = 0.01  # of the arm, where it has one
NOMINAL = 0.05
_LEVEL, _RATE = 0.45, 0.07
_PATIENT, _SUITS, _TRAINING = 0.12, 0.08, 0.08
_RATE_SHARE = 0.25  # DDI rates vary by a quarter of what Jaccard does


@dataclass(frozen=True)
class World:
    """One kind of simulated study.

    Attributes:
        seeds: of every arm.
        patients: of the test split.
        training: how trainings differ, of `SEED_DEVIATIONS`.
        arms: of a study; the first is the reference.
        effect: of every arm but the reference.
        reference: how the reference's trainings differ; `none` if it needs no seed, and None for
            the same as the others.
    """

    seeds: int
    patients: int
    training: str
    arms: int = 2
    effect: float = 0.0
    reference: str | None = None


@dataclass(frozen=True)
class Figures:
    """Shares of simulated studies, for each metric.

    Attributes:
        coverage: printed intervals of differences that hold the truth.
        analytic: analytic intervals of differences that do.
        plain: intervals of the crossed bootstrap without its corrections that do.
        own: printed intervals of arms that do.
        bca: BCa intervals of arms that do.
    """

    coverage: Float64[np.ndarray, " metrics"]
    analytic: Float64[np.ndarray, " metrics"]
    plain: Float64[np.ndarray, " metrics"]
    own: Float64[np.ndarray, " metrics"]
    bca: Float64[np.ndarray, " metrics"]


def simulate(world: World, studies: int, rng: np.random.Generator, resamples: int) -> Sample:
    """Returns that many studies side by side: study s has the arms s * arms, s * arms + 1, ..."""
    moved, fixed = _moved(world, studies, rng), world.reference == "none"
    shape, shared = moved.shape, (studies, 1, 1, world.patients)
    jaccard = _LEVEL + rng.normal(0, _PATIENT, shared) + moved
    visits = 1 + rng.poisson(1.35, shared)
    drugs = np.exp(rng.normal(2.45, 0.35, shared) + rng.normal(0, 0.08, shape))
    rate = _RATE + 0.02 * (rng.gamma(4, 0.5, shared) - 2) + _RATE_SHARE * moved
    many = visits * rng.lognormal(0, 0.6, shared)
    size = np.exp(rng.normal(0, 0.5, shared) + rng.normal(0, 0.08, shape))
    heavy = 1.25 * (rng.random(shared) > 0.2) * size
    pairs = [np.ones(shape), visits * drugs * (drugs - 1) / 2, many * (12 * size) ** 2 / 2]
    rates = [jaccard, rate, _RATE * heavy + _RATE_SHARE * moved]
    flat = (studies * world.arms, world.seeds, world.patients)
    present = np.ones((studies, world.arms, world.seeds), dtype=bool)
    seeded = np.ones((studies, world.arms), dtype=bool)
    if fixed:
        present[:, 0, 1:] = False
        seeded[:, 0] = False
    return Sample(
        numerator=np.stack([(r * p).reshape(flat) for r, p in zip(rates, pairs, strict=True)]),
        denominator=np.stack([p.reshape(flat) for p in pairs]),
        present=present.reshape(flat[:2]),
        seeded=seeded.reshape(-1),
        resamples=resamples,
        seed=0,
    )


def _moved(world: World, studies: int, rng: np.random.Generator) -> np.ndarray:
    """Returns what arms and trainings change [studies, arms, seeds, patients]."""
    shape = (studies, world.arms, world.seeds, world.patients)
    deviation = np.full((1, world.arms, 1, 1), SEED_DEVIATIONS[world.training])
    noise = np.full((1, world.arms, 1, 1), _TRAINING)
    if world.reference == "none":
        deviation[:, 0] = noise[:, 0] = 0.0
    elif world.reference is not None:
        deviation[:, 0] = SEED_DEVIATIONS[world.reference]
    moved = rng.normal(0, _SUITS / np.sqrt(2), (*shape[:2], 1, world.patients))
    moved = moved + noise * rng.normal(0, 1, shape)
    moved += deviation * rng.normal(0, 1, (*shape[:3], 1))
    moved[:, 1:] += world.effect
    return np.asarray(moved)


def truth(world: World) -> Float64[np.ndarray, " metrics"]:
    """Returns the true difference of each metric."""
    return world.effect * np.array([1.0, _RATE_SHARE, _RATE_SHARE])


def levels() -> Float64[np.ndarray, " metrics"]:
    """Returns the true value of each metric for the reference.

    Of the heavy-tailed one it is E[rate * pairs] / E[pairs]; rate and pairs depend on s = size,
    log-normal with variance v: 0.07 * 1.25 * 0.8 * E[s^3] / E[s^2] = 0.07 * exp(2.5 v).
    """
    return np.array([_LEVEL, _RATE, _RATE * np.exp(2.5 * (0.5**2 + 0.08**2))])


def measure(world: World, studies: int, rng: np.random.Generator, resamples: int) -> Figures:
    """Returns how often intervals of the reference and of one difference hold the truth."""
    sample = simulate(world, studies, rng, resamples)
    draws = arm_draws(sample)
    first = np.arange(0, studies * world.arms, world.arms)
    gaps = differences(sample, draws, np.repeat(first, world.arms))
    arms = estimates(sample, draws)
    second, true, level = first + 1, truth(world)[:, None], levels()[:, None]
    plain = np.quantile(draws[:, :, second] - draws[:, :, first], [0.025, 0.975], axis=0)
    return Figures(
        coverage=_share(gaps.low[:, second], true, gaps.high[:, second]),
        analytic=_share(gaps.t_low[:, second], true, gaps.t_high[:, second]),
        plain=_share(plain[0], true, plain[1]),
        own=_share(arms.low[:, first], level, arms.high[:, first]),
        bca=_share(*_bca(arms, first, level)),
    )


def _share(low: np.ndarray, true: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.asarray(((low <= true) & (true <= high)).mean(axis=1))


def _bca(
    found: Contrasts, places: np.ndarray, level: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    crossed = found.crossed
    ends = np.array(
        [
            [
                bootstrap_interval(
                    found.draws[:, metric, place],
                    float(crossed.estimate[metric, place]),
                    float(crossed.error[metric, place]),
                    float(crossed.freedom[metric, place]),
                    float(crossed.skewness[metric, place]),
                )
                for place in places
            ]
            for metric in range(len(METRICS))
        ]
    )
    return ends[..., 0], level, ends[..., 1]


def sizes(world: World, studies: int, rng: np.random.Generator) -> Float64[np.ndarray, " metrics"]:
    """Returns how often the analytic test of a difference rejects at 5 %."""
    sample = simulate(world, studies, rng, resamples=1)
    arms = studies * world.arms
    first = np.arange(0, arms, world.arms)
    rejected = np.zeros(len(METRICS))
    for start in first:
        pair = [start, start + 1]
        found = crossed_contrasts(
            sample.numerator[:, pair],
            sample.denominator[:, pair],
            sample.present[pair],
            np.array([[-1.0, 1.0]]),
        )
        rejected += t_p_values(found)[:, 0] < NOMINAL
    return rejected / studies


def family_errors(
    world: World, studies: int, rng: np.random.Generator, resamples: int
) -> dict[str, float]:
    """Returns the share of studies with a false difference: by max-T, Holm, and uncorrected.

    Every arm is compared with its study's first; none differs. Jaccard-like metric.
    """
    every = simulate(world, studies, rng, resamples)
    sample = replace(every, numerator=every.numerator[:1], denominator=every.denominator[:1])
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
    p = gaps.p_family[0, family]
    return {
        "max-T": families.max_t(p, gaps.draws[:, 0, family]),
        "Holm": families.holm(p),
        "uncorrected": gaps.p[0, family],
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
