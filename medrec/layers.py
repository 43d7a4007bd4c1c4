"""Blocks that several models share."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor, nn


def keep_mask(
    shape: tuple[int, ...], dropout: float, device: torch.device, dtype: torch.dtype = torch.bool
) -> Shaped[Tensor, "..."]:
    """Returns which elements survive dropout, each with probability 1 - `dropout`.

    16 random bits an element, so the probability is right to 1e-5. On one CPU thread this takes
    a tenth of `bernoulli_`, which was a third of GAMENet's training time
    (tests/benchmarks/test_training.py). In another dtype than bool, survivors are 1, others 0.
    """
    elements = math.prod(shape)
    words = torch.empty((elements + 3) // 4, dtype=torch.int64, device=device)
    bits = words.random_(-(2**63), None).view(torch.int16)[:elements]
    kept = torch.empty(elements, dtype=dtype, device=device)
    return torch.ge(bits, round(dropout * 2**16) - 2**15, out=kept).view(shape)


def full_precision(device: torch.device) -> AbstractContextManager[None]:
    """Returns a context in which a mixed-precision pass computes in float32."""
    return torch.autocast(device.type, enabled=False)


class Dropout(nn.Module):
    """Inverted dropout: in training, elements are zeroed with probability p, others scaled up."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Returns x with dropout applied in training, x itself otherwise."""
        if not self.training or self.p == 0.0:
            return x
        return x * (keep_mask(tuple(x.shape), self.p, x.device) / (1.0 - self.p))


