"""Command-line flags made from a class of options, so that each option is described once."""

import types
import typing
from typing import Any

import click
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo


def flags(options: type[BaseModel]) -> list[click.Parameter]:
    """Returns one flag for each field; none given means the field's default."""
    return [_flag(name, field) for name, field in options.model_fields.items()]


def chosen(options: type[BaseModel], given: dict[str, Any]) -> dict[str, Any]:
    """Returns what the user gave, comma-separated values of tuple fields split.

    The options class checks the values.
    """
    return {name: _value(options, name, v) for name, v in given.items() if v is not None}


def _flag(name: str, field: FieldInfo) -> click.Option:
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
    values = _choices(field.annotation)
    kind: Any = str
    if values:
        kind = click.Choice(values)
    elif field.annotation in (int, float):
        kind = field.annotation
    elif field.annotation is bool:
        return click.Option(
            [f"--{name.replace('_', '-')}/--no-{name.replace('_', '-')}", name],
            default=None,
            help=f"{field.description or ''} [default: {'yes' if default else 'no'}]",
        )
    suffix = "" if shown in (None, "") else f" [default: {shown}]"
    return click.Option(
        [f"--{name.replace('_', '-')}", name],
        type=kind,
        default=None,
        help=f"{field.description or ''}{suffix}",
    )


def _choices(annotation: Any) -> list[str]:
    """Returns the values of a Literal, maybe one that may be None too."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        parts = [part for part in typing.get_args(annotation) if part is not type(None)]
        return _choices(parts[0]) if len(parts) == 1 else []
    if typing.get_origin(annotation) is typing.Literal:
        return [str(value) for value in typing.get_args(annotation)]
    return []


def _value(options: type[BaseModel], name: str, value: Any) -> Any:
    annotation = options.model_fields[name].annotation
    if typing.get_origin(annotation) is not tuple or not isinstance(value, str):
        return value
    parts = [part.strip() for part in value.split(",") if part.strip()]
    if typing.get_args(annotation)[0] is not float:
        return parts
    try:
        return [yaml.safe_load(part) for part in parts]
    except (yaml.YAMLError, ValueError):
        return value
