"""Which share of a cohort's codes a source of knowledge covers."""

from collections.abc import Collection
from dataclasses import asdict, dataclass

import numpy as np

from medrec.cohort import Cohort, Kind


@dataclass(frozen=True)
class Coverage:
    """What one source knows of one kind of code.

    Attributes:
        source: its title.
        kind: of the codes.
        codes: codes of the vocabulary that it covers.
        of: codes of the vocabulary.
        uses: share of the uses (pairs of visit and code) that these codes make up, in [0, 1].
    """

    source: str
    kind: str
    codes: int
    of: int
    uses: float

    def as_dict(self) -> dict[str, str | int | float]:
        """Returns the fields, for JSON."""
        return asdict(self)


def coverage_of(cohort: Cohort, source: str, kind: Kind, known: Collection[str]) -> Coverage:
    """Returns the coverage of the codes in `known`; 0 of 0 codes are all covered."""
    names = cohort.vocabulary[kind]
    covered = np.array([name in known for name in names], dtype=bool)
    uses = np.bincount(cohort.codes[kind].values, minlength=len(names))
    total = int(uses.sum())
    share = float(uses[covered].sum() / total) if total else 1.0
    return Coverage(source, kind, int(covered.sum()), len(names), share)
