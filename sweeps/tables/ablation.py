"""Ablation: the reference arm, then each arm with a part taken out, and what that changes."""

from sweeps.evaluate import metric_names
from sweeps.statistics.results import StudyResults
from sweeps.tables._base import Table, TableData, arm_columns, arm_row, caption


def build(results: StudyResults) -> list[TableData] | None:
    """Returns the table; None where the study has no ablation arm."""
    record = results.record
    parts = [arm for arm in record.arms if arm.ablation is not None]
    if not parts:
        return None
    arms = [results.arm(record.reference)]
    arms += [arm for arm in parts if arm.name != record.reference]
    names = metric_names()
    return [
        TableData(
            name="ablation",
            title="Ablation",
            columns=arm_columns(results, names, names),
            rows=tuple(arm_row(results, arm, "all", names, names) for arm in arms),
            caption=caption(results, arms, "all"),
        )
    ]


TABLE = Table("Ablation", build)
