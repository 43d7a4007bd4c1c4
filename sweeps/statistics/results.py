"""Everything tables, figures and the report read, gathered once from the results directory."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from medrec.measures import Measure
from medrec.predictions import Predictions
from sweeps.attempts import Unfinished, unfinished
from sweeps.errors import DamagedTrialError
from sweeps.evaluate import ROWS, Scope, Scores, evaluate_scopes
from sweeps.record import Arm, PublishedRow, SearchPlan, StudyRecord
from sweeps.services import service_rows
from sweeps.statistics.inference import Comparison, Inference, Value
from sweeps.statistics.reliability import Reliability, reliability
from sweeps.statistics.verdicts import Verdict
from sweeps.store import ResultsStore
from sweeps.subgroups import Subgroup, subgroups
from sweeps.tasks import measures_of
from sweeps.visits import Rows, VisitFacts

INCOMPARABLE = "‡"
"""Mark of a number about scores that are no probabilities, as those of sequence decoders."""
INCOMPARABLE_TEXT = (
    f"{INCOMPARABLE} Not comparable with other models: a sequence decoder's scores are means over "
    "its steps, no probability of each drug."
)
SERVICE = "service "
"""What the scope of a service begins with; its name follows."""


ALL_SCOPES = ("services", "subgroups")
"""Tables that need visits scored apart."""


@dataclass(frozen=True)
class StudyResults:
    """A study's record and what its stored trials say.

    Attributes:
        record: `study.json`.
        metrics: definition of each metric by name.
        scores: by scope.
        summaries: `trial.json` of each stored trial of an arm, by key.
        histories: columns by epoch of each stored trial of an arm or a search, by key.
        searches: records of each search by its name, in order of their number.
        failures: reason, attempts and lost seconds of failed trials, by key.
        services: scope of each block of the table by service, in order; none where the cohort has
            one service only, or the directory does not say.
        subgroups: each group of each division that the directory tells, small ones among them.
        searched: `trial.json` of each stored trial of a search that no arm has, by key.
        damaged: what is wrong with each trial that does not match its manifest, by key; such a
            trial counts as missing.
        calibration: how often drugs of each score were prescribed, for each trial by key.
        unfinished: what was spent on each trial that is not stored, by key.
    """

    record: StudyRecord
    metrics: Mapping[str, Measure]
    scores: Mapping[Scope, Scores]
    summaries: Mapping[str, dict[str, Any]]
    histories: Mapping[str, dict[str, list[float]]]
    searches: Mapping[str, list[dict[str, Any]]]
    failures: Mapping[str, dict[str, Any]]
    services: tuple[Scope, ...] = ()
    subgroups: tuple[Subgroup, ...] = ()
    searched: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    damaged: Mapping[str, str] = field(default_factory=dict)
    calibration: Mapping[str, Reliability] = field(default_factory=dict)
    unfinished: Mapping[str, Unfinished] = field(default_factory=dict)
    _inferences: dict[Scope, Inference] = field(default_factory=dict, repr=False)

    @property
    def compared(self) -> tuple[str, ...]:
        """Names of the measures that tables comparing arms show: of recommenders all."""
        main = [name for name, measure in self.metrics.items() if measure.main]
        primary = self.record.analysis.primary
        return tuple(main if primary in main else [primary, *main])

    def arm(self, name: str) -> Arm:
        """Returns the arm of that name."""
        return next(arm for arm in self.record.arms if arm.name == name)

    def reference(self, arm: str) -> Arm:
        """Returns what an arm is compared with: an ablation with its full model."""
        return self.arm(reference_name(self.record, self.arm(arm)))

    def inference(self, scope: Scope = "all") -> Inference:
        """Returns intervals and tests of a scope, worked out when first asked for."""
        if scope not in self._inferences:
            record = self.record
            self._inferences[scope] = Inference(
                self.scores[scope],
                self.metrics,
                [reference_name(record, arm) for arm in record.arms],
                record.analysis,
                # Groups are many, small and exploratory: analytic intervals hold for them.
                record.resamples if scope in ROWS else 0,
                record.bootstrap_seed,
            )
        return self._inferences[scope]

    def estimate(self, metric: str, arm: str, scope: Scope = "all") -> Value | None:
        """Returns an arm's estimate with its interval; None where no trial is stored."""
        value = self.inference(scope).estimate(metric, arm)
        return marked(value, self.metrics[metric], self.arm(arm))

    def difference(self, metric: str, arm: str, scope: Scope = "all") -> Value | None:
        """Returns arm minus its reference with its interval; None for a reference itself."""
        value = self.inference(scope).difference(metric, arm)
        return marked(value, self.metrics[metric], self.arm(arm), self.reference(arm))

    def comparison(self, arm: str) -> Comparison | None:
        """Returns the arm against its reference in the primary metric, all visits.

        There is no verdict on an arm that reads its target.
        """
        found = self.inference().comparison(arm)
        return replace(found, verdict=None) if found and self.arm(arm).leak else found

    def verdict(self, arm: str) -> Verdict | None:
        """Returns what the study finds of an arm.

        None for a reference, one trained once, or one that reads its target.
        """
        found = self.comparison(arm)
        return None if found is None else found.verdict

    def stored(self, arm: str) -> int:
        """Returns how many of the arm's trials are stored."""
        scores = self.scores["all"]
        return int(scores.present[scores.arms.index(arm)].sum())

    def asked(self, arm: str) -> int:
        """Returns how many trials the study asks of the arm; 1 where training needs no seed."""
        scores = self.scores["all"]
        return int(scores.expected[scores.arms.index(arm)].sum())


