"""Hypergraphs: which nodes lie together in which hyperedges, and convolution on them.

    EHR        nodes: diagnoses, procedures, medications, numbered through in this order
               hyperedges: visits of training patients, by type (one kind of code) and joint
    molecules  nodes: 10 functional groups, then BRICS fragments
               hyperedges: drug classes, over what their molecules contain

Source: Bai et al. 2021, "Hypergraph convolution and hypergraph attention", as PyTorch Geometric's
HypergraphConv has it. What BH3-MedRec does with them is reconstructed, see medrec.models.bh3.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

from medrec.cohort import KINDS, Codes, Kind
from medrec.knowledge.bundle import Bundle
from medrec.knowledge.functional_groups import functional_groups
from medrec.knowledge.molecules import Molecules
from medrec.knowledge.relations import node
from medrec.layers import SparseProduct

with warnings.catch_warnings():
    # PyTorch Geometric compiles parts of itself at import in a way that torch calls outdated.
    warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
    from torch_geometric.nn import HypergraphConv
    from torch_geometric.utils import softmax

_LARGER = 6.0  # elements between nodes to incidences, up to which they are used instead
_DENSE = 0.2  # of elements, from which a dense product is faster


@dataclass(frozen=True)
class Hypergraph:
    """An incidence matrix H in {0, 1}, [nodes, edges], by its ones.

    Attributes:
        nodes: number of nodes; some may lie in no hyperedge.
        edges: number of hyperedges; some may be empty.
        node, edge: where H is 1, each pair once, ascending by edge, then by node.
    """

    nodes: int
    edges: int
    node: Int64[np.ndarray, " incidences"]
    edge: Int64[np.ndarray, " incidences"]

    @property
    def incidence(self) -> sparse.csr_matrix:
        """H."""
        ones = np.ones(len(self.node), dtype=np.float32)
        return sparse.csr_matrix((ones, (self.node, self.edge)), shape=(self.nodes, self.edges))


def hypergraph(
    nodes: int, edges: int, node: Int64[np.ndarray, " some"], edge: Int64[np.ndarray, " some"]
) -> Hypergraph:
    """Returns the hypergraph with these incidences, in any order, repeated or not."""
    pairs = np.unique(edge * max(nodes, 1) + node)
    return Hypergraph(nodes, edges, pairs % max(nodes, 1), pairs // max(nodes, 1))


def typed_hypergraph(visits: Codes, codes: int) -> Hypergraph:
    """Returns a hyperedge a visit over its codes of one kind."""
    edge = np.repeat(np.arange(len(visits.counts)), visits.counts)
    return hypergraph(codes, len(visits.counts), visits.values.astype(np.int64), edge)


def joint_hypergraph(visits: Mapping[Kind, Codes], sizes: Mapping[Kind, int]) -> Hypergraph:
    """Returns a hyperedge a visit over all its codes.

    Args:
        visits: codes of each visit, the same visits for every kind.
        sizes: vocabulary size of each kind; nodes are numbered kind after kind.
    """
    parts = [typed_hypergraph(visits[kind], sizes[kind]) for kind in KINDS]
    first = np.cumsum([0, *(part.nodes for part in parts)])
    shifted = [part.node + start for part, start in zip(parts, first[:-1], strict=True)]
    edge = np.concatenate([part.edge for part in parts])
    return hypergraph(int(first[-1]), parts[0].edges, np.concatenate(shifted), edge)


def path_hypergraph(nodes: int) -> Hypergraph:
    """Returns hyperedges {i, i + 1} and {last}: what BH3's released script feeds its model.

    There each code is a hyperedge by itself, padded with the next index, whatever that is.
    """
    own = np.arange(nodes, dtype=np.int64)
    twice = np.concatenate([own, own[1:]]), np.concatenate([own, own[:-1]])
    return hypergraph(nodes, nodes, *twice)


def molecular_hypergraph(
    structures: Sequence[tuple[str, ...]], molecules: Molecules
) -> Hypergraph:
    """Returns a hyperedge a drug class over the functional groups and fragments it contains.

    A class contains what any of its molecules contains; one without structure, nothing.

    Args:
        structures: SMILES of each drug class.
        molecules: the same classes' molecules.
    """
    groups = functional_groups([text for smiles in structures for text in smiles])
    has = np.zeros((len(structures), groups.shape[1]), dtype=bool)
    np.logical_or.at(has, molecules.drug, groups)
    edge, part = np.hstack([has, molecules.contains]).nonzero()
    return hypergraph(has.shape[1] + molecules.contains.shape[1], len(structures), part, edge)


def ancestor_of(
    bundle: Bundle, vocabulary: Mapping[Kind, tuple[str, ...]], height: int
) -> Int64[np.ndarray, " codes"]:
    """Returns the number of each code's ancestor that many levels up.

    A code with fewer ancestors stands under its topmost one; one without any stays by itself.
    The hierarchy is the bundle's: the built-in one has prefixes, blocks and chapters of ICD codes
    and the levels of ATC.

    Args:
        bundle: the hierarchies.
        vocabulary: codes of each kind; numbered kind after kind.
        height: 0 for the codes themselves.

    Returns:
        numbers 0, 1, ... by the names of the ancestors, kind after kind.
    """
    names = []
    for position, kind in enumerate(KINDS):
        for code in vocabulary[kind]:
            path = (node(kind, code), *bundle.ancestors(node(kind, code)))
            names.append((position, path[min(height, len(path) - 1)]))
    index = {name: i for i, name in enumerate(sorted(set(names)))}
    return np.array([index[name] for name in names], dtype=np.int64)


def coarse(fine: Hypergraph, above: Int64[np.ndarray, " nodes"]) -> Hypergraph:
    """Returns the hypergraph of the nodes' ancestors: it lies in every edge of its children."""
    nodes = int(above.max(initial=-1)) + 1
    return hypergraph(nodes, fine.edges, above[fine.node], fine.edge)


