"""What a kind of design is: it says which parts of a model are changed together in which arm.

A kind is one file that defines `DESIGN`. It knows parts by their names alone; what they change,
and what trials come of that, is worked out in `sweeps.designed`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import AfterValidator, Field

from medrec.spec import Frozen
from sweeps.errors import StudyError
from sweeps.record import Name
from sweeps.study import near


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError(f"must be distinct, but some of {list(names)} are equal")
    return names


Names = Annotated[tuple[str, ...], AfterValidator(_distinct)]
"""Distinct names of parts, in an order that counts."""


class DesignRequest(Frozen):
    """What every design of a study file may say."""

    kind: str = Field(description="one of sweeps/designs")
    name: Name | None = Field(default=None, description="default: <entry>-<kind>")


class PartsRequest(DesignRequest):
    """A design over parts whose order means nothing but the order of arms."""

    parts: Literal["all"] | Names = Field(
        default="all", description="the model's ablations and the entry's own parts, or some"
    )


@dataclass(frozen=True)
class Run:
    """One arm of a design.

    Attributes:
        parts: what is changed in it; never empty, for that is the full model.
        name: what the arm is called after the entry's name; its parts by default.
        optional: whether the design makes sense without it.
    """

    parts: frozenset[str]
    name: str | None = None
    optional: bool = False


@dataclass(frozen=True)
class Layout:
    """A design on paper.

    Attributes:
        factors: the parts that it varies, in the order asked for.
        runs: its arms without the full model, in order.
        notes: what its tables must say.
    """

    factors: tuple[str, ...]
    runs: tuple[Run, ...]
    notes: tuple[str, ...] = ()


R = TypeVar("R", bound=DesignRequest)


@dataclass(frozen=True)
class DesignKind(Generic[R]):
    """A design plug-in.

    Attributes:
        title: name for people.
        request: its fields in a study file.
        lay_out: takes such fields, the names of all parts, and the field of the study for
            messages; raises StudyError where the design cannot be made of these parts.
    """

    title: str
    request: type[R]
    lay_out: Callable[[R, Sequence[str], str], Layout]


def chosen(
    wanted: Literal["all"] | Sequence[str],
    known: Sequence[str],
    where: str,
    fewest: int = 1,
    most: int | None = None,
) -> tuple[str, ...]:
    """Returns the parts that a design is about.

    Args:
        wanted: names, or `all`.
        known: names of all parts.
        where: field of the study that holds `wanted`.
        fewest: parts that the design needs.
        most: parts that it can have.

    Raises:
        StudyError: a part is unknown, or there are too few or too many.
    """
    parts = tuple(known) if wanted == "all" else tuple(wanted)
    for part in parts:
        if part not in known:
            raise StudyError(
                f"field {where}: no part {part!r}.{near(part, known)} There are {list(known)}; "
                "declare others under `parts` of the entry."
            )
    if len(parts) < fewest or (most is not None and len(parts) > most):
        bound = f"at least {fewest}" if len(parts) < fewest else f"at most {most}"
        raise StudyError(f"field {where}: needs {bound} parts, but got {len(parts)}.")
    return parts
