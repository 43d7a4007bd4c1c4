"""Trials of a search, as its figures show them. No plug-in."""

from typing import Any

from sweeps.best import eligible
from sweeps.record import SearchPlan
from sweeps.statistics.results import StudyResults

Record = dict[str, Any]


def ended(results: StudyResults, plan: SearchPlan) -> tuple[list[Record], list[Record]]:
    """Returns the trials that may be chosen, and the other ones that ended, by number.

    A suggestion made again is the same trial and counts once.
    """
    usable: dict[str, Record] = {}
    others = []
    for record in results.searches[plan.name]:
        if eligible(plan, record):
            usable.setdefault(str(record["key"]), record)
        elif record.get("state") != "running":
            others.append(record)
    return list(usable.values()), others
