"""Losses of the field, each visit by itself.

logits:    scores before the sigmoid, [visits, drugs]
scores:    after it, in [0, 1]
target:    drugs prescribed, 0 or 1, [visits, drugs]
interacts: drug pairs that interact, symmetric, zero diagonal, [drugs, drugs]
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional


def cross_entropy(
    logits: Float[Tensor, "visits drugs"], target: Float[Tensor, "visits drugs"]
) -> Float[Tensor, " visits"]:
    """Returns the mean binary cross-entropy over the drugs of each visit."""
    losses = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return losses.mean(dim=1)


def margin(
    scores: Float[Tensor, "visits drugs"], target: Float[Tensor, "visits drugs"]
) -> Float[Tensor, " visits"]:
    """Returns the multi-label margin loss (1/M) Σ_{i in Y} Σ_{j not in Y} max(0, 1 - (p_i - p_j)).

    Scores lie in [0, 1], so the hinge is never cut off and the double sum has the closed form
    (1/M) [|Y|(M-|Y|) - (M-|Y|) Σ_Y p + |Y| Σ_{not Y} p]: O(M) instead of O(M²) per visit.
    """
    drugs = scores.shape[1]
    positive = target.sum(dim=1)
    inside = (scores * target).sum(dim=1)
    outside = scores.sum(dim=1) - inside
    negative = drugs - positive
    return (positive * negative - negative * inside + positive * outside) / drugs


def interaction(
    scores: Float[Tensor, "visits drugs"], interacts: Float[Tensor, "drugs drugs"]
) -> Float[Tensor, " visits"]:
    """Returns Σ_ij A_ij p_i p_j of each visit (each pair counts twice), unscaled."""
    return ((scores @ interacts) * scores).sum(dim=1)


def visit_ddi_rate(
    chosen: Bool[Tensor, "visits drugs"], interacts: Float[Tensor, "drugs drugs"]
) -> Float[Tensor, " visits"]:
    """Returns each visit's share of chosen pairs that interact; 0 where there is no pair."""
    hot = chosen.float()
    pairs = hot.sum(dim=1) * (hot.sum(dim=1) - 1)
    rate = interaction(hot, interacts) / pairs.clamp(min=1)
    return torch.where(pairs > 0, rate, torch.zeros_like(rate))
