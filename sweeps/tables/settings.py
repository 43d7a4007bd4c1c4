"""Settings: a model at each value of one setting, and what the setting changes."""

from typing import Any

from sweeps.record import Arm
from sweeps.statistics.results import StudyResults
from sweeps.tables._base import (
    Column,
    Row,
    Table,
    TableData,
    arm_columns,
    arm_row,
    caption,
    text_column,
)


def build(results: StudyResults) -> list[TableData] | None:
    """Returns a table for each entry with a grid and each setting it varies; None without."""
    return [
        _table(results, family, field, arms) for family, field, arms in varied(results.record.arms)
    ] or None


def varied(arms: tuple[Arm, ...]) -> list[tuple[str, str, list[Arm]]]:
    """Returns (entry's name, setting, its arms in order of the setting), in the study's order."""
    found: dict[tuple[str, str], list[Arm]] = {}
    for arm in arms:
        for field in arm.varied:
            found.setdefault((arm.family or arm.name, field), []).append(arm)
    return [
        (family, field, sorted(group, key=lambda arm: order(arm.varied[field])))
        for (family, field), group in found.items()
    ]


def entry_title(arm: Arm) -> str:
    """Returns the title of the entry that the arm comes from, without what it varies."""
    return arm.title.rsplit(", ", len(arm.varied))[0]


def order(value: Any) -> tuple[bool, float]:
    """Returns what sorts values of a setting: numbers by size, others behind as they stand."""
    return (False, float(value)) if is_number(value) else (True, 0.0)


def is_number(value: Any) -> bool:
    """Returns whether a value of a setting is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def words(field: str) -> str:
    """Returns a setting's name in words.

    Example:
        >>> words("training.learning_rate"), words("ddi_target")
        ('Learning rate', 'DDI target')
    """
    text = field.removeprefix("training.").replace("_", " ").capitalize()
    return text.replace("Ddi", "DDI")


def value_text(value: Any) -> str:
    """Returns a value of a setting as tables and figures print it.

    Example:
        >>> [value_text(value) for value in (4, 0.03, True, None, "last")]
        ['4', '0.03', 'yes', 'none', 'last']
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def _table(results: StudyResults, family: str, field: str, arms: list[Arm]) -> TableData:
    names = results.compared
    reference = results.arm(results.record.reference)
    return TableData(
        name=f"settings_{family}_{field}",
        title=f"{words(field)} of {entry_title(arms[0])}",
        columns=(_column(field, arms), *arm_columns(results, names, names)),
        rows=tuple(_row(results, arm, field, reference) for arm in arms),
        caption=caption(results, arms, "all", reference),
    )


def _column(field: str, arms: list[Arm]) -> Column:
    if all(is_number(arm.varied[field]) for arm in arms):
        return Column("value", words(field), numeric=True)
    return text_column("value", words(field))


def _row(results: StudyResults, arm: Arm, field: str, reference: Arm) -> Row:
    names = results.compared
    row = arm_row(results, arm, "all", names, names, reference)
    return Row((value_text(arm.varied[field]), *row.cells), marks=row.marks)


TABLE = Table("Settings", build, needs="arms with a grid")
