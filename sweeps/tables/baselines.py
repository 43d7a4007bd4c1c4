"""Baselines: every arm that is not an ablation, over all visits and over transitions only.

Some published models skip each patient's first visit, others score it; both denominators are
given, so that no row gains from the choice.
"""

from sweeps.evaluate import Scope
from sweeps.statistics.inference import Value
from sweeps.statistics.results import StudyResults
from sweeps.tables._base import Row, Table, TableData, arm_columns, arm_row, caption

DIFFERENCES = ("jaccard", "ddi_rate")
_TITLES: dict[Scope, str] = {
    "all": "Comparison of models, all visits",
    "transitions": "Comparison of models, transitions only",
}
_NOTE = (
    " A low DDI rate means little without accuracy: recommending nothing has a rate of 0."
    " DDI rate and Med./visit are pooled over visits; the others are means per patient."
)


def build(results: StudyResults) -> list[TableData] | None:
    """Returns one table a scope; None where the study has ablations only."""
    if all(arm.ablation is not None for arm in results.record.arms):
        return None
    tables = [_table(results, "all")]
    if len(results.scores["transitions"].patients):
        tables.append(_table(results, "transitions"))
    return tables


def _table(results: StudyResults, scope: Scope) -> TableData:
    arms = [arm for arm in results.record.arms if arm.ablation is None]
    names = results.compared
    reference = results.arm(results.record.reference)
    recommenders = results.record.task == "recommendation"
    differences = DIFFERENCES if recommenders else (results.record.analysis.primary,)
    rows = [arm_row(results, arm, scope, names, differences, reference) for arm in arms]
    if recommenders and scope == "all":
        rows.append(_truth(results, names))
    return TableData(
        name="baselines" if scope == "all" else "baselines_transitions",
        title=_TITLES[scope] if recommenders else "Comparison of models",
        columns=arm_columns(results, names, differences),
        rows=tuple(rows),
        caption=caption(results, arms, scope, reference) + (_NOTE if recommenders else ""),
    )


def _truth(results: StudyResults, names: tuple[str, ...]) -> Row:
    """Returns what was prescribed: it is not free of interactions either."""
    record = results.record
    known = {
        "ddi_rate": Value(record.true_ddi_rate),
        "medications": Value(record.true_medications),
    }
    metrics = (known.get(name) for name in names)
    return Row(("True prescriptions", "", *metrics, *(None for _ in DIFFERENCES)))


TABLE = Table("Comparison of models", build, needs="an arm that is no ablation")
