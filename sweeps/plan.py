"""From a study and its cohort to trials: a pure function, the same in every process.

An arm's settings are complete when they leave here: the model's defaults, overridden by the
study, by the arm, by the ablation. Two arms with the same settings share their trials.
"""

import importlib
import itertools
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution
from pydantic import TypeAdapter, ValidationError

from medrec import plugins
from medrec.cohort import Cohort, Kind
from medrec.errors import MedrecError
from medrec.light import ModelFacts, model_facts
from medrec.metrics._base import Metric
from medrec.spec import CohortRef, Resources, Training, TrialSpec
from search_spaces._base import Ablation, Conditions, contains, extremes
from sweeps.cohorts import StudyData
from sweeps.errors import StudyError
from sweeps.open_data import is_open
from sweeps.published import resolve
from sweeps.record import Arm, CohortFacts, DdiGraph, Name, SearchPlan, StudyRecord
from sweeps.services import FEWEST, RARE
from sweeps.space import narrowed, to_json
from sweeps.study import ArmRequest, SearchRequest, Study, near, parse, wrong_fields

FLOOR = 0.5  # of the training visits' medications; see SearchRequest.medication_floor
_NAME: TypeAdapter[str] = TypeAdapter(Name)


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
        StudyError: an unknown model, ablation, table, published row or field, or a value out of
            range.
    """
    for index, table in enumerate(study.tables):
        _known("sweeps.tables", table, f"tables.{index}")
    trials: dict[str, TrialSpec] = {}
    arms = []
    for index, request in enumerate(study.arms):
        for arm, specs in _arms(study, data, request, f"arms.{index}"):
            arms.append(arm)
            trials.update((spec.key, spec) for spec in specs)
    arms = _told_apart(arms)
    names = [arm.name for arm in arms]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise StudyError(f"field arms: {repeated} occur twice. Give each arm a `name` of its own.")
    if study.reference not in names:
        hint = near(study.reference, names)
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
        published=resolve(study.published, names),
        tables=study.tables,
        protocol=study.protocol,
        seeds=study.seeds,
        cohort=CohortFacts(
            name=data.name,
            fingerprint=data.cohort.fingerprint,
            counts=data.cohort.counts(),
            split=str(data.cohort.provenance.options.get("split", "unknown")),
            visit_order=str(data.cohort.provenance.options.get("visit_order", "unknown")),
            open_data=is_open(data.cohort.provenance),
        ),
        ddi=DdiGraph(
            name=Path(data.knowledge.bundle or data.knowledge.interactions).name,
            fingerprint=data.knowledge.fingerprint,
            pairs=data.interacting_pairs(),
        ),
        medications=data.cohort.vocabulary["medications"],
        vocabulary={kind: _shown(data.cohort, kind) for kind in ("diagnoses", "procedures")},
        true_ddi_rate=data.truth["ddi_rate"],
        true_medications=data.truth["medications"],
        resamples=study.resamples,
        bootstrap_seed=study.bootstrap_seed,
    )
    return Plan(record, trials, study.resources)


def _shown(cohort: Cohort, kind: Kind) -> tuple[str, ...]:
    """Returns the codes of a kind; on data that are not open, without those of few patients.

    A data set's codes may be a hospital's own texts, and a record is made to be shared.
    """
    if is_open(cohort.provenance):
        return cohort.vocabulary[kind]
    carriers = cohort.carriers(kind).tolist()
    codes = zip(cohort.vocabulary[kind], carriers, strict=True)
    return tuple(code if patients >= FEWEST else RARE for code, patients in codes)


def _told_apart(arms: list[Arm]) -> list[Arm]:
    """Returns the arms, with their names in titles that several of them have."""
    titles = [arm.title for arm in arms]
    return [
        arm
        if titles.count(arm.title) == 1
        else arm.model_copy(update={"title": f"{arm.title} ({arm.name})"})
        for arm in arms
    ]


def _arms(
    study: Study, data: StudyData, request: ArmRequest, where: str
) -> list[tuple[Arm, list[TrialSpec]]]:
    """Returns the arms of an entry: it and its ablations, or one for each point of its grid."""
    if request.grid:
        return _grid(study, data, request, where)
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
                    f"{near(ablation, known)} It has {sorted(known)}."
                )
            changes = known[ablation].changes
            arm_name, arm_title = f"{name}-{ablation}", f"{title} {known[ablation].title}"
        place = where if ablation is None else f"{where}.ablations ({ablation})"
        spec = _spec(study, data, facts, {**request.config, **changes}, request.training, place)
        specs = _on_seeds(study, facts, spec)
        arm = Arm(
            name=_name(arm_name, f"{where}.name"),
            title=arm_title,
            model=request.model,
            ablation=ablation,
            full=None if ablation is None else name,
            family=name,
            seeded=facts.seeded,
            trials={str(s.seed): s.key for s in specs},
        )
        made.append((arm, specs))
    return made


def _grid(
    study: Study, data: StudyData, request: ArmRequest, where: str
) -> list[tuple[Arm, list[TrialSpec]]]:
    """Returns one arm for each combination of the grid's values, the last field fastest."""
    if request.ablations:
        raise StudyError(
            f"field {where}.grid: an entry has a grid or ablations, not both. Give the ablations "
            "an entry of their own."
        )
    facts = _facts(request.model, where)
    name, title = request.name or request.model, request.title or facts.title
    _check_grid(request, where)
    made = []
    for values in itertools.product(*request.grid.values()):
        point = dict(zip(request.grid, values, strict=True))
        spec = _grid_spec(study, data, facts, request, point, where)
        # As the settings hold them: 4 and "4" are one value.
        varied = {field: dimension_value(spec, field) for field in request.grid}
        specs = _on_seeds(study, facts, spec)
        arm = Arm(
            name=_name("-".join([name, *map(_point_name, varied, varied.values())]), where),
            title=", ".join([title, *map(_point_title, varied, varied.values())]),
            model=request.model,
            family=name,
            varied=varied,
            seeded=facts.seeded,
            trials={str(s.seed): s.key for s in specs},
        )
        made.append((arm, specs))
    return made


