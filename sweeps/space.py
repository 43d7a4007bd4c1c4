"""Search spaces in study files: narrowing a model's ranges, and writing them down."""

import json
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
    json_to_distribution,
)
from optuna.trial import Trial

from sweeps.errors import StudyError

Space = dict[str, BaseDistribution]


def narrowed(space: Space, wanted: dict[str, dict[str, Any]] | None, where: str) -> Space:
    """Returns the dimensions asked for, each with the study's range, or else the model's own.

    Raises:
        StudyError: a range is malformed, or a dimension has none.
    """
    if wanted is None:
        return dict(space)
    if not wanted:
        raise StudyError(f"field {where}: no dimension to search. Name some, or leave it out.")
    return {
        dimension: _distribution(space.get(dimension), changes, f"{where}.{dimension}")
        for dimension, changes in wanted.items()
    }


def _distribution(
    own: BaseDistribution | None, changes: dict[str, Any], where: str
) -> BaseDistribution:
    if not changes:
        if own is None:
            raise StudyError(f"field {where}: give {{low, high}} or {{choices}}; it has no range.")
        return own
    try:
        if "choices" in changes:
            return CategoricalDistribution(**changes)
        base = {"log": getattr(own, "log", False), "step": getattr(own, "step", None)}
        merged = {**base, **changes}
        if all(isinstance(merged.get(end), int) for end in ("low", "high")) and not isinstance(
            own, FloatDistribution
        ):
            return IntDistribution(**{**merged, "step": merged["step"] or 1})
        return FloatDistribution(**merged)
    except (TypeError, ValueError) as error:
        raise StudyError(
            f"field {where}: {changes} is no range: {error}. "
            "Write {low: 0.01, high: 0.1, log: true} or {choices: [32, 64]}."
        ) from error


def suggest_from(trial: Trial, name: str, distribution: BaseDistribution) -> None:
    """Lets a running trial take its value of one more dimension."""
    if isinstance(distribution, CategoricalDistribution):
        trial.suggest_categorical(name, distribution.choices)
    elif isinstance(distribution, IntDistribution):
        every = distribution.step
        trial.suggest_int(
            name, distribution.low, distribution.high, step=every, log=distribution.log
        )
    elif isinstance(distribution, FloatDistribution):
        step, log = distribution.step, distribution.log
        trial.suggest_float(name, distribution.low, distribution.high, step=step, log=log)


def to_json(space: Space) -> dict[str, dict[str, Any]]:
    """Returns the space as plain values for `study.json`."""
    return {name: json.loads(distribution_to_json(d)) for name, d in space.items()}


def from_json(space: dict[str, dict[str, Any]]) -> Space:
    """Returns the space that `to_json` wrote."""
    return {name: json_to_distribution(json.dumps(d)) for name, d in space.items()}