def pooling(above: Int64[np.ndarray, " nodes"]) -> sparse.csr_matrix:
    """Returns [ancestors, nodes], each row the mean over an ancestor's children."""
    ones = np.ones(len(above), dtype=np.float32)
    shape = (int(above.max(initial=-1)) + 1, len(above))
    return row_mean(sparse.csr_matrix((ones, (above, np.arange(len(above)))), shape=shape))


def row_mean(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Returns the matrix with each row summing to 1; empty rows stay empty."""
    total = np.asarray(matrix.sum(axis=1)).ravel()
    inverse = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
    return (sparse.diags(inverse) @ matrix).tocsr().astype(np.float32)


def fixed_product(matrix: sparse.csr_matrix) -> SparseProduct:
    """Returns the product with a scipy matrix."""
    found = matrix.tocoo()
    index = torch.from_numpy(np.stack([found.row, found.col]).astype(np.int64))
    values = torch.from_numpy(found.data.astype(np.float32))
    return SparseProduct(
        torch.sparse_coo_tensor(index, values, found.shape, check_invariants=True)
    )


class Incidence(nn.Module):
    """A hypergraph's two half-steps; one for all layers on it. It has no weights."""

    def __init__(self, graph: Hypergraph) -> None:
        super().__init__()
        self.edges = graph.edges
        up, down = row_mean(graph.incidence.T.tocsr()), row_mean(graph.incidence)
        self.to_edges, self.to_nodes = fixed_product(up), fixed_product(down)
        self.between = _between(down @ up, len(graph.node))
        self._add_attention(graph)

    def _add_attention(self, graph: Hypergraph) -> None:
        pairs = torch.from_numpy(np.stack([graph.node, graph.edge]))
        self.register_buffer("pairs", pairs, persistent=False)
        self.pairs: Tensor
        order = torch.argsort(pairs[0], stable=True)
        self.by_edge = _Pattern(pairs[1], pairs[0], graph.edges, graph.nodes, order)
        self.by_node = _Pattern(
            pairs[0][order], pairs[1][order], graph.nodes, graph.edges, torch.argsort(order)
        )

    def forward(self, x: Float[Tensor, "nodes dim"]) -> Float[Tensor, "nodes dim"]:
        """Returns D⁻¹ H B⁻¹ Hᵀ x: the mean over a node's hyperedges of their nodes' means."""
        if self.between is None:
            return self.to_nodes(self.to_edges(x))
        return self.between(x)

    def weighted(
        self,
        x: Float[Tensor, "nodes heads part"],
        weights: Float[Tensor, "incidences heads"],
    ) -> Float[Tensor, "nodes heads part"]:
        """Returns D⁻¹ (A ⊙ H) B⁻¹ (A ⊙ H)ᵀ x, where A is `weights` where H is 1."""
        edges, nodes = self.by_edge, self.by_node
        up = _WeightedProduct.apply(x, weights, edges, nodes)  # type: ignore[no-untyped-call]
        up, turned = up / edges.degree, weights[edges.turn]
        down = _WeightedProduct.apply(up, turned, nodes, edges)  # type: ignore[no-untyped-call]
        return down / nodes.degree


class _Pattern(nn.Module):
    """Where a sparse matrix has elements, in compressed rows; `turn` orders them for the other."""

    def __init__(
        self,
        rows: Int64[Tensor, " some"],
        columns: Int64[Tensor, " some"],
        height: int,
        width: int,
        turn: Int64[Tensor, " some"],
    ) -> None:
        super().__init__()
        self.shape = (height, width)
        counts = torch.bincount(rows, minlength=height)
        ends = functional.pad(counts.cumsum(0), (1, 0))
        degree = counts.clamp(min=1).float()[:, None, None]
        parts = {"ends": ends, "columns": columns, "turn": turn, "degree": degree}
        for name, part in parts.items():
            self.register_buffer(name, part, persistent=False)
        self.ends: Tensor
        self.columns: Tensor
        self.turn: Tensor
        self.degree: Tensor

    def matrix(self, values: Float[Tensor, " some"]) -> Float[Tensor, "rows columns"]:
        """Returns the matrix with these elements."""
        with warnings.catch_warnings():
            # torch calls its compressed rows beta; only products with dense matrices are used.
            warnings.filterwarnings("ignore", "Sparse CSR tensor support", UserWarning)
            return torch.sparse_csr_tensor(
                self.ends, self.columns, values, self.shape, check_invariants=False
            )


class _WeightedProduct(torch.autograd.Function):
    """Products of a sparse matrix a head, [rows, columns], with x, [columns, heads, part]."""

    @staticmethod
    def forward(ctx, x, values, pattern, other):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x, values)
        ctx.pattern, ctx.other = pattern, other
        return _by_head(pattern, values, x)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        x, values = ctx.saved_tensors
        for_x = _by_head(ctx.other, values[ctx.pattern.turn], gradient)
        nothing = ctx.pattern.matrix(torch.zeros_like(values[:, 0]))
        for_values = [
            torch.sparse.sampled_addmm(
                nothing, gradient[:, head].contiguous(), x[:, head].t().contiguous(), beta=0.0
            ).values()
            for head in range(values.shape[1])
        ]
        return for_x, torch.stack(for_values, dim=1), None, None


