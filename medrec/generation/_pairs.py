"""Pairs of codes: of one visit, unordered, or of a visit and the next, ordered.

Counts come as a sparse product; sums over each patient's pairs, of which a cohort has millions,
walk through them in blocks, so that memory does not grow with the cohort.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from scipy import sparse

from medrec.cohort import Codes
from medrec.generation._numbered import Numbered

_BLOCK = 1 << 20  # pairs at a time
Lookup = Callable[[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]], np.ndarray]


@dataclass(frozen=True)
class Pairs:
    """All pairs of one sort, compressed: each first code has a run of second codes.

    Attributes:
        size: how many codes there are.
        first: the first code of each run.
        owner: its patient.
        starts, lengths: where the run lies in `second`.
        second: codes.
        counts: [size, size], how often each pair occurs.
        patients: number of patients.
    """

    size: int
    first: Int64[np.ndarray, " runs"]
    owner: Int64[np.ndarray, " runs"]
    starts: Int64[np.ndarray, " runs"]
    lengths: Int64[np.ndarray, " runs"]
    second: Int64[np.ndarray, " codes"]
    counts: sparse.csr_matrix
    patients: int

    @property
    def number(self) -> Float64[np.ndarray, " patients"]:
        """How many pairs each patient has."""
        return np.bincount(self.owner, weights=self.lengths, minlength=self.patients)

    @property
    def keys(self) -> Int64[np.ndarray, " keys"]:
        """First * size + second of each distinct pair, ascending, in the order of `counts`."""
        rows = np.repeat(np.arange(self.size), np.diff(self.counts.indptr))
        return rows * self.size + self.counts.indices

    def sums(self, of: Lookup) -> Float64[np.ndarray, " patients"]:
        """Returns each patient's sum over pairs of what `of` says of first and second codes."""
        found = np.zeros(self.patients)
        for part in self._blocks():
            lengths = self.lengths[part]
            ends = np.cumsum(lengths)
            within = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
            second = self.second[np.repeat(self.starts[part], lengths) + within]
            values = of(np.repeat(self.first[part], lengths), second)
            owner = np.repeat(self.owner[part], lengths)
            found += np.bincount(owner, weights=values, minlength=self.patients)
        return found

    def _blocks(self) -> Iterator[slice]:
        ends = np.cumsum(self.lengths)
        start = 0
        while start < len(ends):
            before = ends[start] - self.lengths[start]
            stop = int(np.searchsorted(ends, before + _BLOCK, side="right"))
            stop = max(stop, start + 1)  # a run longer than a block is a block
            yield slice(start, stop)
            start = stop


def same_visit(real: Numbered) -> Pairs:
    """Returns the unordered pairs of distinct codes of one visit, the smaller number first."""
    codes = real.codes
    place = np.arange(len(codes.values))
    ends = np.repeat(codes.offsets[1:], codes.counts)
    return Pairs(
        size=real.size,
        first=codes.values,
        owner=np.repeat(real.patient, codes.counts),
        starts=place + 1,
        lengths=ends - place - 1,
        second=codes.values,
        counts=_counts(sparse.triu(real.matrix.T @ real.matrix, k=1)),
        patients=real.patients,
    )


def sequential(real: Numbered) -> Pairs:
    """Returns the ordered pairs of a code of a visit and a code of the patient's next visit."""
    earlier = np.flatnonzero(real.patient[:-1] == real.patient[1:])
    first: Codes = real.codes.take(earlier)
    return Pairs(
        size=real.size,
        first=first.values,
        owner=np.repeat(real.patient[earlier], first.counts),
        starts=np.repeat(real.codes.offsets[earlier + 1], first.counts),
        lengths=np.repeat(real.codes.counts[earlier + 1], first.counts),
        second=real.codes.values,
        counts=_counts(real.matrix[earlier].T @ real.matrix[earlier + 1]),
        patients=real.patients,
    )


def _counts(product: sparse.spmatrix) -> sparse.csr_matrix:
    counts = product.tocsr()
    counts.sort_indices()
    return counts
