"""From a search as a study file asks for it to its plan: its start, its space, its bounds."""

import importlib
from collections.abc import Collection, Iterable
from typing import Any

from optuna.distributions import BaseDistribution

from medrec import plugins
from medrec.light import ModelFacts
from medrec.spec import SELECT, KnowledgeSpec, Task, Training, TrialSpec
from search_spaces._base import Conditions, contains, extremes
from sweeps.cohorts import StudyData
from sweeps.errors import StudyError
from sweeps.record import SearchPlan
from sweeps.space import narrowed, to_json
from sweeps.specs import dimension_value, known_model, make_spec, remarks
from sweeps.study import SearchRequest, Study, near, parse
from sweeps.tasks import known_measures, measure_named

FLOOR = 0.5  # of the training visits' medications; see Budget.medication_floor


def make_search(
    study: Study,
    data: StudyData,
    request: SearchRequest,
    where: str,
    knowledge: KnowledgeSpec | None = None,
    without: Collection[str] = (),
    augment: dict[str, Any] | None = None,
) -> SearchPlan:
    """Returns the plan of a search.

    Args:
        study: the study.
        data: its cohort and knowledge.
        request: the search.
        where: field of the study, for messages.
        knowledge: located knowledge; the study's by default.
        without: dimensions that are left out of the space asked for.
        augment: generated patients to train on, if any.

    Raises:
        StudyError: an objective, dimension, range or setting is wrong.
    """
    facts = known_model(request.model, where)
    base = make_spec(
        study, data, facts, request.config, request.training, where, knowledge, augment
    )
    objectives = _objectives(request, facts.task, where)
    asked = narrowed(_space(request.model, where), request.space, f"{where}.space")
    space = {name: values for name, values in asked.items() if name not in without}
    for dimension, distribution in space.items():
        place = f"{where}.space.{dimension}"
        _check_dimension(facts, base, request.config, dimension, distribution, place)
    floor = request.medication_floor
    if floor is None and "ddi_rate" in objectives:
        floor = FLOOR * data.training_medications()
    stopping = request.early_stopping
    first = known_measures()[objectives[0]]
    if stopping is not None and first.higher_is_better is False:
        raise StudyError(
            f"field {where}.early_stopping: trials are stopped by the first objective, and by its "
            f"{first.title} a model that recommends nothing would win. Put another one first."
        )
    return SearchPlan(
        name=request.name,
        model=request.model,
        config=request.config,
        trials=request.trials,
        objectives=objectives,
        ddi_ceiling=request.ddi_ceiling,
        medication_floor=floor,
        base=base,
        space=to_json(space),
        conditions={k: v for k, v in conditions_of(request.model).items() if k in space},
        early_stopping=_early_stopping(request, where),
        comparable_scores=remarks(base)["comparable_scores"],
        concurrent=request.concurrent,
        sampler_seed=request.sampler_seed,
    )


def _early_stopping(request: SearchRequest, where: str) -> dict[str, int] | None:
    """Returns the settings of ASHA, the grace period filled in from the model's file."""
    stopping = request.early_stopping
    if stopping is None:
        return None
    module = importlib.import_module(f"search_spaces.{request.model}")
    grace = stopping.grace_epochs or getattr(module, "GRACE_EPOCHS", None)
    if grace is None:
        raise StudyError(
            f"field {where}.early_stopping.grace_epochs: is missing, and "
            f"search_spaces/{request.model}.py has no GRACE_EPOCHS. Give the epoch before which "
            "no trial is to be stopped; the table `early` of a search without early stopping "
            "says which one is justified."
        )
    return {"grace_epochs": grace, "reduction": stopping.reduction}


def conditions_of(model: str) -> Conditions:
    """Returns which dimensions of a model's space depend on which setting."""
    module = importlib.import_module(f"search_spaces.{model}")
    found: Conditions = getattr(module, "CONDITIONS", {})
    return found


def set_by_parts(model: str, changed: Iterable[str], arm: TrialSpec, full: TrialSpec) -> set[str]:
    """Returns dimensions that an arm's parts set, by themselves or in consequence.

    A part that takes another DDI controller brings that controller's own gain; under a part that
    takes the DDI loss away, its target means nothing.

    Args:
        model: whose space it is.
        changed: settings that the parts change.
        arm: a trial of the arm.
        full: a trial of the full model.
    """
    settings = {*full.config, *(f"training.{name}" for name in Training.model_fields)}
    found = set(changed) | {
        name for name in settings if dimension_value(arm, name) != dimension_value(full, name)
    }
    closed = {
        name
        for name, (setting, values) in conditions_of(model).items()
        if setting in found and arm.config[setting] not in values
    }
    return found | closed


def _objectives(request: SearchRequest, task: Task, where: str) -> tuple[str, ...]:
    objective: str | tuple[str, ...] = request.objective
    if "objective" not in request.model_fields_set:
        objective = SELECT[task][0]
    objectives = (objective,) if isinstance(objective, str) else objective
    if not objectives or len(set(objectives)) < len(objectives):
        raise StudyError(
            f"field {where}.objective: give one or several distinct metrics, not {objectives}."
        )
    for name in objectives:
        if measure_named(name, f"{where}.objective", task).higher_is_better is None:
            raise StudyError(
                f"field {where}.objective: neither more nor fewer {name} is better by itself. "
                "Take another metric."
            )
    return objectives


def _check_dimension(
    facts: ModelFacts,
    base: TrialSpec,
    config: dict[str, Any],
    dimension: str,
    distribution: BaseDistribution,
    where: str,
) -> None:
    try:
        default = dimension_value(base, dimension)
    except KeyError:
        fields = [*base.config, *(f"training.{name}" for name in Training.model_fields)]
        hint = near(dimension, fields)
        raise StudyError(f"field {where}: {facts.name} has no such setting.{hint}") from None
    if not contains(distribution, default):
        raise StudyError(
            f"field {where}: the range {distribution} excludes the setting the search starts "
            f"from, {dimension}={default!r}. Widen the range, or set another start under "
            "`config` or `training` of the search."
        )
    for value in extremes(distribution):
        own = {**config, **({} if "." in dimension else {dimension: value})}
        parse(facts.config, own, "study", where)
        if "." in dimension:
            loop = {**base.training.model_dump(), dimension.removeprefix("training."): value}
            parse(Training, loop, "study", where)


def _space(model: str, where: str) -> dict[str, BaseDistribution]:
    if model not in plugins.names("search_spaces"):
        raise StudyError(
            f"field {where}: {model} has nothing to search: there is no search_spaces/{model}.py. "
            "Leave out `settings: retuned`, or the search; or write that file."
        )
    found: dict[str, BaseDistribution] = plugins.load("search_spaces", model, "SPACE")
    return found
