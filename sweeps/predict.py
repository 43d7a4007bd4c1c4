"""`medsweep predict`: an exported model's answer for every visit of a cohort, as one Parquet file.

A row a visit: `patient` (row of the cohort), `visit` (0 for the first), `chosen` (codes of the
recommended drug classes), `scores` (of every drug class, in the order of `drugs` in the schema's
metadata) and, where the cohort has medications, `truth`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Int64

from medrec import splits
from medrec.cohort import Cohort
from medrec.knowledge.tables import titles
from medrec.light import model_facts
from medrec.measures import Measure
from medrec.predictions import Predictions
from medrec.spec import KnowledgeSpec, ModelConfig
from sweeps.errors import StoreError
from sweeps.exported import read_exported
from sweeps.statistics.results import INCOMPARABLE, INCOMPARABLE_TEXT

ALL = "all"
_MARK = b"medsweep"  # in the metadata of every file written here


def to_table(
    predictions: Predictions, medications: tuple[str, ...], facts: dict[str, str], truth: bool
) -> pa.Table:
    """Returns the file's table.

    Args:
        predictions: a row a visit.
        medications: drug class of each column of the predictions.
        facts: further metadata.
        truth: whether there is one.
    """
    scores = pa.array(list(predictions.scores), pa.list_(pa.float32()))
    columns = {
        "patient": pa.array(predictions.patient),
        "visit": pa.array(predictions.visit),
        "chosen": _sets(predictions.chosen, medications),
        "scores": scores,
    }
    if truth:
        columns["truth"] = _sets(predictions.truth, medications)
    names = titles()
    metadata = {
        "medsweep": json.dumps(facts),
        "drugs": json.dumps(medications),
        "names": json.dumps([names.get(code, "") for code in medications]),
    }
    return pa.table(columns).replace_schema_metadata(metadata)


def _sets(rows: Bool[np.ndarray, "visits drugs"], medications: tuple[str, ...]) -> pa.Array:
    offsets = np.concatenate([[0], np.cumsum(rows.sum(axis=1))]).astype(np.int32)
    codes = pa.array(medications, pa.string()).take(pa.array(np.nonzero(rows)[1]))
    return pa.ListArray.from_arrays(pa.array(offsets), codes)


def _members(cohort: Cohort, split: str) -> Int64[np.ndarray, " members"]:
    if split == ALL:
        return np.arange(cohort.patients)
    members = cohort.members(splits.NAMES.index(split))
    if not len(members):
        raise StoreError(f"The cohort has no patient in the split {split!r}. Give --split all.")
    return members


def _refuse_foreign(out: Path) -> None:
    """Raises an error if `out` exists and was not written by this command."""
    if not out.exists():
        return
    try:
        made = _MARK in (pq.read_schema(out).metadata or {})
    except (OSError, pa.ArrowInvalid):
        made = False
    if not made:
        raise StoreError(
            f"{out} is there and holds no predictions of this command. Choose another --out, so "
            "that it is not overwritten."
        )


def _write(table: pa.Table, out: Path) -> None:
    """Writes the file whole: aside, then renamed."""
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = out.with_name(f".{out.name}-new")
    try:
        pq.write_table(table, aside, compression="zstd")
        aside.replace(out)
    finally:
        aside.unlink(missing_ok=True)


def _told(values: dict[str, float], settings: ModelConfig) -> str:
    from medrec.evaluation import metrics

    known: Mapping[str, Measure] = metrics()
    mark = "" if settings.comparable_scores else INCOMPARABLE
    told = ", ".join(
        f"{known[name].title} {value:.{known[name].decimals}f}"
        f"{mark if known[name].of_scores else ''}"
        for name, value in values.items()
    )
    notes = [told, INCOMPARABLE_TEXT if mark else ""]
    if settings.first_visit:
        notes.append(f"it predicts no first visit; the answer there: {settings.first_visit}")
    if settings.leak:
        notes.append(
            f"it reads what is not known when prescribing ({settings.leak}); these are no results"
        )
    return "\n  ".join(filter(None, notes))


@click.command("predict")
@click.option(
    "--model", type=click.Path(path_type=Path), required=True, help="Folder of `export best`."
)
@click.option("--cohort", type=click.Path(path_type=Path), required=True, help="Cohort folder.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Parquet file.")
@click.option(
    "--split",
    type=click.Choice([*splits.NAMES, ALL]),
    default=ALL,
    show_default=True,
    help="Patients of the cohort.",
)
@click.option(
    "--trained-on",
    type=click.Path(path_type=Path),
    help="Cohort the model was trained on, where --cohort is another and the model needs it.",
)
@click.option("--bundle", type=click.Path(path_type=Path), help="Knowledge bundle of its study.")
@click.option("--interactions", type=click.Path(path_type=Path), help="Pair table of its study.")
@click.option("--structures", type=click.Path(path_type=Path), help="Structures of its study.")
def command(
    model: Path,
    cohort: Path,
    out: Path,
    split: str,
    trained_on: Path | None,
    bundle: Path | None,
    interactions: Path | None,
    structures: Path | None,
) -> None:
    """Applies an exported model to a cohort: research only, no treatment advice.

    On the cohort of its study the test split's predictions are those that the study stored. Of
    another cohort, codes that the model does not know are left out and counted.

    Example: medsweep predict --model best --cohort cohort --split test --out predictions.parquet
    """
    from medrec.apply import apply

    _refuse_foreign(out)
    places = {"bundle": bundle, "interactions": interactions, "structures": structures}
    given: dict[str, Any] = {n: str(place) for n, place in places.items() if place is not None}
    learned = read_exported(model, KnowledgeSpec.model_construct(**given))
    opened = Cohort.open(cohort)
    home = None if trained_on is None else Cohort.open(trained_on)
    found = apply(learned, opened, _members(opened, split), home)
    predictions = found.predictions
    facts = {
        "model": learned.spec.model,
        "trial": learned.spec.key,
        "trained_on": learned.spec.cohort.fingerprint,
        "cohort": opened.fingerprint,
        "split": split,
        "threshold": str(learned.spec.protocol.threshold),
    }
    _write(to_table(predictions, found.medications, facts, bool(found.metrics)), out)
    patients = len(np.unique(predictions.patient))
    click.echo(
        f"{out}: {len(predictions.visit):,} visits of {patients:,} patients ({split}), "
        f"{predictions.chosen.sum(axis=1).mean():.2f} drug classes a visit"
    )
    for kind, count in found.left_out.items():
        if count:
            click.echo(f"  left out: {count:,} {kind} that the model does not know")
    if found.metrics:
        settings = model_facts(learned.spec.model).config(**learned.spec.config)
        click.echo(f"  against what was prescribed: {_told(found.metrics, settings)}")
    else:
        click.echo("  the cohort has no medications, so there are no metrics")
