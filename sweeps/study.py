"""Study files: what a person asks for, in YAML, checked field by field.

A study names a cohort, arms (models, variants, ablations) that run on every seed, searches, and
the tables to make. `sweeps.plan` turns it into trials. A scale is a named set of settings, such
as fewer patients and epochs; it is applied before any other `--set`.
"""

import copy
import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, StringConstraints, ValidationError, field_validator

from medrec.spec import Frozen, KnowledgeSpec, Protocol, Resources
from sweeps.errors import StudyError
from sweeps.record import Analysis, Name

SHIPPED = Path(__file__).parent / "studies"
CONTROLS = ("most_popular", "copy_previous", "knn", "logistic_regression")
"""Cheap models that a comparison of others has beside them unless it says otherwise."""
TABLES = (
    "verdicts",
    "baselines",
    "ablation",
    "generation",
    "hierarchies",
    "effects",
    "settings",
    "exploratory",
    "published",
    "subgroups",
    "services",
    "search",
    "budget",
    "early",
    "importances",
    "cost",
    "data_card",
)


class CohortRequest(Frozen):
    """A cohort to be prepared for this study."""

    dataset: str = Field(description="a data set that needs no source folder")
    options: dict[str, Any] = Field(default_factory=dict, description="its options")


class EarlyStopping(Frozen):
    """ASHA's settings (searches only). It ranks by the first objective, constraints aside."""

    grace_epochs: int | None = Field(
        default=None,
        ge=1,
        description="no trial stops earlier; default: the model's own, GRACE_EPOCHS of its "
        "search-space file, which recorded learning curves justify",
    )
    reduction: int = Field(default=3, ge=2, description="one in so many goes on at each rung")


class Budget(Frozen):
    """What a search may try, and what bounds its configurations keep."""

    trials: int = Field(ge=1)
    ddi_ceiling: float | None = Field(
        default=None, gt=0, le=1, description="configurations above this DDI rate are infeasible"
    )
    medication_floor: float | None = Field(
        default=None,
        gt=0,
        description="drugs per visit below which a configuration is infeasible; where ddi_rate is "
        "an objective the default is half of what training patients were prescribed, so that "
        "recommending nothing does not win",
    )
    space: dict[str, dict[str, Any]] | None = Field(
        default=None,
        description="dimensions to search, as {low, high, log, step} or {choices}; default: all "
        "of search_spaces/<model>.py; an empty {} takes that file's range",
    )
    early_stopping: EarlyStopping | None = None
    concurrent: int | None = Field(default=None, ge=1, description="trials at a time")
    sampler_seed: int = Field(default=0, ge=0)


Objective = Literal["jaccard", "f1", "prauc", "ddi_rate", "log_likelihood", "parent_recall"]


class TuningRequest(Budget):
    """The search that every arm of an entry gets; its best configuration runs on every seed."""

    objective: Objective = Field(default="jaccard", description="validation metric")


class SearchRequest(Budget):
    """A hyper-parameter search of one model; validation decides, the test split is not read."""

    name: Name
    model: str
    objective: Objective | tuple[str, ...] = Field(
        default="jaccard", description="validation metric, or several for a Pareto front"
    )
    config: dict[str, Any] = Field(default_factory=dict, description="fixed settings")
    training: dict[str, Any] = Field(default_factory=dict, description="fixed loop settings")


class PartRequest(Frozen):
    """A part of a model that its search-space file does not declare, or another one in its place.

    Another model's DDI controller, another setting, another source of knowledge.
    """

    title: str = Field(description="follows the model's name in tables: without memory")
    changes: dict[str, Any] = Field(
        min_length=1,
        description="settings of an arm with this part changed: a field of the model's settings, "
        "training.FIELD, knowledge.FIELD, or augment.FIELD",
    )


PartName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class ArmRequest(Frozen):
    """A model under comparison, on every seed; and, if asked for, its ablations."""

    model: str
    name: Name | None = Field(default=None, description="default: the model's name")
    title: str | None = Field(default=None, description="in tables; default: the model's title")
    config: dict[str, Any] = Field(default_factory=dict, description="settings of the model")
    training: dict[str, Any] = Field(default_factory=dict, description="settings of the loop")
    augment: dict[str, Any] | None = Field(
        default=None,
        description="generated patients to train on beside the real ones: {generator, ratio, "
        "real, config, training}",
    )
    ablations: Literal["all"] | tuple[str, ...] = Field(
        default=(), description="names from search_spaces/<model>.py, or `all`"
    )
    parts: dict[PartName, PartRequest] = Field(
        default_factory=dict, description="parts for `designs`, beside the model's ablations"
    )
    designs: tuple[dict[str, Any], ...] = Field(
        default=(), description="each a `kind` of sweeps/designs with its own fields"
    )
    settings: Literal["fixed", "retuned"] = Field(
        default="fixed",
        description="fixed: every arm has the full model's settings but for its parts; retuned: "
        "every arm, the full model too, has the best settings of a search of its own",
    )
    tuning: TuningRequest | None = Field(default=None, description="that search; retuned only")
    grid: dict[str, tuple[Any, ...]] = Field(
        default_factory=dict,
        description="field of the model's settings, or training.FIELD, to its values; one arm for "
        "each combination takes this arm's place, named <name>-<field>-<value>",
    )


