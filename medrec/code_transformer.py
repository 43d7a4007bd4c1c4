"""A transformer over each visit's set of codes, laid flat.

Visits have from none to dozens of codes. What acts on each code by itself (projections, the wide
feed-forward part) sees the codes of all visits one after another, without padding. Attention
alone sees them padded to the longest visit.

flat     [items, dim]: rows of all lists, list by list
padded   [lists, longest, dim]: a list a row, zeros after its end
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from medrec.layers import Dropout, keep_mask

# Rows that the feed-forward part takes at once: 256 of 2,048 floats stay in a processor's cache,
# which halves the time of what is not a product of matrices.
BLOCK = 256


@dataclass(frozen=True)
class Ragged:
    """Where the rows of lists of different lengths lie, flat and padded.

    Attributes:
        counts: length of each list.
    """

    counts: Int64[Tensor, " lists"]

    @cached_property
    def exists(self) -> Bool[Tensor, "lists longest"]:
        """Which places of the padded form hold a row; at least one place wide."""
        longest = max(int(self.counts.max()), 1) if len(self.counts) else 1
        return torch.arange(longest, device=self.counts.device) < self.counts[:, None]

    @cached_property
    def owner(self) -> Int64[Tensor, " items"]:
        """The list of each row."""
        return torch.repeat_interleave(self.counts)

    @cached_property
    def places(self) -> Int64[Tensor, " items"]:
        """Place of each row in the padded form, lists one after another."""
        return self.exists.flatten().nonzero()[:, 0]

    @cached_property
    def rows(self) -> Int64[Tensor, "lists longest"]:
        """Row at each place of the padded form; the number of rows where there is none."""
        found = torch.full_like(self.exists, len(self.places), dtype=torch.long)
        ordinal = torch.arange(len(self.places), device=self.places.device)
        return found.view(-1).scatter(0, self.places, ordinal).view_as(found)

    def pad(
        self, flat: Float[Tensor, "items width"], heads: int = 1
    ) -> Float[Tensor, "listed longest each"]:
        """Returns the padded form; with heads, list by list that of each part of the rows."""
        if heads == 1:
            return take_rows(flat, self.rows)
        head = torch.arange(heads, device=flat.device)[:, None]
        parts = flat.reshape(len(flat) * heads, flat.shape[1] // heads)
        rows = (self.rows[:, None] * heads + head).clamp(max=len(parts))
        return take_rows(parts, rows.flatten(0, 1))

    def flatten(
        self, padded: Float[Tensor, "listed longest each"], heads: int = 1
    ) -> Float[Tensor, "items width"]:
        """Returns the flat form; the inverse of `pad`."""
        places = self.places
        if heads > 1:
            longest = self.exists.shape[1]
            head = torch.arange(heads, device=padded.device)
            start = places + (heads - 1) * longest * (places // longest)
            places = (start[:, None] + head * longest).flatten()
        rows = padded.flatten(0, 1).index_select(0, places)
        return rows.view(len(self.places), heads * padded.shape[2])


def take_rows(
    flat: Float[Tensor, "items dim"], rows: Int64[Tensor, "*shape"]
) -> Float[Tensor, "*shape dim"]:
    """Returns these rows; the one after the last is zero."""
    with_zero = nn.functional.pad(flat, (0, 0, 0, 1))
    return with_zero.index_select(0, rows.flatten()).view(*rows.shape, flat.shape[1])


def bias_of(
    allowed: Bool[Tensor, "lists targets sources"], heads: int = 1
) -> Float[Tensor, "listed targets sources"]:
    """Returns what to add to scores before a softmax: 0 where allowed, else almost -inf.

    Several times faster than filling in place. Half of the lowest number leaves room for a score.
    With heads, list by list that of each.
    """
    bias = (~allowed).float() * (torch.finfo(torch.float32).min / 2)
    return bias.repeat_interleave(heads, dim=0)


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017); its projections are called by themselves.

    So that a decoder can keep keys and values, and so that they act on flat rows. Rows are head by
    head, those of `keys_values` key before value within a head. A query with nothing to attend to
    reads the zero vector. Keys and values have no bias: a key's cancels in the softmax, where its
    gradient would be rounding alone, and a value's is one with that of `out`.
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.keys_values = nn.Linear(dim, 2 * dim, bias=False)
        self.out = nn.Linear(dim, dim)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        queries: Float[Tensor, "listed targets each"],
        keys_values: Float[Tensor, "listed sources both"],
        bias: Float[Tensor, "#listed #targets #sources"],
    ) -> Float[Tensor, "listed targets each"]:
        """Returns what each query reads, before the projection `out`.

        Args:
            queries: of each head of each list.
            keys_values: likewise; zero where there is no source.
            bias: see `bias_of`.
        """
        each = queries.shape[2]
        key, value = keys_values.unflatten(2, (2, each)).unbind(2)
        scores = torch.baddbmm(bias, queries, key.transpose(1, 2), alpha=1 / math.sqrt(each))
        return self.dropout(torch.softmax(scores, dim=2)) @ value


class FeedForward(nn.Module):
    """W2 drop(relu(W1 x + b1)) + b2 of each row, block by block."""

    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Linear(dim, hidden)
        self.second = nn.Linear(hidden, dim)
        self.dropout = dropout

    def forward(self, x: Float[Tensor, "items dim"]) -> Float[Tensor, "items dim"]:
        """Returns the rows transformed."""
        dropout = self.dropout if self.training else 0.0
        weights = (self.first.weight, self.first.bias, self.second.weight)
        kind = x.device.type
        if torch.is_autocast_enabled(kind):
            dtype = torch.get_autocast_dtype(kind)
            x, weights = x.to(dtype), tuple(weight.to(dtype) for weight in weights)  # type: ignore[assignment]
        out = _Blocks.apply(x, *weights, dropout, torch.is_grad_enabled())  # type: ignore[no-untyped-call]
        return out / (1.0 - dropout) + self.second.bias


class _Blocks(torch.autograd.Function):
    """What a feed-forward part does without dropout's scale and the last bias.

    Only what came out of the rectifier and of dropout is kept for the backward pass: it is zero
    exactly where no gradient passes.
    """

    @staticmethod
    def forward(  # type: ignore[no-untyped-def]
        ctx, x, first, first_bias, second, dropout: float, keep: bool
    ) -> Tensor:
        hidden, outputs = [], []
        for part in x.split(BLOCK):
            inner = torch.addmm(first_bias, part, first.t()).relu_()
            if dropout:
                inner.mul_(keep_mask(tuple(inner.shape), dropout, x.device, inner.dtype))
            outputs.append(inner @ second.t())
            if keep:
                hidden.append(inner)
        ctx.save_for_backward(x, first, second, *hidden)
        return torch.cat(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, first, second, *hidden = ctx.saved_tensors
        of_first, of_second = torch.zeros_like(first), torch.zeros_like(second)
        of_bias, of_x = torch.zeros_like(first[:, 0]), []
        parts = zip(x.split(BLOCK), hidden, gradient.split(BLOCK), strict=True)
        for part, inner, outer in parts:
            of_second.addmm_(outer.t(), inner)
            passed = torch.ops.aten.threshold_backward(outer @ second, inner, 0)
            of_first.addmm_(passed.t(), part)
            of_bias.add_(passed.sum(dim=0))
            of_x.append(passed @ first)
        return torch.cat(of_x), of_first, of_bias, of_second, None, None


class TransformerLayer(nn.Module):
    """An encoder layer with normalisation after each part, over each list by itself.

    x = norm(x + drop(attention(x))), then norm(x + drop(feed_forward(x))). No positions: a list is
    a set. Dropout also acts on attention weights and inside the feed-forward part.
    """

    def __init__(self, dim: int, heads: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(dim, heads, dropout)
        self.feed_forward = FeedForward(dim, feed_forward, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))
        self.dropout = Dropout(dropout)

    def forward(self, x: Float[Tensor, "items dim"], lists: Ragged) -> Float[Tensor, "items dim"]:
        """Returns a vector for each row, from the rows of its list."""
        attention, heads = self.attention, self.attention.heads
        read = attention(
            lists.pad(attention.query(x), heads),
            lists.pad(attention.keys_values(x), heads),
            bias_of(lists.exists[:, None], heads),
        )
        x = self.norms[0](x + self.dropout(attention.out(lists.flatten(read, heads))))
        return self.norms[1](x + self.dropout(self.feed_forward(x)))


class GatedPooling(nn.Module):
    """A list's vectors added up, weighted by softmax(w tanh(W x + b)); zero for an empty list."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(dim, hidden)
        self.gate = nn.Linear(hidden, 1, bias=False)  # a bias would cancel in the softmax

    def forward(self, x: Float[Tensor, "items dim"], lists: Ragged) -> Float[Tensor, "lists dim"]:
        """Returns a vector for each list."""
        scores = lists.pad(self.gate(torch.tanh(self.hidden(x))).float())
        weights = torch.softmax(scores + bias_of(lists.exists[..., None]), dim=1)
        total = torch.zeros(len(lists.counts), x.shape[1], device=x.device)
        return total.index_add(0, lists.owner, lists.flatten(weights) * x.float())
