"""What a table is: columns that declare direction, unit and decimals, rows, and a full caption.

A table plug-in is one file that defines `TABLE`. Its `build` takes `StudyResults` and returns
tables, or None where it does not apply to the study. It formats nothing: `_render` does.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from medrec.spec import SELECT, Task
from sweeps.evaluate import Scope
from sweeps.record import LEAKING, Arm
from sweeps.statistics.inference import Value
from sweeps.statistics.intervals import (
    FEWEST_FREEDOM,
    FEWEST_PATIENTS,
    FEWEST_SEEDS,
    LEVEL,
    Method,
)
from sweeps.statistics.results import INCOMPARABLE, INCOMPARABLE_TEXT, StudyResults

Cell = str | int | Value | None
Mark = Literal["better", "worse", "equivalent"]
"""Verdict on an arm against its reference, as a cell shows it."""
CONDITIONAL = "†"
NO_FIRST_VISIT = "◊"


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
    """

    key: str
    title: str
    unit: str = ""
    decimals: int = 4
    higher_is_better: bool | None = None
    numeric: bool = False
    interval: bool = False
    signed: bool = False


@dataclass(frozen=True)
class Row:
    """Cells in the columns' order.

    Attributes:
        cells: one a column.
        block: rows of the same block stand together.
        marks: verdicts that cells show, by their column's key.
    """

    cells: tuple[Cell, ...]
    block: str = ""
    marks: Mapping[str, Mark] = field(default_factory=dict)


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
        tasks: kinds of studies that it is made for.
    """

    title: str
    build: Callable[[StudyResults], Sequence[TableData] | None]
    needs: str
    tasks: tuple[Task, ...] = tuple(SELECT)


def text_column(key: str, title: str) -> Column:
    """Returns a column of words."""
    return Column(key, title)


def count_column(key: str, title: str) -> Column:
    """Returns a column of whole numbers."""
    return Column(key, title, decimals=0, numeric=True)


def metric_column(results: StudyResults, name: str) -> Column:
    """Returns the column of a metric's estimates."""
    metric = results.metrics[name]
    return Column(
        name,
        metric.title,
        metric.unit,
        metric.decimals,
        metric.higher_is_better,
        numeric=True,
        interval=True,
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
        marks=arm_marks(results, arm, scope),
        cells=(
            arm_title(results, arm, reference, scope),
            seeds_text(results, arm),
            *(results.estimate(name, arm.name, scope) for name in metrics),
            *(None if same else results.difference(name, arm.name, scope) for name in differences),
        ),
    )


_MARKS: Mapping[str, Mark] = {"helps": "better", "hurts": "worse", "equivalent": "equivalent"}


def arm_marks(results: StudyResults, arm: Arm, scope: Scope) -> dict[str, Mark]:
    """Returns the marks of an arm's verdict, which is about the primary metric on all visits."""
    found = results.verdict(arm.name) if scope == "all" else None
    if found is None or found.word not in _MARKS:
        return {}
    primary = results.record.analysis.primary
    return dict.fromkeys((primary, f"difference_{primary}"), _MARKS[found.word])


def arm_title(results: StudyResults, arm: Arm, reference: Arm, scope: Scope = "all") -> str:
    """Returns the arm's title; names the reference, and marks what one must know of the arm.

    Marks: an interval that has one seed; first visits that are not predicted, where there are
    some. `footnotes` says what they mean.
    """
    title = arm.title
    if arm.name == reference.name:
        title += " (reference)"
    if arm.seeded and results.stored(arm.name) == 1:
        title += f" {CONDITIONAL}"
    if arm.first_visit and scope != "transitions":
        title += f" {NO_FIRST_VISIT}"
    return title


def over_all_visits(arm: Arm) -> str:
    """Returns the arm's title where all visits count; marks one that predicts no first visit."""
    return f"{arm.title} {NO_FIRST_VISIT}" if arm.first_visit else arm.title


def footnotes(results: StudyResults, table: TableData) -> TableData:
    """Returns the table with the meaning of each mark in it at the end of its caption."""
    cells = [cell for row in table.rows for cell in row.cells]
    texts = [cell for cell in cells if isinstance(cell, str)]
    text = ""
    for mark, meaning, remedy in (
        (NO_FIRST_VISIT, "first_visit", "; compare over transitions only"),
        (LEAKING, "leak", ""),
    ):
        told = [
            f"{arm.title}: {getattr(arm, meaning)}"
            for arm in results.record.arms
            if getattr(arm, meaning) and any(t.startswith(arm.title) and mark in t for t in texts)
        ]
        if told:
            text += f" {mark} {_MEANINGS[mark]} ({'; '.join(told)}){remedy}."
    marked = (cell.mark for cell in cells if isinstance(cell, Value))
    if INCOMPARABLE in [*marked, *(t[-1:] for t in texts)]:
        text += f" {INCOMPARABLE_TEXT}"
    return replace(table, caption=table.caption + text) if text else table


