"""Which model of a study is exported: validation decides, the test split is not read.

An arm is judged by the mean over its seeds, so that no arm wins by a lucky seed; of the best arm
the best seed is taken.
"""

from dataclasses import dataclass
from typing import Any

from medrec.light import model_facts
from medrec.spec import TrialSpec
from sweeps.best import best_records
from sweeps.errors import StoreError
from sweeps.record import Arm, SearchPlan, StudyRecord
from sweeps.store import ResultsStore
from sweeps.study import near
from sweeps.tasks import known_measures


@dataclass(frozen=True)
class Choice:
    """What was chosen, and on which grounds.

    Attributes:
        arm: the arm; of a search's best trial one made up for it.
        spec: of the trial whose weights are taken.
        validation: metrics of each stored seed.
        reason: how it was chosen, a sentence.
        summary: `trial.json` of that trial.
    """

    arm: Arm
    spec: TrialSpec
    validation: dict[int, dict[str, float]]
    reason: str
    summary: dict[str, Any]


def best_arm(store: ResultsStore, record: StudyRecord, name: str | None) -> Choice:
    """Returns the best arm, or the one of that name, with its best seed.

    An arm that reads its target is never the best; it can be asked for.

    Raises:
        StoreError: there is no such arm, or none with weights.
        DamagedTrialError: a stored trial does not match its manifest.
    """
    names = [arm.name for arm in record.arms]
    if name is not None and name not in names:
        raise StoreError(
            f"The study {record.name} has no arm {name!r}.{near(name, names)} It has {names}."
        )
    metric = record.protocol.select
    found = []
    for arm in record.arms:
        asked = arm.name == name or (name is None and not arm.leak)
        stored = _stored(store, arm) if asked else {}
        if stored:
            values = [each["validation"][metric] for each in stored.values()]
            found.append((sum(values) / len(values), arm, stored))
    if not found:
        what = f"The arm {name} has" if name else "The study has"
        raise StoreError(
            f"{what} no stored trial with weights in {store.place}. Run the study first; a copy "
            "for sharing is made without weights."
        )
    mean, arm, stored = max(found, key=lambda each: each[0])  # of equal ones the first
    reason = f"the arm {arm.name} was asked for"
    if name is None:
        seeds = f"its {len(stored)} seeds" if len(stored) > 1 else "its one trial"
        reason = (
            f"the arm {arm.name} has the best mean validation {metric} ({mean:.4f} over {seeds}) "
            f"of {len(found)} arms with weights"
        )
    return _best_seed(arm, stored, reason, metric)


def best_of_search(store: ResultsStore, record: StudyRecord, name: str) -> Choice:
    """Returns a search's best trial; of a Pareto front the best in the first objective.

    Raises:
        StoreError: there is no such search, or it has no complete trial within its bounds.
        DamagedTrialError: a stored trial does not match its manifest.
    """
    plans = {plan.name: plan for plan in record.searches}
    if name not in plans:
        raise StoreError(
            f"The study {record.name} has no search {name!r}.{near(name, plans)} "
            f"It has {list(plans)}."
        )
    plan = plans[name]
    entries = store.search_records(name)
    best = best_records(plan, entries, known_measures())
    if not best:
        raise StoreError(
            f"The search {name} has no complete trial within its bounds. Run the study further, "
            "or give --arm."
        )
    arm = _made_up(plan, str(best[0]["key"]))
    stored = _stored(store, arm)
    if not stored:
        raise StoreError(
            f"The best trial of the search {name} has no weights in {store.place}. Use the "
            "results directory that the search ran in."
        )
    reason = f"trial {best[0]['number']} of the search {name} is its best on validation"
    if len(plan.objectives) > 1:
        reason += f" in {plan.objectives[0]}, the first objective, of a front of {len(best)}"
    return _best_seed(arm, stored, reason, record.protocol.select)


def _made_up(plan: SearchPlan, key: str) -> Arm:
    return Arm(
        name=f"{plan.name[:75]}-best",
        title=f"{model_facts(plan.model).title}, best of search {plan.name}",
        model=plan.model,
        seeded=True,
        trials={str(plan.base.seed): key},
        tuned_by=plan.name,
        comparable_scores=plan.comparable_scores,
    )


def _stored(store: ResultsStore, arm: Arm) -> dict[int, dict[str, Any]]:
    """Returns `trial.json` of the arm's trials that have weights, by seed."""
    return {
        int(seed): store.summary(key)
        for seed, key in sorted(arm.trials.items(), key=lambda pair: int(pair[0]))
        if store.has(key) and store.has_weights(key)
    }


def _best_seed(arm: Arm, stored: dict[int, dict[str, Any]], reason: str, metric: str) -> Choice:
    seed = max(stored, key=lambda each: stored[each]["validation"][metric])
    spec = TrialSpec.model_validate(stored[seed]["spec"])
    if len(stored) > 1:
        reason += f"; of its seeds, seed {seed} has the best validation {metric}"
    validation = {each: dict(summary["validation"]) for each, summary in stored.items()}
    return Choice(arm, spec, validation, reason, stored[seed])
