"""Paths of codes from the roots of a forest, and how far codes are apart along them."""

import numpy as np
from jaxtyping import Int64


def paths(parents: Int64[np.ndarray, " nodes"], codes: int) -> Int64[np.ndarray, "codes levels"]:
    """Returns the rows from the root down to each code, the code last; then -1.

    Args:
        parents: row of each node's parent, or -1; the codes are the first rows.
        codes: how many.
    """
    upwards = [np.arange(codes)]
    while (upwards[-1] >= 0).any():
        below = upwards[-1]
        upwards.append(np.where(below >= 0, parents[below], -1))
    climbed = np.stack(upwards[:-1] or upwards, axis=1)
    length = (climbed >= 0).sum(axis=1)
    columns = length[:, None] - 1 - np.arange(climbed.shape[1])[None, :]
    found = np.take_along_axis(climbed, np.maximum(columns, 0), axis=1)
    return np.where(columns >= 0, found, -1)


def path_lengths(
    path: Int64[np.ndarray, "codes levels"],
    first: Int64[np.ndarray, " pairs"],
    second: Int64[np.ndarray, " pairs"],
) -> Int64[np.ndarray, " pairs"]:
    """Returns the number of edges between two codes; roots hang below one more node.

    Args:
        path: from `paths`.
        first: a code of each pair.
        second: the other one.
    """
    length = (path >= 0).sum(axis=1)
    equal = (path[first] == path[second]) & (path[first] >= 0)
    shared = np.logical_and.accumulate(equal, axis=1).sum(axis=1)
    return length[first] + length[second] - 2 * shared