def _by_head(
    pattern: _Pattern,
    values: Float[Tensor, "some heads"],
    x: Float[Tensor, "columns heads part"],
) -> Float[Tensor, "rows heads part"]:
    heads = values.t().contiguous()
    products = [pattern.matrix(own) @ x[:, head].contiguous() for head, own in enumerate(heads)]
    return torch.stack(products, dim=1)


class DenseProduct(nn.Module):
    """Multiplies by a fixed dense matrix."""

    def __init__(self, matrix: Float[Tensor, "rows columns"]) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix, persistent=False)
        self.matrix: Tensor

    def forward(self, x: Float[Tensor, "columns dim"]) -> Float[Tensor, "rows dim"]:
        """Returns matrix @ x."""
        return self.matrix @ x


def _between(matrix: sparse.csr_matrix, incidences: int) -> SparseProduct | DenseProduct | None:
    """Returns the product from nodes to nodes, or none where the two half-steps are faster.

    The half-steps write and read a vector for each hyperedge, ten thousand visits say, where the
    nodes' vectors stay in the processor's cache: so one product may have several times as many
    elements. An element of a dense product takes a fifth of the time.
    """
    if matrix.nnz > _LARGER * incidences:
        return None
    if matrix.nnz > _DENSE * matrix.shape[0] * matrix.shape[1]:
        return DenseProduct(torch.from_numpy(matrix.toarray()))
    return fixed_product(matrix)


