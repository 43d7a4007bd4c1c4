"""What a learned hierarchy is measured at, on codes whose parents were hidden.

A unit is a code; terms are over all codes, those that were not held out with denominator 0.
Distances and classes are of codes of one kind.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy import sparse
from scipy.stats import rankdata
from torch import Tensor

from medrec.hierarchy._hyperbolic import Geometry, distance, distances
from medrec.hierarchy._parents import spread
from medrec.hierarchy._paths import path_lengths, paths
from medrec.hierarchy._skeleton import Skeleton
from medrec.measures import Terms, linearised

_BLOCK = 256  # codes compared with all others at once
_PAIRS = 64  # other codes that a code is compared with where not all are
Related = Any
"""A scipy.sparse csr_array [codes, codes]; scipy has no types."""


@dataclass(frozen=True)
class Sampled:
    """Pairs of a held-out code and another code of its kind, drawn at random.

    Attributes:
        first: place of the held-out code among the rows.
        second: number of the other code.
    """

    first: Int64[np.ndarray, " pairs"]
    second: Int64[np.ndarray, " pairs"]


def pair_auc(
    z: Float64[Tensor, "codes dim"],
    known: Skeleton,
    related: Related,
    rows: Int64[np.ndarray, " rows"],
    geometry: Geometry,
) -> Terms:
    """Returns the probability that a related code is nearer than one of its kind that is not.

    Each code's related codes are compared with all other codes of their kinds; equal distances
    count half. A code weighs as many related codes as it has.

    Args:
        z: vectors of the codes.
        known: kinds of the codes.
        related: sparse matrix [codes, codes], nonzero where two codes are related.
        rows: codes to look at.
        geometry: of the vectors.
    """
    numerator, denominator = np.zeros(known.codes), np.zeros(known.codes)
    for some, apart, relatives in _blocks(z, related, rows, geometry):
        for kind in np.unique(known.kinds):
            columns = np.flatnonzero(known.kinds[: known.codes] == kind)
            right, weight = _auc(apart[:, columns], relatives[:, columns])
            numerator[some] += right * weight
            denominator[some] += weight
    return numerator, denominator


def _blocks(
    z: Float64[Tensor, "codes dim"],
    related: Related,
    rows: Int64[np.ndarray, " rows"],
    geometry: Geometry,
) -> Iterator[
    tuple[
        Int64[np.ndarray, " some"],
        Float64[np.ndarray, "some codes"],
        Bool[np.ndarray, "some codes"],
    ]
]:
    """Yields rows, their distances to all codes, infinite to themselves, and their relatives."""
    for start in range(0, len(rows), _BLOCK):
        some = rows[start : start + _BLOCK]
        apart = distances(z[some], z, geometry).numpy()
        apart[np.arange(len(some)), some] = np.inf
        yield some, apart, related[some].toarray() != 0


def _auc(
    apart: Float64[np.ndarray, "rows codes"], relatives: Bool[np.ndarray, "rows codes"]
) -> tuple[Float64[np.ndarray, " rows"], Float64[np.ndarray, " rows"]]:
    """Returns each row's AUC by the rank sum, and its weight; infinite distances are left out."""
    there = np.isfinite(apart)
    near = (relatives & there).sum(axis=1)
    far = there.sum(axis=1) - near
    ranked = rankdata(apart, axis=1)
    above = np.where(relatives & there, ranked, 0.0).sum(axis=1) - near * (near + 1) / 2
    counts = (near > 0) & (far > 0)
    wrong = np.divide(above, near * far, out=np.zeros(len(apart)), where=counts)
    return np.where(counts, 1.0 - wrong, 0.0), np.where(counts, near, 0).astype(np.float64)


def siblings(known: Skeleton) -> Related:
    """Returns which codes have one known parent; a code is not its own sibling."""
    own = known.parents[: known.codes]
    codes = np.flatnonzero(own >= 0)
    shape = (known.codes, len(known.parents))
    below = sparse.csr_array((np.ones(len(codes)), (codes, own[codes])), shape=shape)
    together = sparse.lil_array(below @ below.T)
    together.setdiag(0.0)
    return sparse.csr_array(together)


def purity(
    parents: Int64[np.ndarray, " nodes"], known: Skeleton, rows: Int64[np.ndarray, " rows"]
) -> Terms:
    """Returns dendrogram purity (Heller & Ghahramani 2005), exactly.

    Of each pair of codes with one known parent: the share of the codes below their lowest common
    ancestor in the learned tree that have this parent too. Codes without a known parent are no
    leaves. Where codes of one parent are in no common subtree, all leaves count.

    Args:
        parents: of the learned tree, whose first rows are the codes.
        known: the known parents.
        rows: codes to look at; their pairs with all other codes count.
    """
    classes = known.parents[: known.codes]
    labelled = np.flatnonzero(classes >= 0)
    path = paths(parents, known.codes)
    path = np.concatenate([np.full((len(path), 1), len(parents)), path], axis=1)  # above all roots
    held = _Held(path[labelled], classes[labelled])
    own = rows[classes[rows] >= 0]
    found = np.zeros(len(own))
    pairs = np.zeros(len(own))
    below = np.ones(len(own))  # of the code's class, below the node of the step before
    for level in range(path.shape[1] - 1, -1, -1):
        node = path[own, level]
        at = node >= 0
        own_class, leaves = held.of(node, classes[own]), held.of_any(node)
        share = np.divide(own_class, leaves, out=np.zeros(len(own)), where=at)
        met = np.where(at, own_class - below, 0.0)
        found += met * share
        pairs += met
        below = np.where(at, own_class, below)
    numerator, denominator = np.zeros(known.codes), np.zeros(known.codes)
    numerator[own], denominator[own] = found, pairs
    return numerator, denominator