class RunBudget(Frozen):
    """What a study may spend in all, over every time it is run; none is no limit."""

    max_trials: int | None = Field(default=None, ge=1, description="finished trials")
    max_hours: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="hours of the clock that runs took"
    )
    max_gpu_hours: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="hours times GPUs of all trials, failed ones too",
    )


class PublishedRequest(Frozen):
    """A paper's table to stand beside our numbers."""

    document: str = Field(description="file in results/published, without .yaml")
    table: str = Field(description="one of its tables")
    rows: dict[str, str] = Field(
        default_factory=dict, description="name of an arm to the row that it repeats"
    )


class Study(Frozen):
    """A whole study file."""

    name: Name
    question: str = Field(description="what the study is to answer; printed in the report")
    scale: str | None = Field(default=None, description="which of `scales` is applied")
    scales: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="name to settings: dotted field to value"
    )
    cohort: str | CohortRequest
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(0, 1, 2), min_length=1)
    protocol: Protocol = Protocol()
    knowledge: KnowledgeSpec = KnowledgeSpec()
    training: dict[str, Any] = Field(
        default_factory=dict, description="loop settings of every arm and search"
    )
    resources: Resources = Resources()
    budget: RunBudget = RunBudget()
    arms: tuple[ArmRequest, ...] = Field(min_length=1)
    controls: tuple[str, ...] | None = Field(
        default=None,
        description="cheap models that stand beside the arms, each once; default: "
        "most_popular, copy_previous, knn and logistic_regression where two or more other models "
        "are compared; [] for none",
    )
    tuning: TuningRequest | None = Field(
        default=None, description="search of every re-tuned entry that gives none of its own"
    )
    reference: str = Field(description="name of the arm that differences are taken to")
    searches: tuple[SearchRequest, ...] = ()
    published: tuple[PublishedRequest, ...] = ()
    tables: tuple[str, ...] = Field(
        default=TABLES, description="those that apply are made; default: all but `legacy`"
    )
    analysis: Analysis = Analysis()
    resamples: int = Field(default=10_000, ge=100, le=100_000, description="of the bootstrap")
    bootstrap_seed: int = Field(default=0, ge=0)

    @field_validator("seeds", "searches")
    @classmethod
    def _distinct(cls, items: tuple[Any, ...]) -> tuple[Any, ...]:
        names = [getattr(item, "name", item) for item in items]
        if len(set(names)) < len(names):
            raise ValueError(f"must be distinct, but some of {names} are equal")
        return items


class _StrictLoader(yaml.SafeLoader):
    """Safe loading that refuses a key given twice, of which YAML would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key {key.value!r} is given twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def shipped() -> list[str]:
    """Returns the names of the studies that come with medsweep."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def load_study(source: str, settings: tuple[str, ...] = ()) -> Study:
    """Returns the study in a file, or the shipped one of that name, with `k=v` settings applied.

    The settings of the scale come first, wherever `scale=NAME` stands; the others in order.

    Raises:
        StudyError: no such study or scale, no valid YAML, or a field is wrong; the message names
            it.
    """
    path = _find(source)
    content = read_yaml(path)
    changes = [setting_of(text) for text in settings]
    for field, value in changes:
        if field == "scale":
            content["scale"] = value
    for field, value in _scale(content, str(path)):
        _apply(content, field, value, f"{path}, field scales.{content['scale']}.{field}")
    for field, value in changes:
        _apply(content, field, value, f"--set {field}")
    return parse(Study, content, str(path))


def read_yaml(path: Path) -> dict[str, Any]:
    """Returns the mapping in a YAML file.

    Raises:
        StudyError: not valid YAML, with its line; or no mapping.
    """
    try:
        content = _StrictLoader(path.read_text()).get_single_data()
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no text, or no such date
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise StudyError(f"{path}{line}: not valid YAML: {problem}.") from error
    if not isinstance(content, dict):
        raise StudyError(f"{path}: must be a mapping of fields, but got {type(content).__name__}.")
    return content


