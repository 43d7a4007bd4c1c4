"""Subgroups: divisions of what was tested that models may serve unequally well.

A division parts the test visits, or the drugs. Groups follow from the stored predictions, from
`visits.parquet` and from `study.json`; a division that these do not tell is absent.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from medrec.predictions import Predictions
from sweeps.evaluate import ROWS, Scope
from sweeps.record import StudyRecord
from sweeps.visits import AGES, RARE, RARITIES, UNKNOWN, Rows, VisitFacts, rows_with

DIVISIONS = ("history", "visits", "rarity", "drugs", "age", "gender")
QUARTILES = ("1st (rarest)", "2nd", "3rd", "4th (most common)")
# Label, and the least and most visits of the patient.
_COUNTS = (("1 visit", 1, 1), ("2 visits", 2, 2), ("3-4 visits", 3, 4), ("5+ visits", 5, np.inf))


@dataclass(frozen=True)
class Subgroup:
    """One group of a division.

    Attributes:
        division: one of `DIVISIONS`.
        label: of the group within it.
        scope: name under which its scores are kept.
        rows: its visits.
        drugs: the drugs that alone are looked at; all if None.
    """

    division: str
    label: str
    scope: Scope
    rows: Rows
    drugs: Bool[np.ndarray, " drugs"] | None = None


def subgroups(facts: VisitFacts | None, record: StudyRecord) -> tuple[Subgroup, ...]:
    """Returns the groups in order of `DIVISIONS`, those without visits among them.

    Args:
        facts: of the test visits; None where the results directory has none.
        record: the study's.
    """
    return (
        Subgroup("history", "first visits", "history first", lambda found: found.visit == 0),
        Subgroup("history", "later visits", "transitions", ROWS["transitions"]),
        *(
            Subgroup("visits", label, f"patients of {label}", _visits_between(least, most))
            for label, least, most in _COUNTS
        ),
        *_labelled(facts, "rarity", RARITIES),
        *_by_drug(record),
        *_labelled(facts, "age", AGES),
        *_labelled(facts, "gender", _genders(facts)),
    )


def _visits_between(least: int, most: float) -> Rows:
    def select(predictions: Predictions) -> np.ndarray:
        counts = np.zeros(predictions.patient.max(initial=0) + 1, np.int64)
        np.maximum.at(counts, predictions.patient, predictions.visit.astype(np.int64) + 1)
        own = counts[predictions.patient]
        return np.asarray((own >= least) & (own <= most))

    return select


def _labelled(
    facts: VisitFacts | None, division: str, labels: tuple[str, ...]
) -> tuple[Subgroup, ...]:
    if facts is None or division not in facts.labels:
        return ()
    titles = QUARTILES if division == "rarity" else labels
    return tuple(
        Subgroup(division, title, f"{division} {label}", rows_with(facts, division, {label}))
        for title, label in zip(titles, labels, strict=True)
    )


def _genders(facts: VisitFacts | None) -> tuple[str, ...]:
    found = set(facts.labels.get("gender", ())) if facts else set()
    return tuple(sorted(found - {RARE, UNKNOWN}))


def _by_drug(record: StudyRecord) -> tuple[Subgroup, ...]:
    """Returns the quartiles of drugs, each at the visits where one of its drugs was prescribed.

    At the others every arm that recommends none of them would agree in full with the empty set.
    """
    quartiles = np.array(record.cohort.drug_quartiles, dtype=np.int64)
    if len(quartiles) != len(record.medications):
        return ()
    found = []
    for place, title in enumerate(QUARTILES, start=1):
        drugs = quartiles == place
        if drugs.any():
            label = f"{title}, {int(drugs.sum())} drugs"
            rows = _prescribed(drugs)
            found.append(Subgroup("drugs", label, f"drugs {place}", rows, drugs))
    return tuple(found)


def _prescribed(drugs: np.ndarray) -> Rows:
    return lambda predictions: np.asarray(predictions.truth[:, drugs].any(axis=1))