class _Held:
    """How many codes of each class are below each node, and how many of any."""

    def __init__(
        self, path: Int64[np.ndarray, "labelled levels"], classes: Int64[np.ndarray, " labelled"]
    ) -> None:
        code, level = np.nonzero(path >= 0)
        self._wide = int(classes.max(initial=0)) + 1
        keys = path[code, level] * self._wide + classes[code]
        self._keys, self._counts = np.unique(keys, return_counts=True)
        self._leaves = np.bincount(path[code, level], minlength=int(path.max(initial=0)) + 1)

    def of(
        self, node: Int64[np.ndarray, " rows"], classes: Int64[np.ndarray, " rows"]
    ) -> Float64[np.ndarray, " rows"]:
        """Returns the count of a class below each node; 0 for node -1."""
        keys = node * self._wide + classes
        place = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where((node >= 0) & (self._keys[place] == keys), self._counts[place], 0.0)

    def of_any(self, node: Int64[np.ndarray, " rows"]) -> Float64[np.ndarray, " rows"]:
        """Returns the count of all classes below each node; 0 for node -1."""
        return np.where(node >= 0, self._leaves[node], 0.0)


def sampled(known: Skeleton, rows: Int64[np.ndarray, " rows"], seed: int) -> Sampled:
    """Returns up to 64 other codes of its kind for each row, drawn with replacement."""
    generator = np.random.default_rng(seed)
    kinds = known.kinds[: known.codes]
    first, second = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for kind in np.unique(kinds[rows]):
        codes = np.flatnonzero(kinds == kind)
        own = np.flatnonzero(kinds[rows] == kind)
        if len(codes) < 2:
            continue
        step = generator.integers(1, len(codes), size=(len(own), _PAIRS))
        place = (np.searchsorted(codes, rows[own])[:, None] + step) % len(codes)
        first.append(np.repeat(own, _PAIRS))
        second.append(codes[place].ravel())
    return Sampled(np.concatenate(first), np.concatenate(second))


def cophenetic(
    parents: Int64[np.ndarray, " nodes"],
    known: Skeleton,
    rows: Int64[np.ndarray, " rows"],
    pairs: Sampled,
) -> Terms:
    """Returns the correlation of path lengths in the learned tree and in the known one.

    The terms are the correlation and each code's influence on it: of standardised lengths a and
    b of a pair, ab - r (a² + b²) / 2 (Devlin et al. 1975), the mean over the code's pairs.
    """
    learned = path_lengths(paths(parents, known.codes), rows[pairs.first], pairs.second)
    true = path_lengths(paths(known.parents, known.codes), rows[pairs.first], pairs.second)
    if not len(learned) or not learned.std() or not true.std():
        return spread(np.zeros(0), rows[:0], known.codes)
    one, other = ((x - x.mean()) / x.std() for x in (learned, true))
    value = float((one * other).mean())
    influence = one * other - value * (one**2 + other**2) / 2
    counts = np.bincount(pairs.first, minlength=len(rows))
    means = np.bincount(pairs.first, influence, len(rows))[counts > 0] / counts[counts > 0]
    numerator, _ = linearised(value, means)
    return spread(numerator, rows[counts > 0], known.codes)


def distortion(
    z: Float64[Tensor, "codes dim"],
    known: Skeleton,
    rows: Int64[np.ndarray, " rows"],
    pairs: Sampled,
    geometry: Geometry,
) -> Terms:
    """Returns the mean of |s d(z_i, z_j) / d(i, j) - 1|, d being path lengths in the known tree.

    s is the factor that fits the distances best: the vectors' scale does not matter. Codes
    without a known parent have no place in the tree and are left out.
    """
    has = known.parents[: known.codes] >= 0
    kept = has[rows[pairs.first]] & has[pairs.second]
    first, second = pairs.first[kept], pairs.second[kept]
    true = path_lengths(paths(known.parents, known.codes), rows[first], second)
    apart = distance(z[rows[first]], z[second], geometry).numpy()
    ratio = np.divide(apart, true, out=np.zeros(len(true)), where=true > 0)
    size = (ratio**2).sum()
    scale = ratio.sum() / size if size else 1.0  # least squares of s ratio = 1
    total = np.bincount(first, np.abs(scale * ratio - 1.0), minlength=len(rows))
    numerator, denominator = np.zeros(known.codes), np.zeros(known.codes)
    numerator[rows] = total
    denominator[rows] = np.bincount(first, minlength=len(rows))
    return numerator, denominator
