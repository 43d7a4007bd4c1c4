"""Which known node a code belongs below: ranks of candidate parents.

Candidates are the known nodes that have a code of the same kind below them. A candidate's score is
the distance to its own vector plus the distance to the nearest of its codes: the first is right
where a category is round, the second where it is not.
"""

import numpy as np
from jaxtyping import Float64, Int64
from torch import Tensor

from medrec.hierarchy._hyperbolic import Geometry, distances
from medrec.hierarchy._skeleton import Skeleton
from medrec.measures import Terms

_BLOCK = 512  # codes scored at once


def parent_scores(
    z: Float64[Tensor, "nodes dim"],
    visible: Skeleton,
    rows: Int64[np.ndarray, " rows"],
    geometry: Geometry,
) -> Float64[np.ndarray, "rows candidates"]:
    """Returns how far each candidate is from each code; infinite for another kind's.

    Args:
        z: vectors of codes and known nodes.
        visible: with the parents that may be seen; its candidates are the columns.
        rows: codes without a visible parent.
        geometry: of the vectors.
    """
    candidates = visible.candidates
    codes = np.flatnonzero(visible.parents[: visible.codes] >= 0)
    codes = codes[np.argsort(visible.parents[codes], kind="stable")]
    first = np.searchsorted(visible.parents[codes], candidates)
    found = np.empty((len(rows), len(candidates)))
    if not found.size:
        return found
    for start in range(0, len(rows), _BLOCK):
        some = rows[start : start + _BLOCK]
        own = distances(z[some], z[candidates], geometry).numpy()
        nearest = np.minimum.reduceat(
            distances(z[some], z[codes], geometry).numpy(), first, axis=1
        )
        found[start : start + _BLOCK] = own + nearest
    other = visible.kinds[rows][:, None] != visible.kinds[candidates][None, :]
    found[other] = np.inf
    return found


def parent_ranks(
    scores: Float64[np.ndarray, "rows candidates"],
    candidates: Int64[np.ndarray, " candidates"],
    parents: Int64[np.ndarray, " rows"],
) -> Float64[np.ndarray, " rows"]:
    """Returns the rank of each code's true parent, from 1; equal scores share the mean rank.

    Args:
        scores: low is near.
        candidates: ascending.
        parents: true parents, each one of the candidates.
    """
    column = np.searchsorted(candidates, parents)
    own = scores[np.arange(len(scores)), column][:, None]
    return 1.0 + (scores < own).sum(axis=1) + ((scores == own).sum(axis=1) - 1) / 2


def predicted(
    z: Float64[Tensor, "nodes dim"], visible: Skeleton, geometry: Geometry
) -> Int64[np.ndarray, " nodes"]:
    """Returns the parents, those of codes without one being the best candidate of their kind.

    A code stays without a parent where no code of its kind has one. So does a code that has nodes
    below it: to put it below another node could close a circle.
    """
    parents = visible.parents.copy()
    rows = np.setdiff1d(np.flatnonzero(parents[: visible.codes] < 0), parents)
    scores = parent_scores(z, visible, rows, geometry)
    if scores.size:
        best = scores.argmin(axis=1)
        there = np.isfinite(scores[np.arange(len(rows)), best])
        parents[rows[there]] = visible.candidates[best[there]]
    return parents


def spread(
    values: Float64[np.ndarray, " rows"], rows: Int64[np.ndarray, " rows"], codes: int
) -> Terms:
    """Returns a mean over some codes as terms over all codes; the others have denominator 0."""
    numerator, denominator = np.zeros(codes), np.zeros(codes)
    numerator[rows], denominator[rows] = values, 1.0
    return numerator, denominator


def parent_terms(
    ranks: Float64[np.ndarray, " rows"],
    rows: Int64[np.ndarray, " rows"],
    visible: Skeleton,
) -> dict[str, Terms]:
    """Returns recall at 1, 5 and 10, the latter also of codes with a title, mean rank and MRR."""
    titled = visible.titled[rows]
    codes = visible.codes
    return {
        "parent_recall": spread((ranks <= 10).astype(float), rows, codes),
        "parent_recall_text": spread((ranks[titled] <= 10).astype(float), rows[titled], codes),
        "parent_recall_5": spread((ranks <= 5).astype(float), rows, codes),
        "parent_recall_1": spread((ranks <= 1).astype(float), rows, codes),
        "parent_rank": spread(ranks, rows, codes),
        "parent_reciprocal_rank": spread(1.0 / ranks, rows, codes),
    }
