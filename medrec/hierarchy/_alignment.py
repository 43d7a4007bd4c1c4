"""Maps of one institution's code vectors into another's space.

    identity     none
    procrustes   the rotation of the co-occurrence half that fits matched pairs best (Schoenemann
                 1966); text halves are of one encoder and stay
    sinkhorn     entropic optimal transport of the rotated vectors, codes weighed by frequency; a
                 code goes to the mean of where its mass goes (barycentric projection; Cuturi
                 2013, Courty et al. 2017)
    neural_ot    a transport map as a network (`_neural_ot`) of the rotated vectors; its matched
                 pairs are the anchors and the mutual nearest neighbours after the rotation

A rotation is needed before transport: singular vectors of two institutions are of two bases, and
the least transport for a squared distance never is a rotation. Its pairs are the anchors and the
titles' mutual nearest neighbours; where these are fewer than dimensions, also those of what no
rotation changes: a code's frequency and its sorted similarities to all codes (Artetxe et al.
2018). Then the rotation and the mutual nearest neighbours under it take turns.

The transport is unbalanced (Chizat et al. 2018): frequencies are only nearly the same, since a
rare code has 1 visit here and 3 there by chance, and some codes have no counterpart at all.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from ot import dist  # type: ignore[import-untyped,unused-ignore]
from ot.unbalanced import sinkhorn_unbalanced  # type: ignore[import-untyped,unused-ignore]
from scipy.linalg import orthogonal_procrustes
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped,unused-ignore]

from medrec.hierarchy._matching import Block, Pairs, Similarity, by_source, cosines, csls, mutual
from medrec.hierarchy._neural_ot import STEPS, Samples, transport

Mapped = Float64[np.ndarray, "source_codes dim"]
_ROUNDS = 10  # of rotation and matching
_QUANTILES = 64  # of a code's similarities
_BLUR = 0.02  # entropic regularisation, in mean costs
_BALANCE = 0.1  # weight of the divergence from the frequencies, in mean costs
_ITERATIONS = 1000


@dataclass(frozen=True)
class Vectors:
    """The codes of one institution.

    Attributes:
        text: of titles, rows of length 1, or 0 without a title.
        together: of co-occurrence, rows of length at most 1.
        kinds: index into `KINDS` of each code's kind.
        frequency: number of visits with each code.
    """

    text: Float64[np.ndarray, "codes half"]
    together: Float64[np.ndarray, "codes other_half"]
    kinds: Int64[np.ndarray, " codes"]
    frequency: Int64[np.ndarray, " codes"]

    @property
    def joined(self) -> Float64[np.ndarray, "codes dim"]:
        """Both halves."""
        return np.concatenate([self.text, self.together], axis=1)


def blocks(source: Vectors, target: Vectors) -> list[Block]:
    """Returns which codes can be matched: of one kind, each in a visit of its institution."""
    found = []
    for kind in np.intersect1d(source.kinds, target.kinds).tolist():
        ours, theirs = (
            np.flatnonzero((side.kinds == kind) & (side.frequency > 0))
            for side in (source, target)
        )
        if len(ours) and len(theirs):
            found.append(Block(ours, theirs))
    return found


def identity(source: Vectors, target: Vectors, anchors: Pairs, seed: int) -> Mapped:
    """Returns the source vectors as they are."""
    return source.joined


def procrustes(source: Vectors, target: Vectors, anchors: Pairs, seed: int) -> Mapped:
    """Returns the source vectors, their co-occurrence half rotated."""
    pairs = _first_pairs(source, target, anchors)
    seen: set[bytes] = set()
    mapped = source.joined
    with threadpool_limits(1):  # the number of threads would change the rounding
        for _ in range(_ROUNDS):
            if not len(pairs) or pairs.tobytes() in seen:
                break
            seen.add(pairs.tobytes())
            mapped = np.concatenate([source.text, _rotated(source, target, pairs)], axis=1)
            pairs = _near_pairs(mapped, target.joined, blocks(source, target), anchors)
    return mapped


def sinkhorn(source: Vectors, target: Vectors, anchors: Pairs, seed: int) -> Mapped:
    """Returns where entropic transport takes the rotated source vectors, kind by kind."""
    mapped = procrustes(source, target, anchors, seed)
    there = target.joined
    for block in blocks(source, target):
        plan = transport_plan(
            mapped[block.source],
            there[block.target],
            source.frequency[block.source],
            target.frequency[block.target],
        )
        mass = plan.sum(axis=1, keepdims=True)
        carried = np.flatnonzero(mass[:, 0] > 0)  # a code too far from all stays where it is
        mapped[block.source[carried]] = plan[carried] @ there[block.target] / mass[carried]
    mapped[anchors[:, 0]] = there[anchors[:, 1]]
    return mapped


def transport_plan(
    source: Float64[np.ndarray, "source_codes dim"],
    target: Float64[np.ndarray, "target_codes dim"],
    source_frequency: Int64[np.ndarray, " source_codes"],
    target_frequency: Int64[np.ndarray, " target_codes"],
    blur: float = _BLUR,
    balance: float = _BALANCE,
) -> Float64[np.ndarray, "source_codes target_codes"]:
    """Returns the transport plan between codes weighed by their frequencies, all above 0.

    It minimises the mean squared distance, plus `blur` times the divergence of the plan from
    independence, plus `balance` times the divergences of its marginals from the frequencies.

    Args:
        source: vectors of the source codes.
        target: vectors of the target codes.
        source_frequency: numbers of visits of the source codes; only their ratios matter.
        target_frequency: likewise of the target codes.
        blur: in mean squared distances, so that the vectors' scale does not matter.
        balance: likewise.
    """
    with threadpool_limits(1):
        cost = dist(source, target)
        plan = sinkhorn_unbalanced(
            source_frequency / source_frequency.sum(),
            target_frequency / target_frequency.sum(),
            cost / max(cost.mean(), np.finfo(float).tiny),
            reg=blur,
            reg_m=balance,
            numItermax=_ITERATIONS,
        )
    return np.asarray(plan)


def neural_ot(
    source: Vectors, target: Vectors, anchors: Pairs, seed: int, steps: int = STEPS
) -> Mapped:
    """Returns where a neural transport map takes the rotated source vectors.

    Its matched pairs are the anchors and the mutual nearest neighbours under the rotation.
    """
    mapped = procrustes(source, target, anchors, seed)
    found = blocks(source, target)
    if not found:
        return mapped
    pairs = _near_pairs(mapped, target.joined, found, anchors)
    ours, theirs = (side.frequency / side.frequency.sum() for side in (source, target))
    sides = Samples(mapped, ours), Samples(target.joined, theirs)
    return transport(*sides, pairs, seed, steps)


ALIGNMENTS: dict[str, Callable[[Vectors, Vectors, Pairs, int], Mapped]] = {
    "identity": identity,
    "procrustes": procrustes,
    "sinkhorn": sinkhorn,
    "neural_ot": neural_ot,
}
"""Alignments by name.

