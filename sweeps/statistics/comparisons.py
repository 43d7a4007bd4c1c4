"""Every arm and every difference of one set of test visits, with intervals and p values.

One pass: crossed draws of all arms and metrics, the crossed variance of all contrasts, and from
both the printed intervals, the families' adjusted p values and the verdicts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from sweeps.statistics import families
from sweeps.statistics.bootstrap import (
    crossed_draws,
    patient_draws,
    point_estimates,
    same_trials,
)
from sweeps.statistics.crossed import Crossed, crossed_contrasts, t_p_values
from sweeps.statistics.exact import settled
from sweeps.statistics.intervals import (
    FEWEST_SEEDS,
    LEVEL,
    Method,
    bootstrap_interval,
    method,
    t_interval,
)


@dataclass(frozen=True)
class Sample:
    """The numbers that everything is worked out from.

    Attributes:
        numerator: sufficient statistics, as in `medrec.evaluation`.
        denominator: the same.
        present: which trials there are; the others are not used.
        seeded: whether an arm's training depends on the seed.
        resamples: number of draws; with 0 there are analytic intervals alone.
        seed: of the draws; the same seed gives the same numbers.
    """

    numerator: Float64[np.ndarray, "metrics arms seeds patients"]
    denominator: Float64[np.ndarray, "metrics arms seeds patients"]
    present: Bool[np.ndarray, "arms seeds"]
    seeded: Bool[np.ndarray, " arms"]
    resamples: int
    seed: int

    @property
    def patients(self) -> int:
        """How many test patients there are."""
        return int(self.numerator.shape[3])


@dataclass(frozen=True)
class Contrasts:
    """Combinations of arms; NaN where an arm has no trial.

    Attributes:
        estimate: of each metric and contrast.
        low: lower end of the printed 95 % interval.
        high: its upper end.
        method: which interval that is.
        t_low: lower end of the analytic interval.
        t_high: its upper end.
        crossed: standard errors and degrees of freedom.
        p: two-sided p value of the analytic test; NaN where an arm whose training depends on the
            seed has fewer than three trials, since too little is known of its other trainings.
        p_family: the same with cautious degrees of freedom, to be corrected for a family.
        draws: of each contrast.
    """

    estimate: Float64[np.ndarray, "metrics contrasts"]
    low: Float64[np.ndarray, "metrics contrasts"]
    high: Float64[np.ndarray, "metrics contrasts"]
    method: tuple[tuple[Method, ...], ...]
    t_low: Float64[np.ndarray, "metrics contrasts"]
    t_high: Float64[np.ndarray, "metrics contrasts"]
    crossed: Crossed
    p: Float64[np.ndarray, "metrics contrasts"]
    p_family: Float64[np.ndarray, "metrics contrasts"]
    draws: Float64[np.ndarray, "resamples metrics contrasts"]


def arm_draws(sample: Sample) -> Float64[np.ndarray, "resamples metrics arms"]:
    """Returns the crossed draws of every arm's estimates."""
    return crossed_draws(
        sample.numerator, sample.denominator, sample.present, sample.resamples, sample.seed
    )


def estimates(
    sample: Sample,
    draws: Float64[np.ndarray, "resamples metrics arms"],
    least: Float64[np.ndarray, " metrics"] | None = None,
    most: Float64[np.ndarray, " metrics"] | None = None,
) -> Contrasts:
    """Returns every arm by itself.

    Args:
        sample: what there is.
        draws: of the arms' estimates.
        least: smallest value that each metric can have, where intervals are cut off; default: 0.
        most: largest value; default: none.
    """
    found = contrasts(sample, draws, np.eye(sample.present.shape[0]))
    floor = 0.0 if least is None else least[:, None]
    ceiling = np.inf if most is None else most[:, None]
    cut = {name: np.maximum(getattr(found, name), floor) for name in ("low", "t_low")}
    cut |= {name: np.minimum(getattr(found, name), ceiling) for name in ("high", "t_high")}
    return Contrasts(**{**vars(found), **cut})


def blanked(found: Contrasts, undefined: Bool[np.ndarray, "metrics contrasts"]) -> Contrasts:
    """Returns the contrasts, NaN where a metric is not defined of an arm that takes part."""
    names = ("estimate", "low", "high", "t_low", "t_high", "p", "p_family")
    gone = {name: np.where(undefined, np.nan, getattr(found, name)) for name in names}
    return Contrasts(**{**vars(found), **gone})


def differences(
    sample: Sample,
    draws: Float64[np.ndarray, "resamples metrics arms"],
    reference: Int64[np.ndarray, " arms"],
) -> Contrasts:
    """Returns every arm minus its reference; exactly 0 for arms made of the same trials."""
    arms = sample.present.shape[0]
    weights = np.eye(arms)
    weights[np.arange(arms), reference] -= 1
    return contrasts(sample, draws, weights)


