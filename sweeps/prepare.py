"""`medsweep data prepare DATASET`: a command for each data set, its flags from its options."""

import types
import typing
from pathlib import Path
from typing import Any

import click
import yaml
from pydantic.fields import FieldInfo
from rich.console import Console

from medrec import plugins
from medrec.cohort import Cohort
from medrec.datasets._base import Dataset
from medrec.datasets._base import prepare as prepare_cohort
from medrec.errors import CohortError
from sweeps.errors import StoreError
from sweeps.study import parse


def command(name: str) -> click.Command:
    """Returns the sub-command of one data set.

    Raises:
        UnknownPluginError: there is no such data set.
    """
    dataset: Dataset = plugins.load("medrec.datasets", name, "DATASET")
    source = click.Option(
        ["--source"],
        type=click.Path(path_type=Path),
        required=dataset.needs_source,
        help="Folder of the raw files.",
    )
    out = click.Option(
        ["--out"], type=click.Path(path_type=Path), required=True, help="Cohort folder to write."
    )
    flags = [_flag(n, field) for n, field in dataset.options.model_fields.items()]
    parameters: list[click.Parameter] = [source if dataset.needs_source else None, out, *flags]  # type: ignore[list-item]

    def run(out: Path, source: Path | None = None, **given: Any) -> None:
        _prepare(name, dataset, source, out, given)

    needed = "--source DIR " if dataset.needs_source else ""
    return click.Command(
        name,
        params=[p for p in parameters if p is not None],
        callback=run,
        help=f"{dataset.title}\n\nExample: medsweep data prepare {name} {needed}--out cohort",
        short_help=dataset.title,
    )


def _flag(name: str, field: FieldInfo) -> click.Option:
    default = field.get_default(call_default_factory=True)
    shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
    origin = typing.get_origin(field.annotation)
    kind: Any = str
    if origin is typing.Literal:
        kind = click.Choice([str(value) for value in typing.get_args(field.annotation)])
    elif field.annotation in (int, float, bool):
        kind = field.annotation
    elif origin in (typing.Union, types.UnionType):
        kind = str
    return click.Option(
        [f"--{name.replace('_', '-')}", name],
        type=kind,
        default=None,
        help=f"{field.description or ''} [default: {shown}]",
    )


def _prepare(
    name: str, dataset: Dataset, source: Path | None, out: Path, given: dict[str, Any]
) -> None:
    chosen = {k: _value(dataset, k, v) for k, v in given.items() if v is not None}
    options = parse(dataset.options, chosen, f"data prepare {name}")
    if out.exists() and not (out / "cohort.json").is_file() and any(out.iterdir()):
        raise StoreError(
            f"{out} is not empty and holds no cohort. Choose another --out, so that nothing there "
            "is overwritten."
        )
    console = Console(highlight=False)
    with console.status(f"Preparing {name} …"):
        cohort: Cohort = prepare_cohort(name, source, options)
        _refuse_another(out, cohort)
        cohort.save(out)
    counts = cohort.counts()
    console.print(
        f"{out}: {cohort.patients:,} patients, {cohort.visits.sum():,} visits, "
        f"{counts['diagnoses']:.0f} diagnoses, {counts['procedures']:.0f} procedures, "
        f"{counts['medications']:.0f} drug classes; card in {out / 'card.md'}",
        soft_wrap=True,
    )


def _refuse_another(out: Path, cohort: Cohort) -> None:
    """Refuses to replace a sound cohort by another one: studies may rest on it."""
    try:
        stored = Cohort.open(out)
    except CohortError:
        return
    if stored.fingerprint != cohort.fingerprint:
        raise StoreError(
            f"{out} holds another cohort ({stored.fingerprint[:12]}; this one is "
            f"{cohort.fingerprint[:12]}). Choose another --out, or delete that folder first."
        )


def _value(dataset: Dataset, name: str, value: Any) -> Any:
    """Splits comma-separated values of tuple fields; the options class checks the rest."""
    annotation = dataset.options.model_fields[name].annotation
    if typing.get_origin(annotation) is tuple and isinstance(value, str):
        try:
            return [yaml.safe_load(part) for part in value.split(",") if part]
        except (yaml.YAMLError, ValueError):
            return value
    return value
