"""`medsweep data export`: a cohort in a format that other tools read."""

from pathlib import Path

import click
from rich.console import Console

from medrec import plugins

FORMATS = "medrec.exports"


@click.command("export")
@click.option(
    "--cohort",
    type=click.Path(path_type=Path),
    required=True,
    help="Cohort folder, as `medsweep data prepare` wrote it.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(plugins.names(FORMATS)),
    required=True,
    help="meds: events in the Medical Event Data Standard, which `data prepare meds` reads back. "
    "parquet: plain tables of patients, visits and codes.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder to write; an earlier export of that format in it is replaced.",
)
def command(cohort: Path, form: str, out: Path) -> None:
    """Writes a cohort in a format that other tools read.

    There are no identifiers and no dates in a cohort, so none in an export; in MEDS the times are
    artificial. What was made from hospital data stays under that data's terms.

    Example: medsweep data export --cohort cohort --format meds --out cohort-meds
    """
    export = plugins.load(FORMATS, form, "EXPORT")
    console = Console(highlight=False)
    with console.status(f"Writing {form} …"):
        counts = export.write(cohort, out)
    written = ", ".join(f"{count:,} {what}" for what, count in counts.items())
    console.print(f"{out}: {written}; {export.title}", soft_wrap=True, markup=False)
