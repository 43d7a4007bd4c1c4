"""The nodes of a bundle: a cohort's codes and their ancestors."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Int32

from medrec.cohort import KINDS, Cohort, Kind
from medrec.knowledge.hierarchy import Hierarchy
from medrec.knowledge.relations import node


def titled(
    cohort: Cohort, trees: Mapping[Kind, Sequence[Hierarchy]]
) -> tuple[tuple[str, ...], tuple[str, ...], Int32[np.ndarray, " nodes"]]:
    """Returns the codes and their ancestors, their titles, and the row of each one's parent.

    Args:
        cohort: whose codes.
        trees: of each kind of code; the first that knows a code, or a prefix of it, counts.

    Returns:
        names as "diagnoses/9:4280", ascending; titles, "" where none is known; rows in the names,
        -1 for a root.
    """
    titles: dict[str, str] = {}
    parents: dict[str, str] = {}
    for kind in KINDS:
        for code in cohort.vocabulary[kind]:
            path = _path(code, trees[kind])
            for (name, title), (above, _) in pairwise([*path, ("", "")]):
                titles.setdefault(node(kind, name), title)
                if above:
                    parents[node(kind, name)] = node(kind, above)
    names = tuple(sorted(titles))
    row = {name: i for i, name in enumerate(names)}
    above_rows = [row[parents[name]] if name in parents else -1 for name in names]
    return names, tuple(titles[name] for name in names), np.array(above_rows, dtype=np.int32)


def _path(code: str, trees: Sequence[Hierarchy]) -> list[tuple[str, str]]:
    """Returns (name, title) of a code and its ancestors; a retired code hangs below a prefix."""
    for tree in trees:
        known = tree.resolve(code)
        if known is not None:
            found = [known, *tree.ancestors(known)]
            path = [(name, tree.titles[name]) for name in found]
            return path if known == code else [(code, ""), *path]
    return [(code, "")]
