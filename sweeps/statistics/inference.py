"""What is inferred from one set of test visits: arms, differences, families, verdicts.

A family is every arm that is compared with one reference. Verdicts are about the study's primary
metric; the other metrics with a direction are exploratory, with false discovery rates over all of
them together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool

from medrec.measures import Measure
from medrec.metrics._base import Metric
from sweeps.evaluate import Scores
from sweeps.record import Analysis
from sweeps.statistics import families
from sweeps.statistics.comparisons import (
    Contrasts,
    Sample,
    arm_draws,
    beats,
    blanked,
    contrasts,
    differences,
    estimates,
    simultaneous,
)
from sweeps.statistics.intervals import Method
from sweeps.statistics.verdicts import Verdict, detectable, equivalence_p, verdict


@dataclass(frozen=True)
class Value:
    """A number, its interval where it has one, and a mark that stands beside it in print."""

    estimate: float
    low: float | None = None
    high: float | None = None
    mark: str = ""


@dataclass(frozen=True)
class Comparison:
    """An arm against its reference in the primary metric.

    Attributes:
        difference: arm minus reference with the printed interval.
        method: which interval that is.
        analytic: the same with the analytic t interval.
        together: with the interval that holds for the whole family; None without p values.
        relative: difference as a fraction of the reference's estimate; None where that is 0.
        p: two-sided, of the analytic test; None below three seeds.
        p_max_t: corrected for the family by step-down max-T.
        p_holm: corrected by Holm's method.
        p_equivalent: of the two one-sided tests, by Holm's method; None without a margin.
        detectable: smallest true difference found in 80 % of such studies.
        beats: probability that a training of the arm beats one of the reference; None where the
            metric has no direction.
        verdict: None without p values, or where the metric has no direction.
    """

    difference: Value
    method: Method
    analytic: Value
    together: Value | None
    relative: float | None
    p: float | None
    p_max_t: float | None
    p_holm: float | None
    p_equivalent: float | None
    detectable: float | None
    beats: float | None
    verdict: Verdict | None


class Inference:
    """Intervals and tests of one scope; each is worked out when it is first asked for."""

    def __init__(
        self,
        scores: Scores,
        metrics: Mapping[str, Measure],
        references: Sequence[str],
        analysis: Analysis,
        resamples: int,
        seed: int,
    ) -> None:
        """Takes scores and what to do with them.

        Args:
            scores: of one scope.
            metrics: definitions by name.
            references: name of each arm's reference.
            analysis: the study's.
            resamples: number of draws; with 0 there are analytic intervals alone.
            seed: of the draws.
        """
        self.scores = scores
        self.metrics = metrics
        self.analysis = analysis
        self.reference = np.array([scores.arms.index(name) for name in references], dtype=np.int64)
        self.sample = Sample(
            numerator=scores.numerator,
            denominator=scores.denominator,
            present=scores.present,
            seeded=scores.seeded,
            resamples=resamples,
            seed=seed,
        )

    @cached_property
    def _draws(self) -> np.ndarray:
        return arm_draws(self.sample)

    @cached_property
    def estimates(self) -> Contrasts:
        """Every arm by itself."""
        own = [self.metrics[name] for name in self.scores.metrics]
        least = np.array([-np.inf if measure.signed else 0.0 for measure in own])
        most = np.array([measure.most for measure in own])
        return blanked(estimates(self.sample, self._draws, least, most), self._undefined)

    @cached_property
    def differences(self) -> Contrasts:
        """Every arm minus its reference."""
        undefined = self._undefined | self._undefined[:, self.reference]
        return blanked(differences(self.sample, self._draws, self.reference), undefined)

    def contrasts(self, weights: Sequence[Mapping[str, float]]) -> Contrasts:
        """Returns combinations of arms, each a mapping of an arm's name to its weight."""
        matrix = np.zeros((len(weights), len(self.scores.arms)))
        for row, named in zip(matrix, weights, strict=True):
            for arm, weight in named.items():
                row[self.scores.arms.index(arm)] = weight
        undefined = self._undefined.astype(np.float64) @ (matrix != 0).T > 0
        return blanked(contrasts(self.sample, self._draws, matrix), undefined)

    @cached_property
    def _undefined(self) -> Bool[np.ndarray, "metrics arms"]:
        """Which measures no unit of an arm has; a recommender's metric of nothing is 0."""
        own = [isinstance(self.metrics[name], Metric) for name in self.scores.metrics]
        some = np.asarray(self.scores.denominator.any(axis=(2, 3)))
        return ~some & ~np.array(own)[:, None]

    def estimate(self, metric: str, arm: str) -> Value | None:
        """Returns an arm's estimate with its interval; None where no trial is stored."""
        return _value(self.estimates, self._at(metric, arm))

    def difference(self, metric: str, arm: str) -> Value | None:
        """Returns arm minus its reference with its interval; None for a reference itself."""
        at = self._at(metric, arm)
        return None if self.reference[at[1]] == at[1] else _value(self.differences, at)

    def p_value(self, metric: str, arm: str) -> float | None:
        """Returns the p value of a difference, not corrected; None where there is none."""
        return _number(self.differences.p[self._at(metric, arm)])

    def comparison(self, arm: str) -> Comparison | None:
        """Returns the arm's comparison in the primary metric; None without a difference."""
        return self._comparisons.get(arm)

    @cached_property
    def discoveries(self) -> dict[tuple[str, str], float]:
        """False discovery rates by (metric, arm): all directed metrics but the primary one."""
        found = {
            (metric, arm): p
            for metric in self.scores.metrics
            if metric != self.analysis.primary
            and self.metrics[metric].higher_is_better is not None
            for place, arm in enumerate(self.scores.arms)
            if self.reference[place] != place and (p := self.p_value(metric, arm)) is not None
        }
        rates = families.benjamini_hochberg(np.array(list(found.values()), dtype=np.float64))
        return dict(zip(found, rates.tolist(), strict=True))

    @cached_property
    def _comparisons(self) -> dict[str, Comparison]:
        metric = self.scores.metrics.index(self.analysis.primary)
        compared: dict[int, list[int]] = {}
        for arm, reference in enumerate(self.reference.tolist()):
            if arm != reference and not np.isnan(self.differences.estimate[metric, arm]):
                compared.setdefault(reference, []).append(arm)
        found: dict[str, Comparison] = {}
        for family in compared.values():
            found.update(self._family(metric, family))
        return found

    def _family(self, metric: int, family: Sequence[int]) -> dict[str, Comparison]:
        gaps = self.differences
        tested = [arm for arm in family if not np.isnan(gaps.p[metric, arm])]
        p = gaps.p_family[metric, tested]
        by_max_t = families.max_t(p, gaps.draws[:, metric, tested])
        adjusted = dict(zip(tested, by_max_t.tolist(), strict=True))
        by_holm = dict(zip(tested, families.holm(p).tolist(), strict=True))
        together = simultaneous(gaps, metric, tested)
        equivalent: dict[int, float] = {}
        if self.analysis.margin is not None:
            crossed = gaps.crossed
            each = equivalence_p(
                gaps.estimate[metric, tested],
                crossed.error[metric, tested],
                crossed.freedom[metric, tested],
                self.analysis.margin,
            )
            equivalent = dict(zip(tested, families.holm(each).tolist(), strict=True))
        return {
            self.scores.arms[arm]: self._comparison(
                metric,
                arm,
                adjusted.get(arm),
                by_holm.get(arm),
                equivalent.get(arm),
                together.get(arm),
            )
            for arm in family
        }

    def _comparison(
        self,
        metric: int,
        arm: int,
        p_max_t: float | None,
        p_holm: float | None,
        p_equivalent: float | None,
        together: tuple[float, float] | None,
    ) -> Comparison:
        gaps, at = self.differences, (metric, arm)
        estimate = float(gaps.estimate[at])
        higher = self.metrics[self.analysis.primary].higher_is_better
        base = float(self.estimates.estimate[metric, self.reference[arm]])
        judged = None
        if p_max_t is not None and higher is not None:
            judged = verdict(estimate, p_max_t, p_equivalent, higher, self.analysis.margin)
        return Comparison(
            difference=_value(gaps, at) or Value(estimate),
            method=gaps.method[metric][arm],
            analytic=Value(estimate, float(gaps.t_low[at]), float(gaps.t_high[at])),
            together=None if together is None else Value(estimate, *together),
            relative=round(estimate / base, 10) if base else None,
            p=_number(gaps.p[at]),
            p_max_t=p_max_t,
            p_holm=p_holm,
            p_equivalent=p_equivalent,
            detectable=None if p_max_t is None else self._detectable(at),
            beats=None if higher is None else float(self._beats[arm]),
            verdict=judged,
        )

    def _detectable(self, at: tuple[int, int]) -> float:
        crossed = self.differences.crossed
        return float(detectable(crossed.error[at], crossed.freedom[at]))

    @cached_property
    def _beats(self) -> np.ndarray:
        metric = self.scores.metrics.index(self.analysis.primary)
        higher = self.metrics[self.analysis.primary].higher_is_better is not False
        return beats(self.sample, metric, self.reference, higher)

    def _at(self, metric: str, arm: str) -> tuple[int, int]:
        return self.scores.metrics.index(metric), self.scores.arms.index(arm)


def _value(found: Contrasts, at: tuple[int, int]) -> Value | None:
    if np.isnan(found.estimate[at]):
        return None
    estimate = float(found.estimate[at])
    if np.isnan(found.low[at]):  # a single patient has no interval
        return Value(estimate)
    return Value(estimate, float(found.low[at]), float(found.high[at]))


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