def _check_grid(request: ArmRequest, where: str) -> None:
    for field, values in request.grid.items():
        place = f"field {where}.grid.{field}"
        if not values:
            raise StudyError(f"{place}: give at least one value, but got [].")
        named = [_text(value) for value in values]
        if len(set(named)) < len(named):
            raise StudyError(f"{place}: values must be distinct, but got {list(values)}.")
        settings, _, loop = field.partition(".")
        given = request.training if settings == "training" else request.config
        if (loop or field) in given:
            raise StudyError(
                f"{place}: the entry fixes it to {given[loop or field]!r} as well. Leave one out."
            )


def _grid_spec(
    study: Study,
    data: StudyData,
    facts: ModelFacts,
    request: ArmRequest,
    point: dict[str, Any],
    where: str,
) -> TrialSpec:
    """Returns the spec of one point; a wrong setting is named where it stands."""
    own = {field: value for field, value in point.items() if not field.startswith("training.")}
    loop = {
        field.removeprefix("training."): value
        for field, value in point.items()
        if field.startswith("training.")
    }
    config, training = {**request.config, **own}, {**request.training, **loop}
    for model, content, varied, kind in (
        (facts.config, config, own, ""),
        (Training, {**_loop(study, facts), **training}, loop, ".training"),
    ):
        if varied and wrong_fields(model, content) & {*varied, ""}:
            parse(model, content, "study", f"{where}.grid{kind}")
    return _spec(study, data, facts, config, training, where)


def _on_seeds(study: Study, facts: ModelFacts, spec: TrialSpec) -> list[TrialSpec]:
    seeds = study.seeds if facts.seeded else study.seeds[:1]
    return [spec.model_copy(update={"seed": seed}) for seed in seeds]


def _name(name: str, where: str) -> str:
    """Returns an arm's name.

    Raises:
        StudyError: it is too long, or holds other letters than names may.
    """
    try:
        return _NAME.validate_python(name)
    except ValidationError as error:
        message = error.errors()[0]["msg"]
        raise StudyError(
            f"field {where}: an arm would be called {name!r}. {message}. Set a shorter `name`."
        ) from error


def _point_name(field: str, value: Any) -> str:
    return f"{field}-{re.sub(r'[^A-Za-z0-9_.-]+', '_', _text(value)).strip('_')}"


def _point_title(field: str, value: Any) -> str:
    words = field.removeprefix("training.").replace("_", " ").replace("ddi", "DDI")
    return f"{words} {_text(value).replace(', ', ',')}"


def _text(value: Any) -> str:
    """Returns a value of a grid as YAML writes it.

    Example:
        >>> [_text(value) for value in (4, 0.03, True, None, "last")]
        ['4', '0.03', 'true', 'null', 'last']
    """
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _loop(study: Study, facts: ModelFacts) -> dict[str, Any]:
    return {**facts.training.model_dump(), **study.training}


def _spec(
    study: Study,
    data: StudyData,
    facts: ModelFacts,
    config: dict[str, Any],
    training: dict[str, Any],
    where: str,
) -> TrialSpec:
    settings = parse(facts.config, config, "study", f"{where}.config")
    loop = {**_loop(study, facts), **training}
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
        conditions={k: v for k, v in _conditions(request.model).items() if k in space},
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


def _conditions(model: str) -> Conditions:
    module = importlib.import_module(f"search_spaces.{model}")
    found: Conditions = getattr(module, "CONDITIONS", {})
    return found


def _space(model: str, where: str) -> dict[str, BaseDistribution]:
    if model not in plugins.names("search_spaces"):
        raise StudyError(f"field {where}.model: {model} has no search_spaces/{model}.py.")
    found: dict[str, BaseDistribution] = plugins.load("search_spaces", model, "SPACE")
    return found
