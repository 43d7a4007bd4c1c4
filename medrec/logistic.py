"""Many logistic regressions on the same sparse rows of ones, solved together and to convergence.

Each target has its own strictly convex problem: the sum over rows of the cross-entropy, plus
1 / (2 C) times the squared weights; the intercept is not penalised (scikit-learn's objective).
All targets take their Newton steps together, so that a product with the rows is one pass for all
of them, and a target leaves once its gradient is small. A step is solved by conjugate gradients,
preconditioned with the Hessian's diagonal: some codes stand in thousands of visits and most in a
few, and without it that alone would take hundreds of products.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from medrec.visit_features import SparseRows

TOLERANCE = 1e-6
"""Largest entry of a gradient, a row, at which a target is solved (scikit-learn's is 1e-4)."""
_PRODUCTS = 200  # at most, of one Newton step
_FORCING = 0.1  # residual of a Newton step, relative to its start
_HALVINGS = 10  # at most, of a step that goes too far


@dataclass
class _Problem:
    """The targets not solved yet; every tensor's last axis."""

    which: Int64[Tensor, " left"]
    target: Float[Tensor, "rows left"]
    allowed: Float[Tensor, "weights left"]
    weights: Float[Tensor, "weights left"]
    logits: Float[Tensor, "rows left"]

    def only(self, left: Int64[Tensor, " fewer"]) -> "_Problem":
        """Returns some of the targets."""
        parts = (self.target, self.allowed, self.weights, self.logits)
        return _Problem(self.which[left], *(part[:, left] for part in parts))


def solve(
    features: SparseRows,
    target: Bool[np.ndarray, "rows targets"],
    inverse_regularisation: float,
    iterations: int,
    allowed: Bool[Tensor, "columns targets"],
) -> Float32[Tensor, "weights targets"]:
    """Returns the weights of each target, the intercept in the last row.

    Args:
        features: a row a visit.
        target: each column has both values.
        inverse_regularisation: C.
        iterations: Newton steps at most.
        allowed: weights that need not be 0.
    """
    wanted = torch.from_numpy(target).float()
    columns, targets = len(features.column_starts), wanted.shape[1]
    mask = torch.cat([allowed.float(), torch.ones(1, targets)])
    solution = torch.zeros(columns + 1, targets)
    solution[-1] = torch.logit(wanted.mean(dim=0))
    penalty = torch.full((columns + 1, 1), 1 / inverse_regularisation)
    penalty[-1] = 0.0
    every = torch.arange(targets)
    left = _Problem(every, wanted, mask, solution.clone(), _logits(features, solution))
    smallest = TOLERANCE * len(wanted)
    for _ in range(iterations):
        scores = torch.sigmoid(left.logits)
        gradient = _slopes(features, scores - left.target, left.allowed)
        gradient += penalty * left.weights
        solution[:, left.which] = left.weights
        open_ = (gradient.abs().amax(dim=0) > smallest).nonzero()[:, 0]
        if not len(open_):
            break
        if len(open_) < len(left.which):
            left, scores, gradient = left.only(open_), scores[:, open_], gradient[:, open_]
        _newton_step(features, left, scores, gradient, penalty)
    solution[:, left.which] = left.weights
    return solution


def _logits(
    features: SparseRows, weights: Float[Tensor, "weights left"]
) -> Float[Tensor, "rows left"]:
    return features.times(weights[:-1]).add_(weights[-1])


def _slopes(
    features: SparseRows,
    values: Float[Tensor, "rows left"],
    allowed: Float[Tensor, "weights left"],
) -> Float[Tensor, "weights left"]:
    """Returns the transpose of `_logits` applied to values, 0 at weights that are not allowed."""
    sums = torch.cat([features.transposed_times(values), values.sum(dim=0, keepdim=True)])
    return sums.mul_(allowed)


def _newton_step(
    features: SparseRows,
    problem: _Problem,
    scores: Float[Tensor, "rows left"],
    gradient: Float[Tensor, "weights left"],
    penalty: Float[Tensor, "weights 1"],
) -> None:
    """Moves weights and logits by a Newton step, halved for targets where it goes too far."""
    step, moved = _newton_direction(features, problem.allowed, scores, gradient, penalty)
    slope = (gradient * step).sum(dim=0)
    bend = (penalty * step * step).sum(dim=0)
    pull = (penalty * problem.weights * step).sum(dim=0)
    length = torch.ones_like(slope)
    for _ in range(_HALVINGS):
        # Along a line a convex loss has gone too far where it rises about as fast as it fell.
        later = torch.sigmoid(torch.addcmul(problem.logits, moved, length)).sub_(problem.target)
        there = later.mul_(moved).sum(dim=0) + pull + length * bend
        too_far = there > -0.5 * slope
        if not too_far.any():
            break
        length = torch.where(too_far, length / 2, length)
    problem.weights.addcmul_(step, length)
    problem.logits.addcmul_(moved, length)


def _newton_direction(
    features: SparseRows,
    allowed: Float[Tensor, "weights left"],
    scores: Float[Tensor, "rows left"],
    gradient: Float[Tensor, "weights left"],
    penalty: Float[Tensor, "weights 1"],
) -> tuple[Float[Tensor, "weights left"], Float[Tensor, "rows left"]]:
    """Returns a direction and what the logits change along it, by conjugate gradients."""
    curvature = scores * (1 - scores)
    diagonal = _slopes(features, curvature, allowed) + penalty
    step, moved = torch.zeros_like(gradient), torch.zeros_like(scores)
    residual = -gradient
    scaled = residual / diagonal
    size = (residual * scaled).sum(dim=0)
    enough, tiny = size * _FORCING**2, torch.finfo(size.dtype).tiny
    conjugate = scaled
    for _ in range(_PRODUCTS):
        image = _logits(features, conjugate)
        product = _slopes(features, curvature * image, allowed)
        product.addcmul_(penalty, conjugate)
        along = (conjugate * product).sum(dim=0)
        rate = torch.where(size > enough, size / along, 0.0)
        step.addcmul_(conjugate, rate)
        moved.addcmul_(image, rate)
        residual.addcmul_(product, -rate)
        scaled = residual / diagonal
        new = (residual * scaled).sum(dim=0)
        if (new <= enough).all():
            break
        conjugate = torch.addcmul(scaled, conjugate, new / size.clamp(min=tiny))
        size = new
    return step, moved
