"""What a generator learns from and what it draws: patients' visits as sets of codes."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from medrec.cohort import KINDS, Codes, Cohort, Kind


@dataclass(frozen=True)
class Histories:
    """Patients and the codes of their visits; nothing else about them.

    Attributes:
        visits: how many each patient has, at least 1.
        codes: of each kind, codes of every visit, patient by patient.
    """

    visits: Int64[np.ndarray, " patients"]
    codes: Mapping[Kind, Codes]

    @property
    def patient(self) -> Int64[np.ndarray, " visits"]:
        """Position of each visit's patient."""
        return np.repeat(np.arange(len(self.visits)), self.visits)


def histories(cohort: Cohort, patients: Int64[np.ndarray, " some"]) -> Histories:
    """Returns the histories of some patients of a cohort, in this order."""
    rows = cohort.visits_of(patients)
    return Histories(
        cohort.visits[patients].astype(np.int64),
        {kind: cohort.codes[kind].take(rows) for kind in KINDS},
    )
