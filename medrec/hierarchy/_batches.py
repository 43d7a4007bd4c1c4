"""Settings of stage II, what it learns from, and the pairs and triplets that it draws."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from medrec.hierarchy._hyperbolic import Geometry
from medrec.hierarchy._skeleton import Skeleton

Pairs = Int64[Tensor, "pairs 2"]
SIDES = ((0, 1), (0, 2), (1, 2))
"""Pairs of a triplet."""


@dataclass(frozen=True)
class Weights:
    """Weights of the losses; the first three are InfoNCE on pairs of that sort.

    Attributes:
        hierarchy: a child and its known parent, and two codes of one known parent.
        relations: codes with a known relation.
        neighbours: codes whose stage-I vectors are nearest.
        margin, order, triplets: as above.
    """

    hierarchy: float
    relations: float
    neighbours: float
    margin: float
    order: float
    triplets: float


@dataclass(frozen=True)
class StageTwo:
    """Settings; see `medrec.hierarchy.mash` for ranges and sources."""

    dim: int
    hidden: int
    geometry: Geometry
    steps: int
    batch: int
    learning_rate: float
    temperature: float
    margin: float
    gap: float
    negatives: int
    triplet_temperature: float
    weights: Weights


@dataclass(frozen=True)
class Known:
    """What stage II learns from.

    Attributes:
        x: stage-I vectors of codes and known nodes.
        visible: the nodes; only parents that may be seen.
        relations: related codes, each pair once, none of a code that is held out.
        neighbours: each code and codes near it in `x`.
    """

    x: Float64[np.ndarray, "nodes dim"]
    visible: Skeleton
    relations: Int64[np.ndarray, "relations 2"]
    neighbours: Int64[np.ndarray, "neighbours 2"]


Sort = Literal["edges", "siblings", "relations", "neighbours", "triplets"]
Parts = dict[Sort, slice]


class Batches:
    """Draws pairs and triplets at random; a sort whose losses weigh nothing is not drawn."""

    def __init__(self, known: Known, settings: StageTwo, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._batch = settings.batch
        self._codes = known.visible.codes
        weights = settings.weights
        self.x = torch.from_numpy(known.x)
        self.parents = torch.from_numpy(known.visible.parents)
        self._candidates = torch.from_numpy(known.visible.candidates)
        found: dict[Sort, Pairs] = {}
        if weights.hierarchy or weights.margin or weights.order:
            found["edges"] = _edges(known.visible)
        if weights.hierarchy:
            found["siblings"] = _with_sibling(known.visible)
        if weights.relations:
            found["relations"] = torch.from_numpy(known.relations)
        if weights.neighbours:
            found["neighbours"] = torch.from_numpy(known.neighbours)
        self._pairs = {sort: pairs for sort, pairs in found.items() if len(pairs)}
        self._triplets = weights.triplets > 0 and self._codes >= len(SIDES)
        self._siblings = _Siblings(known.visible)

    def draw(self) -> tuple[Int64[Tensor, " rows"], Parts]:
        """Returns rows of nodes, and where among them each sort's lie: firsts, then seconds."""
        rows: list[Tensor] = []
        parts: Parts = {}
        for sort, pairs in self._pairs.items():
            chosen = pairs[self._below(len(pairs), self._batch)]
            if sort == "siblings":
                chosen = self._siblings.draw(chosen[:, 0], self._generator)
            rows, parts = _added(rows, parts, sort, chosen.T.flatten())
        if self._triplets:
            codes = self._below(self._codes, len(SIDES) * self._batch)
            rows, parts = _added(rows, parts, "triplets", codes)
        return (torch.cat(rows) if rows else torch.empty(0, dtype=torch.int64)), parts

    def wrong_parents(
        self, rows: Int64[Tensor, " children"], negatives: int
    ) -> Int64[Tensor, "children negatives"]:
        """Returns places in the batch's parents to compare with; some may be right ones."""
        return self._below(len(rows), len(rows) * negatives).view(len(rows), negatives)

    def _below(self, end: int, many: int) -> Int64[Tensor, " many"]:
        return torch.randint(end, (many,), generator=self._generator)


def _added(
    rows: list[Tensor], parts: Parts, sort: Sort, more: Int64[Tensor, " more"]
) -> tuple[list[Tensor], Parts]:
    start = sum(len(each) for each in rows)
    return [*rows, more], {**parts, sort: slice(start, start + len(more))}


class _Siblings:
    """Codes by their visible parents."""

    def __init__(self, visible: Skeleton) -> None:
        own = visible.parents[: visible.codes]
        order = np.argsort(own, kind="stable")
        self._order = torch.from_numpy(order)
        self._first = torch.from_numpy(np.searchsorted(own[order], own))
        last = np.searchsorted(own[order], own, side="right")
        self._count = torch.from_numpy(last) - self._first
        self._place = torch.from_numpy(np.argsort(order))

    def draw(self, codes: Int64[Tensor, " codes"], generator: torch.Generator) -> Pairs:
        """Returns each code with another one of its parent, all equally likely."""
        count, first = self._count[codes], self._first[codes]
        share = torch.rand(len(codes), generator=generator, dtype=torch.float64)
        step = 1 + (share * (count - 1)).long()
        place = first + (self._place[codes] - first + step) % count
        return torch.stack([codes, self._order[place]], dim=1)


def _edges(visible: Skeleton) -> Pairs:
    """Returns each node with its visible parent."""
    child = np.flatnonzero(visible.parents >= 0)
    return torch.from_numpy(np.stack([child, visible.parents[child]], axis=1))


def _with_sibling(visible: Skeleton) -> Pairs:
    """Returns the codes (twice) that have another code below their visible parent."""
    own = visible.parents[: visible.codes]
    count = np.bincount(own[own >= 0], minlength=len(visible.parents))
    codes = np.flatnonzero((own >= 0) & (count[own] > 1))
    return torch.from_numpy(np.stack([codes, codes], axis=1))