_MEANINGS = {
    NO_FIRST_VISIT: "Predicts no first visit and answers it with something else",
    LEAKING: "Reads what is not known when prescribing; its numbers are no result",
}


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
    if record.task != "recommendation":
        chosen = results.metrics[record.protocol.select].title
        return (
            f"Cohort {cohort.name} (fingerprint {cohort.fingerprint[:12]}): "
            f"{cohort.counts['patients']:,.0f} patients, {cohort.counts['visits']:,.0f} visits, "
            f"{cohort.counts['train_patients']:,.0f} patients to train on; split {cohort.split}; "
            f"settings and epochs chosen by validation {chosen}.{_planted(cohort.dataset)}"
        )
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


def _planted(dataset: str) -> str:
    """Returns what one must know of a synthetic cohort's titles; empty for other cohorts."""
    if dataset != "synthetic":
        return ""
    return (
        " Titles of its ICD codes are planted unless a bundle gives others: they name the "
        "condition that causes the drugs, and so tell more than ICD's own."
    )


def interval_sentence(results: StudyResults, reference: str) -> str:
    """Returns what the intervals are and over what; `reference` says what Δ is taken to."""
    units = units_word(results)
    return f"{estimate_sentence(results)} Δ: arm minus {reference}, same {units} drawn."


def estimate_sentence(results: StudyResults, scope: Scope = "all") -> str:
    """Returns what the estimates and their intervals are, and over what."""
    record = results.record
    seeds = ", ".join(str(seed) for seed in record.seeds)
    units = "held-out codes" if record.task == "hierarchy" else "test patients"
    return (
        f"Estimates are means over training seeds ({seeds}); in brackets {LEVEL:.0%} intervals "
        f"over training seeds and {units}: {methods_text(results, scope)}. Intervals are "
        "not adjusted for multiple comparisons; verdicts are."
    )


def methods_text(results: StudyResults, scope: Scope) -> str:
    """Returns how intervals are made, and how many of them by the analytic method instead."""
    record, found = results.record, results.inference(scope)
    used: list[Method] = []
    for kind, own in ((found.estimates, True), (found.differences, False)):
        known = ~np.isnan(kind.estimate)
        if not own:
            known &= found.reference != np.arange(known.shape[1])
        used += [kind.method[metric][arm] for metric, arm in zip(*np.nonzero(known), strict=True)]
    analytic = "analytic crossed-variance t"
    where = (
        f"fewer than {FEWEST_SEEDS} seeds, {FEWEST_PATIENTS} patients or {FEWEST_FREEDOM:g} "
        "degrees of freedom leave the bootstrap without tails"
    )
    few = used.count("t")
    if few == len(used):
        return f"{analytic}, since {where}"
    text = (
        f"crossed bootstrap, {record.resamples:,} resamples, bootstrap seed "
        f"{record.bootstrap_seed}, percentile, deviations scaled to the crossed standard error "
        "and widened by Satterthwaite's t"
    )
    share = f"{analytic} for {few} of {len(used)} estimates and differences, where {where}"
    return f"{text}; {share}" if few else text


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


def marks_sentence(results: StudyResults, arms: Iterable[Arm], scope: Scope) -> str:
    """Returns what marks mean, if any arm can have one."""
    if scope != "all" or all(results.verdict(arm.name) is None for arm in arms):
        return ""
    title = results.metrics[results.record.analysis.primary].title
    margin = results.record.analysis.margin
    same = "" if margin is None else f", ≈ equivalent within ±{margin:g}"
    return (
        f" {title} with ▲: better than the reference, ▼ worse{same}; by p values corrected for "
        "the family of arms with the same reference (step-down max-T), see the table of verdicts."
    )


def units_word(results: StudyResults) -> str:
    """Returns what intervals are over, besides training seeds."""
    return "codes" if results.record.task == "hierarchy" else "patients"


def scope_words(results: StudyResults, scope: Scope = "all") -> str:
    """Returns what of the test split counts."""
    if results.record.task == "generation":
        return "generated against real patients"
    if results.record.task == "hierarchy":
        return "codes whose parents or matches were held out"
    return "all visits" if scope == "all" else "transitions only (first visits left out)"


def counted(results: StudyResults, scope: Scope) -> str:
    """Returns how many units there are."""
    scores = results.scores[scope]
    if results.record.task == "hierarchy":
        primary = scores.metrics.index(results.record.analysis.primary)
        held = scores.denominator[primary].any(axis=(0, 1)).sum()
        title = results.metrics[results.record.analysis.primary].title
        return f"{held:,} of {len(scores.patients):,} codes count in {title}"
    if results.record.task == "generation":
        visits = results.record.cohort.counts["test_visits"]
        return f"{len(scores.patients):,} real patients, {visits:,.0f} visits"
    return f"{len(scores.patients):,} patients, {scores.visits:,} visits"


def caption(results: StudyResults, arms: Sequence[Arm], scope: Scope, reference: Arm) -> str:
    """Returns everything needed to read the numbers, and what is missing."""
    directed = f"↑ higher is better, ↓ lower is better.{marks_sentence(results, arms, scope)}"
    between = f"Δ: arm minus {reference.title}, same {units_word(results)} drawn."
    return (
        f"Study {results.record.name}, test split, {scope_words(results, scope)}: "
        f"{counted(results, scope)}. {cohort_sentence(results)} "
        f"{estimate_sentence(results, scope)} {between} "
        f"{directed}{holes_sentence(results, arms)}"
    )
