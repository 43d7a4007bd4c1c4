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


def mean_cross_entropy(
    logits: Float[Tensor, "patients visits drugs"],
    target: Float[Tensor, "patients visits drugs"],
    exists: Bool[Tensor, "patients visits"],
    trained: Bool[Tensor, "patients visits"],
) -> Float[Tensor, ""]:
    """Returns the sum of `cross_entropy` over the visits trained on, divided by all that exist."""
    rows = trained.flatten().nonzero()[:, 0]
    chosen = (each.flatten(0, 1).index_select(0, rows) for each in (logits, target))
    return cross_entropy(*chosen).sum() / exists.sum()


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


def pair_cross_entropy(
    logits: Float[Tensor, "visits drugs"], target: Float[Tensor, "visits drugs"]
) -> Float[Tensor, " visits"]:
    """Returns the mean cross-entropy over pairs i < j of p_i p_j against y_i y_j (DrugRec).

    Σ_{i<j} y_i y_j (log p_i + log p_j) is (|Y| - 1) Σ_Y log p; `_PairsApart` has the rest.
    """
    drugs = logits.shape[1]
    together = (target.sum(dim=1) - 1) * (functional.logsigmoid(logits) * target).sum(dim=1)
    apart: Tensor = _PairsApart.apply(logits, target)  # type: ignore[no-untyped-call]
    return -(together + apart) / max(drugs * (drugs - 1) // 2, 1)


class _PairsApart(torch.autograd.Function):
    """Σ_{i<j} (1 - y_i y_j) log(1 - p_i p_j) of each visit.

    Half the sum over the whole symmetric matrix N = 1 - p_i p_j, less the diagonal and the pairs
    prescribed together. Each pass goes through the matrix once; autograd would take three times
    as long. N is computed as q_i + p_i q_j with q = 1 - p, which does not cancel near 1.
    """

    @staticmethod
    def forward(ctx, logits, target):  # type: ignore[no-untyped-def]
        present, absent = torch.sigmoid(logits), torch.sigmoid(-logits)
        neither = torch.addcmul(absent[:, :, None], present[:, :, None], absent[:, None, :])
        neither = neither.clamp_(min=1e-30)  # its reciprocals must add up to less than infinity
        ctx.save_for_backward(present, absent, target, neither)
        logs = neither.log()
        given = (logs @ target[:, :, None])[:, :, 0] * target
        alone = logs.diagonal(dim1=1, dim2=2) * (1 - target)
        return (logs.sum(dim=(1, 2)) - given.sum(dim=1) - alone.sum(dim=1)) / 2

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        present, absent, target, neither = ctx.saved_tensors
        inverse = neither.reciprocal()
        every, given = (inverse @ torch.stack([present, present * target], dim=2)).unbind(dim=2)
        alone = inverse.diagonal(dim1=1, dim2=2) * present * (1 - target)
        total = every - given * target - alone
        return -gradient[:, None] * present * absent * total, None
