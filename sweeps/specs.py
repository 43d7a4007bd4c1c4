"""From what a study file says of an arm or a search to the spec of its trials."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from medrec import plugins
from medrec.errors import MedrecError
from medrec.light import ModelFacts, model_facts
from medrec.spec import Augment, CohortRef, KnowledgeSpec, ModelConfig, Training, TrialSpec
from search_spaces._base import Ablation
from sweeps.cohorts import StudyData
from sweeps.errors import StudyError
from sweeps.record import Name, SearchPlan
from sweeps.study import Study, near, parse

_NAME: TypeAdapter[str] = TypeAdapter(Name)


def known_model(model: str, where: str) -> ModelFacts:
    """Returns what planning needs to know of a model.

    Raises:
        StudyError: there is no such model.
    """
    try:
        return model_facts(model)
    except MedrecError as error:
        raise StudyError(f"field {where}.model: {error}") from error


def check_known(package: str, name: str, where: str) -> None:
    """Raises `StudyError` unless `package` has a plug-in of that name."""
    try:
        plugins.check(package, name)
    except MedrecError as error:
        raise StudyError(f"field {where}: {error}") from error


def ablations_of(model: str) -> dict[str, Ablation]:
    """Returns the ablations that a model's search-space file declares; none without a file."""
    if model not in plugins.names("search_spaces"):
        return {}
    found: dict[str, Ablation] = plugins.load("search_spaces", model, "ABLATIONS")
    return found


def loop_settings(study: Study, facts: ModelFacts) -> dict[str, Any]:
    """Returns the training loop's settings that an entry starts from."""
    return {**facts.training.model_dump(), **study.training}


def make_spec(
    study: Study,
    data: StudyData,
    facts: ModelFacts,
    config: dict[str, Any],
    training: dict[str, Any],
    where: str,
    knowledge: KnowledgeSpec | None = None,
    augment: dict[str, Any] | None = None,
) -> TrialSpec:
    """Returns the first seed's spec, its settings complete.

    Args:
        study: the study.
        data: its cohort and knowledge.
        facts: of the model.
        config: the model's settings that are not its defaults.
        training: the loop's settings that are not the study's.
        where: field of the study, for messages.
        knowledge: located knowledge; the study's by default.
        augment: generated patients to train on, if any.

    Raises:
        StudyError: a setting is wrong.
    """
    settings = parse(facts.config, config, "study", f"{where}.config")
    ontology = (knowledge or data.knowledge).ontology
    if facts.task == "hierarchy" and ontology in ("mash", "none"):
        raise StudyError(
            f"field {where}: {facts.name} is judged by the known hierarchy, but "
            f"`knowledge.ontology` is {ontology}. Take icd or ccs; `skeleton: none` with "
            "`use_labels: false` learns without it."
        )
    loop = {**loop_settings(study, facts), **training}
    checked: Training = parse(Training, loop, "study", f"{where}.training")
    if never := settings.unreached(checked.epochs):
        raise StudyError(
            f"field {where}: {facts.name} is trained for {checked.epochs} epochs, but {never}. "
            "Lower that setting, or train longer."
        )
    return TrialSpec(
        model=facts.name,
        config=settings.model_dump(mode="json"),
        training=checked,
        protocol=study.protocol,
        knowledge=knowledge or data.knowledge,
        cohort=CohortRef(path=str(data.path), fingerprint=data.cohort.fingerprint),
        seed=study.seeds[0],
        resources=study.resources,
        augment=_augment(facts, augment, f"{where}.augment") if augment else None,
    )


def _augment(facts: ModelFacts, content: dict[str, Any], where: str) -> Augment:
    """Returns the request for generated patients, the generator's settings written out.

    Raises:
        StudyError: it is asked of what is no recommender, or a setting is wrong.
    """
    if facts.task != "recommendation":
        raise StudyError(f"field {where}: {facts.name} recommends nothing; leave it out.")
    asked: Augment = parse(Augment, content, "study", where)
    generators = plugins.names("medrec.generation")
    if asked.generator not in generators:
        hint = near(asked.generator, generators)
        raise StudyError(
            f"field {where}.generator: no generator {asked.generator!r}.{hint} There are "
            f"{generators}."
        )
    own = model_facts(asked.generator)
    settings = parse(own.config, asked.config, "study", f"{where}.config")
    loop = {**own.training.model_dump(), **asked.training}
    training: Training = parse(Training, loop, "study", f"{where}.training")
    return asked.model_copy(
        update={
            "config": settings.model_dump(mode="json"),
            "training": training.model_dump(mode="json"),
        }
    )


def remarks(spec: TrialSpec) -> dict[str, Any]:
    """Returns what tables must say of a model with these settings; see `ModelConfig`."""
    settings = _settings(spec.model)(**spec.config)
    return {
        "first_visit": settings.first_visit,
        "comparable_scores": settings.comparable_scores,
        "leak": settings.leak,
    }


def on_seeds(seeds: tuple[int, ...], seeded: bool, spec: TrialSpec) -> list[TrialSpec]:
    """Returns the spec on every seed; on the first alone where training does not depend on it."""
    return [spec.model_copy(update={"seed": seed}) for seed in (seeds if seeded else seeds[:1])]


def configured(plan: SearchPlan, params: Mapping[str, Any]) -> TrialSpec:
    """Returns a search's base trial with the values of some dimensions."""
    loop = {k.removeprefix("training."): v for k, v in params.items() if "." in k}
    own = {k: v for k, v in params.items() if "." not in k}
    # From what the study fixes, not from the filled-in settings: a searched `variant` or
    # `controller` brings its own defaults.
    config = _settings(plan.model)(**{**plan.config, **own})
    return plan.base.model_copy(
        update={
            "config": config.model_dump(mode="json"),
            "training": plan.base.training.model_copy(update=loop),
        }
    )


@cache
def _settings(model: str) -> type[ModelConfig]:
    return model_facts(model).config


def dimension_value(spec: TrialSpec, dimension: str) -> Any:
    """Returns what a spec holds for a dimension of a search space.

    Raises:
        KeyError: there is no such setting.
    """
    if dimension.startswith("training."):
        return spec.training.model_dump()[dimension.removeprefix("training.")]
    return spec.config[dimension]


def arm_name(name: str, where: str) -> str:
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
