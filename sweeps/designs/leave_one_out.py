"""Leave one out: the full model, and for each part an arm with that part changed."""

from collections.abc import Sequence

from sweeps.designs._base import DesignKind, Layout, PartsRequest, Run, chosen


def lay_out(request: PartsRequest, known: Sequence[str], where: str) -> Layout:
    """Returns one arm a part."""
    parts = chosen(request.parts, known, f"{where}.parts")
    return Layout(parts, tuple(Run(frozenset([part])) for part in parts))


DESIGN = DesignKind("Leave one out", PartsRequest, lay_out)
