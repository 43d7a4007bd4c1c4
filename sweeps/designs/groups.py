"""Groups: for each named group an arm with all parts of the group changed."""

from collections.abc import Sequence

from pydantic import Field

from sweeps.designs._base import DesignKind, DesignRequest, Layout, Names, Run, chosen
from sweeps.errors import StudyError
from sweeps.study import PartName


class GroupsRequest(DesignRequest):
    """Fields of a design by groups."""

    groups: dict[PartName, Names] = Field(min_length=1, description="name to its parts")


def lay_out(request: GroupsRequest, known: Sequence[str], where: str) -> Layout:
    """Returns one arm a group, called by the group's name."""
    groups = {
        name: chosen(parts, known, f"{where}.groups.{name}")
        for name, parts in request.groups.items()
    }
    seen: dict[frozenset[str], str] = {}
    for name, parts in groups.items():
        place = f"field {where}.groups.{name}"
        if name in known and parts != (name,):
            raise StudyError(f"{place}: a part is called so. Give the group another name.")
        other = seen.setdefault(frozenset(parts), name)
        if other != name:
            raise StudyError(f"{place}: has the parts of {other!r}. Leave one of them out.")
    factors = tuple(dict.fromkeys(part for parts in groups.values() for part in parts))
    runs = tuple(Run(frozenset(parts), name) for name, parts in groups.items())
    notes = tuple(f"Group {name}: {', '.join(parts)}." for name, parts in groups.items())
    return Layout(factors, runs, notes)


DESIGN = DesignKind("Groups", GroupsRequest, lay_out)