class CodeBag(nn.Module):
    """Embeds a visit's set of codes as the sum or mean of the codes' vectors.

    Dropout acts on each element of each code's vector before pooling, as in the published code.
    A visit without codes has the zero vector.
    """

    def __init__(self, codes: int, dim: int, dropout: float, mean: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(codes + 1, dim, padding_idx=codes)
        # U(-0.1, 0.1) as in GAMENet and SafeDrug (`init_weights`); with torch's N(0, 1) a sum of
        # ten codes saturates the GRUs and training stalls at the base rates.
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        with torch.no_grad():
            self.embedding.weight[codes] = 0.0
        self.dropout = Dropout(dropout)
        self.mean = mean

    def forward(
        self, codes: Int64[Tensor, "patients visits codes"]
    ) -> Float[Tensor, "patients visits dim"]:
        """Returns one vector a visit."""
        padding = self.embedding.num_embeddings - 1
        return pool_codes(
            codes, padding, lambda found: self.dropout(self.embedding(found)), mean=self.mean
        )


def pool_codes(
    codes: Int64[Tensor, "patients visits codes"],
    padding: int,
    vectors_of: Callable[[Int64[Tensor, " found"]], Float[Tensor, "found dim"]],
    *,
    mean: bool,
) -> Float[Tensor, "patients visits dim"]:
    """Returns the sum or mean of the vectors of each visit's codes; zero where it has none."""
    # Codes that exist, laid flat: padding costs neither dropout nor sums.
    exists = torch.ne(codes, padding)
    counts = exists.sum(dim=2)
    vectors = vectors_of(codes[exists])
    visit = torch.repeat_interleave(counts.flatten())
    total = vectors.new_zeros(counts.numel(), vectors.shape[1]).index_add(0, visit, vectors)
    if mean:
        total = total / counts.flatten().clamp(min=1)[:, None]
    return total.view(*counts.shape, vectors.shape[1])


class CausalEncoder(nn.Module):
    """Two code bags and two GRUs over the visits: the joint state up to each visit."""

    def __init__(
        self, diagnoses: int, procedures: int, dim: int, hidden: int, dropout: float, mean: bool
    ) -> None:
        super().__init__()
        self.diagnoses: nn.Module = CodeBag(diagnoses, dim, dropout, mean)
        self.procedures: nn.Module = CodeBag(procedures, dim, dropout, mean)
        self.diagnosis_gru = nn.GRU(dim, hidden, batch_first=True)
        self.procedure_gru = nn.GRU(dim, hidden, batch_first=True)

    def forward(
        self,
        diagnoses: Int64[Tensor, "patients visits diagnoses"],
        procedures: Int64[Tensor, "patients visits procedures"],
    ) -> Float[Tensor, "patients visits states"]:
        """Returns [diagnosis state; procedure state] of each visit; end padding is inert."""
        states = (
            self.diagnosis_gru(self.diagnoses(diagnoses))[0],
            self.procedure_gru(self.procedures(procedures))[0],
        )
        return torch.cat(states, dim=-1)


class GraphConvolution(nn.Module):
    """Two-layer graph convolution on one-hot nodes: Ã drop(relu(Ã W1)) W2.

    Ã is A + I with rows normalised to 1. With one-hot input the first layer is W1 itself.
    Source: Kipf and Welling 2017, row-normalised as in GAMENet.
    """

    def __init__(self, adjacency: Bool[Tensor, "nodes nodes"], dim: int, dropout: float) -> None:
        super().__init__()
        self.register_buffer("propagate", row_normalised(adjacency), persistent=False)
        self.propagate: Tensor
        self.first = nn.Parameter(torch.empty(len(adjacency), dim))
        self.second = nn.Parameter(torch.empty(dim, dim))
        self.first_bias = nn.Parameter(torch.zeros(dim))
        self.second_bias = nn.Parameter(torch.zeros(dim))
        self.dropout = Dropout(dropout)
        for weight in (self.first, self.second):
            bound = dim**-0.5
            nn.init.uniform_(weight, -bound, bound)

    def forward(self) -> Float[Tensor, "nodes dim"]:
        """Returns a vector for each node."""
        hidden = torch.relu(self.propagate @ self.first + self.first_bias)
        return self.propagate @ (self.dropout(hidden) @ self.second) + self.second_bias


def row_normalised(adjacency: Bool[Tensor, "nodes nodes"]) -> Float[Tensor, "nodes nodes"]:
    """Returns A + I with each row summing to 1."""
    joined = adjacency.float() + torch.eye(len(adjacency))
    return joined / joined.sum(dim=1, keepdim=True)


class SparseProduct(nn.Module):
    """Multiplies by a fixed sparse matrix; its transpose is kept for the backward pass.

    A row of the product is a weighted sum of some rows of x, which is what an embedding bag
    computes: on a CPU in a fifth of the time of torch's compressed rows, where rows are short.
    """

    def __init__(self, matrix: Float[Tensor, "rows columns"]) -> None:
        super().__init__()
        entries = matrix.coalesce()
        row, column = entries.indices()
        turned = torch.argsort(column, stable=True)  # rows of the transpose in order
        self._keep("forward", row, column, entries.values(), matrix.shape[0])
        values = entries.values()[turned]
        self._keep("backward", column[turned], row[turned], values, matrix.shape[1])

    def _keep(self, name: str, row: Tensor, column: Tensor, values: Tensor, rows: int) -> None:
        starts = torch.nn.functional.pad(torch.bincount(row, minlength=rows).cumsum(0), (1, 0))
        self.register_buffer(f"{name}_columns", column.clone(), persistent=False)
        self.register_buffer(f"{name}_starts", starts, persistent=False)
        self.register_buffer(f"{name}_weights", values.clone(), persistent=False)

    def forward(self, x: Float[Tensor, "columns dim"]) -> Float[Tensor, "rows dim"]:
        """Returns matrix @ x, in float32 always."""
        there = (self.forward_columns, self.forward_starts, self.forward_weights)
        back = (self.backward_columns, self.backward_starts, self.backward_weights)
        with full_precision(x.device):
            return _FixedSparseProduct.apply(x.float(), there, back)  # type: ignore[no-untyped-call]


class _FixedSparseProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, there, back):  # type: ignore[no-untyped-def]
        ctx.back = back
        return _weighted_sums(x, *there)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        return _weighted_sums(gradient.contiguous(), *ctx.back), None, None


