"""The learned tree: a skeleton of known nodes, latent nodes below them, codes.

What is kept of the known hierarchy is a setting. The published trees keep its upper levels (31
drug classes, 21 chapters) and learn what is below; so `top` keeps chapters. Codes that are below
no kept node come below a category of their kind.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from medrec import codes as code_names
from medrec.cohort import KINDS
from medrec.hierarchy._clustering import Group, central, groups
from medrec.hierarchy._hyperbolic import Geometry
from medrec.hierarchy._skeleton import Skeleton
from medrec.hierarchy._tree import NodeKind, Tree

Keep = Literal["none", "top", "parents"]
_KINDS: tuple[NodeKind, ...] = ("category", "latent", "code")
_CATEGORY, _LATENT, _CODE = range(len(_KINDS))
_ROOT = "Codes"


@dataclass(frozen=True)
class Growth:
    """How a tree is grown.

    Attributes:
        keep: known nodes that stay: none, the highest one above each code, or all.
        levels: latent levels below a known node.
        unknown_levels: latent levels where no known node is kept.
        size: units of a latent node in the mean.
    """

    keep: Keep
    levels: int
    unknown_levels: int
    size: int


@dataclass(frozen=True)
class Grown:
    """A tree as numbers; its first rows are the codes.

    Attributes:
        parents: row of each node's parent, or -1 at the root.
        kinds: index into category, latent, code.
        rows: of a code or known node its row in the skeleton, of a latent node that of its most
            central code, of the root -1, of the category of a kind -2 less its index in `KINDS`.
    """

    parents: Int64[np.ndarray, " nodes"]
    kinds: Int64[np.ndarray, " nodes"]
    rows: Int64[np.ndarray, " nodes"]


def grow(
    z: Float64[Tensor, "nodes dim"],
    known: Skeleton,
    placed: Int64[np.ndarray, " nodes"],
    geometry: Geometry,
    growth: Growth,
) -> Grown:
    """Returns the tree.

    Args:
        z: vectors of the skeleton's nodes.
        known: titles and kinds; its parents are not read.
        placed: parent of each node, as seen or predicted.
        geometry: of the vectors.
        growth: settings.
    """
    base, above = _kept(known, placed, growth.keep)
    inner = sorted(row for row in above if row >= known.codes)
    inner += sorted((row for row in above if row < 0), reverse=True)  # in the order of `KINDS`
    rows = [*range(known.codes), *inner]
    place = {row: at for at, row in enumerate(rows)}
    parents = [place[row] for row in base]
    parents += [place[above[row]] if row != -1 else -1 for row in inner]
    kinds = [_CODE] * known.codes + [_CATEGORY] * len(inner)
    by_base: dict[int, list[int]] = {}
    for code, row in enumerate(base):
        by_base.setdefault(row, []).append(code)
    growing = _Growing(z, known, geometry, parents, kinds, rows)
    for row, members in by_base.items():
        levels = growth.levels if row >= 0 else growth.unknown_levels
        growing.below(place[row], np.array(members), levels, growth.size)
    return Grown(*(np.array(each, dtype=np.int64) for each in (parents, kinds, rows)))


def _kept(
    known: Skeleton, placed: Int64[np.ndarray, " nodes"], keep: Keep
) -> tuple[list[int], dict[int, int]]:
    """Returns the kept row above each code, and the row above each kept row.

    Rows below 0 are those of `Grown.rows`: the root, and the categories of kinds.
    """
    category = (-2 - known.kinds).tolist()
    parents = placed.tolist()
    above: dict[int, int] = {-1: -1}  # the root is there even without codes
    base: list[int] = []
    for code in range(known.codes):
        path = [code]
        while keep != "none" and parents[path[-1]] >= 0:
            path.append(parents[path[-1]])
        shown = path[-1:] if keep == "top" else path[1:]
        line = [row for row in shown if row != code] + [category[code], -1]
        base.append(line[0])
        above |= dict(pairwise(line))
    return base, above


class _Growing:
    """Adds latent nodes to lists of parents, kinds and rows."""

    def __init__(
        self,
        z: Float64[Tensor, "nodes dim"],
        known: Skeleton,
        geometry: Geometry,
        parents: list[int],
        kinds: list[int],
        rows: list[int],
    ) -> None:
        self._z, self._known, self._geometry = z, known, geometry
        self._parents, self._kinds, self._rows = parents, kinds, rows

    def below(
        self, parent: int, members: Int64[np.ndarray, " members"], levels: int, size: int
    ) -> None:
        """Puts latent nodes between a node and the codes below it, where they form groups."""
        units = groups(self._z[torch.from_numpy(members)], self._geometry, levels, size)
        waiting = [(parent, unit) for unit in reversed(units)]
        while waiting:
            above, unit = waiting.pop()
            if isinstance(unit, int):
                self._parents[int(members[unit])] = above
                continue
            self._parents.append(above)
            self._kinds.append(_LATENT)
            self._rows.append(self._central(unit, members))
            own = len(self._parents) - 1
            waiting += [(own, below) for below in reversed(unit.units)]

    def _central(self, group: Group, members: Int64[np.ndarray, " members"]) -> int:
        """Returns the most central of a group's codes that have a title, or of all."""
        codes = members[group.codes()]
        titled = codes[self._known.titled[codes]]
        return central(self._z, self._geometry, (titled if len(titled) else codes).tolist())


def as_tree(grown: Grown, known: Skeleton) -> Tree:
    """Returns the tree with names and titles; latent nodes are numbered in their order."""
    names: list[str] = []
    titles: list[str] = []
    latent = 0
    for kind, row in zip(grown.kinds.tolist(), grown.rows.tolist(), strict=True):
        if kind == _LATENT:
            latent += 1
            names.append(f"latent/{latent}")
            titles.append(known.titles[row] or _bare(known.names[row]))
        elif row >= 0:
            names.append(known.names[row])
            titles.append(known.titles[row])
        else:
            title = _ROOT if row == -1 else KINDS[-2 - row].capitalize()
            names.append(f"category/{title}")
            titles.append(title)
    kinds = tuple(_KINDS[kind] for kind in grown.kinds.tolist())
    return Tree(tuple(names), tuple(titles), grown.parents.astype(np.int32), kinds)


def _bare(name: str) -> str:
    """Returns the code of a node's name, without kind and version."""
    return code_names.split(name.partition("/")[2])[1]
