"""A graph isomorphism network over molecules, each distinct atom environment computed once.

    y_a = x_a + Σ_b (x_b + e_ab)                     b: neighbours of atom a; e: vector of the bond
    x_a ← drop(relu(BN(W2 relu(W1 y_a))))       no relu after the last layer

x starts as the sum of the vectors of an atom's features. At the end it is averaged over a
molecule's atoms, and molecules over their group. Source: Xu et al., ICLR 2019 (ε = 0); with bonds,
Hu et al., ICLR 2020. W1 and W2 have no bias: the batch normalisation takes W2's away again, and
W1's wherever a unit of the relu is open for all atoms; what would be left of its gradient is
rounding, which Adam makes as large as any other step.

Atoms with the same environment so far have the same x, so layer k keeps a row for each distinct
environment of depth k. The batch normalisation weighs a row by its atoms, so its moments are those
over all atoms of all molecules. Of the embedded drug table and its fragments this leaves half of
the rows. Dropout acts on these rows: equal atoms keep or lose the same elements. W1 meets the rows
before they are summed, which are fewer; of the bonds it meets the sums that occur.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from scipy import sparse
from torch import Tensor, nn

from medrec.knowledge.atom_features import ATOM_FEATURES, BOND_FEATURES, FeatureGraphs
from medrec.layers import SparseProduct, full_precision, keep_mask
from medrec.molecule_encoder import distinct_rows, sparse_tensor


class GraphIsomorphismEncoder(nn.Module):
    """Learned representation of groups of molecules; a group without one is zero.

    Args:
        graphs: the molecules.
        group: of each molecule; its row in the result.
        groups: number of them.
        dim: of the vectors.
        feed_forward: width between W1 and W2.
        layers: of message passing.
        dropout: of a layer's result.
    """

    def __init__(
        self,
        graphs: FeatureGraphs,
        group: Int64[np.ndarray, " graphs"],
        groups: int,
        dim: int,
        feed_forward: int,
        layers: int,
        dropout: float,
    ) -> None:
        super().__init__()
        atoms, environment = np.unique(graphs.atoms, axis=0, return_inverse=True)
        environment = environment.reshape(-1)
        self.register_buffer("atoms", _hot(atoms, ATOM_FEATURES), persistent=False)
        self.atoms: Tensor
        self.embedding = _table(self.atoms.shape[1], dim)
        around = _neighbours(graphs)
        bonds = _bonds(graphs)
        found = []
        for layer in range(layers):
            level, environment = _deeper(environment, around, bonds)
            last = layer == layers - 1
            found.append(_Layer(level, dim, feed_forward, dropout, last))
        self.layers = nn.ModuleList(found)
        self.readout = SparseProduct(sparse_tensor(_pool(graphs, group, groups, environment)))

    def forward(self) -> Float32[Tensor, "groups dim"]:
        """Returns one vector a group, computed in float32."""
        with full_precision(self.embedding.device):
            x = self.atoms @ self.embedding
            for layer in self.layers:
                x = layer(x)
            return self.readout(x)


@dataclass(frozen=True)
class _Level:
    """How environments one bond deeper arise: all that a layer needs of the molecules.

    `collect` [deeper, environments + kinds] sums an atom, its neighbours and, last, what its bonds
    add together: their `bonds` [kinds, values] say how many of them have a feature's value.
    """

    collect: sparse.csr_matrix
    bonds: Float[np.ndarray, "kinds values"]
    atoms: Int64[np.ndarray, " deeper"]  # that have this environment


class _Layer(nn.Module):
    def __init__(
        self, level: _Level, dim: int, feed_forward: int, dropout: float, last: bool
    ) -> None:
        super().__init__()
        self.collect = SparseProduct(sparse_tensor(level.collect))
        bonds = torch.from_numpy(level.bonds).float()
        self.register_buffer("bonds", bonds, persistent=False)
        self.bonds: Tensor
        self.embedding = _table(bonds.shape[1], dim)
        self.widen = nn.Linear(dim, feed_forward, bias=False)
        self.narrow = nn.Linear(feed_forward, dim, bias=False)
        self.norm = WeightedBatchNorm(dim, level.atoms, not last, dropout)

    def forward(self, x: Float[Tensor, "environments dim"]) -> Float[Tensor, "deeper dim"]:
        """Returns the vectors of the environments one bond deeper."""
        wide = self.widen(torch.cat([x, self.bonds @ self.embedding]))
        return self.norm(torch.relu_(self.collect(wide)), self.narrow.weight)


class WeightedBatchNorm(nn.Module):
    """Batch normalisation of rows of which each stands for several, then maybe relu, and dropout.

    The rows are those of a product, which is taken here: it is overwritten.

    Moments are those of all that the rows stand for: in training, of this pass; otherwise their
    running averages, as torch's `BatchNorm1d` keeps them.

    Args:
        dim: of a row.
        counts: how many each row stands for.
        rectify: whether relu follows.
        dropout: of the result.
    """

    MOMENTUM = 0.1
    EPSILON = 1e-5

    def __init__(
        self, dim: int, counts: Int64[np.ndarray, " rows"], rectify: bool, dropout: float
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))
        self.running_mean: Tensor
        self.running_var: Tensor
        total = int(counts.sum())
        share = torch.from_numpy(counts / max(total, 1)).float()
        self.register_buffer("share", share, persistent=False)
        self.share: Tensor
        self.unbiased = total / max(total - 1, 1)
        self.rectify, self.dropout = rectify, dropout

    def forward(
        self, x: Float[Tensor, "rows inputs"], matrix: Float[Tensor, "dim inputs"]
    ) -> Float[Tensor, "rows dim"]:
        """Returns the normalised rows of x matrixᵀ."""
        if not self.training:
            scale = self.weight * torch.rsqrt(self.running_var + self.EPSILON)
            shift = self.bias - self.running_mean * scale
            y = torch.addmm(shift, x, (scale[:, None] * matrix).T)
            return torch.relu(y) if self.rectify else y
        kept, raised = None, 1.0
        if self.dropout:
            kept = keep_mask((len(x), len(matrix)), self.dropout, x.device, x.dtype)
            raised = 1.0 / (1.0 - self.dropout)
        y, mean, variance = _Normalised.apply(  # type: ignore[no-untyped-call]
            x, matrix, self.weight * raised, self.bias * raised, self.share, kept, self
        )
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.MOMENTUM)
            self.running_var.lerp_(variance * self.unbiased, self.MOMENTUM)
        return y


class _Normalised(torch.autograd.Function):
    """One pass and its gradient in few sweeps over the rows, which are half of a layer's time.

    Results are written over what is no longer needed: a layer's rows are as large as a cache.
    """

    @staticmethod
    def forward(ctx, x, matrix, weight, bias, share, kept, norm):  # type: ignore[no-untyped-def]
        centred = x @ matrix.T
        mean = share @ centred
        centred -= mean
        y = centred.square()
        variance = share @ y
        inverse = torch.rsqrt(variance + norm.EPSILON)
        torch.addcmul(bias, centred, weight * inverse, out=y)
        if norm.rectify:
            y.relu_()
        if kept is not None:
            y *= kept
        # Where a rectified result is 0, relu or dropout took it; of others the mask says so.
        ctx.rectify = norm.rectify
        left = y if norm.rectify else kept
        ctx.save_for_backward(x, matrix, centred, weight, share, inverse, left)
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    def backward(ctx, gradient, _mean, _variance):  # type: ignore[no-untyped-def]
        x, matrix, centred, weight, share, inverse, left = ctx.saved_tensors
        if ctx.rectify:
            gradient = torch.ops.aten.threshold_backward(gradient, left, 0)
        else:
            gradient = gradient.clone() if left is None else gradient * left
        to_bias = gradient.sum(dim=0)
        swept = gradient * centred
        to_weight = swept.sum(dim=0) * inverse
        # What reaches the moments is shared out over the rows by what each stands for.
        torch.addcmul(to_bias, centred, to_weight * inverse, out=swept)
        gradient.addcmul_(swept, share[:, None], value=-1)
        scale = (weight * inverse)[:, None]
        to_matrix = (gradient.T @ x) * scale
        return gradient @ (matrix * scale), to_matrix, to_weight, to_bias, None, None, None


def _table(values: int, dim: int) -> nn.Parameter:
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(values, dim)))


def _hot(
    places: Int64[np.ndarray, "rows features"], features: dict[str, tuple[object, ...]]
) -> Float[Tensor, "rows values"]:
    """Returns the features of each row as ones among the values of all features."""
    sizes = [len(known) for known in features.values()]
    starts = np.cumsum([0, *sizes[:-1]])
    hot = torch.zeros(len(places), sum(sizes))
    return hot.scatter_(1, torch.from_numpy(places + starts), 1.0)


def _neighbours(graphs: FeatureGraphs) -> sparse.csr_matrix:
    """Returns the atoms' adjacency matrix."""
    atoms = len(graphs.atoms)
    ones = np.ones(len(graphs.bonds))
    return sparse.csr_matrix((ones, graphs.bonds.T), shape=(atoms, atoms))


