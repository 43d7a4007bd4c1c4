"""Cumulative: parts are changed one after another, in a given order, and stay changed."""

from collections.abc import Sequence

from pydantic import Field

from sweeps.designs._base import DesignKind, DesignRequest, Layout, Names, Run, chosen


class CumulativeRequest(DesignRequest):
    """Fields of a cumulative design."""

    order: Names = Field(description="parts, the first to be changed first")


def lay_out(request: CumulativeRequest, known: Sequence[str], where: str) -> Layout:
    """Returns one arm a step."""
    order = chosen(request.order, known, f"{where}.order")
    steps = (frozenset(order[:size]) for size in range(1, len(order) + 1))
    return Layout(order, tuple(map(Run, steps)), (f"Changed in this order: {', '.join(order)}.",))


DESIGN = DesignKind("Cumulative", CumulativeRequest, lay_out)
