"""Importances: which settings of a search decided whether a trial was among the best (PED-ANOVA).

Optuna's estimator compares, setting by setting, the density of the best trials with that of all
trials; trials come from the store, into a study that lives in memory alone.

Reference:
    Watanabe, Bansal, Hutter, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in
    Arbitrary Subspaces", IJCAI 2023.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.study import StudyDirection
from optuna.trial import create_trial

from search_spaces._base import contains
from sweeps.record import SearchPlan
from sweeps.space import Space, from_json
from sweeps.statistics.inference import Value
from sweeps.statistics.results import StudyResults
from sweeps.tables._base import (
    Column,
    Row,
    Table,
    TableData,
    cohort_sentence,
    count_column,
    text_column,
)

LEAST = 10  # complete trials below which there are no importances
BEST = 5  # trials that the best part has at least
SHARE = 0.1  # of the trials that are called the best
_DIGITS = 6  # further ones may differ between machines

Record = dict[str, Any]


def build(results: StudyResults) -> list[TableData] | None:
    """Returns the table, a block for each search and objective; None without searches."""
    plans = results.record.searches
    if not plans:
        return None
    rows = tuple(
        row for plan in plans for place in range(len(plan.objectives))
        for row in _block(results, plan, place)
    )  # fmt: skip
    columns = (
        text_column("search", "Search"),
        text_column("objective", "Objective"),
        text_column("setting", "Setting"),
        Column("importance", "Importance", "share of the search's", 3, numeric=True),
        count_column("trials", "Trials with it"),
        text_column("note", "Note"),
    )
    title = "Importances of settings"
    return [TableData("importances", title, columns, rows, _caption(results, plans))]


def _block(results: StudyResults, plan: SearchPlan, place: int) -> list[Row]:
    objective = plan.objectives[place]
    metric, space = results.metrics[objective], from_json(plan.space)
    records = complete(results.searches[plan.name], space, len(plan.objectives))
    block = f"{plan.name} {objective}"
    if len(records) < LEAST:
        note = f"none: {len(records)} complete trials, fewer than {LEAST}"
        return [Row((plan.name, metric.title, None, None, len(records), note), block=block)]
    active = {name: sum(name in record["params"] for record in records) for name in space}
    varied = [name for name in space if _varies(records, name, active[name])]
    found = importances(records, place, metric.higher_is_better is False, space, varied)
    ordered = sorted(space, key=lambda name: (-found.get(name, -1.0), name))
    return [
        Row(
            (
                plan.name,
                metric.title,
                name,
                Value(found[name]) if name in found else None,
                active[name],
                "" if name in found else _why(active[name], name in varied),
            ),
            block=block,
        )
        for name in ordered
    ]


def _varies(records: Sequence[Record], name: str, active: int) -> bool:
    values = {str(r["params"][name]) for r in records if name in r["params"]}
    return active >= LEAST and len(values) > 1


def _why(active: int, varied: bool) -> str:
    if active < LEAST:
        return f"none: in fewer than {LEAST} trials"
    if not varied:
        return "none: the same in every trial"
    return "none: the best trials are no better than the others"


def complete(records: Sequence[Record], space: Space, objectives: int) -> list[Record]:
    """Returns the complete trials with finite values and settings of the space; twins once."""
    found: dict[str, Record] = {}
    for record in records:
        values, params = record.get("values") or (), record.get("params") or {}
        usable = (
            record.get("state") == "complete"
            and len(values) == objectives
            and all(math.isfinite(value) for value in values)
            and all(name in space and contains(space[name], params[name]) for name in params)
        )
        if usable:
            found.setdefault(str(record.get("key")), record)
    return list(found.values())


def best_share(trials: int) -> float:
    """Returns which share of the trials counts as the best: a tenth, but five at least.

    Example:
        >>> best_share(10), best_share(25), best_share(200)
        (0.5, 0.2, 0.1)
    """
    return max(SHARE, BEST / trials)


def importances(
    records: Sequence[Record], place: int, minimise: bool, space: Space, names: Sequence[str]
) -> dict[str, float]:
    """Returns the share of each setting in the sum of all importances; none if that is 0.

    Args:
        records: complete trials, at least `LEAST`.
        place: of the objective among the search's.
        minimise: whether less of it is better.
        space: distribution of each setting.
        names: settings to judge; each is in some of the trials.
    """
    direction = StudyDirection.MINIMIZE if minimise else StudyDirection.MAXIMIZE
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction=direction)
    for record in records:
        params = record["params"]
        own = {name: space[name] for name in params}
        study.add_trial(
            create_trial(value=record["values"][place], params=params, distributions=own)
        )
    evaluator = PedAnovaImportanceEvaluator(target_quantile=best_share(len(records)))
    with warnings.catch_warnings():
        # That one trial lacks a setting: trials without it add nothing to its importance. That
        # all trials are as good as the best: then all importances are 0.
        warnings.filterwarnings("ignore", message="Some regimes for parameter")
        warnings.filterwarnings("ignore", message="Target and region quantiles")
        found = evaluator.evaluate(study, list(names)) if names else {}
    total = math.fsum(found.values())
    if total <= 0:
        return {}
    return {name: round(value / total, _DIGITS) for name, value in found.items()}


def _caption(results: StudyResults, plans: Sequence[SearchPlan]) -> str:
    seeds = "; ".join(
        f"{plan.name}: training seed {plan.base.seed}, sampler seed {plan.sampler_seed}"
        for plan in plans
    )
    return (
        f"Study {results.record.name}. PED-ANOVA of Optuna over complete trials: how much the "
        f"distribution of a setting among the best trials (a tenth of them, but {BEST} at least) "
        "differs from that among all; shares of a search add up to 1. A setting that depends on "
        "another is judged by the trials that have it. A large share says that the setting "
        "mattered within its range here, not which value is best nor that a change would be "
        "significant; with few trials shares are rough. Validation values, without intervals (no "
        f"resamples); a search never reads the test split. Seeds: {seeds}. "
        f"{cohort_sentence(results)}"
    )


TABLE = Table("Importances of settings", build, needs="searches")