def marked(value: Value | None, metric: Measure, *models: Arm | SearchPlan) -> Value | None:
    """Returns the value, marked if the metric is about scores that cannot be compared."""
    if value is None or comparable(metric, *models):
        return value
    return replace(value, mark=INCOMPARABLE)


def comparable(metric: Measure, *models: Arm | SearchPlan | PublishedRow) -> bool:
    """Returns whether a metric of these models can be compared with that of others."""
    return not metric.of_scores or all(model.comparable_scores for model in models)


def reference_name(record: StudyRecord, arm: Arm) -> str:
    """Returns the name of the arm that `arm` is compared with."""
    return record.reference if arm.full is None else arm.full


def gather(store: ResultsStore, tables: Collection[str] = ALL_SCOPES) -> StudyResults:
    """Returns the study's results, each trial read once; a damaged one counts as missing.

    Args:
        store: the results directory.
        tables: those that will be made; scoring visits of services and subgroups takes time.

    Raises:
        StoreError: there is no study, or trials have different test visits.
    """
    record = store.study()
    facts = store.visits()
    of_visits = record.task == "recommendation"
    services = _service_scopes(facts) if of_visits and "services" in tables else {}
    groups = subgroups(facts, record) if of_visits and "subgroups" in tables else ()
    rows = {**ROWS, **services, **{group.scope: group.rows for group in groups}}
    drugs = {group.scope: group.drugs for group in groups if group.drugs is not None}
    damaged: dict[str, str] = {}
    calibration: dict[str, Reliability] = {}

    def count(key: str, predictions: Predictions) -> None:
        calibration[key] = reliability(predictions, record.protocol.threshold)

    def spoilt(key: str, why: str) -> None:
        damaged[key] = why

    scores = evaluate_scopes(store, record, rows, rows, drugs, count, spoilt)
    used = {key for arm in record.arms for key in arm.trials.values()}
    keys = [key for key in sorted(used) if store.has(key) and key not in damaged]
    searches = {plan.name: store.search_records(plan.name) for plan in record.searches}
    tried = {str(note["key"]) for notes in searches.values() for note in notes}
    searched = _searched(store, sorted(tried - used))
    return StudyResults(
        record=record,
        metrics=measures_of(record.task),
        scores=scores,
        summaries={key: store.summary(key) for key in keys},
        histories={key: store.history(key) for key in (*keys, *searched)},
        searches=searches,
        failures=store.failures(),
        services=tuple(services),
        subgroups=groups,
        damaged=damaged,
        calibration=calibration,
        searched=searched,
        unfinished=unfinished(store, sorted(used.union(tried).difference(keys, searched))),
    )


def _service_scopes(facts: VisitFacts | None) -> dict[Scope, Rows]:
    named = {} if facts is None else service_rows(facts)
    return {SERVICE + name: rows for name, rows in named.items()}


def _searched(store: ResultsStore, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Returns what is stored of trials that no arm has; a damaged one is left out."""
    found = {}
    for key in keys:
        try:
            if store.has(key):
                found[key] = store.summary(key)
        except DamagedTrialError:
            continue
    return found
