"""Pairwise: each part changed alone, and each pair of parts together."""

from collections.abc import Sequence
from itertools import combinations

from sweeps.designs._base import DesignKind, Layout, PartsRequest, Run, chosen


def lay_out(request: PartsRequest, known: Sequence[str], where: str) -> Layout:
    """Returns singles, then pairs; a pair that cannot be combined may be left out."""
    parts = chosen(request.parts, known, f"{where}.parts", fewest=2)
    singles = (Run(frozenset([part])) for part in parts)
    pairs = (Run(frozenset(pair), optional=True) for pair in combinations(parts, 2))
    return Layout(parts, (*singles, *pairs))


DESIGN = DesignKind("Pairwise", PartsRequest, lay_out)
