"""Vectors of codes out of which codes appear together: counts, SPPMI, singular vectors.

Counts are of one institution: codes of all three kinds that are recorded together, at one visit
or within a window of days of one patient. SPPMI is the shifted positive pointwise mutual
information (Levy & Goldberg, "Neural word embedding as implicit matrix factorization", 2014).
It needs the total count: without it raw counts give max(0, log of a fraction) = 0 for every
pair. Vectors are U sqrt(S) of its truncated singular value decomposition (as cui2vec, Beam et al.
2020), of length 1.

A code's *number* is its index in the concatenation of the three vocabularies.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int64
from scipy import sparse
from scipy.sparse.linalg import eigsh
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped,unused-ignore]

from medrec.cohort import KINDS, Codes, Kind
from medrec.errors import ConfigError

Counts = Any
"""A symmetric scipy.sparse csr_array [codes, codes]; scipy has no types."""

_LEAST = 1e-9  # relative to the largest singular value; smaller ones are rounding error
_DENSE = 400  # codes up to which the whole spectrum is faster than a part of it


@dataclass(frozen=True)
class Times:
    """When visits were, patient by patient.

    Attributes:
        patient: any number that tells patients apart; visits of a patient are adjacent.
        admitted: days since any moment of the patient's own.
    """

    patient: Int64[np.ndarray, " visits"]
    admitted: Float[np.ndarray, " visits"]


def occurrences(visits: Mapping[Kind, Codes], sizes: Mapping[Kind, int]) -> Counts:
    """Returns a sparse matrix [visits, codes], 1 where a visit has the code of that number."""
    blocks = [
        sparse.csr_array(
            (np.ones(len(visits[kind].values)), visits[kind].values, visits[kind].offsets),
            shape=(len(visits[kind].offsets) - 1, sizes[kind]),
        )
        for kind in KINDS
    ]
    return sparse.hstack(blocks, format="csr")


def counts(has: Counts, times: Times | None = None, window_days: float = 0.0) -> Counts:
    """Returns how often two codes are recorded together; the diagonal is 0.

    Args:
        has: which visit has which code, see `occurrences`.
        times: of the visits; None counts visits alone.
        window_days: visits of one patient that begin at most so many days apart count as one
            another's, each pair of codes in both orders.

    Raises:
        ConfigError: a window above 0 without times, or below 0.
    """
    if window_days < 0 or (window_days > 0 and times is None):
        raise ConfigError(
            f"`window_days` must be 0, or above 0 where the days of visits are known; got "
            f"{window_days}."
        )
    together = has.T @ has
    if times is not None and window_days > 0:
        near = _near(times, window_days)
        across = has.T @ (near @ has)
        together = together + across + across.T
    together = sparse.csr_array(together)
    together.setdiag(0.0)
    together.eliminate_zeros()
    together.sort_indices()
    return together


def _near(times: Times, window_days: float) -> Counts:
    """Returns a matrix [visits, visits], 1 for an earlier and a later row within the window."""
    visits = len(times.patient)
    rows, columns = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for lag in range(1, visits):
        first = np.flatnonzero(times.patient[lag:] == times.patient[:-lag])
        if not len(first):  # no patient has so many visits
            break
        apart = np.abs(times.admitted[first + lag] - times.admitted[first])
        kept = first[apart <= window_days]
        rows.append(kept)
        columns.append(kept + lag)
    row, column = np.concatenate(rows), np.concatenate(columns)
    return sparse.csr_array((np.ones(len(row)), (row, column)), shape=(visits, visits))


def sppmi(together: Counts, shift: float = 1.0) -> Counts:
    """Returns max(0, log(C_ij C.. / (C_i. C_.j)) - log shift), sparse.

    Args:
        together: symmetric counts.
        shift: κ, at least 1; 1 gives the positive pointwise mutual information.

    Raises:
        ConfigError: the shift is below 1, which would make pairs that were never seen positive.
    """
    if shift < 1.0:
        raise ConfigError(f"`shift` of SPPMI must be at least 1, but it is {shift}.")
    found = together.tocoo()
    row, column = found.coords
    one = np.asarray(together.sum(axis=1)).ravel()
    ratio = found.data * one.sum() / (one[row] * one[column])
    values = np.log(ratio) - np.log(shift)
    positive = values > 0
    result = sparse.csr_array(
        (values[positive], (row[positive], column[positive])), shape=together.shape
    )
    result.sort_indices()
    return result


def factors(
    matrix: Counts, dimension: int
) -> tuple[Float64[np.ndarray, "codes dimension"], Float64[np.ndarray, " dimension"]]:
    """Returns left singular vectors and singular values of a symmetric matrix, largest first.

    The entry of a vector that is largest in absolute value is positive, which fixes its sign.
    Zeros fill what a matrix of lower rank leaves. A symmetric matrix has its eigenvectors as
    singular vectors, and the absolute eigenvalues as singular values.

    Args:
        matrix: sparse and symmetric.
        dimension: at least 1.
    """
    size = matrix.shape[0]
    vectors, values = np.zeros((size, dimension)), np.zeros(dimension)
    if not matrix.nnz:
        return vectors, values
    with threadpool_limits(1):  # the number of threads would change the rounding
        if size <= max(_DENSE, 2 * dimension):
            found, axes = np.linalg.eigh(matrix.toarray())
        else:
            start = np.random.default_rng(0).standard_normal(size)
            found, axes = eigsh(matrix, k=dimension, which="LM", v0=start)
    order = np.argsort(-np.abs(found), kind="stable")[:dimension]
    strength = np.abs(found[order])
    order, strength = (
        order[strength > _LEAST * strength[0]],
        strength[strength > _LEAST * strength[0]],
    )
    axes = axes[:, order]
    largest = axes[np.argmax(np.abs(axes), axis=0), np.arange(len(order))]
    vectors[:, : len(order)] = axes * np.sign(largest)
    values[: len(order)] = strength
    return vectors, values


def embed(matrix: Counts, dimension: int) -> Float64[np.ndarray, "codes dimension"]:
    """Returns U sqrt(S) of a symmetric matrix, rows of length 1; 0 for a code without a pair."""
    vectors, values = factors(matrix, dimension)
    return normalised(vectors * np.sqrt(values))


def trusted(
    vectors: Float64[np.ndarray, "codes dimension"],
    frequency: Int64[np.ndarray, " codes"],
    prior_visits: float,
) -> Float64[np.ndarray, "codes dimension"]:
    """Returns the vectors, those of rare codes shorter, so that their titles count for more.

    What one or two visits say of a code is mostly chance. A vector of length 1 becomes one of
    length sqrt(n / (n + prior)) for a code of n visits.

    Args:
        vectors: rows of length 1 or 0.
        frequency: number of visits with each code.
        prior_visits: number of visits at which both count alike; 0 leaves the vectors.
    """
    share = np.divide(
        frequency,
        frequency + prior_visits,
        out=np.zeros(len(frequency)),
        where=frequency > 0,
    )
    return vectors * np.sqrt(share)[:, None]


def normalised(vectors: Float[np.ndarray, "rows dim"]) -> Float64[np.ndarray, "rows dim"]:
    """Returns rows of length 1; a row of zeros stays one."""
    vectors = vectors.astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > _LEAST)
