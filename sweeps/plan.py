"""From a study and its cohort to trials: a pure function, the same in every process.

An arm's settings are complete when they leave here: the model's defaults, overridden by the
study, by the arm, by the ablation. Two arms with the same settings share their trials.
"""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution

from medrec import plugins
from medrec.errors import MedrecError
from medrec.light import ModelFacts, model_facts
from medrec.metrics._base import Metric
from medrec.spec import CohortRef, Resources, Training, TrialSpec
from search_spaces._base import Ablation, contains, extremes
from sweeps.cohorts import StudyData
from sweeps.errors import StudyError
from sweeps.record import Arm, CohortFacts, DdiGraph, SearchPlan, StudyRecord
from sweeps.space import narrowed, to_json
from sweeps.study import ArmRequest, SearchRequest, Study, parse

FLOOR = 0.5  # of the training visits' medications; see SearchRequest.medication_floor


@dataclass(frozen=True)
class Plan:
    """What a study comes to.

    Attributes:
        record: what is written to `study.json`.
        trials: every trial of every arm by key, in the order of the arms; searches not included.
        resources: what each trial asks for.
    """

    record: StudyRecord
    trials: dict[str, TrialSpec]
    resources: Resources


def make_plan(study: Study, data: StudyData) -> Plan:
    """Returns the frozen plan.

    Raises:
        StudyError: an unknown model, ablation, table or field, or a value out of range.
    """
    for index, table in enumerate(study.tables):
        _known("sweeps.tables", table, f"tables.{index}")
    trials: dict[str, TrialSpec] = {}
    arms = []
    for index, request in enumerate(study.arms):
        for arm, specs in _arms(study, data, request, f"arms.{index}"):
            arms.append(arm)
            trials.update((spec.key, spec) for spec in specs)
    names = [arm.name for arm in arms]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise StudyError(f"field arms: {repeated} occur twice. Give each arm a `name` of its own.")
    if study.reference not in names:
        hint = _near(study.reference, names)
        raise StudyError(f"field reference: no arm {study.reference!r}.{hint} It has {names}.")
    searches = tuple(
        _search(study, data, request, f"searches.{index}")
        for index, request in enumerate(study.searches)
    )
    record = StudyRecord(
        name=study.name,
        question=study.question,
        arms=tuple(arms),
        reference=study.reference,
        searches=searches,
        tables=study.tables,
        protocol=study.protocol,
        seeds=study.seeds,
        cohort=CohortFacts(
            name=data.name,
            fingerprint=data.cohort.fingerprint,
            counts=data.cohort.counts(),
            split=str(data.cohort.provenance.options.get("split", "unknown")),
            visit_order=str(data.cohort.provenance.options.get("visit_order", "unknown")),
        ),
        ddi=DdiGraph(
            name=Path(data.knowledge.bundle or data.knowledge.interactions).name,
            fingerprint=data.knowledge.fingerprint,
            pairs=data.interacting_pairs(),
        ),
        medications=data.cohort.vocabulary["medications"],
        true_ddi_rate=data.truth["ddi_rate"],
        true_medications=data.truth["medications"],
        resamples=study.resamples,
        bootstrap_seed=study.bootstrap_seed,
    )
    return Plan(record, trials, study.resources)


def _arms(
    study: Study, data: StudyData, request: ArmRequest, where: str
) -> list[tuple[Arm, list[TrialSpec]]]:
    """Returns the arm and, after it, one arm for each of its ablations."""
    facts = _facts(request.model, where)
    name = request.name or request.model
    title = request.title or facts.title
    known = _ablations(request.model)
    wanted = tuple(known) if request.ablations == "all" else request.ablations
    made = []
    for ablation in (None, *wanted):
        changes: dict[str, Any] = {}
        arm_name, arm_title = name, title
        if ablation is not None:
            if ablation not in known:
                raise StudyError(
                    f"field {where}.ablations: {request.model} has no ablation {ablation!r}."
                    f"{_near(ablation, list(known))} It has {sorted(known)}."
                )
            changes = known[ablation].changes
            arm_name, arm_title = f"{name}-{ablation}", f"{title} {known[ablation].title}"
        spec = _spec(study, data, facts, {**request.config, **changes}, request.training, where)
        seeds = study.seeds if facts.seeded else study.seeds[:1]
        specs = [spec.model_copy(update={"seed": seed}) for seed in seeds]
        arm = Arm(
            name=arm_name,
            title=arm_title,
            model=request.model,
            ablation=ablation,
            full=None if ablation is None else name,
            seeded=facts.seeded,
            trials={str(s.seed): s.key for s in specs},
        )
        made.append((arm, specs))
    return made


