"""`medsweep generate`: a cohort of patients drawn from an exported generator."""

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from medrec import splits
from medrec.card.pages import pages
from medrec.cohort import KINDS, Cohort
from medrec.spec import KnowledgeSpec
from sweeps.exported import read_exported
from sweeps.open_data import is_open
from sweeps.overwriting import refuse_another, refuse_foreign
from sweeps.visits import FEWEST


def _without_rare(drawn: Cohort, home: Cohort) -> tuple[Cohort, int]:
    """Returns the cohort without codes that few training patients have, and how many these are."""
    from medrec.generation._cohorts import only_codes

    keep = {kind: home.carriers(kind, splits.TRAIN) >= FEWEST for kind in KINDS}
    return only_codes(drawn, keep), sum(int((~kept).sum()) for kept in keep.values())


@click.command("generate")
@click.option(
    "--model", type=click.Path(path_type=Path), required=True, help="Folder of `export best`."
)
@click.option("--patients", type=click.IntRange(3), required=True, help="How many to draw.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Cohort folder.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--temperature",
    type=click.FloatRange(0, 10, min_open=True),
    default=1.0,
    show_default=True,
    help="Divides the logits; below 1 drawn patients are more alike.",
)
@click.option("--top-k", type=click.IntRange(1), help="Draw among so many likeliest codes only.")
@click.option(
    "--trained-on",
    type=click.Path(path_type=Path),
    help="Cohort the generator was trained on; without it gender, group and age are unknown.",
)
@click.option("--bundle", type=click.Path(path_type=Path), help="Knowledge bundle of its study.")
def command(
    model: Path,
    patients: int,
    out: Path,
    seed: int,
    temperature: float,
    top_k: int | None,
    trained_on: Path | None,
    bundle: Path | None,
) -> None:
    """Draws patients from an exported generator; the folder is a cohort like any other.

    The same seed draws the same patients. Generated patients of hospital data are not free of
    risk: read the table of privacy of the generator's study before sharing them.

    Example: medsweep generate --model best --patients 1000 --out generated
    """
    from medrec.drawing import draw_cohort

    refuse_foreign(out, "cohort.json", "cohort")
    given: dict[str, Any] = {} if bundle is None else {"bundle": str(bundle)}
    learned = read_exported(model, KnowledgeSpec.model_construct(**given))
    home = None if trained_on is None else Cohort.open(trained_on)
    console = Console(highlight=False, stderr=True)
    with console.status(f"Drawing {patients:,} patients from {learned.spec.model} …"):
        drawn = draw_cohort(learned, patients, seed, temperature, top_k, home)
    rare = 0
    if home is not None and not is_open(home.provenance):
        drawn, rare = _without_rare(drawn, home)
    refuse_another(out, drawn, Cohort.open, "cohort")
    drawn.save(out, pages(drawn))
    counts = drawn.counts()
    click.echo(
        f"{out}: {drawn.patients:,} patients, {counts['visits']:,.0f} visits, "
        f"{counts['diagnoses_per_visit']:.1f} diagnoses, {counts['procedures_per_visit']:.1f} "
        f"procedures and {counts['medications_per_visit']:.1f} drug classes a visit"
    )
    if rare:
        click.echo(
            f"  {rare:,} codes that fewer than {FEWEST} training patients have were left out: "
            "they may be texts about one patient"
        )
    if home is None:
        click.echo("  gender, group and age are unknown, visits 90 days apart: see --trained-on")
