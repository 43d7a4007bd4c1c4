"""From a study and its cohort to trials: a pure function, the same in every process.

An arm's settings are complete when they leave here: the model's defaults, overridden by the
study, by the arm, by the ablation. Two arms with the same settings share their trials. The
settings of a re-tuned arm are what its search will find; `sweeps.retuned` adds its trials then.
"""

from dataclasses import dataclass
from pathlib import Path

from medrec.cohort import Cohort, Kind
from medrec.spec import Resources, Task, TrialSpec
from sweeps.cohort_facts import cohort_facts
from sweeps.cohorts import StudyData
from sweeps.designed import Entry, designed_arms
from sweeps.errors import StudyError
from sweeps.grids import grid_arms
from sweeps.open_data import is_open
from sweeps.published import resolve
from sweeps.record import Arm, DdiGraph, StudyRecord
from sweeps.search_plans import make_search
from sweeps.specs import check_known
from sweeps.study import CONTROLS, ArmRequest, Study, near
from sweeps.tasks import for_task, measure_named, task_of
from sweeps.visits import FEWEST, RARE


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
        check_known("sweeps.tables", table, f"tables.{index}")
    task = task_of(study)
    study = for_task(study, task)
    _check_primary(study.analysis.primary, task)
    entries = [
        *(
            _entry(study, data, ArmRequest(model=name), f"controls ({name})")
            for name in controls_of(study)
        ),
        *(_entry(study, data, arm, f"arms.{index}") for index, arm in enumerate(study.arms)),
    ]
    found = [each for entry in entries for each in entry.arms]
    trials = {spec.key: spec for _, specs in found for spec in specs}
    arms = _told_apart([arm for arm, _ in found])
    names = [arm.name for arm in arms]
    if study.controls is not None:
        _check_distinct("controls", list(study.controls))
    _check_distinct("arms", names)
    if study.reference not in names:
        hint = near(study.reference, names)
        raise StudyError(f"field reference: no arm {study.reference!r}.{hint} It has {names}.")
    asked = tuple(
        make_search(study, data, request, f"searches.{index}")
        for index, request in enumerate(study.searches)
    )
    searches = (*asked, *(search for entry in entries for search in entry.searches))
    _check_distinct("searches", [search.name for search in searches])
    designs = tuple(design for entry in entries for design in entry.designs)
    _check_distinct("designs", [design.name for design in designs])
    record = StudyRecord(
        name=study.name,
        task=task,
        question=study.question,
        arms=tuple(arms),
        reference=study.reference,
        searches=searches,
        designs=designs,
        published=resolve(study.published, names),
        analysis=study.analysis,
        tables=study.tables,
        protocol=study.protocol,
        seeds=study.seeds,
        cohort=cohort_facts(data.name, data.cohort),
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


def controls_of(study: Study) -> tuple[str, ...]:
    """Returns the models that stand in the study as controls, besides those among its arms.

    A comparison of models without them cannot say whether any of them is worth its training.
    """
    own = {request.model for request in study.arms}
    compared = task_of(study) == "recommendation" and len(own.difference(CONTROLS)) > 1
    by_default: tuple[str, ...] = CONTROLS if compared else ()
    wanted = by_default if study.controls is None else study.controls
    return tuple(model for model in wanted if model not in own)


def _entry(study: Study, data: StudyData, request: ArmRequest, where: str) -> Entry:
    if request.grid:
        return Entry(grid_arms(study, data, request, where))
    if request.parts and not request.designs:
        raise StudyError(
            f"field {where}.parts: no design uses {list(request.parts)}. Give `designs`, for "
            "example [{kind: leave_one_out, parts: all}]."
        )
    return designed_arms(study, data, request, where)


def _check_primary(name: str, task: Task) -> None:
    if measure_named(name, "analysis.primary", task).higher_is_better is None:
        raise StudyError(
            f"field analysis.primary: neither more nor fewer {name} is better by itself, so there "
            "could be no verdict. Take another metric."
        )


def _check_distinct(what: str, names: list[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise StudyError(
            f"field {what}: {repeated} occur twice. Give each of the {what} a `name` of its own; "
            "of the controls, which stand in a comparison by default, leave one out (`controls`)."
        )


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
