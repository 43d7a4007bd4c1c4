"""Relational graph convolution with one block of rows for each relation that occurs.

The parameters and the result are those of PyTorch Geometric's RGCNConv (Schlichtkrull et al.
2018) with mean aggregation, root weight and bias. Its own forward passes build a mask over all
edges for each relation, or a weight matrix for each edge; here the sources are averaged first, so
that each (relation, target) pair is multiplied once and relations without an edge cost nothing.
"""

import warnings
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

with warnings.catch_warnings():
    # PyTorch Geometric compiles parts of itself at import in a way that torch calls outdated.
    warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
    from torch_geometric.nn import RGCNConv


@dataclass(frozen=True)
class EdgeGroups:
    """Edges grouped by (relation, target); the groups ascend by relation, then by target.

    Attributes:
        source: node at the start of each edge.
        group: group of each edge.
        share: 1 / number of edges in the edge's group.
        target: node at the end of each group's edges.
        sizes: number of groups of each relation.
    """

    source: Int64[Tensor, " edges"]
    group: Int64[Tensor, " edges"]
    share: Float[Tensor, " edges"]
    target: Int64[Tensor, " groups"]
    sizes: tuple[int, ...]


def group_edges(
    source: Int64[Tensor, " edges"],
    target: Int64[Tensor, " edges"],
    relation: Int64[Tensor, " edges"],
    nodes: int,
    relations: int,
) -> EdgeGroups:
    """Returns the edges grouped by (relation, target).

    Example:
        >>> one = torch.tensor([1, 1, 0])
        >>> groups = group_edges(torch.tensor([0, 1, 2]), torch.tensor([2, 2, 2]), one, 3, 2)
        >>> groups.target.tolist(), groups.share.tolist(), groups.sizes
        ([2, 2], [0.5, 0.5, 1.0], (1, 1))
    """
    keys, group, counts = torch.unique(
        relation * nodes + target, return_inverse=True, return_counts=True
    )
    owner = torch.div(keys, max(nodes, 1), rounding_mode="floor")
    sizes = torch.bincount(owner, minlength=relations).tolist()
    share = counts.reciprocal().index_select(0, group)
    return EdgeGroups(source, group, share, keys - owner * nodes, tuple(sizes))


class RelationalConvolution(RGCNConv):  # type: ignore[misc]
    """h_i = W_root x_i + b + Σ_r mean over the edges j → i of relation r of W_r x_j."""

    def __init__(self, inputs: int, outputs: int, relations: int) -> None:
        super().__init__(inputs, outputs, relations)

    def forward(
        self,
        x: Float[Tensor, "nodes inputs"],
        edge_index: Int64[Tensor, "2 edges"],
        edge_type: Int64[Tensor, " edges"],
    ) -> Float[Tensor, "nodes outputs"]:
        """Returns the new vectors, from sources in row 0 and targets in row 1 of the edges."""
        source, target = edge_index
        return self.convolve(x, group_edges(source, target, edge_type, len(x), self.num_relations))

    def convolve(
        self, x: Float[Tensor, "nodes inputs"], groups: EdgeGroups
    ) -> Float[Tensor, "nodes outputs"]:
        """Returns the same for edges that are grouped already: layers share their groups."""
        # Products may be of mixed precision; sums are not.
        own = torch.addmm(self.bias, x, self.root).float()
        if not len(groups.target):
            return own
        sent = x.index_select(0, groups.source) * groups.share[:, None]
        mean = sent.new_zeros(len(groups.target), x.shape[1]).index_add(0, groups.group, sent)
        # One unbinding, whose gradient is one stack; indexing would make a full block a relation.
        blocks = zip(mean.split(groups.sizes), self.weight.unbind(0), strict=True)
        received = torch.cat([block @ weight for block, weight in blocks if len(block)])
        return own.index_add(0, groups.target, received.float())
