"""Full factorial: every combination of parts, so that effects and interactions are separate."""

from collections.abc import Sequence
from itertools import combinations

from pydantic import Field

from sweeps.designs._base import DesignKind, DesignRequest, Layout, Names, Run, chosen

MOST = 8  # 256 arms; beyond that a fraction of them is the better use of a budget


class FactorialRequest(DesignRequest):
    """Fields of a full factorial design."""

    parts: Names = Field(description="parts to combine in every way")


def lay_out(request: FactorialRequest, known: Sequence[str], where: str) -> Layout:
    """Returns 2^k - 1 arms and the full model: fewer changed parts first."""
    parts = chosen(request.parts, known, f"{where}.parts", fewest=2, most=MOST)
    sets = (each for size in range(1, len(parts) + 1) for each in combinations(parts, size))
    return Layout(parts, tuple(Run(frozenset(each)) for each in sets))


DESIGN = DesignKind("Full factorial", FactorialRequest, lay_out)
