"""By service: every arm's estimates on the visits of one hospital department at a time.

Departments differ in their patients, visits and drugs; a model may serve one well and another
badly. Models are trained on all of them together here; published work trains one for each.
"""

from sweeps.evaluate import Scope
from sweeps.record import Arm
from sweeps.services import LEAST
from sweeps.statistics.results import SERVICE, StudyResults
from sweeps.tables._base import (
    Row,
    Table,
    TableData,
    arm_title,
    cohort_sentence,
    count_column,
    holes_sentence,
    metric_column,
    text_column,
)
from sweeps.tables._groups import groups_sentence


def build(results: StudyResults) -> list[TableData] | None:
    """Returns the table; None where visits have one service only or no trial is stored."""
    scopes = [scope for scope in results.services if results.scores[scope].visits]
    if not scopes:
        return None
    reference = results.arm(results.record.reference)
    rows = [
        _row(results, scope, arm, reference) for scope in scopes for arm in results.record.arms
    ]
    columns = (
        text_column("service", "Service"),
        text_column("arm", "Arm"),
        count_column("visits", "Visits"),
        count_column("patients", "Patients"),
        *(metric_column(results, name) for name in results.compared),
    )
    return [
        TableData("services", "Comparison by service", columns, tuple(rows), _caption(results))
    ]


def _row(results: StudyResults, scope: Scope, arm: Arm, reference: Arm) -> Row:
    scores = results.scores[scope]
    cells = (
        scope.removeprefix(SERVICE),
        arm_title(results, arm, reference),
        scores.visits,
        len(scores.patients),
        *(results.estimate(name, arm.name, scope) for name in results.compared),
    )
    return Row(cells, block=scope)


def _caption(results: StudyResults) -> str:
    record = results.record
    return (
        f"Study {record.name}, test split, all visits, each block over the visits of one service "
        f"only; services with fewer than {LEAST} test visits share a block. A visit's service is "
        "its first; a patient who was cared for by several counts in each. Models were trained "
        "and their epochs chosen on all services together. To train on one alone, prepare a "
        "cohort with the option service of the data set, where it has one (medsweep data prepare "
        "mimic4 --service CMED); it keeps the stays that the service cared for at any time. "
        f"{cohort_sentence(results)} {groups_sentence(results)} "
        "↑ higher is better, ↓ lower is better."
        f"{holes_sentence(results, record.arms)}"
    )


TABLE = Table(
    "Comparison by service",
    build,
    needs="two services, one with 30 test visits",
    tasks=("recommendation",),
)
