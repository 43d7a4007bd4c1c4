"""Everything tables, figures and the report read, gathered once from the results directory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from medrec.evaluation import metrics
from medrec.metrics._base import Metric
from sweeps.evaluate import ROWS, Scope, Scores, evaluate_scopes
from sweeps.record import Arm, StudyRecord
from sweeps.services import Rows, service_rows
from sweeps.statistics.bootstrap import Intervals, crossed_intervals
from sweeps.store import ResultsStore

SERVICE = "service "
"""What the scope of a service begins with; its name follows."""


@dataclass(frozen=True)
class Value:
    """A number, and its interval where it has one."""

    estimate: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class StudyResults:
    """A study's record and what its stored trials say.

    Attributes:
        record: `study.json`.
        metrics: definition of each metric by name.
        scores: by scope.
        intervals: by scope.
        summaries: `trial.json` of each stored trial of an arm, by key.
        histories: columns by epoch of each stored trial of an arm, by key.
        searches: records of each search by its name, in order of their number.
        failures: reason and attempts of failed trials, by key.
        services: scope of each block of the table by service, in order; none where the cohort has
            one service only, or the directory does not say.
    """

    record: StudyRecord
    metrics: Mapping[str, Metric]
    scores: Mapping[Scope, Scores]
    intervals: Mapping[Scope, Intervals]
    summaries: Mapping[str, dict[str, Any]]
    histories: Mapping[str, dict[str, list[float]]]
    searches: Mapping[str, list[dict[str, Any]]]
    failures: Mapping[str, dict[str, Any]]
    services: tuple[Scope, ...] = ()

    def arm(self, name: str) -> Arm:
        """Returns the arm of that name."""
        return next(arm for arm in self.record.arms if arm.name == name)

    def reference(self, arm: str) -> Arm:
        """Returns what an arm is compared with: an ablation with its full model."""
        return self.arm(reference_name(self.record, self.arm(arm)))

    def estimate(self, metric: str, arm: str, scope: Scope = "all") -> Value | None:
        """Returns an arm's estimate with its interval; None where no trial is stored."""
        found, at = self.intervals[scope], self._at(metric, arm, scope)
        return _value(found.estimate[at], found.low[at], found.high[at])

    def difference(self, metric: str, arm: str, scope: Scope = "all") -> Value | None:
        """Returns arm minus its reference with its interval; None for a reference itself."""
        if arm == self.reference(arm).name:
            return None
        found, at = self.intervals[scope], self._at(metric, arm, scope)
        return _value(found.difference[at], found.difference_low[at], found.difference_high[at])

    def stored(self, arm: str) -> int:
        """Returns how many of the arm's trials are stored."""
        scores = self.scores["all"]
        return int(scores.present[scores.arms.index(arm)].sum())

    def asked(self, arm: str) -> int:
        """Returns how many trials the study asks of the arm; 1 where training needs no seed."""
        scores = self.scores["all"]
        return int(scores.expected[scores.arms.index(arm)].sum())

    def _at(self, metric: str, arm: str, scope: Scope) -> tuple[int, int]:
        scores = self.scores[scope]
        return scores.metrics.index(metric), scores.arms.index(arm)


def _value(estimate: float, low: float, high: float) -> Value | None:
    if estimate != estimate:  # NaN: there is no trial
        return None
    return Value(float(estimate), float(low), float(high))


def reference_name(record: StudyRecord, arm: Arm) -> str:
    """Returns the name of the arm that `arm` is compared with."""
    return record.reference if arm.full is None else arm.full


def gather(store: ResultsStore) -> StudyResults:
    """Returns the study's results: trials read and resampled once.

    Raises:
        StoreError: there is no study, or trials have different test visits.
        DamagedTrialError: a stored trial does not match its manifest.
    """
    record = store.study()
    services = _service_scopes(store)
    rows = {**ROWS, **services}
    scores = evaluate_scopes(store, record, rows, rows)
    names = [arm.name for arm in record.arms]
    reference = np.array([names.index(reference_name(record, arm)) for arm in record.arms])
    intervals = {
        scope: crossed_intervals(
            found.numerator,
            found.denominator,
            found.present,
            reference,
            record.resamples,
            record.bootstrap_seed,
        )
        for scope, found in scores.items()
    }
    used = {key for arm in record.arms for key in arm.trials.values()}
    keys = [key for key in sorted(used) if store.has(key)]
    return StudyResults(
        record=record,
        metrics=metrics(),
        scores=scores,
        intervals=intervals,
        summaries={key: store.summary(key) for key in keys},
        histories={key: store.history(key) for key in keys},
        searches={plan.name: _search(store, plan.name) for plan in record.searches},
        failures=store.failures(),
        services=tuple(services),
    )


def _service_scopes(store: ResultsStore) -> dict[Scope, Rows]:
    found = store.services()
    named = {} if found is None else service_rows(found)
    return {SERVICE + name: rows for name, rows in named.items()}


def _search(store: ResultsStore, name: str) -> list[dict[str, Any]]:
    found = store.read_all(f"searches/{name}").values()
    return sorted(found, key=lambda record: int(record["number"]))
