"""Exploratory: differences in every metric but the primary one, with false discovery rates."""

from sweeps.record import Arm
from sweeps.statistics.inference import Value
from sweeps.statistics.results import StudyResults
from sweeps.tables._base import (
    Column,
    Row,
    Table,
    TableData,
    cohort_sentence,
    difference_column,
    estimate_sentence,
    holes_sentence,
    over_all_visits,
    text_column,
)


def build(results: StudyResults) -> list[TableData] | None:
    """Returns the table; None where nothing can be compared."""
    names = [name for name in results.compared if name != results.record.analysis.primary]
    arms = [arm for arm in results.record.arms if results.comparison(arm.name) is not None]
    if not arms or not names:
        return None
    columns = [text_column("arm", "Arm"), text_column("reference", "Compared with")]
    for name in names:
        columns.append(difference_column(results, name))
        if results.metrics[name].higher_is_better is not None:
            title = f"q, {results.metrics[name].title}"
            columns.append(Column(f"q_{name}", title, "false discovery rate", 4, numeric=True))
    return [
        TableData(
            name="exploratory",
            title="Other metrics (exploratory)",
            columns=tuple(columns),
            rows=tuple(_row(results, arm, names) for arm in arms),
            caption=_caption(results),
        )
    ]


def _row(results: StudyResults, arm: Arm, names: list[str]) -> Row:
    cells: list[str | Value | None] = [
        over_all_visits(arm),
        over_all_visits(results.reference(arm.name)),
    ]
    rates = results.inference().discoveries
    for name in names:
        cells.append(results.difference(name, arm.name))
        if results.metrics[name].higher_is_better is not None:
            rate = rates.get((name, arm.name))
            cells.append(None if rate is None else Value(rate))
    return Row(tuple(cells), block=results.reference(arm.name).name)


def _caption(results: StudyResults) -> str:
    primary = results.metrics[results.record.analysis.primary].title
    return (
        f"Study {results.record.name}, test split, all visits. Exploratory: the study's question "
        f"is about {primary}. q: false discovery rate (Benjamini-Hochberg) over every arm and "
        "every metric of this table that has a direction. A lower DDI rate is worth something "
        f"only at equal accuracy. {estimate_sentence(results)} Δ: arm minus its reference. "
        f"{cohort_sentence(results)}{holes_sentence(results, results.record.arms)}"
    )


TABLE = Table("Other metrics", build, needs="two arms with stored trials")
