"""Post-processing of recommended sets: no interacting pair that is unusual, by 2-satisfiability.

A clause (not i or not j) forbids a pair of drugs. All its literals are negative, so a set breaks a
clause only if it has both drugs, and leaving one out can break no other. DrugRec (Sun et al.,
NeurIPS 2022) keeps the literals of which the network is surest and turns the others, greedily;
here a chosen drug is the surer the higher its score, and a drug that was not chosen stays so.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from medrec.cohort import Codes


def forbidden_pairs(
    interacts: Bool[np.ndarray, "drugs drugs"], training: Codes, at_least: float
) -> Bool[Tensor, "drugs drugs"]:
    """Returns the interacting pairs that doctors do not knowingly prescribe: the clauses.

    Args:
        interacts: drug pairs that interact, symmetric.
        training: drugs of each training visit.
        at_least: share of visits with both drugs from which a pair counts as knowingly prescribed.
    """
    hot = training.multi_hot(len(interacts)).astype(np.float32)
    together = hot.T @ hot
    return torch.from_numpy(interacts & (together < at_least * len(hot)))


def satisfy(
    scores: Float[Tensor, "*visits drugs"],
    chosen: Bool[Tensor, "*visits drugs"],
    forbidden: Bool[Tensor, "drugs drugs"],
) -> Bool[Tensor, "*visits drugs"]:
    """Returns the chosen drugs without those that are forbidden beside a surer one that is kept.

    From the highest score down, a drug is kept unless a drug kept before forbids it. So no pair is
    left, no drug is added, and each that is left out stands against a kept one with a score at
    least as high. Among equal scores the lower index comes first.

    Example:
        >>> forbidden = torch.tensor([[0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=torch.bool)
        >>> satisfy(torch.tensor([.9, .8, .7]), torch.ones(3, dtype=torch.bool), forbidden)
        tensor([ True, False,  True])
    """
    drugs = scores.shape[-1]
    candidates = chosen.reshape(-1, drugs)
    ranked = scores.reshape(-1, drugs).masked_fill(~candidates, -1)
    order = torch.argsort(ranked, dim=1, descending=True, stable=True)
    kept = torch.zeros_like(candidates)
    blocked = ~candidates
    most = int(candidates.sum(dim=1).max()) if len(candidates) else 0
    for drug in order[:, :most].unbind(dim=1):  # one rank of all visits at once
        column = drug[:, None]
        free = ~blocked.gather(1, column)
        kept.scatter_(1, column, free)
        blocked |= forbidden[drug] & free
    return kept.view(chosen.shape)
