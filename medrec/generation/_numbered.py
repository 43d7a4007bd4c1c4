"""Codes of all kinds under one numbering, visit by visit, as evaluation reads them.

A code's number is its index in the concatenation of the three vocabularies: diagnoses,
procedures, medications.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int64
from scipy import sparse

from medrec.cohort import KINDS, Codes, Kind
from medrec.generation._histories import Histories


@dataclass(frozen=True)
class Numbered:
    """Patients' visits as sets of numbers.

    Attributes:
        visits: how many each patient has.
        codes: numbers of each visit, ascending, patient by patient.
        size: how many numbers there are.
    """

    visits: Int64[np.ndarray, " patients"]
    codes: Codes
    size: int

    @staticmethod
    def of(real: Histories, sizes: Mapping[Kind, int]) -> "Numbered":
        """Returns the same patients with one list of numbers a visit.

        Args:
            real: patients.
            sizes: of the three vocabularies.
        """
        offsets = sum(real.codes[kind].offsets.astype(np.int64) for kind in KINDS)
        offsets = np.asarray(offsets)
        values = np.empty(offsets[-1], dtype=np.int64)
        start, first = offsets[:-1].copy(), 0
        for kind in KINDS:
            codes = real.codes[kind]
            within = np.arange(len(codes.values)) - np.repeat(codes.offsets[:-1], codes.counts)
            values[np.repeat(start, codes.counts) + within] = first + codes.values
            start += codes.counts
            first += sizes[kind]
        return Numbered(real.visits, Codes(offsets, values), first)

    @property
    def patients(self) -> int:
        """Number of patients."""
        return len(self.visits)

    @cached_property
    def patient(self) -> Int64[np.ndarray, " visits"]:
        """Position of each visit's patient."""
        return np.repeat(np.arange(self.patients), self.visits)

    @cached_property
    def matrix(self) -> sparse.csr_matrix:
        """[visits, size], 1 where a visit has a code."""
        ones = np.ones(len(self.codes.values))
        shape = (len(self.patient), self.size)
        return sparse.csr_matrix((ones, self.codes.values, self.codes.offsets), shape=shape)

    @cached_property
    def occurrences(self) -> sparse.csr_matrix:
        """[patients, size], number of the patient's visits that have a code."""
        ends = np.concatenate([[0], np.cumsum(self.visits)])
        of = sparse.csr_matrix((np.ones(len(self.patient)), np.arange(len(self.patient)), ends))
        return (of @ self.matrix).tocsr()

    @cached_property
    def ever(self) -> sparse.csr_matrix:
        """[patients, size], 1 where a patient ever has a code."""
        ever = self.occurrences.copy()
        ever.data = np.ones_like(ever.data)
        return ever

    def total(self, of_visits: Float64[np.ndarray, " visits"]) -> Float64[np.ndarray, " patients"]:
        """Returns each patient's sum over visits."""
        return np.bincount(self.patient, weights=of_visits, minlength=self.patients)
