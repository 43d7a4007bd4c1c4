"""Blocks that several models share."""

import math
import warnings
from contextlib import AbstractContextManager

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn


def keep_mask(shape: tuple[int, ...], dropout: float, device: torch.device) -> Bool[Tensor, "..."]:
    """Returns which elements survive dropout, each with probability 1 - `dropout`.

    16 random bits an element, so the probability is right to 1e-5. On one CPU thread this takes
    a tenth of `bernoulli_`, which was a third of GAMENet's training time
    (tests/benchmarks/test_training.py).
    """
    elements = math.prod(shape)
    words = torch.empty((elements + 3) // 4, dtype=torch.int64, device=device)
    bits = words.random_(-(2**63), None).view(torch.int16)[:elements]
    return (bits >= round(dropout * 2**16) - 2**15).view(shape)


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
        # Codes that exist, laid flat: padding costs neither dropout nor sums.
        exists = torch.ne(codes, self.embedding.num_embeddings - 1)
        counts = exists.sum(dim=2)
        vectors = self.dropout(self.embedding(codes[exists]))
        visit = torch.repeat_interleave(counts.flatten())
        total = vectors.new_zeros(counts.numel(), vectors.shape[1]).index_add(0, visit, vectors)
        if self.mean:
            total = total / counts.flatten().clamp(min=1)[:, None]
        return total.view(*counts.shape, -1)


class CausalEncoder(nn.Module):
    """Two code bags and two GRUs over the visits: the joint state up to each visit."""

    def __init__(
        self, diagnoses: int, procedures: int, dim: int, hidden: int, dropout: float, mean: bool
    ) -> None:
        super().__init__()
        self.diagnoses = CodeBag(diagnoses, dim, dropout, mean)
        self.procedures = CodeBag(procedures, dim, dropout, mean)
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

    Compressed rows in both directions: 2 to 5 times faster here than coordinate form or
    index_add (tests/benchmarks/test_models.py runs it inside SafeDrug).
    """

    def __init__(self, matrix: Float[Tensor, "rows columns"]) -> None:
        super().__init__()
        coordinates = matrix.coalesce()
        with warnings.catch_warnings():
            # torch calls its compressed rows beta; only products with dense matrices are used.
            warnings.filterwarnings("ignore", "Sparse CSR tensor support", UserWarning)
            forward = coordinates.to_sparse_csr()
            backward = coordinates.t().coalesce().to_sparse_csr()
        self.register_buffer("matrix", forward, persistent=False)
        self.register_buffer("transpose", backward, persistent=False)

    def forward(self, x: Float[Tensor, "columns dim"]) -> Float[Tensor, "rows dim"]:
        """Returns matrix @ x, in float32 always."""
        with full_precision(x.device):
            return _FixedSparseProduct.apply(x.float(), self.matrix, self.transpose)  # type: ignore[no-untyped-call]


class _FixedSparseProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, matrix, transpose):  # type: ignore[no-untyped-def]
        ctx.transpose = transpose
        return matrix @ x

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        return ctx.transpose @ gradient.contiguous(), None, None


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
