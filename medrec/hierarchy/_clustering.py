"""Stage III of MASH: latent nodes below skeleton nodes, by clustering (our reconstruction).

Below each skeleton node its codes are clustered with average linkage on their distances (scipy),
and the dendrogram is cut: at most one latent level where a hierarchy is known, up to three where
none is, as in the published trees. A cut leaves as many groups as make `size` units a group in the
mean, but splits groups of more than 20 (the most of the PheCode tree); a group of one is no node.
The next level groups what is left. A latent node is called like its most central code, the one
with the least mean distance to the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64
from scipy.cluster.hierarchy import linkage
from torch import Tensor

from medrec.hierarchy._hyperbolic import Geometry, distances

MOST_CHILDREN = 20
"""Units of a latent node; the published PheCode tree has none with more."""

_BLOCK = 512  # rows of the matrix of distances at once
Groups = list["Group"]


@dataclass(frozen=True)
class Group:
    """A latent node: its units, which are codes (numbers) or groups."""

    units: tuple["int | Group", ...]

    def codes(self) -> list[int]:
        """Returns the codes below it."""
        found: list[int] = []
        for unit in self.units:
            found += [unit] if isinstance(unit, int) else unit.codes()
        return found


def condensed(
    z: Float64[Tensor, "codes dim"], geometry: Geometry
) -> Float64[np.ndarray, " pairs"]:
    """Returns the distances of all pairs i < j, row by row, as scipy wants them.

    Made in blocks of rows: 14,000 codes need 0.8 GB, and scipy's copy as much again.
    """
    count = len(z)
    found = np.empty(count * (count - 1) // 2)
    at = 0
    for start in range(0, count - 1, _BLOCK):
        stop = min(start + _BLOCK, count - 1)
        block = distances(z[start:stop], z[start:], geometry).numpy()
        upper = np.arange(count - start)[None, :] > np.arange(stop - start)[:, None]
        part = block[upper]
        found[at : at + len(part)] = part
        at += len(part)
    return found


def groups(
    z: Float64[Tensor, "codes dim"], geometry: Geometry, levels: int, size: int
) -> tuple["int | Group", ...]:
    """Returns the units below a skeleton node: codes that stay alone, and groups.

    Args:
        z: vectors of the codes below the node; numbers in the result are rows of it.
        geometry: of the vectors.
        levels: latent levels at most; 0 groups nothing.
        size: units of a group in the mean, at least 2; so few codes stay as they are.
    """
    units: list[int | Group] = list(range(len(z)))
    if levels == 0 or len(units) <= size:
        return tuple(units)
    merges = linkage(condensed(z, geometry), "average")[:, :2].astype(np.int64)
    for _ in range(levels):
        if len(units) <= size:
            break
        units, merges = _grouped(units, merges, size)
    return tuple(units)


def _grouped(
    units: Sequence[int | Group], merges: Int64[np.ndarray, "merges 2"], size: int
) -> tuple[list[int | Group], Int64[np.ndarray, "above 2"]]:
    """Returns the units after one cut, and the dendrogram's merges above it.

    Args:
        units: leaves of the dendrogram.
        merges: the two sides of each merge, lowest first, numbered as scipy does: leaves first,
            then merges.
        size: units of a group in the mean.
    """
    count = len(units)
    whole = -(-count // size)  # how many groups, rounded up
    below: list[list[int] | None] = [[i] for i in range(count)]  # None once it is split
    new: list[int | Group] = []
    number: dict[int, int] = {}  # of a node below the cut, among the new units
    above: list[tuple[int, int]] = []
    for i, (left, right) in enumerate(merges.tolist()):
        one, other = below[left], below[right]
        joined = one + other if one is not None and other is not None else None
        if joined is not None and i < count - whole and len(joined) <= MOST_CHILDREN:
            below.append(joined)
            continue
        below.append(None)
        for node, members in ((left, one), (right, other)):
            if members is not None:
                number[node] = len(new)
                own = tuple(units[j] for j in members)
                new.append(Group(own) if len(own) > 1 else own[0])
        above.append((left, right))
    split = [count + i for i in range(len(merges)) if below[count + i] is None]
    place = {node: at for at, node in enumerate(split)}
    sides = [
        [number[side] if side in number else len(new) + place[side] for side in pair]
        for pair in above
    ]
    return new, np.array(sides, dtype=np.int64).reshape(-1, 2)


def central(
    z: Float64[Tensor, "codes dim"],
    geometry: Geometry,
    members: Sequence[int],
) -> int:
    """Returns the member with the least mean distance to the others; the first of equal ones."""
    rows = torch.as_tensor(list(members))
    total = torch.cat(
        [distances(z[some], z[rows], geometry).sum(dim=1) for some in rows.split(_BLOCK)]
    )
    return int(rows[int(total.argmin())])