def _spec(
    study: Study,
    data: StudyData,
    facts: ModelFacts,
    config: dict[str, Any],
    training: dict[str, Any],
    where: str,
) -> TrialSpec:
    settings = parse(facts.config, config, "study", f"{where}.config")
    loop = {**facts.training.model_dump(), **study.training, **training}
    return TrialSpec(
        model=facts.name,
        config=settings.model_dump(mode="json"),
        training=parse(Training, loop, "study", f"{where}.training"),
        protocol=study.protocol,
        knowledge=data.knowledge,
        cohort=CohortRef(path=str(data.path), fingerprint=data.cohort.fingerprint),
        seed=study.seeds[0],
        resources=study.resources,
    )


def _search(study: Study, data: StudyData, request: SearchRequest, where: str) -> SearchPlan:
    facts = _facts(request.model, where)
    base = _spec(study, data, facts, request.config, request.training, where)
    objective = request.objective
    objectives = (objective,) if isinstance(objective, str) else objective
    if not objectives or len(set(objectives)) < len(objectives):
        raise StudyError(
            f"field {where}.objective: give one or several distinct metrics, not {objectives}."
        )
    for name in objectives:
        _known("medrec.metrics", name, f"{where}.objective")
        if plugins.load("medrec.metrics", name, "METRIC").higher_is_better is None:
            raise StudyError(
                f"field {where}.objective: neither more nor fewer {name} is better by itself. "
                "Take another metric."
            )
    space = narrowed(_space(request.model, where), request.space, f"{where}.space")
    for dimension, distribution in space.items():
        place = f"{where}.space.{dimension}"
        _check_dimension(facts, base, request.config, dimension, distribution, place)
    floor = request.medication_floor
    if floor is None and "ddi_rate" in objectives:
        floor = FLOOR * data.training_medications()
    stopping = request.early_stopping
    first: Metric = plugins.load("medrec.metrics", objectives[0], "METRIC")
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
        early_stopping=stopping.model_dump() if stopping else None,
        concurrent=request.concurrent,
        sampler_seed=request.sampler_seed,
    )


def dimension_value(spec: TrialSpec, dimension: str) -> Any:
    """Returns what a spec holds for a dimension of a search space.

    Raises:
        KeyError: there is no such setting.
    """
    if dimension.startswith("training."):
        return spec.training.model_dump()[dimension.removeprefix("training.")]
    return spec.config[dimension]


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
        hint = _near(dimension, fields)
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


def _facts(model: str, where: str) -> ModelFacts:
    try:
        return model_facts(model)
    except MedrecError as error:
        raise StudyError(f"field {where}.model: {error}") from error


def _known(package: str, name: str, where: str) -> None:
    try:
        plugins.check(package, name)
    except MedrecError as error:
        raise StudyError(f"field {where}: {error}") from error


def _ablations(model: str) -> dict[str, Ablation]:
    if model not in plugins.names("search_spaces"):
        return {}
    found: dict[str, Ablation] = plugins.load("search_spaces", model, "ABLATIONS")
    return found


def _space(model: str, where: str) -> dict[str, BaseDistribution]:
    if model not in plugins.names("search_spaces"):
        raise StudyError(f"field {where}.model: {model} has no search_spaces/{model}.py.")
    found: dict[str, BaseDistribution] = plugins.load("search_spaces", model, "SPACE")
    return found


def _near(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
