"""A Transformer over sets of tokens that answers with the vector of each set's first token.

    x ← x + drop(attention(LN(x)))      multi-head self-attention among the tokens of a set
    x ← x + drop(feed-forward(LN(x)))

Sets have no order, so there are no positions. What no answer needs is not computed:

* the first layer sees a token as such, the same in every set, so it is normed and projected once
  for all its places,
* of the last layer only the first token's row is read, so keys and values of the others are never
  made: with query q_k of head k, q_k·W_k^K z = (q_k W_k^K)·z and Σ α W_k^V z = W_k^V Σ α z.

Projections have no offsets of their own: the norm before them has one.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from medrec.layers import Dropout
from medrec.ragged import blocks

Rows = Int64[Tensor, " places"] | None


@dataclass(frozen=True)
class TokenSets:
    """Sets of tokens in blocks of similar size, block after block, padded within each.

    Attributes:
        tokens: places of all sets, any token in padding.
        first: place of each set's first token, in the order of the blocks.
        order: place of each set in that order.
        keys: of each block, [sets, width], which places may be attended to.
    """

    tokens: Int64[Tensor, " places"]
    first: Int64[Tensor, " sets"]
    order: Int64[Tensor, " sets"]
    keys: tuple[Bool[Tensor, "_ _"], ...]

    def split(self, x: Float[Tensor, "places dim"]) -> list[Float[Tensor, "sets width dim"]]:
        """Returns the vectors of each block's places."""
        parts = x.split([keys.numel() for keys in self.keys])
        return [part.view(*keys.shape, -1) for part, keys in zip(parts, self.keys, strict=True)]


def token_sets(
    tokens: Int64[Tensor, " tokens"], sizes: Int64[Tensor, " sets"], *, first_hidden: bool
) -> TokenSets:
    """Returns the sets in blocks.

    Args:
        tokens: set after set.
        sizes: of the sets, at least 1 each.
        first_hidden: nobody attends to a set's first token, unless it is alone.
    """
    found = blocks(sizes)
    first, keys, start = [], [], 0
    for block in found:
        count, width = block.exists.shape
        first.append(start + width * torch.arange(count, device=tokens.device))
        start += count * width
        alone = sizes[block.sequences, None] == 1
        hidden = torch.arange(width, device=tokens.device) == 0
        keys.append(block.exists & (alone | ~hidden) if first_hidden else block.exists)
    none = [tokens[:0]]
    return TokenSets(
        tokens=torch.cat([tokens[block.places].flatten() for block in found] or none),
        first=torch.cat(first or none),
        order=torch.argsort(torch.cat([block.sequences for block in found] or none)),
        keys=tuple(keys),
    )


