"""What a table is: columns that declare direction, unit and decimals, rows, and a full caption.

A table plug-in is one file that defines `TABLE`. Its `build` takes `StudyResults` and returns
tables, or None where it does not apply to the study. It formats nothing: `_render` does.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sweeps.evaluate import Scope
from sweeps.record import Arm
from sweeps.statistics.bootstrap import LEVEL
from sweeps.statistics.results import StudyResults, Value

Cell = str | int | Value | None
CONDITIONAL = "†"
FEW = 10  # seeds below which the caption warns; see sweeps.statistics.bootstrap


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        key: its name in CSV; a `Value` column adds `<key>_low` and `<key>_high` if `interval`.
        title: its heading.
        unit: what one unit is; empty for text.
        decimals: digits after the point.
        higher_is_better: direction; None where neither is better by itself.
        numeric: whether its cells are numbers.
        interval: whether its cells may have intervals.
        signed: whether a plus sign is printed, as for differences.
        mark_best: whether the best cells are marked.
    """

    key: str
    title: str
    unit: str = ""
    decimals: int = 4
    higher_is_better: bool | None = None
    numeric: bool = False
    interval: bool = False
    signed: bool = False
    mark_best: bool = False


@dataclass(frozen=True)
class Row:
    """Cells in the columns' order.

    Attributes:
        cells: one a column.
        ranked: whether it may be marked as best.
        block: rows of the same block stand together and are compared with one another alone.
    """

    cells: tuple[Cell, ...]
    ranked: bool = True
    block: str = ""


@dataclass(frozen=True)
class TableData:
    """A table without its looks; `name` is its file's name."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    caption: str


@dataclass(frozen=True)
class Table:
    """A table plug-in.

    Attributes:
        title: name for people.
        build: makes the tables, or returns None where it does not apply.
        needs: what a study must have for it to apply, "arms with ablations" say.
    """

    title: str
    build: Callable[[StudyResults], Sequence[TableData] | None]
    needs: str


def text_column(key: str, title: str) -> Column:
    """Returns a column of words."""
    return Column(key, title)


def count_column(key: str, title: str) -> Column:
    """Returns a column of whole numbers."""
    return Column(key, title, decimals=0, numeric=True)


def metric_column(results: StudyResults, name: str) -> Column:
    """Returns the column of a metric's estimates, best marked where it has a direction."""
    metric = results.metrics[name]
    return Column(
        name,
        metric.title,
        metric.unit,
        metric.decimals,
        metric.higher_is_better,
        numeric=True,
        interval=True,
        mark_best=metric.higher_is_better is not None,
    )


def difference_column(results: StudyResults, name: str) -> Column:
    """Returns the column of a metric's differences to the reference arm."""
    metric = results.metrics[name]
    return Column(
        f"difference_{name}",
        f"Δ {metric.title}",
        f"{metric.unit}, arm minus reference",
        metric.decimals,
        metric.higher_is_better,
        numeric=True,
        interval=True,
        signed=True,
    )


def arm_columns(
    results: StudyResults, metrics: Iterable[str], differences: Iterable[str]
) -> tuple[Column, ...]:
    """Returns the columns that `arm_row` fills."""
    return (
        text_column("arm", "Arm"),
        text_column("seeds", "Seeds"),
        *(metric_column(results, name) for name in metrics),
        *(difference_column(results, name) for name in differences),
    )


def arm_row(
    results: StudyResults,
    arm: Arm,
    scope: Scope,
    metrics: Iterable[str],
    differences: Iterable[str],
    reference: Arm,
) -> Row:
    """Returns an arm's title, trials, estimates and differences to the table's reference."""
    same = arm.name == reference.name
    return Row(
        (
            arm_title(results, arm, reference),
            seeds_text(results, arm),
            *(results.estimate(name, arm.name, scope) for name in metrics),
            *(None if same else results.difference(name, arm.name, scope) for name in differences),
        )
    )


