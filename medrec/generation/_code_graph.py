"""A graph auto-encoder over the tree of codes: a vector of each code, fixed before training.

    H = drop-free relu, batch norm of   Â W_1            one-hot features, so the first product
    Z = batch norm of                   Â H W_2          with them is W_1 itself
    loss = mean over pairs of nodes of (σ(z_i·z_j) - A_ij)²

A holds the edges of a graph over codes and their ancestors; Â = D^-1/2 (A + I)ᵀ D^-1/2, D the
number of edges into a node and 1. The edges, as the paper or its code has them:

    parent_to_child       from each node to its children (released code)
    parent_child          in both ways
    parent_child_sibling  besides, between any two children of one parent (paper)

Siblings are many, so their edges are never made: all children of a parent read the sum over them.
Nor is the matrix of all pairs: at each step some rows of it are reconstructed, drawn at random
where there are more nodes than that.

Source: HiSGT (Zhou and Barbieri, arXiv 2502.20719); Kipf and Welling, "Variational Graph
Auto-Encoders", 2016. Rows instead of the whole matrix are ours.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from medrec.cohort import KINDS
from medrec.knowledge.base import Knowledge
from medrec.layers import SparseProduct
from medrec.visit_graphs import node_table

TreeEdges = Literal["parent_to_child", "parent_child", "parent_child_sibling"]
_BLOCK = 1024  # rows of pairs that are in memory at once


@dataclass(frozen=True)
class TreeSettings:
    """Settings of the auto-encoder.

    Attributes:
        edges: of the graph.
        dim: of the vectors.
        hidden: of the first layer.
        epochs: steps of Adam.
        learning_rate: of Adam.
        rows: of the matrix of pairs, at each step.
    """

    edges: TreeEdges
    dim: int
    hidden: int
    epochs: int
    learning_rate: float
    rows: int


class Propagation(nn.Module):
    """Multiplies by Â."""

    def __init__(self, parents: Int64[Tensor, " nodes"], edges: TreeEdges) -> None:
        super().__init__()
        nodes = len(parents)
        child = (parents >= 0).nonzero()[:, 0]
        parent = parents[child]
        own = torch.arange(nodes)
        groups, siblings = edges == "parent_child_sibling", torch.zeros(nodes)
        entries = [torch.stack([child, parent])]
        if edges != "parent_to_child":
            entries.append(torch.stack([parent, child]))
        if groups:  # a node with a parent is among its siblings, which stands for its own loop
            siblings[child] = torch.bincount(parent, minlength=nodes)[parent].float()
            own = (parents < 0).nonzero()[:, 0]
        entries.append(torch.stack([own, own]))
        into = torch.cat(entries, dim=1)
        degree = torch.bincount(into[0], minlength=nodes) + siblings
        self.register_buffer("scale", degree.rsqrt()[:, None], persistent=False)
        self.scale: Tensor
        self.direct = _incidence(into, (nodes, nodes))
        self.gather = _incidence(torch.stack([parent, child]), (nodes, nodes)) if groups else None
        self.spread = _incidence(torch.stack([child, parent]), (nodes, nodes)) if groups else None

    def forward(self, x: Float[Tensor, "nodes dim"]) -> Float[Tensor, "nodes dim"]:
        """Returns Â x."""
        x = self.scale * x
        read = self.direct(x)
        if self.gather is not None and self.spread is not None:
            read = read + self.spread(self.gather(x))
        found: Tensor = self.scale * read
        return found


def _incidence(entries: Int64[Tensor, "two entries"], shape: tuple[int, int]) -> SparseProduct:
    ones = torch.ones(entries.shape[1])
    return SparseProduct(torch.sparse_coo_tensor(entries, ones, shape, check_invariants=True))


class TreeEncoder(nn.Module):
    """The encoder: Z of all nodes."""

    def __init__(self, parents: Int64[Tensor, " nodes"], settings: TreeSettings) -> None:
        super().__init__()
        self.propagate = Propagation(parents, settings.edges)
        self.first = nn.Parameter(torch.empty(len(parents), settings.hidden))
        self.first_bias = nn.Parameter(torch.zeros(settings.hidden))
        self.first_norm = nn.BatchNorm1d(settings.hidden)
        self.second = nn.Linear(settings.hidden, settings.dim, bias=False)
        self.second_bias = nn.Parameter(torch.zeros(settings.dim))
        self.second_norm = nn.BatchNorm1d(settings.dim)
        nn.init.xavier_uniform_(self.first)
        nn.init.xavier_uniform_(self.second.weight)

    def forward(self) -> Float[Tensor, "nodes dim"]:
        """Returns a vector of each node."""
        hidden = torch.relu(self.propagate(self.first) + self.first_bias)
        read = self.propagate(self.second(self.first_norm(hidden))) + self.second_bias
        found: Tensor = self.second_norm(read)
        return found


def adjacency(
    parents: Int64[Tensor, " nodes"], rows: Int64[Tensor, " rows"], edges: TreeEdges
) -> Bool[Tensor, "rows nodes"]:
    """Returns some rows of A: whether there is an edge from the row's node to each node."""
    node = torch.arange(len(parents), device=parents.device)
    above = parents[rows][:, None]
    found = parents == rows[:, None]
    if edges != "parent_to_child":
        found = found | (node == above)
    if edges == "parent_child_sibling":
        found = found | ((parents == above) & (above >= 0) & (node != rows[:, None]))
    return found


