"""Which target code each source code is matched with, and how often that is right.

A code is compared with the codes of its own kind by cosine, or by cross-domain similarity local
scaling, which takes from twice the cosine the mean cosines of both codes with their nearest
neighbours, so that no code is everyone's neighbour (CSLS; Conneau et al., "Word translation
without parallel data", 2018, section 2.3). Codes without a visit take no part.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped,unused-ignore]

from medrec.hierarchy._cooccurrence import normalised
from medrec.measures import Terms

Pairs = Int64[np.ndarray, "_ 2"]
"""Rows (source code, target code), by number."""
Similarity = Float64[np.ndarray, "source_codes target_codes"]
_NEIGHBOURS = 10


@dataclass(frozen=True)
class Block:
    """Codes of one kind, by number, ascending: each source code can match each target code."""

    source: Int64[np.ndarray, " source_codes"]
    target: Int64[np.ndarray, " target_codes"]


def cosines(
    source: Float64[np.ndarray, "source_codes dim"],
    target: Float64[np.ndarray, "target_codes dim"],
) -> Similarity:
    """Returns the cosine of each pair of vectors; 0 with a vector of zeros."""
    with threadpool_limits(1):  # the number of threads would change the rounding
        return normalised(source) @ normalised(target).T


def csls(similarity: Similarity, neighbours: int = _NEIGHBOURS) -> Similarity:
    """Returns twice the similarity less the means of each code's nearest neighbours.

    Args:
        similarity: cosines.
        neighbours: how many of the nearest count, at least 1.
    """
    ours, theirs = _nearest_mean(similarity, neighbours), _nearest_mean(similarity.T, neighbours)
    return 2 * similarity - ours[:, None] - theirs[None, :]


def _nearest_mean(
    similarity: Float64[np.ndarray, "codes others"], neighbours: int
) -> Float64[np.ndarray, " codes"]:
    many = min(neighbours, similarity.shape[1])
    return np.partition(similarity, -many, axis=1)[:, -many:].mean(axis=1)


def ranks(
    mapped: Float64[np.ndarray, "source_codes dim"],
    target: Float64[np.ndarray, "target_codes dim"],
    truth: Int64[np.ndarray, " source_codes"],
    blocks: Iterable[Block],
    *,
    scaled: bool = False,
) -> Float64[np.ndarray, " source_codes"]:
    """Returns the rank of each code's true target, from 1; nan where it is unknown.

    Codes as similar as the true one share their places: their mean counts, so that vectors that
    say nothing gain nothing. A true target outside the code's block has no rank.

    Args:
        mapped: source vectors in the target's space.
        target: target vectors.
        truth: number of the true target, or -1.
        blocks: which codes are compared.
        scaled: by CSLS instead of the cosine.
    """
    found = np.full(len(truth), np.nan)
    for block in blocks:
        known = np.isin(truth[block.source], block.target)
        if not known.any():
            continue
        similarity = cosines(mapped[block.source], target[block.target])
        rows = (csls(similarity) if scaled else similarity)[known]
        place = np.searchsorted(block.target, truth[block.source[known]])
        own = rows[np.arange(len(rows)), place][:, None]
        above, equal = (rows > own).sum(axis=1), (rows == own).sum(axis=1)
        found[block.source[known]] = 1 + above + (equal - 1) / 2
    return found


def hits(
    rank: Float64[np.ndarray, " codes"], scored: Bool[np.ndarray, " codes"], places: int
) -> Terms:
    """Returns the share of codes whose true target is among the first `places`; a unit is a code.

    Args:
        rank: of the true target, nan where it is unknown.
        scored: codes that count; anchors must not.
        places: 1 for codes matched first, 10 for recall in the first ten.
    """
    counts = scored & np.isfinite(rank)
    return (counts & (rank <= places)).astype(np.float64), counts.astype(np.float64)


def reciprocal_ranks(
    rank: Float64[np.ndarray, " codes"], scored: Bool[np.ndarray, " codes"]
) -> Terms:
    """Returns the mean reciprocal rank; a unit is a code, `rank` and `scored` as of `hits`."""
    counts = scored & np.isfinite(rank)
    return np.where(counts, 1 / np.where(counts, rank, 1.0), 0.0), counts.astype(np.float64)


def mutual(similarity: Similarity) -> Pairs:
    """Returns the (row, column) pairs that are each other's nearest, ascending by row.

    Example:
        >>> mutual(np.array([[0.9, 0.1], [0.8, 0.2]])).tolist()
        [[0, 0]]
    """
    best, back = similarity.argmax(axis=1), similarity.argmax(axis=0)
    rows = np.flatnonzero(back[best] == np.arange(len(best)))
    return np.stack([rows, best[rows]], axis=1).astype(np.int64)


def merged(
    mapped: Float64[np.ndarray, "source_codes dim"],
    target: Float64[np.ndarray, "target_codes dim"],
    blocks: Iterable[Block],
    threshold: float,
) -> Pairs:
    """Returns the codes to merge: mutual nearest neighbours of at least this cosine.

    Args:
        mapped: source vectors in the target's space.
        target: target vectors.
        blocks: which codes are compared.
        threshold: least cosine, in [-1, 1].
    """
    pairs = [np.empty((0, 2), dtype=np.int64)]
    for block in blocks:
        similarity = cosines(mapped[block.source], target[block.target])
        found = mutual(similarity)
        row, column = found[similarity[found[:, 0], found[:, 1]] >= threshold].T
        pairs.append(np.stack([block.source[row], block.target[column]], axis=1))
    return by_source(np.concatenate(pairs))


def by_source(pairs: Pairs) -> Pairs:
    """Returns the pairs ascending by their source code."""
    return pairs[np.argsort(pairs[:, 0], kind="stable")]
