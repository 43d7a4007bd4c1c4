"""Stage II of MASH: vectors of codes and known nodes in the Poincaré ball (reconstructed).

A network takes the stage-I vector of a node to a tangent vector at the origin, z = exp_0(MLP(x)),
so that Adam on the network's weights is an optimiser on the ball too (tangent parametrisation).
Four losses shape the space:

    contrast   InfoNCE: of a batch's second members, a node's own is the nearest
    margin     a child is nearer to its parent than to other parents, by a margin
    order      a parent is nearer to the origin than its child
    triplets   HypHC: of three codes, the two that are most alike have the deepest ancestor

Sources: van den Oord et al. 2018 (arXiv 1807.03748) for InfoNCE with a distance for a score;
Nickel & Kiela 2017 (arXiv 1705.08039) and Ganea et al. 2018 (arXiv 1804.01882) for margin and
order; Chami et al. 2020 (arXiv 2010.00402, eq. 7) for the triplets.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor, nn

from medrec.errors import NonFiniteLossError
from medrec.hierarchy._batches import SIDES, Batches, Known, Parts, StageTwo
from medrec.hierarchy._hyperbolic import (
    Geometry,
    ancestor_depth,
    distance,
    distances,
    points,
)

_HIDDEN = -1e9  # a logit that no softmax sees
_WARM = 0.1  # share of the steps in which the learning rate rises


def contrast(
    between: Float64[Tensor, "pairs pairs"], same: Bool[Tensor, "pairs pairs"], temperature: float
) -> Float64[Tensor, ""]:
    """Returns InfoNCE: the mean of -log softmax_j(-d_ij / τ) at j = i.

    Args:
        between: distance of each pair's first member to each pair's second.
        same: where the second member of another pair is that of this one: no negative.
        temperature: τ.
    """
    own = torch.eye(len(between), dtype=torch.bool)
    logits = (-between / temperature).masked_fill(same & ~own, _HIDDEN)
    return -torch.log_softmax(logits, dim=1).diagonal().mean()


def parent_margin(
    own: Float64[Tensor, " children"],
    other: Float64[Tensor, "children negatives"],
    wrong: Bool[Tensor, "children negatives"],
    margin: float,
) -> Float64[Tensor, ""]:
    """Returns the mean of max(0, m + d(c, π) - d(c, neg)) over negatives that are wrong parents.

    Args:
        own: distance of each child to its parent.
        other: to sampled parents.
        wrong: false where a sampled parent is the child's own.
        margin: m.
    """
    losses = torch.relu(margin + own[:, None] - other) * wrong
    return losses.sum() / wrong.sum().clamp_min(1)


def radial_order(
    parent: Float64[Tensor, "edges dim"], child: Float64[Tensor, "edges dim"], gap: float
) -> Float64[Tensor, ""]:
    """Returns the mean of max(0, ‖z_π‖ - ‖z_c‖ + ε)."""
    return torch.relu(parent.norm(dim=-1) - child.norm(dim=-1) + gap).mean()


def hyphc_triplets(
    depths: Float64[Tensor, "triplets 3"],
    similarities: Float64[Tensor, "triplets 3"],
    temperature: float,
) -> Float64[Tensor, ""]:
    """Returns the mean of w_ij + w_ik + w_jk - Σ w softmax(depth / τ).

    Args:
        depths: of the lowest common ancestors of ij, ik, jk.
        similarities: w of the same pairs.
        temperature: τ; towards 0 the softmax takes the deepest pair alone.
    """
    chosen = torch.softmax(depths / temperature, dim=1)
    return (similarities.sum(dim=1) - (similarities * chosen).sum(dim=1)).mean()


class Network(nn.Module):
    """z = exp_0(MLP(x)), or MLP(x) in Euclidean space; one layer is hidden.

    The last input tells known nodes from codes.
    """

    def __init__(self, inputs: int, settings: StageTwo) -> None:
        super().__init__()
        self.geometry: Geometry = settings.geometry
        self.layers = nn.Sequential(
            nn.Linear(inputs, settings.hidden),
            nn.ReLU(),
            nn.Linear(settings.hidden, settings.dim),
        )

    def forward(self, inputs: Float32[Tensor, "nodes inputs"]) -> Float64[Tensor, "nodes dim"]:
        """Returns points."""
        return points(self.layers(inputs).double(), self.geometry)


def embed(known: Known, settings: StageTwo, seed: int) -> Float64[Tensor, "nodes dim"]:
    """Returns a point for each node; the same for the same seed and number of threads."""
    inner = np.arange(len(known.x)) >= known.visible.codes
    columns = np.concatenate([known.x, inner[:, None]], axis=1)
    inputs = torch.from_numpy(columns).float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(inputs.shape[1], settings)
    batches = Batches(known, settings, seed)
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda i: _rate(i, settings.steps))
    for _ in range(settings.steps):
        rows, parts = batches.draw()
        if not parts:  # nothing to learn from
            break
        optimiser.zero_grad()
        z = network(inputs[rows])
        total(z, rows, parts, batches, settings).backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        found = network(inputs)
    if not bool(torch.isfinite(found).all()):
        raise NonFiniteLossError(
            f"Stage II gave vectors that are not finite. Lower `learning_rate` "
            f"({settings.learning_rate})."
        )
    return found


def _rate(step: int, steps: int) -> float:
    """Returns the factor of the learning rate: it rises at first, then falls to 0 as a cosine."""
    warm = max(1.0, _WARM * steps)
    if step < warm:
        return (step + 1) / (warm + 1)
    return 0.5 + 0.5 * float(np.cos(np.pi * (step - warm) / max(1.0, steps - warm)))


def total(
    z: Float64[Tensor, "rows dim"],
    rows: Int64[Tensor, " rows"],
    parts: Parts,
    batches: Batches,
    settings: StageTwo,
) -> Float64[Tensor, ""]:
    """Returns the weighted sum of the losses of a batch."""
    weights = settings.weights
    of_pairs = {
        "edges": weights.hierarchy,
        "siblings": weights.hierarchy,
        "relations": weights.relations,
        "neighbours": weights.neighbours,
    }
    losses: list[Tensor] = []
    for sort, part in parts.items():
        if of_pairs.get(sort):
            losses.append(of_pairs[sort] * _contrast(z[part], rows[part], settings))
    if "edges" in parts:
        losses += _of_edges(z[parts["edges"]], rows[parts["edges"]], batches, settings)
    if "triplets" in parts:
        part = parts["triplets"]
        losses.append(weights.triplets * _triplets(z[part], batches.x[rows[part]], settings))
    return torch.stack(losses).sum()


def _contrast(
    z: Float64[Tensor, "members dim"], rows: Int64[Tensor, " members"], settings: StageTwo
) -> Float64[Tensor, ""]:
    first, second = z.chunk(2)
    _, seconds = rows.chunk(2)
    between = distances(first, second, settings.geometry)
    return contrast(between, seconds[:, None] == seconds[None, :], settings.temperature)


def _of_edges(
    z: Float64[Tensor, "members dim"],
    rows: Int64[Tensor, " members"],
    batches: Batches,
    settings: StageTwo,
) -> list[Float64[Tensor, ""]]:
    weights, geometry = settings.weights, settings.geometry
    child, parent = z.chunk(2)
    _, parents = rows.chunk(2)
    found = []
    if weights.margin:
        other = batches.wrong_parents(parents, settings.negatives)
        apart = distance(
            child[:, None, :].expand(-1, settings.negatives, -1), parent[other], geometry
        )
        wrong = parents[other] != parents[:, None]
        own = distance(child, parent, geometry)
        found.append(weights.margin * parent_margin(own, apart, wrong, settings.margin))
    if weights.order:
        found.append(weights.order * radial_order(parent, child, settings.gap))
    return found


def _triplets(
    z: Float64[Tensor, "members dim"], x: Float64[Tensor, "members inputs"], settings: StageTwo
) -> Float64[Tensor, ""]:
    corners, own = z.chunk(len(SIDES)), x.chunk(len(SIDES))
    depths = [ancestor_depth(corners[a], corners[b], settings.geometry) for a, b in SIDES]
    alike = [nn.functional.cosine_similarity(own[a], own[b], dim=1) for a, b in SIDES]
    return hyphc_triplets(
        torch.stack(depths, dim=1), torch.stack(alike, dim=1), settings.triplet_temperature
    )
