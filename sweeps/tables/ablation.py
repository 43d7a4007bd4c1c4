"""Ablation: a full model, then each arm with a part of it taken out, and what that changes."""

from sweeps.record import Arm
from sweeps.statistics.results import StudyResults
from sweeps.tables._base import Table, TableData, arm_columns, arm_row, caption


def build(results: StudyResults) -> list[TableData] | None:
    """Returns a table for each model that has ablations; None where there is none."""
    parts = [arm for arm in results.record.arms if arm.ablation is not None]
    wholes = {results.reference(arm.name).name: results.reference(arm.name) for arm in parts}
    return [
        _table(results, whole, [arm for arm in parts if results.reference(arm.name) == whole])
        for whole in wholes.values()
    ] or None


def _table(results: StudyResults, whole: Arm, parts: list[Arm]) -> TableData:
    names, arms = results.compared, [whole, *parts]
    return TableData(
        name=f"ablation_{whole.name}",
        title=f"Ablation of {whole.title}",
        columns=arm_columns(results, names, names),
        rows=tuple(arm_row(results, arm, "all", names, names, whole) for arm in arms),
        caption=caption(results, arms, "all", whole),
    )


TABLE = Table("Ablation", build, needs="arms with ablations")
