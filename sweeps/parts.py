"""Parts of a model: what the model declares as ablations, and what an entry adds of its own."""

from collections.abc import Iterable, Mapping
from typing import Any

from medrec.light import ModelFacts
from medrec.spec import Augment, KnowledgeSpec, Training
from search_spaces._base import Ablation
from sweeps.errors import StudyError
from sweeps.study import ArmRequest, near

_TABLES = sorted(KnowledgeSpec.model_fields.keys() - {"fingerprint"})


class CannotCombineError(Exception):
    """Some parts cannot be changed together; the message says why."""


def all_parts(
    request: ArmRequest, facts: ModelFacts, declared: Mapping[str, Ablation], where: str
) -> dict[str, Ablation]:
    """Returns every part by name, the declared ones first.

    Args:
        request: the entry, with parts of its own.
        facts: of its model.
        declared: the model's ablations.
        where: the entry's field in the study.

    Raises:
        StudyError: a part of the entry is called as a declared one, or changes no known setting.
    """
    known = [
        *facts.config.model_fields,
        *(f"training.{setting}" for setting in Training.model_fields),
        *(f"knowledge.{table}" for table in _TABLES),
        *(f"augment.{setting}" for setting in _augmenting(facts)),
    ]
    for name, part in request.parts.items():
        place = f"field {where}.parts.{name}"
        if name in declared:
            raise StudyError(
                f"{place}: {facts.name} declares an ablation of this name. Use it under "
                "`designs`, or give yours another name."
            )
        for changed in part.changes:
            if changed not in known:
                hint = near(changed, known) or f" There are {known}."
                raise StudyError(f"{place}.changes.{changed}: no such setting.{hint}")
    own = {name: Ablation(part.title, part.changes) for name, part in request.parts.items()}
    return {**declared, **own}


def _augmenting(facts: ModelFacts) -> list[str]:
    """Returns the settings of generated patients; only recommenders train on them."""
    return list(Augment.model_fields) if facts.task == "recommendation" else []


def united(parts: Mapping[str, Ablation], chosen: Iterable[str]) -> dict[str, Any]:
    """Returns what all the chosen parts change.

    Raises:
        CannotCombineError: two of them set one field to different values.

    Example:
        >>> parts = {"a": Ablation("", {"x": 0}), "b": Ablation("", {"x": 0, "y": 1})}
        >>> united(parts, ["b", "a"])
        {'x': 0, 'y': 1}
    """
    changes: dict[str, Any] = {}
    by: dict[str, str] = {}
    for part in sorted(chosen):
        for changed, value in parts[part].changes.items():
            if changed in changes and changes[changed] != value:
                raise CannotCombineError(
                    f"{by[changed]} and {part} cannot be changed together: they set {changed} "
                    f"to {changes[changed]!r} and {value!r}."
                )
            changes[changed], by[changed] = value, part
    return changes


def of(changes: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Returns the changes under a prefix, without it; for the empty one those that have none.

    Example:
        >>> of({"dim": 8, "training.epochs": 2}, "training."), of({"dim": 8}, "")
        ({'epochs': 2}, {'dim': 8})
    """
    if not prefix:
        return {name: value for name, value in changes.items() if "." not in name}
    found = changes.items()
    return {name.removeprefix(prefix): v for name, v in found if name.startswith(prefix)}