class HypergraphConvolution(nn.Module):
    """X ← D⁻¹ H B⁻¹ Hᵀ X Θ + b, and with attention A ⊙ H for H: PyTorch Geometric's layer.

    D and B are the degrees of nodes and hyperedges. Weights and result are those of its
    HypergraphConv. Its forward pass gathers a vector for each incidence; here there are products
    with sparse matrices, many times faster (tests/medrec/test_hypergraphs.py compares the two).

    With attention a hyperedge's feature is the mean of its nodes' features, and
    A_ne = softmax over the nodes of e of LeakyReLU(a · [x_n Θ; x_e Θ]), head by head.
    """

    def __init__(self, incidence: Incidence, dim: int, heads: int | None) -> None:
        """Makes the layer.

        Args:
            incidence: the hypergraph.
            dim: of features before and after.
            heads: of attention, a divisor of dim; none for no attention.
        """
        super().__init__()
        self.incidence = incidence
        self.heads = heads
        self.layer = HypergraphConv(
            dim, dim // (heads or 1), use_attention=heads is not None, heads=heads or 1
        )

    def forward(self, x: Float[Tensor, "nodes dim"]) -> Float[Tensor, "nodes dim"]:
        """Returns new features of the nodes."""
        moved = self.layer.lin(x)
        if self.heads is None:
            return self.incidence(moved) + self.layer.bias
        split = moved.unflatten(1, (self.heads, -1))
        weights = self._attention(
            split, self.incidence.to_edges(moved).unflatten(1, (self.heads, -1))
        )
        return self.incidence.weighted(split, weights).flatten(1) + self.layer.bias

    def _attention(
        self,
        nodes: Float[Tensor, "nodes heads part"],
        edges: Float[Tensor, "edges heads part"],
    ) -> Float[Tensor, "incidences heads"]:
        """Returns A where H is 1."""
        on_node, on_edge = self.layer.att.chunk(2, dim=2)
        node, edge = self.incidence.pairs
        scores = (nodes * on_node).sum(dim=2)[node] + (edges * on_edge).sum(dim=2)[edge]
        scores = functional.leaky_relu(scores, self.layer.negative_slope)
        return softmax(scores, edge, num_nodes=self.incidence.edges)


class PairwiseConvolution(nn.Module):
    """X ← Ã X Θ + b, where Ã joins every two nodes of a hyperedge, and each with itself.

    Ã has rows normalised to 1: a hypergraph with each hyperedge taken apart into its pairs.
    """

    def __init__(self, joined: SparseProduct, dim: int) -> None:
        super().__init__()
        self.joined = joined
        self.linear = nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "nodes dim"]) -> Float[Tensor, "nodes dim"]:
        """Returns new features of the nodes."""
        return self.joined(x @ self.linear.weight.T) + self.linear.bias


def pairwise(graph: Hypergraph) -> sparse.csr_matrix:
    """Returns Ã of `PairwiseConvolution`, [nodes, nodes]."""
    together = graph.incidence @ graph.incidence.T + sparse.eye(graph.nodes, dtype=np.float32)
    return row_mean((together > 0).astype(np.float32).tocsr())