def contrasts(
    sample: Sample,
    draws: Float64[np.ndarray, "resamples metrics arms"],
    weights: Float64[np.ndarray, "contrasts arms"],
) -> Contrasts:
    """Returns combinations of arms, with `weights` of each arm."""
    merged = _merged(sample, weights)
    crossed = crossed_contrasts(sample.numerator, sample.denominator, sample.present, merged)
    single = point_estimates(sample.numerator, sample.denominator, sample.present)
    combined = np.stack([_combine(draws, row) for row in merged], axis=-1)
    estimate = np.stack([_combine(single, row) for row in merged], axis=-1)
    names = tuple(
        tuple(
            _method(sample, crossed, metric, place, merged[place] != 0)
            for place in range(len(weights))
        )
        for metric in range(len(estimate))
    )
    t_low, t_high = t_interval(crossed)
    known = zip(*np.nonzero(~np.isnan(estimate)), strict=True)
    low, high = _ends(names, crossed, combined, known)
    few = [too_few_seeds(sample, row != 0) for row in weights]
    p, p_family = t_p_values(crossed), t_p_values(crossed, cautious=True)
    p[:, few] = p_family[:, few] = np.nan
    return Contrasts(
        settled(estimate), low, high, tuple(names), t_low, t_high, crossed, p, p_family, combined
    )


def _merged(sample: Sample, weights: np.ndarray) -> np.ndarray:
    """Returns the weights with those of arms made of the same trials on the first of them.

    Such arms are one arm: counted as two, their trainings would seem to be twice as many.
    """
    if not sample.patients:
        return weights
    out = weights.astype(np.float64)
    there = np.asarray(sample.present.any(axis=1))
    firsts = same_trials(sample.numerator, sample.denominator, sample.present)
    for arm, first in enumerate(firsts):
        if there[arm] and first != arm:
            out[:, first] += out[:, arm]
            out[:, arm] = 0.0
    return out


def _method(sample: Sample, crossed: Crossed, metric: int, place: int, used: np.ndarray) -> Method:
    if not sample.resamples:
        return "t"
    return method(
        fewest_seeds(sample, used),
        sample.patients,
        float(crossed.freedom[metric, place]),
    )


def _ends(
    names: tuple[tuple[Method, ...], ...],
    crossed: Crossed,
    draws: np.ndarray,
    places: Iterable[tuple[int, int]],
    tail: float = (1 - LEVEL) / 2,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ends of intervals; at these places by each one's method, elsewhere analytic."""
    low, high = t_interval(crossed, 1 - 2 * tail)
    for at in places:
        metric, place = at
        if names[metric][place] != "t":
            low[at], high[at] = bootstrap_interval(
                draws[:, metric, place],
                float(crossed.estimate[at]),
                float(crossed.error[at]),
                float(crossed.freedom[at]),
                tail=tail,
            )
    return low, high


def _combine(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns the weighted sum over arms, the last axis; arms without weight may be NaN."""
    total = np.zeros(values.shape[:-1])
    for arm in np.flatnonzero(weights):
        total += values[..., arm] * weights[arm]
    return total


def fewest_seeds(sample: Sample, used: Bool[np.ndarray, " arms"]) -> int:
    """Returns the fewest trials among these arms that have several; 0 if none has."""
    counts = sample.present.sum(axis=1)[used]
    return int(min(counts[counts > 1], default=0))


def too_few_seeds(sample: Sample, used: Bool[np.ndarray, " arms"]) -> bool:
    """Returns whether an arm among these depends on its seed and has fewer than three trials.

    Of two trainings, no test of simulated equal arms kept its level: up to 12 % were rejected.
    """
    counts = sample.present.sum(axis=1)[used]
    return bool((sample.seeded[used] & (counts < FEWEST_SEEDS)).any())


def simultaneous(
    found: Contrasts, metric: int, family: Sequence[int]
) -> dict[int, tuple[float, float]]:
    """Returns intervals that all hold together in 95 % of studies, by contrast of the family."""
    testable = [place for place in family if found.crossed.error[metric, place] > 0]
    if not testable:
        return {}
    score = families.max_t_score(found.draws[:, metric, testable], LEVEL)
    places = [(metric, place) for place in testable]
    tail = families.tail_of(score)
    low, high = _ends(found.method, found.crossed, found.draws, places, tail)
    return {place: (float(low[metric, place]), float(high[metric, place])) for place in testable}


def beats(
    sample: Sample, metric: int, reference: Int64[np.ndarray, " arms"], higher_is_better: bool
) -> Float64[np.ndarray, " arms"]:
    """Returns how probably a training of the arm beats a training of its reference.

    The mean over draws of patients and over pairs of their seeds of (better) + (equal) / 2: the
    probability that Bouthillier et al. (MLSys 2021) compare with. NaN without trials.
    """
    arms = sample.present.shape[0]
    wins, draws = np.zeros(arms), 0
    if not sample.patients:
        return np.full(arms, np.nan)
    one = slice(metric, metric + 1)
    chunks = patient_draws(
        sample.numerator[one], sample.denominator[one], sample.resamples, sample.seed
    )
    for values in chunks:
        draws += len(values)
        for arm in range(arms):
            own = values[:, 0, arm][:, sample.present[arm]]
            other = values[:, 0, reference[arm]][:, sample.present[reference[arm]]]
            if own.shape[1] and other.shape[1]:
                gaps = np.sign(own[:, :, None] - other[:, None, :])
                better = gaps.mean(axis=(1, 2)) * (1 if higher_is_better else -1)
                wins[arm] += (better.sum() + len(values)) / 2
    there = np.asarray(sample.present.any(axis=1))
    return settled(np.where(there & there[reference], wins / max(draws, 1), np.nan))