def _bonds(graphs: FeatureGraphs) -> Float[np.ndarray, "atoms values"]:
    """Returns how many bonds of each atom have each value of a feature."""
    hot = _hot(graphs.bond_features, BOND_FEATURES).numpy()
    found = np.zeros((len(graphs.atoms), hot.shape[1]))
    np.add.at(found, graphs.bonds[:, 0], hot)
    return found


def _deeper(
    environment: Int64[np.ndarray, " atoms"],
    around: sparse.csr_matrix,
    bonds: Float[np.ndarray, "atoms values"],
) -> tuple[_Level, Int64[np.ndarray, " atoms"]]:
    """Returns what a layer needs, and each atom's environment one bond deeper."""
    atoms = len(environment)
    own = sparse.csr_matrix((np.ones(atoms), (np.arange(atoms), environment)))
    kinds, kind = np.unique(bonds, axis=0, return_inverse=True)
    told = sparse.csr_matrix(
        (np.ones(atoms), (np.arange(atoms), kind.reshape(-1))), shape=(atoms, len(kinds))
    )
    collect = sparse.hstack([own + around @ own, told], format="csr")
    refined, representatives = distinct_rows(collect)
    level = _Level(
        collect=collect[representatives],
        bonds=kinds,
        atoms=np.bincount(refined, minlength=len(representatives)),
    )
    return level, refined


def _pool(
    graphs: FeatureGraphs,
    group: Int64[np.ndarray, " graphs"],
    groups: int,
    environment: Int64[np.ndarray, " atoms"],
) -> sparse.csr_matrix:
    """Returns [groups, environments]: the mean over atoms, then over a group's molecules."""
    per_graph = np.bincount(graphs.graph, minlength=graphs.graphs)
    per_group = np.bincount(group, minlength=groups)
    row = group[graphs.graph]
    weight = 1.0 / per_graph[graphs.graph] / per_group[row]
    columns = int(environment.max(initial=-1)) + 1
    return sparse.csr_matrix((weight, (row, environment)), shape=(groups, columns))
