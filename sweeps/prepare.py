"""`medsweep data prepare DATASET`: a command for each data set, its flags from its options."""

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from medrec import plugins
from medrec.card.pages import pages
from medrec.cohort import Cohort, Provenance
from medrec.datasets._base import Dataset
from medrec.datasets._base import prepare as prepare_cohort
from medrec.raw_files import watched
from sweeps.flags import chosen, flags
from sweeps.overwriting import refuse_another, refuse_foreign
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
    places: list[click.Parameter] = [source, out] if dataset.needs_source else [out]

    def run(out: Path, source: Path | None = None, **given: Any) -> None:
        _prepare(name, dataset, source, out, given)

    needed = "--source DIR " if dataset.needs_source else ""
    return click.Command(
        name,
        params=[*places, *flags(dataset.options)],
        callback=run,
        help=f"{dataset.title}\n\nExample: medsweep data prepare {name} {needed}--out cohort",
        short_help=dataset.title,
    )


def _prepare(
    name: str, dataset: Dataset, source: Path | None, out: Path, given: dict[str, Any]
) -> None:
    options = parse(dataset.options, chosen(dataset.options, given), f"data prepare {name}")
    refuse_foreign(out, "cohort.json", "cohort")
    console = Console(highlight=False)
    with console.status(f"Preparing {name} …") as status:

        def show(path: Path, rows: int) -> None:
            status.update(f"Preparing {name} … {path.name}, {rows:,} rows")

        with watched(show):
            cohort: Cohort = prepare_cohort(name, source, options)
        status.update(f"Preparing {name} … writing")
        refuse_another(out, cohort, Cohort.open, "cohort")
        cohort.save(out, pages(cohort))
    counts = cohort.counts()
    console.print(
        f"{out}: {cohort.patients:,} patients, {cohort.visits.sum():,} visits, "
        f"{counts['diagnoses']:.0f} diagnoses, {counts['procedures']:.0f} procedures, "
        f"{counts['medications']:.0f} drug classes; card in {out / 'card.md'} and card.html",
        soft_wrap=True,
    )
    console.print(f"  read: {', '.join(cohort.provenance.inputs) or 'nothing'}", soft_wrap=True)
    for line in _left_out(cohort.provenance):
        console.print(f"  {line}", soft_wrap=True, markup=False)


def _left_out(source: Provenance) -> list[str]:
    """Returns what a user should know before trusting the cohort: rows lost, by step."""
    lost = {what: n for what, n in source.dropped.items() if n}
    unclear = {
        what: n
        for what, n in source.mapped.items()
        if n and any(word in what for word in ("not ", "malformed", "without", "left out"))
    }
    return [f"{n:,} {what}" for what, n in {**lost, **unclear}.items()]