Each takes source and target vectors, anchors known to match, possibly none, and a seed, and
returns the mapped source vectors. The seed matters to `neural_ot` alone.
"""


def draw_anchors(truth: Int64[np.ndarray, " source_codes"], share: float, seed: int) -> Pairs:
    """Returns the true pairs of a share of the codes whose match is known, ascending."""
    known = np.flatnonzero(truth >= 0)
    many = round(share * len(known))
    chosen = np.sort(np.random.default_rng(seed).permutation(known)[:many])
    return np.stack([chosen, truth[chosen]], axis=1).astype(np.int64)


def _first_pairs(source: Vectors, target: Vectors, anchors: Pairs) -> Pairs:
    """Returns pairs to begin with: anchors and titles, and signatures where these are few."""
    found = blocks(source, target)
    titled = [
        Block(
            b.source[source.text[b.source].any(axis=1)],
            b.target[target.text[b.target].any(axis=1)],
        )
        for b in found
    ]
    titled = [block for block in titled if len(block.source) and len(block.target)]
    pairs = _with_anchors(
        [
            _numbered(mutual(cosines(source.text[b.source], target.text[b.target])), b)
            for b in titled
        ],
        anchors,
    )
    if len(pairs) >= source.together.shape[1] or not found:
        return pairs
    ours, theirs = _signature(source), _signature(target)
    apart = [
        _numbered(mutual(-np.asarray(dist(ours[b.source], theirs[b.target]))), b) for b in found
    ]
    return _with_anchors(apart, pairs)


def _near_pairs(
    mapped: Mapped,
    target: Float64[np.ndarray, "target_codes dim"],
    found: list[Block],
    anchors: Pairs,
) -> Pairs:
    def similar(block: Block) -> Similarity:
        return csls(cosines(mapped[block.source], target[block.target]))

    return _with_anchors([_numbered(mutual(similar(block)), block) for block in found], anchors)


def _signature(side: Vectors) -> Float64[np.ndarray, "codes features"]:
    """Returns quantiles of each code's similarities to all others, and its log frequency."""
    similarity = cosines(side.together, side.together)
    levels = np.linspace(0.0, 1.0, _QUANTILES)
    quantiles = np.quantile(similarity, levels, axis=1).T
    share = np.log((side.frequency + 0.5) / max(side.frequency.sum(), 1))
    return np.concatenate([quantiles, share[:, None]], axis=1)


def _rotated(
    source: Vectors, target: Vectors, pairs: Pairs
) -> Float64[np.ndarray, "source_codes other_half"]:
    """Returns the co-occurrence half under the rotation that fits the pairs, by frequency."""
    least = np.minimum(source.frequency[pairs[:, 0]], target.frequency[pairs[:, 1]])
    weight = np.sqrt(least)[:, None]
    rotation, _ = orthogonal_procrustes(
        source.together[pairs[:, 0]] * weight, target.together[pairs[:, 1]] * weight
    )
    return np.asarray(source.together @ rotation)


def _numbered(pairs: Pairs, block: Block) -> Pairs:
    """Returns pairs of rows of a block as pairs of code numbers."""
    return np.stack([block.source[pairs[:, 0]], block.target[pairs[:, 1]]], axis=1)


def _with_anchors(parts: list[Pairs], anchors: Pairs) -> Pairs:
    """Returns the anchors and those of the pairs that contradict none of them."""
    pairs = np.concatenate([np.empty((0, 2), dtype=np.int64), *parts])
    free = ~np.isin(pairs[:, 0], anchors[:, 0]) & ~np.isin(pairs[:, 1], anchors[:, 1])
    return by_source(np.concatenate([anchors, pairs[free]]))