class _Layer(nn.Module):
    """One layer; of its rows, each place has the one that `which` names, or its own."""

    def __init__(
        self, dim: int, heads: int, feed_forward: int, dropout: float, attention_dropout: float
    ) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(dim)
        self.project = nn.Linear(dim, 3 * dim, bias=False)  # queries, keys, values
        self.join = nn.Linear(dim, dim)
        self.forward_norm = nn.LayerNorm(dim)
        self.widen = nn.Linear(dim, feed_forward)
        self.narrow = nn.Linear(feed_forward, dim)
        self.dropout = Dropout(dropout)
        self.attention_dropout = Dropout(attention_dropout)
        self.scale = (dim // heads) ** -0.5

    def forward(
        self, rows: Float[Tensor, "rows dim"], which: Rows, sets: TokenSets
    ) -> Float[Tensor, "places dim"]:
        """Returns every place after the layer."""
        projected = self.project(self.attention_norm(rows))
        if which is None:
            which = torch.arange(len(rows), device=rows.device)
        read = []
        blocked = zip(self._by_head(projected, which, sets), sets.keys, strict=True)
        for (query, key, value), keys in blocked:
            weights = self._weights(query @ key.transpose(2, 3), keys)
            read.append((weights @ value).transpose(1, 2).flatten(2).flatten(0, 1))
        return self._rest(functional.embedding(which, rows), torch.cat(read))

    def _by_head(
        self,
        projected: Float[Tensor, "rows three_dims"],
        which: Int64[Tensor, " places"],
        sets: TokenSets,
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Returns queries, keys and values of each block, [sets, heads, width, part] each.

        One look-up brings all of them into the layout that products of matrices need.
        """
        parts = torch.arange(3 * self.heads, device=which.device).view(3, 1, self.heads, 1)
        index, sizes = [], []
        for places, keys in zip(
            which.split([keys.numel() for keys in sets.keys]), sets.keys, strict=True
        ):
            at = 3 * self.heads * places.view(len(keys), 1, -1) + parts
            index.append(at.flatten())
            sizes += 3 * [at[0].numel()]
        rows = projected.reshape(3 * self.heads * len(projected), -1)
        found = functional.embedding(torch.cat(index), rows).split(sizes)
        shapes = [(len(keys), self.heads, keys.shape[1], -1) for keys in sets.keys]
        return [
            (found[n].view(shape), found[n + 1].view(shape), found[n + 2].view(shape))
            for n, shape in zip(range(0, len(found), 3), shapes, strict=True)
        ]

    def of_first(
        self, rows: Float[Tensor, "rows dim"], which: Rows, sets: TokenSets
    ) -> Float[Tensor, "sets dim"]:
        """Returns each set's first token after the layer, in the order of the blocks."""
        of_query, of_key, of_value = (
            part.unflatten(0, (self.heads, -1)) for part in self.project.weight.chunk(3)
        )
        normed = _at(self.attention_norm(rows), which)
        first = functional.embedding(sets.first, normed)
        asked = torch.bmm(torch.matmul(first, of_query.transpose(1, 2)), of_key).transpose(0, 1)
        read = []
        counts = [len(keys) for keys in sets.keys]
        blocked = zip(asked.split(counts), sets.split(normed), sets.keys, strict=True)
        for query, block, keys in blocked:
            weights = self._weights(torch.bmm(query, block.transpose(1, 2))[:, :, None], keys)
            read.append(torch.bmm(weights[:, :, 0], block))
        values = torch.bmm(torch.cat(read).transpose(0, 1), of_value.transpose(1, 2))
        own = functional.embedding(sets.first, _at(rows, which))
        return self._rest(own, values.transpose(0, 1).flatten(1))

    def _weights(
        self,
        products: Float[Tensor, "sets heads queries width"],
        keys: Bool[Tensor, "sets width"],
    ) -> Float[Tensor, "sets heads queries width"]:
        lowest = torch.finfo(products.dtype).min
        scores = (products * self.scale).masked_fill(~keys[:, None, None], lowest)
        return self.attention_dropout(torch.softmax(scores, dim=-1))

    def _rest(
        self, x: Float[Tensor, "some dim"], read: Float[Tensor, "some dim"]
    ) -> Float[Tensor, "some dim"]:
        x = x + self.dropout(self.join(read))
        hidden = functional.gelu(self.widen(self.forward_norm(x)))
        return x + self.dropout(self.narrow(hidden))


def _at(rows: Float[Tensor, "rows dim"], which: Rows) -> Float[Tensor, "places dim"]:
    return rows if which is None else functional.embedding(which, rows)


class VisitTransformer(nn.Module):
    """All sets at once.

    Args:
        layers: at least one.
        dim: of tokens; a multiple of the heads.
        heads: of attention.
        feed_forward: width inside each layer.
        dropout: of what each half of a layer adds.
        attention_dropout: of attention weights.
    """

    def __init__(
        self,
        layers: int,
        dim: int,
        heads: int,
        feed_forward: int,
        *,
        dropout: float,
        attention_dropout: float,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            _Layer(dim, heads, feed_forward, dropout, attention_dropout) for _ in range(layers)
        )

    def forward(
        self, vectors: Float[Tensor, "vocabulary dim"], sets: TokenSets
    ) -> Float[Tensor, "sets dim"]:
        """Returns the vector of each set's first token after the last layer.

        Args:
            vectors: of the tokens; `sets.tokens` are rows of it.
            sets: no set twice.
        """
        if not len(sets.order):
            return vectors[:0]
        rows: Tensor = vectors
        which: Rows = sets.tokens
        *earlier, last = self.layers
        for layer in earlier:
            rows, which = layer(rows, which, sets), None
        assert isinstance(last, _Layer)  # noqa: S101  a list of modules forgets their class
        return last.of_first(rows, which, sets).index_select(0, sets.order)
