"""Tables of what generators and builders of hierarchies are measured at, arms in rows."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from medrec.measures import Measure
from sweeps.record import Arm
from sweeps.statistics.inference import Value
from sweeps.statistics.results import StudyResults
from sweeps.tables._base import (
    Column,
    Row,
    TableData,
    arm_columns,
    arm_row,
    arm_title,
    caption,
    cohort_sentence,
    seeds_text,
    text_column,
)


def measure_tables(results: StudyResults, name: str, title: str) -> list[TableData]:
    """Returns a table for each group of measures, every arm in a row."""
    groups: dict[str, list[str]] = {}
    for measure, found in results.metrics.items():
        groups.setdefault(found.group, []).append(measure)
    reference = results.arm(results.record.reference)
    arms = results.record.arms
    return [
        TableData(
            name=f"{name}_{group.lower().replace(' ', '_')}",
            title=f"{title}: {group.lower()}",
            columns=arm_columns(results, names, ()),
            rows=tuple(_row(results, arm, names, reference) for arm in arms),
            caption=_told({measure: results.metrics[measure] for measure in names})
            + caption(results, arms, "all", reference),
        )
        for group, names in groups.items()
    ]


def _row(results: StudyResults, arm: Arm, names: Sequence[str], reference: Arm) -> Row:
    row = arm_row(results, arm, "all", names, (), reference)
    shown = {key: mark for key, mark in row.marks.items() if key in names}
    return replace(row, marks=shown)


def fact_table(
    results: StudyResults,
    name: str,
    title: str,
    facts: Mapping[str, Measure],
    further: Sequence[Row] = (),
) -> TableData:
    """Returns a table of facts, each the mean over an arm's stored seeds, without intervals.

    Args:
        results: the study.
        name: of the table.
        title: of the table.
        facts: definitions by name, in the order of columns.
        further: rows below, for comparison; cells in the order of the columns.
    """
    columns = (
        text_column("arm", "Arm"),
        text_column("seeds", "Seeds"),
        *(_column(fact, definition) for fact, definition in facts.items()),
    )
    reference = results.arm(results.record.reference)
    rows = [
        Row(
            (
                arm_title(results, arm, reference),
                seeds_text(results, arm),
                *(_mean(results, arm, fact) for fact in facts),
            )
        )
        for arm in results.record.arms
    ]
    seeds = ", ".join(str(seed) for seed in results.record.seeds)
    text = (
        f"{_told(facts)}Study {results.record.name}. Means over training seeds ({seeds}), without "
        f"intervals (no resamples). {cohort_sentence(results)}"
    )
    return TableData(name, title, columns, (*rows, *further), text)


def fact_values(results: StudyResults, arm: Arm, fact: str) -> list[float]:
    """Returns a fact of each stored trial of an arm: of `facts`, or of `seconds`."""
    found = []
    for key in sorted(set(arm.trials.values())):
        summary = results.summaries.get(key, {})
        value = summary.get("facts", {}).get(fact, summary.get("seconds", {}).get(fact))
        if value is not None:
            found.append(float(value))
    return found


def _mean(results: StudyResults, arm: Arm, fact: str) -> Value | None:
    found = fact_values(results, arm, fact)
    return Value(sum(found) / len(found)) if found else None


def _column(name: str, fact: Measure) -> Column:
    return Column(name, fact.title, fact.unit, fact.decimals, fact.higher_is_better, numeric=True)


def _told(measures: Mapping[str, Measure]) -> str:
    """Returns what the measures are, for a caption."""
    told = [f"{m.title}: {m.description}." for m in measures.values() if m.description]
    return " ".join(told) + " " if told else ""
