"""`medsweep data knowledge`: everything that models are told about codes and drugs."""

from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from medrec.cohort import Cohort
from medrec.errors import KnowledgeError
from medrec.knowledge.build import build_bundle
from medrec.knowledge.bundle import Bundle, open_bundle
from medrec.knowledge.options import KnowledgeOptions
from medrec.raw_files import watched
from sweeps.flags import chosen, flags
from sweeps.overwriting import refuse_another, refuse_foreign
from sweeps.study import parse


def command() -> click.Command:
    """Returns the command, its flags made from the bundle's options."""
    folder = click.Path(path_type=Path)
    places: list[click.Parameter] = [
        click.Option(["--cohort"], type=folder, required=True, help="Cohort folder."),
        click.Option(["--out"], type=folder, required=True, help="Bundle folder to write."),
        click.Option(
            ["--sources"],
            type=folder,
            default=None,
            help="Folder of downloaded tables (ICD, CCS, GEM, ATC, DDI, indications, …), looked "
            "in at any depth. Without it: the embedded tables only.",
        ),
    ]
    return click.Command(
        "knowledge",
        params=[*places, *flags(KnowledgeOptions)],
        callback=_run,
        help="Builds the knowledge that trials use, and prints which share of codes it covers.\n\n"
        "Example: medsweep data knowledge --cohort m4 --sources tables --out m4-knowledge",
    )


def _run(cohort: Path, out: Path, sources: Path | None, **given: Any) -> None:
    if sources is not None and not sources.is_dir():
        raise KnowledgeError(f"`--sources` must be a folder, but {sources} is none.")
    refuse_foreign(out, "knowledge.json", "knowledge bundle")
    console = Console(highlight=False)
    with console.status("Building the knowledge bundle …") as status:

        def show(path: Path, rows: int) -> None:
            status.update(f"Building the knowledge bundle … {path.name}, {rows:,} rows")

        opened = Cohort.open(cohort)
        options = _options(opened, chosen(KnowledgeOptions, given))
        cache = out.resolve().parent / ".knowledge-cache"
        with watched(show):
            bundle, missing = build_bundle(opened, sources, options, cache)
        refuse_another(out, bundle, open_bundle, "bundle")
        bundle.save(out)
    console.print(_table(bundle))
    if missing:
        console.print(f"Not there, left out: {', '.join(missing)}.", soft_wrap=True)
    for each in bundle.coverage:
        if each.of and not each.codes:
            console.print(
                f"{each.source} covers none of the {each.of:,} {each.kind}: is its file whole, "
                "and for these codes?",
                soft_wrap=True,
            )
    graph = bundle.relations
    text = f"{bundle.text.shape[1]}-dimensional text vectors" if bundle.text.size else "no text"
    console.print(
        f"{out}: {len(bundle.interactions):,} interacting pairs, {len(bundle.structures):,} "
        f"classes with structures, a graph of {len(graph.nodes):,} nodes and "
        f"{len(graph.triples):,} relations, {text}. "
        f"In a study: knowledge: {{bundle: {out}}}",
        soft_wrap=True,
    )


def _options(cohort: Cohort, given: dict[str, Any]) -> KnowledgeOptions:
    """Returns the options; what is not given follows the preset that the cohort was made with."""
    preset = cohort.provenance.options.get("preset")
    if preset is not None:
        given = {"preset": preset, **given}
    return parse(KnowledgeOptions, given, "data knowledge")


def _table(bundle: Bundle) -> Table:
    table = Table("source", "kind", "codes", "share of uses")
    for each in bundle.coverage:
        table.add_row(each.source, each.kind, f"{each.codes:,} of {each.of:,}", f"{each.uses:.1%}")
    return table
