"""A causal Transformer: GPT-2's blocks, and what drawing keeps of them.

    x ← x + drop(attention(LN(x)))      multi-head, each place attends to itself and earlier ones
    x ← x + drop(W_2 gelu(W_1 LN(x)))   four times as wide inside
    LN(x)                               after the last block

Padding at the end needs no mask: no earlier place attends to it.

Source: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, as HiSGT uses
it.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from medrec.layers import Dropout

_FIRST = 64  # places that a cache begins with; it doubles when full


class Cache:
    """Keys and values of the places so far, of each block.

    Args:
        blocks: number of blocks.
        shape: patients, heads and width of a head.
        device: where to keep them.

    Attributes:
        places: how many there are.
    """

    def __init__(self, blocks: int, shape: tuple[int, int, int], device: torch.device) -> None:
        patients, heads, width = shape
        self.places = 0
        self._kept = torch.empty(2, blocks, patients, heads, _FIRST, width, device=device)

    def append(self, block: int, both: Float[Tensor, "two patients heads width"]) -> None:
        """Writes a block's keys and values of the next place."""
        if self.places == self._kept.shape[4]:
            self._kept = torch.cat([self._kept, torch.empty_like(self._kept)], dim=4)
        self._kept[:, block, :, :, self.places] = both

    def read(self, block: int) -> Float[Tensor, "two patients heads places width"]:
        """Returns a block's keys and values, those of the next place included."""
        return self._kept[:, block, :, :, : self.places + 1]

    def keep(self, patients: Int64[Tensor, " some"]) -> None:
        """Forgets all other patients."""
        self._kept = self._kept.index_select(2, patients)


class _Block(nn.Module):
    def __init__(self, dim: int, heads: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(dim)
        self.project = nn.Linear(dim, 3 * dim)  # to queries, keys and values
        self.mix = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.widen = nn.Linear(dim, 4 * dim)
        self.narrow = nn.Linear(4 * dim, dim)
        self.attention_dropout = attention_dropout
        self.drop = Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "patients places dim"]
    ) -> Float[Tensor, "patients places dim"]:
        heads = self.project(self.attention_norm(x)).unflatten(2, (3, self.heads, -1))
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        read = functional.scaled_dot_product_attention(
            query,
            key,
            value,
            dropout_p=self.attention_dropout if self.training else 0.0,
            is_causal=True,
        )
        return self._add(x, read.transpose(1, 2).flatten(2))

    def step(
        self, x: Float[Tensor, "patients dim"], cache: Cache, block: int
    ) -> Float[Tensor, "patients dim"]:
        heads = self.project(self.attention_norm(x)).unflatten(1, (3, self.heads, -1))
        cache.append(block, heads[:, 1:].transpose(0, 1))
        keys, values = cache.read(block)
        query = heads[:, 0, :, None] * heads.shape[3] ** -0.5
        weights = torch.softmax(query @ keys.transpose(2, 3), dim=3)
        return self._add(x, (weights @ values).flatten(1))

    def _add(self, x: Float[Tensor, "*place dim"], read: Tensor) -> Float[Tensor, "*place dim"]:
        x = x + self.drop(self.mix(read))
        inner = functional.gelu(self.widen(self.norm(x)), approximate="tanh")
        return x + self.drop(self.narrow(inner))


class Transformer(nn.Module):
    """Reads sequences of vectors causally.

    Args:
        layers: number of blocks.
        dim: of the vectors; a multiple of `heads`.
        heads: of the attention.
        dropout: of what each half-block adds.
        attention_dropout: of attention weights.
    """

    def __init__(
        self, layers: int, dim: int, heads: int, dropout: float, attention_dropout: float
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            _Block(dim, heads, dropout, attention_dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim)
        self._shape = (heads, dim // heads)
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.normal_(part.weight, std=0.02)  # as GPT-2
                nn.init.zeros_(part.bias)

    def forward(
        self, x: Float[Tensor, "patients places dim"]
    ) -> Float[Tensor, "patients places dim"]:
        """Returns a state of each place, made of this place and those before."""
        for block in self.blocks:
            x = block(x)
        found: Tensor = self.norm(x)
        return found

    def cache(self, patients: int) -> Cache:
        """Returns an empty cache."""
        device = self.norm.weight.device
        return Cache(len(self.blocks), (patients, *self._shape), device)

    def step(
        self, x: Float[Tensor, "patients dim"], cache: Cache
    ) -> Float[Tensor, "patients dim"]:
        """Returns the state of the next place, without dropout, and remembers it."""
        for i, block in enumerate(self.blocks):
            x = block.step(x, cache, i)  # type: ignore[operator]
        cache.places += 1
        found: Tensor = self.norm(x)
        return found
