"""Sequences of unequal length, computed in blocks of nearly equal length: little is padding."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

_STEP = 4  # widths are multiples of it: fewer blocks cost less than the padding they save


@dataclass(frozen=True)
class Block:
    """Sequences of similar length.

    Attributes:
        sequences: their numbers.
        places: of their items among all items, sequence after sequence; any place in padding.
        exists: which places are no padding.
    """

    sequences: Int64[Tensor, " sequences"]
    places: Int64[Tensor, "sequences width"]
    exists: Bool[Tensor, "sequences width"]


def blocks(lengths: Int64[Tensor, " sequences"]) -> list[Block]:
    """Returns all sequences, none of them empty, shorter ones first, otherwise in their order.

    Example:
        >>> short, long = blocks(torch.tensor([6, 2, 3]))
        >>> short.sequences.tolist(), short.places[short.exists].tolist(), tuple(long.exists.shape)
        ([1, 2], [6, 7, 8, 9, 10], (1, 8))
    """
    if not len(lengths):
        return []
    starts = lengths.cumsum(0) - lengths
    size = (lengths + _STEP - 1) // _STEP
    order = torch.argsort(size, stable=True)
    widths, counts = torch.unique_consecutive(size[order], return_counts=True)
    found = []
    parts = order.split(counts.tolist())
    for sequences, width in zip(parts, (widths * _STEP).tolist(), strict=True):
        steps = torch.arange(width, device=lengths.device)
        exists = steps < lengths[sequences, None]
        places = torch.where(exists, starts[sequences, None] + steps, 0)
        found.append(Block(sequences, places, exists))
    return found
