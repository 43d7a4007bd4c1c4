"""Which share of a cohort's codes a source of knowledge covers."""

from collections.abc import Collection
from dataclasses import asdict, dataclass

import numpy as np

from medrec import codes
from medrec.cohort import Cohort, Kind


@dataclass(frozen=True)
class Coverage:
    """What one source knows of one kind of code.

    Attributes:
        source: its title.
        kind: of the codes.
        codes: codes that it covers, of those that it is about.
        of: codes that it is about: all of the kind, or those of one ICD version.
        uses: share of their uses (pairs of visit and code) that it covers, in [0, 1].
    """

    source: str
    kind: str
    codes: int
    of: int
    uses: float

    def as_dict(self) -> dict[str, str | int | float]:
        """Returns the fields, for JSON."""
        return asdict(self)


def coverage_of(
    cohort: Cohort, source: str, kind: Kind, known: Collection[str], version: str | None = None
) -> Coverage:
    """Returns the coverage of the codes in `known`; 0 of 0 codes are all covered.

    Args:
        cohort: whose codes and uses are counted.
        source: title of the source.
        kind: of the codes.
        known: codes that the source covers.
        version: ICD version that the source is about; None: all codes of the kind.
    """
    names = cohort.vocabulary[kind]
    about = np.array([version in (None, codes.split(name)[0]) for name in names], dtype=bool)
    covered = np.array([name in known for name in names], dtype=bool) & about
    uses = np.bincount(cohort.codes[kind].values, minlength=len(names))
    total = int(uses[about].sum())
    share = float(uses[covered].sum() / total) if total else 1.0
    return Coverage(source, kind, int(covered.sum()), int(about.sum()), share)
