"""Published: our numbers beside those that a paper prints, row by row of the paper's table."""

import re
from collections.abc import Iterator
from dataclasses import replace

from sweeps.evaluate import metric_names
from sweeps.record import PublishedRow, PublishedTable, PublishedValue
from sweeps.statistics.inference import Value
from sweeps.statistics.results import INCOMPARABLE, StudyResults, comparable
from sweeps.tables._base import (
    Cell,
    Column,
    Row,
    Table,
    TableData,
    arm_title,
    cohort_sentence,
    estimate_sentence,
    holes_sentence,
    metric_column,
    seeds_text,
    text_column,
)

TRUTH = "Ground truth"  # the row of a paper's table that has the true prescriptions
_WORD = re.compile(r"[a-z0-9]+")


def build(results: StudyResults) -> list[TableData] | None:
    """Returns a table for each published one that the study names; None where it names none."""
    return [_table(results, table) for table in results.record.published] or None


def _table(results: StudyResults, table: PublishedTable) -> TableData:
    printed = {name for row in table.rows for name in row.values}
    names = tuple(name for name in metric_names() if name in printed)
    pairs = (column for name in names for column in _columns(results, name))
    return TableData(
        name="_".join(["published", *_WORD.findall(f"{table.document} {table.table}".lower())]),
        title=f"Ours beside {table.number} of {table.citation.split(';')[0]}: {table.title}",
        columns=(
            text_column("row", "Published row"),
            text_column("arm", "Our arm"),
            text_column("seeds", "Seeds"),
            *pairs,
        ),
        rows=tuple(row for found in table.rows for row in _rows(results, table, found, names)),
        caption=_caption(results, table),
    )


def _columns(results: StudyResults, name: str) -> tuple[Column, Column]:
    """Returns the metric's columns: ours, published; none is marked as best."""
    ours = metric_column(results, name)
    return (
        replace(ours, title=f"{ours.title}, ours"),
        Column(f"published_{name}", f"{ours.title}, published", ours.unit, numeric=True),
    )


def _rows(
    results: StudyResults, table: PublishedTable, row: PublishedRow, names: tuple[str, ...]
) -> Iterator[Row]:
    """Yields a row for each arm that repeats the published one; it alone where none does."""
    reference = results.arm(results.record.reference)
    printed: list[Cell] = [
        _printed(
            row.values.get(name),
            row.mark + ("" if comparable(results.metrics[name], row) else INCOMPARABLE),
        )
        for name in names
    ]
    if row.row == TRUTH:
        yield _row(row.label, "True prescriptions", "", _truth(results, names), printed)
        return
    arms = [results.arm(arm) for arm, name in table.arms.items() if name == row.row]
    for arm in arms:
        ours: list[Cell] = [results.estimate(name, arm.name) for name in names]
        title, seeds = arm_title(results, arm, reference), seeds_text(results, arm)
        yield _row(row.label, title, seeds, ours, printed)
    if not arms:
        yield _row(row.label, "", "", [None for _ in names], printed)


def _row(label: str, arm: str, seeds: str, ours: list[Cell], printed: list[Cell]) -> Row:
    pairs = (cell for pair in zip(ours, printed, strict=True) for cell in pair)
    return Row((label, arm, seeds, *pairs))


def _truth(results: StudyResults, names: tuple[str, ...]) -> list[Cell]:
    record = results.record
    known = {
        "ddi_rate": Value(record.true_ddi_rate),
        "medications": Value(record.true_medications),
    }
    return [known.get(name) for name in names]


def _printed(value: PublishedValue | None, mark: str) -> str | None:
    """Returns the number as the paper prints it, with four decimals."""
    if value is None:
        return None
    spread = "" if value.spread is None else f" ± {value.spread:.4f}"
    return f"{value.mean:.4f}{spread}{mark}"


def _caption(results: StudyResults, table: PublishedTable) -> str:
    scores = results.scores["all"]
    arms = [results.arm(name) for name in table.arms]
    mark = (
        f" {next(row.mark for row in table.rows if row.mark)}: {table.mark}." if table.mark else ""
    )
    return (
        f"Study {results.record.name}, test split, all visits: {len(scores.patients):,} patients, "
        f"{scores.visits:,} visits. {cohort_sentence(results)} Ours: "
        f"{estimate_sentence(results)} Published: "
        f"{table.number} of {table.citation}, as printed{_spread(table)}.{mark} "
        f"{_cohorts(results, table)} Numbers of two studies compare only on the same cohort: same "
        f"data, preprocessing and split. {_notes(table)}{holes_sentence(results, arms)}"
    )


def _spread(table: PublishedTable) -> str:
    printed = any(value.spread is not None for row in table.rows for value in row.values.values())
    return f"; ± is the {table.spread}" if printed else ""


def _cohorts(results: StudyResults, table: PublishedTable) -> str:
    """Returns the size of our cohort and of the paper's."""
    ours = results.record.cohort.counts
    known = [
        f"{ours[name]:,.0f} {name}"
        for name in ("patients", "visits", "medications")
        if name in ours
    ]
    theirs = table.cohort
    notes = "".join(f" {note}" for note in theirs.notes)
    return (
        f"Our cohort, {results.record.cohort.name}: {', '.join(known)}; the paper's, "
        f"{theirs.title}: {theirs.patients:,} patients, {theirs.visits:,} visits, "
        f"{theirs.medications:,} medications.{notes}"
    )


def _notes(table: PublishedTable) -> str:
    own = [f"{row.label}: {note.removesuffix('.')}." for row in table.rows for note in row.notes]
    notes = [*table.notes, *own]
    return f"Of the paper: {' '.join(notes)}" if notes else ""


TABLE = Table(
    "Published values", build, needs="`published` in the study", tasks=("recommendation",)
)
