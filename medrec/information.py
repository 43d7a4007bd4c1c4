"""How much vectors tell of one another: distance correlation, cosine, and bounds of information.

All are differentiable; batches of patients are handled by masks.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

# KGIN's temperature for its mutual information between intents (modules/KGIN.py).
TEMPERATURE = 0.2
Square = Float[Tensor, "vectors vectors"]


def distance_correlation(vectors: Float[Tensor, "vectors samples"]) -> Square:
    """Returns the distance correlation of each pair of vectors, in [0, 1].

    The elements of a vector are taken as samples of one number: with a_kl = |x_k - x_l| centred
    in rows and columns, dCov²(x, y) = mean_kl a_kl b_kl and dCor = dCov(x, y) / √(dVar(x) dVar(y))
    (Székely et al. 2007; DKINet, equation 8). A constant vector has correlation 0 with every
    other. Neither scale nor shift of a vector matters, so no ε is added to the covariances.
    """
    centred = centred_distances(vectors).flatten(1)
    products = centred @ centred.T  # n² dCov²
    scale = positive_root(products.diagonal())  # n dVar
    both = scale[:, None] * scale[None, :]
    known = both > 0
    squared = torch.where(known, products, 0.0) / torch.where(known, both, 1.0)
    return positive_root(squared).clamp(max=1.0)


def centred_distances(
    vectors: Float[Tensor, "vectors samples"],
) -> Float[Tensor, "vectors samples samples"]:
    """Returns the distances |x_k - x_l| of each vector's elements, means of rows and columns 0."""
    distances = (vectors[:, :, None] - vectors[:, None, :]).abs()
    rows = distances.mean(dim=2, keepdim=True)
    return distances - rows - rows.transpose(1, 2) + rows.mean(dim=1, keepdim=True)


def positive_root(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Returns √max(x, 0); where x is not positive, its gradient is 0 instead of infinite."""
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1.0).sqrt(), 0.0)


def cosine_squared(vectors: Float[Tensor, "vectors samples"]) -> Square:
    """Returns the squared cosine of each pair of vectors, in [0, 1]; 0 for a zero vector."""
    unit = functional.normalize(vectors, dim=1)
    return (unit @ unit.T).square()


def contrast(vectors: Float[Tensor, "vectors samples"]) -> Float[Tensor, ""]:
    """Returns Σ_i log(Σ_j exp(cos_ij / τ) / exp(1 / τ)): 0 for one vector, less when they differ.

    The information of each vector about itself against all of them. KGIN's code (modules/KGIN.py)
    leaves the vectors in the sum over j unnormalised, so that shrinking them lowers the loss
    without making them any more different; here all are normalised.
    """
    unit = functional.normalize(vectors, dim=1)
    scores = (unit @ unit.T) / TEMPERATURE
    return (scores.logsumexp(dim=1) - scores.diagonal()).sum()


def sum_over_pairs(values: Square, *, ordered: bool) -> Float[Tensor, ""]:
    """Returns the sum over pairs of different vectors: i ≠ j if `ordered`, else i < j."""
    once = values.triu(1).sum()
    return 2.0 * once if ordered else once


def log_density(
    values: Float[Tensor, "*batch size"],
    mean: Float[Tensor, "*batch size"],
    log_variance: Float[Tensor, "*batch size"] | None,
) -> Float[Tensor, "*batch"]:
    """Returns log N(values; mean, variance) without its constant -(size / 2) log 2π.

    The variance is diagonal; None is the identity.
    """
    squares = (values - mean).square()
    if log_variance is None:
        exponents = squares
    else:
        exponents = squares * torch.exp(-log_variance) + log_variance
    return -0.5 * exponents.sum(dim=-1)


def club_terms(
    values: Float[Tensor, "patients visits size"],
    mean: Float[Tensor, "patients visits size"],
    log_variance: Float[Tensor, "patients visits size"] | None,
    visit_mask: Bool[Tensor, "patients visits"],
) -> Float[Tensor, "patients visits"]:
    """Returns log f(y_s | x_s) - mean_r log f(y_r | x_s) of each visit s, r over the same patient.

    The terms of the upper bound CLUB of the information between x and y (Cheng et al. 2020;
    DKINet, equations 13 and 14); f is a normal density with the given mean and variance of y at
    each x. With δ = y - ȳ of the patient, a term is Σ (var(y) - δ_s² + 2 δ_s (μ_s - ȳ)) / 2σ_s²:
    linear in the number of visits, and exactly 0 where there is only one.

    Args:
        values: y at each visit.
        mean: μ, the mean that f gives at the visit's x.
        log_variance: log σ² likewise; None is the identity.
        visit_mask: visits that exist; the others have term 0 and enter no mean.
    """
    exists = visit_mask[..., None]
    count = visit_mask.sum(dim=1).clamp(min=1)[:, None, None]
    average = torch.where(exists, values, 0.0).sum(dim=1, keepdim=True) / count
    shift = torch.where(exists, values - average, 0.0)
    spread = shift.square().sum(dim=1, keepdim=True) / count
    terms = spread - shift.square() + 2.0 * shift * (mean - average)
    if log_variance is not None:
        terms = terms * torch.exp(-log_variance)
    return torch.where(visit_mask, 0.5 * terms.sum(dim=-1), 0.0)


def club(
    terms: Float[Tensor, "patients visits"],
    visit_mask: Bool[Tensor, "patients visits"],
    *,
    floor: bool,
) -> Float[Tensor, ""]:
    """Returns the mean over patients of the mean over their visits of the terms.

    Args:
        terms: of `club_terms`.
        visit_mask: visits that exist.
        floor: count a negative term as 0: information is never negative, the estimate may be.
    """
    counted = terms.clamp(min=0) if floor else terms
    return (counted.sum(dim=1) / visit_mask.sum(dim=1).clamp(min=1)).mean()
