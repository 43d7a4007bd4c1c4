"""Re-tuned arms: once its search has ended, an arm gets the best settings on every seed.

What is best is a function of the store alone, by the rule of the table of searches; so a study
that is run again, or goes on after a kill, comes to the same trials.
"""

from dataclasses import replace

from medrec.spec import TrialSpec
from sweeps.best import best_records
from sweeps.plan import Plan
from sweeps.record import SearchPlan
from sweeps.specs import configured, on_seeds
from sweeps.store import ResultsStore
from sweeps.tasks import known_measures


def settle(plan: Plan, store: ResultsStore) -> Plan:
    """Returns the plan with the trials of every re-tuned arm whose search has ended.

    An arm whose search goes on, or found nothing within its bounds, stays without trials.

    Args:
        plan: as the study makes it, or settled before.
        store: holds what became of the searches.
    """
    searches = {search.name: search for search in plan.record.searches}
    arms, trials = [], dict(plan.trials)
    for arm in plan.record.arms:
        settled = arm
        best = _best(searches[arm.tuned_by], store) if arm.is_waiting and arm.tuned_by else None
        if best is not None:
            specs = on_seeds(plan.record.seeds, arm.seeded, best)
            trials.update((spec.key, spec) for spec in specs)
            keys = {str(spec.seed): spec.key for spec in specs}
            settled = arm.model_copy(update={"trials": keys})
        arms.append(settled)
    return replace(
        plan, record=plan.record.model_copy(update={"arms": tuple(arms)}), trials=trials
    )


def follow_ups(plan: Plan) -> int:
    """Returns how many trials will be known when all searches have ended."""
    seeds = len(plan.record.seeds)
    return sum(seeds if arm.seeded else 1 for arm in plan.record.arms if arm.is_waiting)


def _best(search: SearchPlan, store: ResultsStore) -> TrialSpec | None:
    """Returns the best trial of a search that has ended; None if it goes on or has none."""
    records = store.search_records(search.name)
    ended = sum(record.get("state") not in (None, "running") for record in records)
    if ended < search.trials:
        return None
    for record in best_records(search, records, known_measures()):
        spec = _configured(search, record["params"])
        if spec is not None and spec.key == record["key"]:  # else of a search with other settings
            return spec
    return None


def _configured(search: SearchPlan, params: dict[str, object]) -> TrialSpec | None:
    try:
        return configured(search, params)
    except ValueError:  # settings that the model does not have
        return None
