"""Distances, and the origin's place among them, in the Poincaré ball and in Euclidean space.

The ball of curvature -1, its exponential map and its optimiser come from geoopt (Kochurov et al.
2020, arXiv 2005.02819). Here is what geoopt lacks: distances of all pairs without a tensor of
pairs, and the depth of the lowest common ancestor of HypHC (Chami et al. 2020, arXiv 2010.00402).
Points are float64: near the ball's edge float32 has no digits left.
"""

from typing import Literal

import geoopt
import torch
from jaxtyping import Float64
from torch import Tensor

Geometry = Literal["hyperbolic", "euclidean"]
LARGEST_NORM = 1.0 - 1e-5
"""Points of the ball stay below this distance from its centre."""

_LEAST = 1e-15  # keeps the slope of a distance finite where it is 0
_BALL = geoopt.PoincareBall(c=1.0)


def points(
    tangent: Float64[Tensor, "nodes dim"], geometry: Geometry
) -> Float64[Tensor, "nodes dim"]:
    """Returns exp_0 of tangent vectors, clipped to the ball; Euclidean ones stay as they are."""
    if geometry == "euclidean":
        return tangent
    found = _BALL.expmap0(tangent, project=False)
    norm = found.norm(dim=-1, keepdim=True)
    return torch.where(norm > LARGEST_NORM, found / norm.clamp_min(_LEAST) * LARGEST_NORM, found)


def tangents(z: Float64[Tensor, "nodes dim"], geometry: Geometry) -> Float64[Tensor, "nodes dim"]:
    """Returns the inverse of `points`: log_0."""
    return z if geometry == "euclidean" else _BALL.logmap0(z)


def _distance(
    squared: Float64[Tensor, "*pairs"],
    first: Float64[Tensor, "*#pairs"],
    second: Float64[Tensor, "*#pairs"],
    geometry: Geometry,
) -> Float64[Tensor, "*pairs"]:
    """Returns distances from ‖u-v‖², 1-‖u‖² and 1-‖v‖²."""
    if geometry == "euclidean":
        return (squared + _LEAST).sqrt()
    # arcosh(1 + y) = log(1 + y + sqrt(y (y + 2))), exact for small y too.
    y = 2.0 * squared / (first * second)
    return torch.log1p(y + (y * (y + 2.0) + _LEAST).sqrt())


def distance(
    u: Float64[Tensor, "*pairs dim"], v: Float64[Tensor, "*pairs dim"], geometry: Geometry
) -> Float64[Tensor, "*pairs"]:
    """Returns arcosh(1 + 2‖u-v‖² / ((1-‖u‖²)(1-‖v‖²))), or ‖u-v‖, of pairs of points."""
    squared = (u - v).square().sum(-1)
    return _distance(squared, 1.0 - u.square().sum(-1), 1.0 - v.square().sum(-1), geometry)


def distances(
    u: Float64[Tensor, "rows dim"], v: Float64[Tensor, "columns dim"], geometry: Geometry
) -> Float64[Tensor, "rows columns"]:
    """Returns the distance of each point of `u` to each of `v`."""
    own, other = u.square().sum(-1)[:, None], v.square().sum(-1)[None, :]
    squared = (own + other - 2.0 * u @ v.T).clamp_min(0.0)
    return _distance(squared, 1.0 - own, 1.0 - other, geometry)


def radius(z: Float64[Tensor, "*nodes dim"], geometry: Geometry) -> Float64[Tensor, "*nodes"]:
    """Returns the distance of each point from the origin."""
    return distance(z, torch.zeros_like(z), geometry)


def ancestor_depth(
    u: Float64[Tensor, "*pairs dim"], v: Float64[Tensor, "*pairs dim"], geometry: Geometry
) -> Float64[Tensor, "*pairs"]:
    """Returns the distance of the origin from the geodesic between two points (HypHC, eq. 5).

    It is the depth of the points' lowest common ancestor, were the space a tree. Geodesics of the
    ball are straight in the Klein model, where nearest to the origin is nearest in the Euclidean
    sense; so the foot of the perpendicular, or the nearer end, is found there.
    """
    if geometry == "hyperbolic":
        u, v = (2.0 * w / (1.0 + w.square().sum(-1, keepdim=True)) for w in (u, v))
    step = v - u
    share = -(u * step).sum(-1, keepdim=True) / (step.square().sum(-1, keepdim=True) + _LEAST)
    foot = u + share.clamp(0.0, 1.0) * step
    norm = (foot.square().sum(-1) + _LEAST).sqrt()
    return norm if geometry == "euclidean" else torch.atanh(norm.clamp_max(_KLEIN))


_KLEIN = 2.0 * LARGEST_NORM / (1.0 + LARGEST_NORM**2)  # what LARGEST_NORM is in the Klein model