def _weighted_sums(
    x: Float[Tensor, "columns dim"],
    columns: Int64[Tensor, " entries"],
    starts: Int64[Tensor, " ends"],
    weights: Float[Tensor, " entries"],
) -> Float[Tensor, "rows dim"]:
    return torch.nn.functional.embedding_bag(
        columns, x, starts, mode="sum", include_last_offset=True, per_sample_weights=weights
    )


def strictly_earlier(visits: int, device: torch.device) -> Bool[Tensor, "visits visits"]:
    """Returns true at [t, s] where s < t: what visit t may attend to in the history."""
    return torch.ones(visits, visits, dtype=torch.bool, device=device).tril(-1)


def masked_softmax(
    scores: Float[Tensor, "*batch targets sources"], allowed: Bool[Tensor, "targets sources"]
) -> Float[Tensor, "*batch targets sources"]:
    """Returns the softmax over allowed sources; a row without any is all zero."""
    lowest = torch.finfo(scores.dtype).min
    weights = torch.softmax(scores.masked_fill(~allowed, lowest), dim=-1)
    return weights * allowed


def read_history(
    query: Float[Tensor, "patients visits dim"],
    medications: Float[Tensor, "patients visits drugs"],
    memory: Float[Tensor, "drugs dim"],
    at_first: Float[Tensor, "patients visits dim"],
) -> Float[Tensor, "patients visits dim"]:
    """Returns attention of each query over earlier ones, read through their drugs and the memory.

    The first visit, which has none, gets `at_first`. As GAMENet and HGCN-DrugRec.
    """
    attention = masked_softmax(
        query @ query.transpose(1, 2), strictly_earlier(query.shape[1], query.device)
    )
    first = torch.arange(query.shape[1], device=query.device) == 0
    return torch.where(first[:, None], at_first, (attention @ medications) @ memory)


class DrugBag(nn.Module):
    """Embeds a visit's drugs, given multi-hot, as the sum of their vectors.

    Dropout acts on each element of each drug's vector, as in CodeBag. Other values than 0 and 1
    multiply the drug's vector.
    """

    def __init__(self, drugs: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(drugs, dim))
        nn.init.uniform_(self.weight, -0.1, 0.1)  # as CodeBag
        self.dropout = Dropout(dropout)

    def forward(
        self, given: Float[Tensor, "patients visits drugs"]
    ) -> Float[Tensor, "patients visits dim"]:
        """Returns one vector a visit."""
        rows = given.flatten(0, 1)
        visit, drug = rows.nonzero(as_tuple=True)
        vectors = self.dropout(self.weight.index_select(0, drug)) * rows[visit, drug, None]
        total = vectors.new_zeros(len(rows), vectors.shape[1]).index_add(0, visit, vectors)
        return total.view(*given.shape[:2], vectors.shape[1])


class VisitAttention(nn.Module):
    """Multi-head self-attention over a patient's visits, with a residual and a layer norm."""

    def __init__(self, dim: int, heads: int, scale: float) -> None:
        super().__init__()
        self.heads = heads
        self.scale = scale  # of the products before the softmax
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.mix = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)

    def compare(
        self, x: Float[Tensor, "patients visits dim"]
    ) -> tuple[
        Float[Tensor, "patients heads visits visits"], Float[Tensor, "patients heads visits head"]
    ]:
        """Returns the products of each visit's query with each visit's key, and the values."""
        query, key, value = (
            part(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        return query @ key.transpose(2, 3) * self.scale, value

    def join(
        self,
        x: Float[Tensor, "patients targets dim"],
        read: Float[Tensor, "patients heads targets head"],
    ) -> Float[Tensor, "patients targets dim"]:
        """Returns the norm of x and of what its heads have read."""
        return self.norm(x + self.mix(read.transpose(1, 2).flatten(2)))

    def forward(
        self, x: Float[Tensor, "patients visits dim"], allowed: Bool[Tensor, "visits visits"]
    ) -> Float[Tensor, "patients visits dim"]:
        """Returns each visit with what it reads of those it may attend to."""
        products, values = self.compare(x)
        return self.join(x, masked_softmax(products, allowed) @ values)
