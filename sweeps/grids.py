"""An entry with a grid: one arm for each combination of its values."""

import itertools
import json
import re
from typing import Any

from medrec.light import ModelFacts
from medrec.spec import Training, TrialSpec
from sweeps.cohorts import StudyData
from sweeps.errors import StudyError
from sweeps.record import Arm
from sweeps.specs import (
    arm_name,
    dimension_value,
    known_model,
    loop_settings,
    make_spec,
    on_seeds,
    remarks,
)
from sweeps.study import ArmRequest, Study, parse, wrong_fields


def grid_arms(
    study: Study, data: StudyData, request: ArmRequest, where: str
) -> list[tuple[Arm, list[TrialSpec]]]:
    """Returns one arm for each combination of the grid's values, the last field fastest.

    Raises:
        StudyError: a field or value is wrong, or the entry has ablations as well.
    """
    if request.ablations or request.designs or request.settings == "retuned":
        raise StudyError(
            f"field {where}.grid: an entry has a grid or ablations (`ablations`, `designs`, "
            "`settings: retuned`), not both. Give the ablations an entry of their own."
        )
    facts = known_model(request.model, where)
    name, title = request.name or request.model, request.title or facts.title
    _check_grid(request, where)
    made = []
    for values in itertools.product(*request.grid.values()):
        point = dict(zip(request.grid, values, strict=True))
        spec = _grid_spec(study, data, facts, request, point, where)
        # As the settings hold them: 4 and "4" are one value.
        varied = {field: dimension_value(spec, field) for field in request.grid}
        specs = on_seeds(study.seeds, facts.seeded, spec)
        arm = Arm(
            name=arm_name("-".join([name, *map(_point_name, varied, varied.values())]), where),
            title=", ".join([title, *map(_point_title, varied, varied.values())]),
            model=request.model,
            family=name,
            varied=varied,
            seeded=facts.seeded,
            trials={str(s.seed): s.key for s in specs},
            **remarks(spec),
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
        (Training, {**loop_settings(study, facts), **training}, loop, ".training"),
    ):
        if varied and wrong_fields(model, content) & {*varied, ""}:
            parse(model, content, "study", f"{where}.grid{kind}")
    return make_spec(study, data, facts, config, training, where, augment=request.augment)


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
