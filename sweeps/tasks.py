"""What studies of recommenders, of generators and of hierarchy builders differ in.

Metrics and measures have one name each over all tasks, so that a search's objective or a column
of a history needs no task to be understood.
"""

from collections.abc import Mapping
from functools import cache

from medrec import plugins
from medrec.evaluation import metrics
from medrec.generation import _measures as of_generators
from medrec.hierarchy import _measures as of_hierarchies
from medrec.light import model_facts
from medrec.measures import Measure
from medrec.spec import SELECT, Task
from sweeps.errors import StudyError
from sweeps.study import Study, near

ORDER = ("jaccard", "f1", "prauc", "ddi_rate", "medications")
PRIMARY: Mapping[Task, str] = {
    "recommendation": "jaccard",
    "generation": "same_visit_r2",
    "hierarchy": "parent_recall",
}
"""Measure that verdicts are about where a study does not say."""


@cache
def measures_of(task: Task) -> Mapping[str, Measure]:
    """Returns the measures of a task by name, in the order of tables.

    Of recommenders the field's five in their usual order, then others by name.
    """
    if task == "generation":
        return of_generators.MEASURES
    if task == "hierarchy":
        return of_hierarchies.MEASURES
    known = metrics()
    first = [name for name in ORDER if name in known]
    return {name: known[name] for name in (*first, *(n for n in known if n not in ORDER))}


@cache
def known_measures() -> Mapping[str, Measure]:
    """Returns the measures of every task by name."""
    return {name: found for task in SELECT for name, found in measures_of(task).items()}


def measure_named(name: str, where: str, task: Task) -> Measure:
    """Returns a task's measure.

    Raises:
        StudyError: it has none of that name.
    """
    known = measures_of(task)
    if name not in known:
        raise StudyError(
            f"field {where}: there is no {name!r} of a study of {task}.{near(name, known)} "
            f"It has {list(known)}."
        )
    return known[name]


def task_of(study: Study) -> Task:
    """Returns what the study's models are for.

    Raises:
        StudyError: they are for different things.
    """
    found: dict[Task, str] = {}
    for index, arm in enumerate(study.arms):
        if arm.model in plugins.models():  # others are refused where arms are made
            found.setdefault(model_facts(arm.model).task, f"arms.{index} ({arm.model})")
    if len(found) > 1:
        told = "; ".join(f"{task}: {where}" for task, where in found.items())
        raise StudyError(
            f"field arms: a study compares models of one kind, but these are of several: {told}. "
            "Make a study of each; a recommender takes generated patients by `augment`, a "
            "learned hierarchy by `knowledge.ontology`."
        )
    return next(iter(found), "recommendation")


def for_task(study: Study, task: Task) -> Study:
    """Returns the study with the task's own defaults where it leaves them open.

    Raises:
        StudyError: the epoch would be chosen by what the task does not have, or several workers
            are asked for one trial of what trains on one.
    """
    protocol, analysis = study.protocol, study.analysis
    if "select" not in protocol.model_fields_set:
        protocol = protocol.model_copy(update={"select": SELECT[task][0]})
    if protocol.select not in SELECT[task]:
        raise StudyError(
            f"field protocol.select: must be one of {list(SELECT[task])} in a study of {task}, "
            f"but got {protocol.select!r}."
        )
    if "primary" not in analysis.model_fields_set:
        analysis = analysis.model_copy(update={"primary": PRIMARY[task]})
    if task != "recommendation" and study.resources.workers > 1:
        raise StudyError(
            f"field resources.workers: a model for {task} is trained by one worker, but got "
            f"{study.resources.workers}."
        )
    return study.model_copy(update={"protocol": protocol, "analysis": analysis})
