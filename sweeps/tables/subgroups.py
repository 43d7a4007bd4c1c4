"""Subgroups: every arm on a part of the test visits, or of the drugs, one table a division.

Exploratory: a study that asks many groups finds a difference somewhere. What is asked here are
questions of the field: whether models serve first visits, rare codes (BH3-MedRec) and rare drugs.
"""

from sweeps.evaluate import Scope
from sweeps.record import Arm
from sweeps.statistics.inference import Value
from sweeps.statistics.results import StudyResults
from sweeps.subgroups import DIVISIONS, Subgroup
from sweeps.tables._base import (
    Cell,
    Row,
    Table,
    TableData,
    arm_title,
    cohort_sentence,
    count_column,
    difference_column,
    holes_sentence,
    metric_column,
    text_column,
)
from sweeps.tables._groups import groups_sentence
from sweeps.visits import FEWEST

LEAST_VISITS = 30  # test visits below which a group is left out
LEAST_PATIENTS = 10  # test patients below which it is
_METRICS = ("jaccard", "f1", "prauc", "ddi_rate")
_TITLES = {
    "history": "first and later visits",
    "visits": "number of visits",
    "rarity": "how common a visit's codes are",
    "drugs": "how common drugs are",
    "age": "age",
    "gender": "gender",
}
_MEANINGS = {
    "history": "A patient's first visit has no history to read.",
    "visits": "Groups by the number of visits that the patient has in the cohort, later ones "
    "included.",
    "rarity": "Quartiles of code frequency: a visit's value is the mean over its diagnosis codes "
    "of the logarithm of one plus the number of other patients' training visits with the "
    "code; boundaries are the quartiles of the training visits.",
    "drugs": "Quartiles of the drugs by the number of training visits that prescribe them. Only "
    "drugs of the quartile are looked at, in what was prescribed, recommended and ranked, and "
    "only visits at which one of them was prescribed; recommendations at other visits are not "
    "judged. There is no DDI rate, which is about all drugs of a visit.",
    "age": "Age in years at the visit.",
    "gender": "Gender as the data tell it.",
}
_LABELLED = ("rarity", "age", "gender")


def build(results: StudyResults) -> list[TableData] | None:
    """Returns a table for each division that leaves two groups; None where none does."""
    tables = []
    for division in DIVISIONS:
        groups = [group for group in results.subgroups if group.division == division]
        shown = [group for group in groups if _large(results, group.scope)]
        if len(shown) > 1:
            tables.append(_table(results, division, groups, shown))
    return tables or None


def _large(results: StudyResults, scope: Scope) -> bool:
    scores = results.scores[scope]
    return scores.visits >= LEAST_VISITS and len(scores.patients) >= LEAST_PATIENTS


def _table(
    results: StudyResults, division: str, groups: list[Subgroup], shown: list[Subgroup]
) -> TableData:
    metrics = [name for name in _METRICS if (division, name) != ("drugs", "ddi_rate")]
    small = [
        group.label
        for group in groups
        if group not in shown and results.scores[group.scope].visits
    ]
    return TableData(
        name=f"subgroups_{division}",
        title=f"Subgroups by {_TITLES[division]}",
        columns=(
            text_column("group", "Group"),
            text_column("arm", "Arm"),
            count_column("visits", "Visits"),
            count_column("patients", "Patients"),
            *(metric_column(results, name) for name in metrics),
            difference_column(results, results.record.analysis.primary),
        ),
        rows=tuple(
            _row(results, group, arm, metrics) for group in shown for arm in results.record.arms
        ),
        caption=_caption(results, division, small),
    )


def _row(results: StudyResults, group: Subgroup, arm: Arm, metrics: list[str]) -> Row:
    scores = results.scores[group.scope]
    values: list[Cell] = [results.estimate(name, arm.name, group.scope) for name in metrics]
    gap: Value | None = results.difference(results.record.analysis.primary, arm.name, group.scope)
    title = arm_title(results, arm, results.arm(results.record.reference))
    counts = (scores.visits, len(scores.patients))
    return Row((group.label, title, *counts, *values, gap), block=group.scope)


def _caption(results: StudyResults, division: str, small: list[str]) -> str:
    record = results.record
    least = f"fewer than {LEAST_VISITS} test visits or {LEAST_PATIENTS} test patients"
    left_out = f" Left out, with {least}: {'; '.join(small)}." if small else ""
    reference = results.arm(record.reference).title
    ablations = any(arm.full is not None for arm in record.arms)
    own = ", an ablation minus its full model" if ablations else ""
    nowhere = (
        f" Visits of which it is not known, or whose group has fewer than {FEWEST} patients of "
        "the cohort, are in none."
        if division in _LABELLED
        else ""
    )
    return (
        f"Study {record.name}, test split, each block over one group only. {_MEANINGS[division]}"
        f"{nowhere}{left_out}{_untold(results)} Exploratory: not corrected for the number "
        "of subgroups, and a difference in one group and none in another is no evidence of "
        "interaction. Models were "
        f"trained and their epochs chosen on all groups together. {cohort_sentence(results)} "
        f"{groups_sentence(results)} Δ: arm minus {reference}{own}, same patients "
        "drawn. ↑ higher is better, ↓ lower is better."
        f"{holes_sentence(results, record.arms)}"
    )


def _untold(results: StudyResults) -> str:
    """Returns which divisions the results directory does not tell; empty if it tells all."""
    told = {group.division for group in results.subgroups}
    lacking = [_TITLES[division] for division in DIVISIONS if division not in told]
    if not lacking:
        return ""
    return (
        f" This results directory does not tell {', '.join(lacking)}: it was made before that was "
        "kept, or its groups are too small. Running the study again adds what is missing."
    )


TABLE = Table(
    "Subgroups",
    build,
    needs="two groups of 30 test visits and 10 patients",
    tasks=("recommendation",),
)
