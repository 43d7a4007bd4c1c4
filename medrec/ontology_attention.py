"""Vectors of codes from their ontology: graph attention up the tree, then down to the codes.

With E a vector for each node of the tree, and for any node i with neighbours N(i)

    g(i, N, X) = ||_k ELU( Σ_{j in {i} ∪ N(i)} α_ij^k W^k X_j )
    α_ij^k     = softmax over j of LeakyReLU( a^k W^k X_i + b^k W^k X_j )

    up     H_i = g(i, children of i, E) of each node with children; of a leaf, H_i = E_i
    down   O_c = g(c, ancestors of c, H) of each code

Both stages share W, a and b.

Source: G-BERT (IJCAI 2019), its two stages of graph attention (Veličković et al., ICLR 2018, from
which the activation is taken). The trees are the bundle's, blocks and chapters included.
"""

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from medrec.cohort import Kind
from medrec.knowledge.base import Knowledge
from medrec.layers import Dropout, SparseProduct, full_precision, pool_codes
from medrec.visit_graphs import NodeTable, node_table

_SLOPE = 0.2  # of LeakyReLU, as Veličković et al.


class OntologyAttention(nn.Module):
    """The codes of one kind; `embedding` has their own vectors first, then their ancestors'."""

    def __init__(self, knowledge: Knowledge, kind: Kind, dim: int, heads: int) -> None:
        super().__init__()
        table = node_table(knowledge.vocabulary, (kind,), knowledge.bundle, ancestors=True)
        self.heads = heads
        self.embedding = nn.Embedding(len(table.names), dim)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)  # as medrec.layers.CodeBag
        self.project = nn.Linear(dim, dim, bias=False)
        self.of_node = nn.Parameter(torch.empty(heads, dim // heads))  # a
        self.of_neighbour = nn.Parameter(torch.empty(heads, dim // heads))  # b
        for weight in (self.project.weight, self.of_node, self.of_neighbour):
            nn.init.xavier_uniform_(weight)
        self._lay_out(table)

    def _lay_out(self, table: NodeTable) -> None:
        """Keeps who is whose neighbour; numbers of nodes are rows of the embedding."""
        child = np.flatnonzero(table.parents >= 0)
        inner, place = np.unique(table.parents[child], return_inverse=True)
        self._keep("inner", torch.from_numpy(inner))
        above = np.zeros(len(table.names), dtype=np.int64)
        above[child] = place
        self._keep("above", torch.from_numpy(above))  # place of each node's parent among the inner
        self._keep("root", torch.from_numpy(table.parents < 0)[:, None])
        at, size = torch.from_numpy(np.stack([place, child])), (len(inner), len(above))
        ones = torch.ones(len(child))
        self.add_up = SparseProduct(torch.sparse_coo_tensor(at, ones, size, check_invariants=True))
        paths = [_path(table, code) for code in table.codes.tolist()]
        longest = max(map(len, paths), default=1)
        padded = [path + [-1] * (longest - len(path)) for path in paths]
        self._keep("paths", torch.tensor(padded, dtype=torch.int64).view(len(paths), longest))

    def _keep(self, name: str, value: Tensor) -> None:
        self.register_buffer(name, value, persistent=False)

    inner: Tensor
    above: Tensor
    root: Tensor
    paths: Tensor

    def forward(self, codes: Int64[Tensor, " some"]) -> Float[Tensor, "some dim"]:
        """Returns O of these codes, in float32 always."""
        with full_precision(codes.device):
            moved = self.project(self.embedding.weight)
            if len(self.inner):
                upper = self.project(self._up(moved))
                moved = moved.index_copy(0, self.inner, upper)
            return self._down(moved, self.paths.index_select(0, codes))

    def _up(self, moved: Float[Tensor, "nodes dim"]) -> Float[Tensor, "inner dim"]:
        """Returns H of the nodes that have children.

        A node has one parent, so the messages to all parents are as many as the nodes, and sums
        over children are products with one fixed sparse matrix.
        """
        as_node, as_neighbour = self._scores(moved)
        to = functional.embedding(self.inner, as_node)
        of_own = to + functional.embedding(self.inner, as_neighbour)
        of_own = functional.leaky_relu(of_own, _SLOPE)
        of_child = as_neighbour + functional.embedding(self.above, to)
        of_child = functional.leaky_relu(of_child, _SLOPE).masked_fill(self.root, -torch.inf)
        place = self.above[:, None].expand_as(of_child)
        largest = of_own.detach().scatter_reduce(0, place, of_child.detach(), "amax")
        own_weight = torch.exp(of_own - largest)
        weight = torch.exp(of_child - largest.index_select(0, self.above))
        sums = self.add_up(torch.cat([self._weighted(weight, moved), weight], dim=1))
        total, share = sums.split([moved.shape[1], self.heads], dim=1)
        total = total + self._weighted(own_weight, functional.embedding(self.inner, moved))
        return functional.elu(self._weighted(1 / (share + own_weight), total))

    def _down(
        self, moved: Float[Tensor, "nodes dim"], paths: Int64[Tensor, "some width"]
    ) -> Float[Tensor, "some dim"]:
        """Returns O of the first node of each path, the others being its ancestors, -1 padding."""
        exists, members = paths >= 0, paths.clamp(min=0)
        as_node, as_neighbour = self._scores(moved)
        scores = functional.embedding(members, as_neighbour)
        scores = functional.leaky_relu(scores + as_node[members[:, :1]], _SLOPE)
        lowest = torch.finfo(scores.dtype).min
        weights = torch.softmax(scores.masked_fill(~exists[..., None], lowest), dim=1)
        return functional.elu(
            self._weighted(weights, functional.embedding(members, moved)).sum(dim=1)
        )

    def _scores(
        self, moved: Float[Tensor, "nodes dim"]
    ) -> tuple[Float[Tensor, "nodes heads"], Float[Tensor, "nodes heads"]]:
        """Returns a W x and b W x of each node."""
        both = [torch.block_diag(*weight) for weight in (self.of_node, self.of_neighbour)]
        as_node, as_neighbour = (moved @ torch.cat(both).T).chunk(2, dim=1)
        return as_node, as_neighbour

    def _weighted(
        self, weights: Float[Tensor, "*nodes heads"], x: Float[Tensor, "*nodes dim"]
    ) -> Float[Tensor, "*nodes dim"]:
        """Returns x with the part of each head multiplied by its weight."""
        return (weights[..., None] * x.unflatten(-1, (self.heads, -1))).flatten(-2)


def _path(table: NodeTable, row: int) -> list[int]:
    """Returns a node and its ancestors, nearest first."""
    found = [row]
    while table.parents[found[-1]] >= 0:
        found.append(int(table.parents[found[-1]]))
    return found


class OntologyBag(nn.Module):
    """A visit's set of codes as the sum or mean of the vectors that attention gives them.

    As `medrec.layers.CodeBag` otherwise: dropout acts on each element of each code's vector.
    """

    def __init__(
        self,
        knowledge: Knowledge,
        kind: Kind,
        dim: int,
        *,
        heads: int,
        dropout: float,
        mean: bool,
    ) -> None:
        super().__init__()
        self.attention = OntologyAttention(knowledge, kind, dim, heads)
        self.padding = len(knowledge.vocabulary[kind])
        self.dropout = Dropout(dropout)
        self.mean = mean

    def forward(
        self, codes: Int64[Tensor, "patients visits codes"]
    ) -> Float[Tensor, "patients visits dim"]:
        """Returns one vector a visit."""
        return pool_codes(codes, self.padding, self._vectors, mean=self.mean)

    def _vectors(self, found: Int64[Tensor, " codes"]) -> Float[Tensor, "codes dim"]:
        used, which = found.unique(return_inverse=True)
        return self.dropout(functional.embedding(which, self.attention(used)))