def reconstruct(
    vectors: Float[Tensor, "nodes dim"],
    parents: Int64[Tensor, " nodes"],
    rows: Int64[Tensor, " rows"],
    edges: TreeEdges,
) -> float:
    """Computes the loss over some rows of pairs, block by block, and its gradients.

    Returns:
        The mean over these pairs.
    """
    leaf = vectors.detach().requires_grad_()
    total = 0.0
    for some in rows.split(_BLOCK):
        target = adjacency(parents, some, edges).float()
        part = (torch.sigmoid(leaf[some] @ leaf.T) - target).square().sum()
        part = part / (len(rows) * len(parents))
        part.backward()
        total += float(part.detach())
    assert leaf.grad is not None  # noqa: S101  there is a row
    vectors.backward(leaf.grad)
    return total


def tree_vectors(
    parents: Int64[Tensor, " nodes"],
    settings: TreeSettings,
    report: Callable[[float], None] = lambda loss: None,
) -> Float[Tensor, "nodes dim"]:
    """Returns a vector of each node of a tree; zeros if there is no edge at all.

    Random numbers are torch's global ones.

    Args:
        parents: node above each node, or -1.
        settings: of the auto-encoder.
        report: told the loss of each step.
    """
    nodes, device = len(parents), parents.device
    if not (parents >= 0).any():
        return torch.zeros(nodes, settings.dim, device=device)
    encoder = TreeEncoder(parents.cpu(), settings).to(device)
    optimiser = torch.optim.Adam(encoder.parameters(), lr=settings.learning_rate, fused=True)
    rows = torch.arange(nodes, device=device)
    for _ in range(settings.epochs):
        if settings.rows < nodes:
            rows = torch.randperm(nodes, device=device)[: settings.rows]
        optimiser.zero_grad()
        report(reconstruct(encoder(), parents, rows, settings.edges))
        optimiser.step()
    with torch.no_grad():
        found: Tensor = encoder.eval()()
        return found


def hierarchy_vectors(
    knowledge: Knowledge, settings: TreeSettings, device: torch.device
) -> Float[Tensor, "codes dim"]:
    """Returns a vector of each code, from the tree of the bundle."""
    table = node_table(knowledge.vocabulary, KINDS, knowledge.bundle, ancestors=True)
    parents = torch.from_numpy(table.parents.astype(np.int64)).to(device)
    codes = torch.from_numpy(table.codes).to(device)
    return tree_vectors(parents, settings)[codes]
