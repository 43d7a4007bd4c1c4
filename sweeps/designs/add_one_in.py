"""Add one in: the model with every part changed, and for each part an arm that has it back."""

from collections.abc import Sequence

from sweeps.designs._base import DesignKind, Layout, PartsRequest, Run, chosen


def lay_out(request: PartsRequest, known: Sequence[str], where: str) -> Layout:
    """Returns the arm without all parts, then one arm a part."""
    parts = chosen(request.parts, known, f"{where}.parts", fewest=2)
    bare = frozenset(parts)
    notes = ("Differences are to the full model, in which no part is changed.",)
    return Layout(parts, (Run(bare), *(Run(bare - {part}) for part in parts)), notes)


DESIGN = DesignKind("Add one in", PartsRequest, lay_out)
