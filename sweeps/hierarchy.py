"""`medsweep hierarchy`: a tree of a cohort's codes, and matches with another cohort's codes.

tree.json    as published: {"name": …, "children": […]}
tree.html    the same to look at: interactive, one file, no network
matches.csv  with --other: source, target, cosine, given (one name in both), titles
"""

import csv
import io
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console

from medrec.cohort import Cohort
from medrec.errors import KnowledgeError
from medrec.exports._base import Layout, whole
from sweeps.study import setting_of

_TREE, _PAGE, _MATCHES = "tree.json", "tree.html", "matches.csv"
LAYOUT = Layout(
    files=frozenset({_TREE, _PAGE, _MATCHES}),
    sign=_TREE,
    signed=lambda content: {"name", "children"} <= set(content),
)


@click.command("hierarchy")
@click.option(
    "--cohort", type=click.Path(path_type=Path), required=True, help="Cohort whose codes."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option(
    "--bundle", type=click.Path(path_type=Path), help="Knowledge bundle of the cohort, for titles."
)
@click.option(
    "--other", type=click.Path(path_type=Path), help="Another cohort, to match its codes."
)
@click.option(
    "--other-bundle", type=click.Path(path_type=Path), help="Knowledge bundle of the other cohort."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="FIELD=VALUE",
    help="A setting of MASH, as geometry=euclidean; `skeleton=none` grows the whole tree anew.",
)
def command(
    cohort: Path,
    out: Path,
    bundle: Path | None,
    other: Path | None,
    other_bundle: Path | None,
    seed: int,
    threads: int,
    settings: tuple[str, ...],
) -> None:
    """Learns a tree over a cohort's codes from which occur together, and from their titles.

    Known parents help where there are some; local codes without any get a tree, too. The page
    opens in a browser from disk. A tree is a statement about records, no medical classification.

    \b
    Examples:
      medsweep hierarchy --cohort m4 --bundle m4-knowledge --out m4-tree
      medsweep hierarchy --cohort m3 --other m4 --out matched --set alignment=sinkhorn
    """  # noqa: D301  click reads the control character
    from medrec.arranging import arrange, match, settings_of
    from medrec.hierarchy._page import page
    from medrec.hierarchy._tree_json import to_json

    if other_bundle is not None and other is None:
        raise click.UsageError("--other-bundle belongs to --other; give that, too.")
    config = settings_of(dict(setting_of(text) for text in settings))
    for place in (bundle, other_bundle):
        if place is not None and not place.is_dir():
            raise KnowledgeError(f"There is no knowledge bundle {place}.")
    opened = Cohort.open(cohort)
    console = Console(highlight=False, stderr=True)
    with whole(out, LAYOUT) as fresh:
        with console.status(f"Learning a tree over the codes of {cohort} …"):
            builder = arrange(opened, bundle, config, seed, threads)
        tree = builder.tree
        note = f"Codes of {cohort.name}, MASH (reconstruction), seed {seed}. Research only."
        (fresh / _TREE).write_text(to_json(tree), encoding="utf-8")
        (fresh / _PAGE).write_text(page(tree, f"Codes of {cohort.name}", note), encoding="utf-8")
        told = _told(tree.kinds)
        if other is not None:
            with console.status(f"Matching them with the codes of {other} …"):
                theirs = (Cohort.open(other), other_bundle)
                pairs = match((opened, bundle), theirs, config, seed, threads)
            (fresh / _MATCHES).write_text(_csv(pairs), encoding="utf-8")
            told += f"; {_matched(pairs)}"
    click.echo(f"{out}: {told}")


def _told(kinds: tuple[str, ...]) -> str:
    counts = {kind: kinds.count(kind) for kind in ("code", "category", "latent")}
    return (
        f"a tree of {len(kinds):,} nodes: {counts['code']:,} codes, {counts['category']:,} known "
        f"categories, {counts['latent']:,} found"
    )


def _csv(pairs: Any) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["source", "target", "cosine", "given", "source_title", "target_title"])
    columns = (pairs.source, pairs.target, pairs.cosine.tolist(), pairs.given.tolist(),
               pairs.source_titles, pairs.target_titles)  # fmt: skip
    for source, target, cosine, given, *titles in zip(*columns, strict=True):
        writer.writerow([source, target, f"{cosine:.4f}", "yes" if given else "no", *titles])
    return text.getvalue()


def _matched(pairs: Any) -> str:
    given = int(pairs.given.sum())
    found = f"{len(pairs.given) - given:,} pairs of codes found, {given:,} of one name"
    known = pairs.rank[np.isfinite(pairs.rank)]
    if not len(known):
        return found
    first = float((known <= 1).mean())
    return (
        f"{found}; of {len(known):,} codes with a known equivalent it came first for {first:.1%}"
    )
