"""A hierarchy of codes: known categories, latent nodes and codes, each with one parent.

The published trees of MASH (arXiv 2509.06576; repository celehs/MASH, docs/) are nested JSON
objects {"name": ..., "children": [...]}. Their names say what a node is, and so do ours:

    code       "ICD9CM:4280 Congestive heart failure", likewise ICD10CM, ICD9PROC, ICD10PCS, ATC;
               "Other:medications/ASPIRIN%2081 aspirin 81 mg" for local codes, percent-encoded
    latent     "LatentNode:12 Congestive heart failure"
    category   free text; one that is a node of a known hierarchy says so at the end,
               "Diseases of the circulatory system (ICD9CM:390-459)"

Reading and writing walk the tree with a stack of their own, so that no depth is too great.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Int32

from medrec.errors import KnowledgeError

NodeKind = Literal["category", "latent", "code"]


@dataclass(frozen=True)
class Tree:
    """Nodes in rows; parents may stand anywhere.

    Attributes:
        names: unique ids: a known node as in `medrec.knowledge.bundle` ("diagnoses/9:4280"), a
            latent one "latent/12", a category of no known hierarchy "category/Diagnoses".
        titles: English title of each node, or "".
        parents: row of each node's parent, or -1 at a root; there is at least one.
        kinds: what each node is; a code may have children.

    Raises:
        KnowledgeError: it is no tree; the message names the node.
    """

    names: tuple[str, ...]
    titles: tuple[str, ...]
    parents: Int32[np.ndarray, " nodes"]
    kinds: tuple[NodeKind, ...]

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Raises `KnowledgeError` unless names are unique and every node hangs below a root."""
        nodes = len(self.names)
        if not len(self.titles) == len(self.parents) == len(self.kinds) == nodes:
            raise KnowledgeError("A tree needs a title, a parent and a kind for each node.")
        repeated = [name for name, count in Counter(self.names).items() if count > 1]
        if repeated:
            raise KnowledgeError(f"The tree has node {repeated[0]!r} twice.")
        outside = np.flatnonzero((self.parents < -1) | (self.parents >= nodes))
        if len(outside):
            raise KnowledgeError(f"The parent of {self.names[outside[0]]!r} is no node.")
        lost = np.flatnonzero(self.depth < 0)
        if len(lost):
            raise KnowledgeError(f"{self.names[lost[0]]!r} is among its own ancestors, or below.")

    @cached_property
    def depth(self) -> Int32[np.ndarray, " nodes"]:
        """Number of ancestors of each node; a root has 0."""
        found = np.full(len(self.parents), -1, dtype=np.int32)
        inner = self.parents >= 0
        level, now = 0, ~inner
        while now.any():
            found[now] = level
            level += 1
            now = inner & (found < 0)
            now[now] = found[self.parents[now]] == level - 1
        return found

    @cached_property
    def child_counts(self) -> Int32[np.ndarray, " nodes"]:
        """Number of children of each node."""
        above = self.parents[self.parents >= 0]
        return np.bincount(above, minlength=len(self.parents)).astype(np.int32)

    @cached_property
    def children(self) -> tuple[tuple[int, ...], ...]:
        """Rows of each node's children, ascending."""
        found: list[list[int]] = [[] for _ in self.names]
        for row, parent in enumerate(self.parents.tolist()):
            if parent >= 0:
                found[parent].append(row)
        return tuple(map(tuple, found))

    @cached_property
    def roots(self) -> tuple[int, ...]:
        """Rows without a parent, ascending."""
        return tuple(np.flatnonzero(self.parents < 0).tolist())

    @cached_property
    def rows(self) -> dict[str, int]:
        """Row of each name."""
        return {name: row for row, name in enumerate(self.names)}

    def ancestors(self, row: int) -> tuple[int, ...]:
        """Returns the rows above a node, nearest first."""
        found = []
        above = int(self.parents[row])
        while above >= 0:
            found.append(above)
            above = int(self.parents[above])
        return tuple(found)

    def preorder(self) -> Iterator[int]:
        """Yields all rows, each before its descendants, children in their order."""
        waiting = list(reversed(self.roots))
        while waiting:
            row = waiting.pop()
            yield row
            waiting += reversed(self.children[row])


@dataclass(frozen=True)
class Shape:
    """The row of a tree in the table of shapes.

    Attributes:
        nodes, codes, latent, categories: how many there are; roots count as what they are.
        depth: of the deepest node.
        leaf_depths: the fewest depths that together hold more than half of the leaves.
        mean_branching, max_branching: children of a node that has any.
        latent_children: least, mean and greatest number of children of a latent node; zeros
            without latent nodes.
    """

    nodes: int
    codes: int
    latent: int
    categories: int
    depth: int
    leaf_depths: tuple[int, ...]
    mean_branching: float
    max_branching: int
    latent_children: tuple[int, float, int]


# Counted in the files of celehs/MASH, docs/ (2025).
PUBLISHED = {
    "PheCode": Shape(2022, 1855, 145, 22, 4, (3,), 4.7, 50, (2, 5.8, 20)),
    "RxNorm": Shape(1951, 1703, 216, 32, 5, (3,), 7.9, 90, (2, 7.6, 90)),
    "Lab": Shape(13662, 10360, 1580, 1722, 10, (6, 7), 4.1, 74, (2, 5.0, 37)),
}


def shape(tree: Tree) -> Shape:
    """Returns the row of a tree in the table of shapes."""
    kinds = Counter(tree.kinds)
    counts = tree.child_counts
    inner = counts[counts > 0]
    latent = counts[np.array([kind == "latent" for kind in tree.kinds], dtype=bool)]
    return Shape(
        nodes=len(tree.names),
        codes=kinds["code"],
        latent=kinds["latent"],
        categories=kinds["category"],
        depth=int(tree.depth.max(initial=0)),
        leaf_depths=_commonest(tree.depth[counts == 0]),
        mean_branching=float(inner.mean()) if len(inner) else 0.0,
        max_branching=int(counts.max(initial=0)),
        latent_children=(int(latent.min()), float(latent.mean()), int(latent.max()))
        if len(latent)
        else (0, 0.0, 0),
    )


def _commonest(depths: Int32[np.ndarray, " leaves"]) -> tuple[int, ...]:
    found: list[int] = []
    held = 0
    for depth, count in sorted(Counter(depths.tolist()).items(), key=lambda item: -item[1]):
        if 2 * held > len(depths):
            break
        found.append(depth)
        held += count
    return tuple(sorted(found))


_NUMBERED = re.compile(r"#[0-9]+$")  # what tells apart nodes of the same published name


def unnumbered(name: str) -> str:
    """Returns a name as published, without what `from_json` told repetitions apart by."""
    return _NUMBERED.sub("", name)