def arm_title(results: StudyResults, arm: Arm, reference: Arm) -> str:
    """Returns the arm's title; names the reference, marks an interval that has one seed."""
    title = arm.title
    if arm.name == reference.name:
        title += " (reference)"
    if arm.seeded and results.stored(arm.name) == 1:
        title += f" {CONDITIONAL}"
    return title


def seeds_text(results: StudyResults, arm: Arm) -> str:
    """Returns how many of the arm's trials are stored, as `2 of 3`."""
    stored, asked = results.stored(arm.name), results.asked(arm.name)
    if not arm.seeded:
        return "no seed" if stored else "missing"
    return str(asked) if stored == asked else f"{stored} of {asked}"


def cohort_sentence(results: StudyResults) -> str:
    """Returns cohort, split, order of visits, threshold, selection and interaction graph."""
    record = results.record
    cohort, graph = record.cohort, record.ddi
    drugs = len(record.medications)
    every = drugs * (drugs - 1) // 2
    density = len(graph.pairs) / every if every else 0.0
    select = results.metrics[record.protocol.select].title
    validated = "" if record.protocol.visits == "all" else ", first visits left out"
    return (
        f"Cohort {cohort.name} (fingerprint {cohort.fingerprint[:12]}); split {cohort.split}; "
        f"visit order {cohort.visit_order}; threshold {record.protocol.threshold:g}; epoch chosen "
        f"by validation {select}{validated}; DDI graph {graph.name} (fingerprint "
        f"{graph.fingerprint[:12]}): {len(graph.pairs):,} of {every:,} pairs of {drugs} "
        f"medications interact, density {density:.4f}."
    )


def interval_sentence(results: StudyResults, reference: str) -> str:
    """Returns what the intervals are and over what; `reference` says what Δ is taken to."""
    return f"{estimate_sentence(results)} Δ: arm minus {reference}, same patients drawn."


def estimate_sentence(results: StudyResults) -> str:
    """Returns what the estimates and their intervals are, and over what."""
    record = results.record
    seeds = ", ".join(str(seed) for seed in record.seeds)
    few = ", and too short if seeds differ much (few seeds)" if len(record.seeds) < FEW else ""
    return (
        f"Estimates are means over training seeds ({seeds}); in brackets {LEVEL:.0%} percentile "
        "intervals over training seeds and test patients, crossed bootstrap with "
        f"{record.resamples:,} resamples, bootstrap seed {record.bootstrap_seed}, not adjusted "
        f"for multiple comparisons{few}."
    )


def holes_sentence(results: StudyResults, arms: Iterable[Arm]) -> str:
    """Returns which arms lack trials, and which intervals are conditional; empty if none."""
    missing, single = [], []
    for arm in arms:
        stored, asked = results.stored(arm.name), results.asked(arm.name)
        if stored == 0:
            missing.append(f"{arm.title}: no trial is stored")
        elif stored < asked:
            missing.append(f"{arm.title}: {stored} of {asked} seeds")
        if arm.seeded and stored == 1:
            single.append(arm)
    text = f" Missing trials: {'; '.join(missing)}." if missing else ""
    if single:
        text += f" {CONDITIONAL} One seed: the interval is conditional on this trained model."
    return text


def caption(results: StudyResults, arms: Sequence[Arm], scope: Scope, reference: Arm) -> str:
    """Returns everything needed to read the numbers, and what is missing."""
    scores = results.scores[scope]
    where = "all visits" if scope == "all" else "transitions only (first visits left out)"
    directed = "↑ higher is better, ↓ lower is better, best in bold."
    return (
        f"Study {results.record.name}, test split, {where}: {len(scores.patients):,} patients, "
        f"{scores.visits:,} visits. {cohort_sentence(results)} "
        f"{interval_sentence(results, reference.title)} "
        f"{directed}{holes_sentence(results, arms)}"
    )
