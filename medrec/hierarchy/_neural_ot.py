"""Neural optimal transport between two weighted sets of vectors.

    max_f min_T  E_x[1/2 |x - T(x)|^2 - f(T(x))] + E_y[f(y)]  + λ mean over anchors |T(x) - y|^2

The saddle-point form of Korotin, Selikhanovych & Burnaev ("Neural optimal transport", 2023)
for the squared distance; the anchors are MASH's. The published network is not known: f and T
have three hidden layers of 256 ReLU, and T(x) = x + network(x), whose last layer begins at 0, so
that training begins at the identity. Ten steps of T follow each step of f, by Adam at 1e-4.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

_WIDTH = 256
_LAYERS = 3
_INNER = 10  # steps of T a step of f
_RATE = 1e-4
STEPS = 200  # of f
_BATCH = 128
_ANCHOR_WEIGHT = 1.0


@dataclass(frozen=True)
class Samples:
    """Weighted vectors.

    Attributes:
        vectors: a row a code.
        mass: probability of each, sum 1.
    """

    vectors: Float64[np.ndarray, "codes dim"]
    mass: Float64[np.ndarray, " codes"]


class Map(nn.Module):
    """T(x) = x + network(x), at first the identity."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.network = _network(dim, dim)
        last = self.network[-1]
        nn.init.zeros_(last.weight)  # type: ignore[arg-type]
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def forward(self, x: Float[Tensor, "codes dim"]) -> Float[Tensor, "codes dim"]:
        """Returns the mapped vectors."""
        return x + self.network(x)


def _network(dim: int, out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(_LAYERS):
        layers += [nn.Linear(dim if i == 0 else _WIDTH, _WIDTH), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(_WIDTH, out))


def potential(dim: int) -> nn.Sequential:
    """Returns f with fresh weights."""
    return _network(dim, 1)


def source_part(
    mapping: nn.Module, f: nn.Module, x: Float[Tensor, "sources dim"]
) -> Float[Tensor, ""]:
    """Returns E_x[1/2 |x - T(x)|^2 - f(T(x))] of equally weighed samples: what T minimises."""
    moved = mapping(x)
    return (0.5 * (x - moved).square().sum(dim=1) - f(moved)[:, 0]).mean()


def objective(
    mapping: nn.Module,
    f: nn.Module,
    x: Float[Tensor, "sources dim"],
    y: Float[Tensor, "targets dim"],
) -> Float[Tensor, ""]:
    """Returns the source's part + E_y[f(y)] of equally weighed samples: what f maximises."""
    return source_part(mapping, f, x) + f(y)[:, 0].mean()


def anchor_loss(
    mapping: nn.Module, x: Float[Tensor, "pairs dim"], y: Float[Tensor, "pairs dim"]
) -> Float[Tensor, ""]:
    """Returns the mean of |T(x) - y|^2 over matched pairs; 0 without any."""
    if not len(x):
        return x.new_zeros(())
    return (mapping(x) - y).square().sum(dim=1).mean()


def transport(
    source: Samples,
    target: Samples,
    anchors: Int64[np.ndarray, "pairs 2"],
    seed: int,
    steps: int = STEPS,
) -> Float64[np.ndarray, "source_codes dim"]:
    """Returns where the trained map takes the source vectors; the caller's seeds stay as they are.

    Args:
        source: what is moved.
        target: where to.
        anchors: rows (source, target) that match, possibly none.
        seed: of weights and batches.
        steps: of f; each has ten of T.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        x, y = (torch.from_numpy(each.vectors).float() for each in (source, target))
        weights = tuple(torch.from_numpy(each.mass) for each in (source, target))
        pairs = torch.from_numpy(anchors)
        mapping, f = Map(x.shape[1]), potential(x.shape[1])
        of_map = torch.optim.Adam(mapping.parameters(), lr=_RATE)
        of_f = torch.optim.Adam(f.parameters(), lr=_RATE)
        for _ in range(steps):
            for _ in range(_INNER):
                some = x[torch.multinomial(weights[0], _BATCH, replacement=True)]
                loss = source_part(mapping, f, some)
                known = pairs[torch.randperm(len(pairs))[:_BATCH]]
                loss = loss + _ANCHOR_WEIGHT * anchor_loss(mapping, x[known[:, 0]], y[known[:, 1]])
                of_map.zero_grad()
                loss.backward()
                of_map.step()
            some = x[torch.multinomial(weights[0], _BATCH, replacement=True)]
            others = y[torch.multinomial(weights[1], _BATCH, replacement=True)]
            worth = -objective(mapping, f, some, others)
            of_f.zero_grad()
            worth.backward()
            of_f.step()
        with torch.no_grad():
            return mapping(x).double().numpy()
