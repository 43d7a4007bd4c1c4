"""Stage-I vectors of known nodes, and which codes are near one another in stage I."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64

from medrec.hierarchy._cooccurrence import normalised
from medrec.hierarchy._skeleton import Skeleton

_BLOCK = 1024  # codes compared at once


def node_vectors(
    codes: Float64[np.ndarray, "codes dim"],
    titles: Float64[np.ndarray, "inner dim"],
    visible: Skeleton,
) -> Float64[np.ndarray, "nodes dim"]:
    """Returns stage-I vectors of all nodes, of length 1 or 0.

    A known node has its title's plus its children's mean, each of length 1 first.

    Args:
        codes: of the codes; rows of any length.
        titles: of the known nodes' titles, zeros where there is none; the same columns.
        visible: the nodes; only visible children enter a mean.
    """
    found = np.concatenate([normalised(codes), np.zeros_like(titles)])
    inner = np.arange(len(found)) >= visible.codes
    for level in _levels(visible):
        own = level[inner[level]]
        found[own] = normalised(normalised(found[own]) + normalised(titles[own - visible.codes]))
        child = level[visible.parents[level] >= 0]
        above = visible.parents[child]
        up = inner[above]  # a code above a code keeps its own vector
        np.add.at(found, above[up], normalised(found[child[up]]))
    return found


def _levels(visible: Skeleton) -> Sequence[Int64[np.ndarray, " level"]]:
    """Returns the rows by their number of ancestors, most first."""
    depth = np.zeros(len(visible.parents), dtype=np.int64)
    above = visible.parents
    while (above >= 0).any():
        depth += above >= 0
        above = np.where(above >= 0, visible.parents[above], -1)
    return [np.flatnonzero(depth == level) for level in range(depth.max(initial=0), -1, -1)]


def nearest(
    x: Float64[np.ndarray, "codes dim"], kinds: Int64[np.ndarray, " codes"], many: int
) -> Int64[np.ndarray, "pairs 2"]:
    """Returns each code with the `many` codes of its kind of the largest cosine.

    Codes whose vector is 0 have no neighbours and are none.
    """
    unit = normalised(x)
    pairs = [np.empty((0, 2), dtype=np.int64)]
    for kind in np.unique(kinds):
        own = np.flatnonzero((kinds == kind) & unit.any(axis=1))
        count = min(many, len(own) - 1)
        if count < 1:
            continue
        for start in range(0, len(own), _BLOCK):
            rows = np.arange(start, min(start + _BLOCK, len(own)))
            alike = unit[own[rows]] @ unit[own].T
            alike[np.arange(len(rows)), rows] = -np.inf
            best = np.argsort(-alike, axis=1, kind="stable")[:, :count]
            pairs.append(np.stack([np.repeat(own[rows], count), own[best].ravel()], axis=1))
    return np.concatenate(pairs)
