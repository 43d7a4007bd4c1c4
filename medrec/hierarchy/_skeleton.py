"""The codes of a cohort with the known nodes above them, and which parents are hidden.

Rows: the codes by number first, then the known nodes above codes. A known node that has one child
in the cohort, and a node above itself, is left out: the child takes its place. So a code's parent
is the nearest node above it with more below, and small cohorts have categories too.

A parent is *hidden* when a builder may not see it; it must find it from the rest.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int64

from medrec.cohort import KINDS
from medrec.knowledge.base import Knowledge
from medrec.visit_graphs import NodeTable, node_table


@dataclass(frozen=True)
class Skeleton:
    """Codes and known inner nodes.

    Attributes:
        names: as in the bundle, "diagnoses/9:4280".
        titles: of each node, or "".
        parents: row of each node's parent, or -1.
        kinds: index into `KINDS` of each node's kind.
        codes: how many rows are codes; the first ones.
    """

    names: tuple[str, ...]
    titles: tuple[str, ...]
    parents: Int64[np.ndarray, " nodes"]
    kinds: Int64[np.ndarray, " nodes"]
    codes: int

    def without(self, hidden: Int64[np.ndarray, " codes"]) -> "Skeleton":
        """Returns the skeleton with these codes cut off their parents."""
        parents = self.parents.copy()
        parents[hidden] = -1
        return replace(self, parents=parents)

    @cached_property
    def candidates(self) -> Int64[np.ndarray, " candidates"]:
        """Rows that are the parent of at least one code, ascending."""
        own = self.parents[: self.codes]
        return np.unique(own[own >= 0])

    @cached_property
    def tops(self) -> Int64[np.ndarray, " nodes"]:
        """Row of the highest known node above each node; a node with none above is its own."""
        found = np.arange(len(self.parents))
        above = self.parents
        while (above >= 0).any():
            found = np.where(above >= 0, above, found)
            above = np.where(above >= 0, self.parents[above], -1)
        return found

    @cached_property
    def titled(self) -> Bool[np.ndarray, " nodes"]:
        """Which nodes have a title."""
        return np.fromiter((title != "" for title in self.titles), bool, len(self.titles))


def skeleton(knowledge: Knowledge) -> Skeleton:
    """Returns the cohort's codes and what the bundle knows above them."""
    table = node_table(knowledge.vocabulary, KINDS, knowledge.bundle, ancestors=True)
    parents, kept = _contracted(table)
    inner = np.setdiff1d(np.flatnonzero(kept), table.codes)
    order = np.concatenate([table.codes, inner])
    row = np.empty(len(table.names) + 1, dtype=np.int64)
    row[order] = np.arange(len(order))
    row[-1] = -1  # where parent -1 points
    kinds = np.repeat(np.arange(len(KINDS)), [table.sizes[kind] for kind in KINDS])
    known = dict(zip(knowledge.bundle.nodes, knowledge.titles, strict=True))
    names = tuple(table.names[i] for i in order.tolist())
    return Skeleton(
        names=names,
        titles=tuple(known.get(name, "") for name in names),
        parents=row[parents[order]],
        kinds=kinds[order],
        codes=len(table.codes),
    )


def _contracted(
    table: NodeTable,
) -> tuple[Int64[np.ndarray, " nodes"], Bool[np.ndarray, " nodes"]]:
    """Returns parents without the nodes that stand between one child and one parent, and the rest.

    A code is never left out.
    """
    parents = table.parents.copy()
    children = np.bincount(parents[parents >= 0], minlength=len(parents))
    dropped = (children == 1) & (parents >= 0)
    dropped[table.codes] = False
    for _ in range(len(parents)):
        passing = (parents >= 0) & dropped[parents]
        if not passing.any():
            break
        parents[passing] = parents[parents[passing]]
    return parents, ~dropped


def hold_out(
    known: Skeleton, validation: float, test: float, seed: int
) -> tuple[Int64[np.ndarray, " validation"], Int64[np.ndarray, " test"]]:
    """Returns the numbers of codes whose parents are hidden, ascending; the two sets are disjoint.

    Codes are drawn at random among those with a parent, so that every parent keeps a code. Each
    set has at least one code where there are enough.

    Args:
        known: with all parents.
        validation: share of the codes with a parent, as far as parents keep a code.
        test: likewise; drawn first.
        seed: of the draw.
    """
    child = np.flatnonzero(known.parents[: known.codes] >= 0)
    shuffled = np.random.default_rng(seed).permutation(child)
    parent = known.parents[shuffled]
    order = np.argsort(parent, kind="stable")
    first = np.searchsorted(parent[order], parent[order])
    keeps = np.empty(len(order), dtype=bool)
    keeps[order] = np.arange(len(order)) == first  # each parent's first code in the draw stays
    free = shuffled[~keeps]
    most = [max(1, round(share * len(child))) for share in (test, validation)]
    return np.sort(free[most[0] : sum(most)]), np.sort(free[: most[0]])