def near(name: str, known: Iterable[str]) -> str:
    """Returns " Did you mean 'x'?" with the known name nearest to `name`; empty if none is near.

    Example:
        >>> near("smal", ["small", "full"])
        " Did you mean 'small'?"
    """
    found = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {found[0]!r}?" if found else ""


def _find(source: str) -> Path:
    path = Path(source)
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path
        raise StudyError(f"There is no file {source}.")
    if source in shipped():
        return SHIPPED / f"{source}.yaml"
    hint = near(source, shipped())
    raise StudyError(
        f"No study {source!r}.{hint} Give a .yaml file, or one that ships: {shipped()}."
    )


def setting_of(text: str) -> tuple[str, Any]:
    """Returns field and value of `training.epochs=5`.

    Raises:
        StudyError: it has no such form.
    """
    field, separator, value = text.partition("=")
    if not separator or not field:
        raise StudyError(f"--set takes field=value, but got {text!r}. Example: --set seeds=[0,1].")
    try:
        return field, yaml.safe_load(value)
    except (yaml.YAMLError, ValueError) as error:
        raise StudyError(f"--set {field}: {value!r} is not valid YAML.") from error


def _scale(content: dict[str, Any], where: str) -> list[tuple[str, Any]]:
    """Returns the settings of the scale that the study names, if it names one."""
    name, scales = content.get("scale"), content.get("scales") or {}
    if not isinstance(name, str) or not isinstance(scales, dict):
        return []  # `parse` refuses what is neither
    if not scales:
        raise StudyError(f"{where}, field scale: the study has no scales, but got {name!r}.")
    if name not in scales:
        raise StudyError(
            f"{where}, field scale: no scale {name!r}.{near(name, map(str, scales))} "
            f"It has {list(scales)}."
        )
    own = copy.deepcopy(scales[name])  # a later --set must not change the scale itself
    return [(str(field), value) for field, value in own.items()] if isinstance(own, dict) else []


def _apply(content: dict[str, Any], field: str, value: Any, where: str) -> None:
    """Sets one dotted field (`training.epochs`), list items by position (`arms.0.name`)."""
    *parents, last = field.split(".")
    node: Any = content
    try:
        for part in parents:
            node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
        if isinstance(node, list):
            node[int(last)] = value
        else:
            node[last] = value
    except (ValueError, IndexError, TypeError, AttributeError) as error:
        raise StudyError(f"{where}: the study has no such field.") from error


def parse(model: type[Any], content: Any, where: str, prefix: str = "") -> Any:
    """Returns `model` made from `content`.

    Raises:
        StudyError: one line per wrong field: where it stands, the rule, the value.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise StudyError(_explain(error, model, where, prefix)) from error


def wrong_fields(model: type[Any], content: Any) -> set[str]:
    """Returns the top fields of `content` that `model` refuses; "" stands for several at once."""
    try:
        model.model_validate(content)
    except ValidationError as error:
        return {str(problem["loc"][0]) if problem["loc"] else "" for problem in error.errors()}
    return set()


# pydantic speaks of tuples and of validation, a study file has lists.
_RULES = {
    "missing": "is missing",
    "tuple_type": "must be a list",
    "dict_type": "must have fields of its own",
    "literal_error": "must be {expected}",
    "too_short": "needs at least {min_length}",
}


def _explain(error: ValidationError, model: type[Any], where: str, prefix: str) -> str:
    """Returns a line for each wrong field; of what holds others that are wrong, none."""
    rules: dict[tuple[str, ...], list[str]] = {}
    ends: dict[tuple[str, ...], str] = {}
    for problem in error.errors():
        # A part with a bracket names an alternative of the field's type.
        place = tuple(str(part) for part in problem["loc"] if "[" not in str(part))
        hint = ""
        if problem["type"] == "extra_forbidden" and len(place) == 1:
            known = sorted(model.model_fields)
            hint = near(place[0], known) or f" It has {known}."
        rule = problem["msg"]
        if problem["type"] in _RULES:
            rule = _RULES[problem["type"]].format(**problem.get("ctx", {}))
        value = "" if problem["type"] == "missing" else f", but got {problem['input']!r}"
        rules.setdefault(place, []).append(rule)
        ends[place] = f"{value}.{hint}"
    outer = {place[:size] for place in rules for size in range(len(place)) if place}
    return "\n".join(
        f"{where}, field {'.'.join([*([prefix] if prefix else []), *place]) or '(whole)'}: "
        f"{' or '.join(told)}{ends[place]}"
        for place, told in rules.items()
        if place not in outer
    )
