"""What is known of each test visit, predictions aside: `visits.parquet` of a results directory.

A row a test visit: `patient` and `visit` as in predictions, then a column of labels for each of
`FACTS`: the service that cared for the visit, the patient's age band at it, the patient's gender,
and how rare its diagnosis codes are (`sweeps.frequency`, "1" the rarest quartile). A label that
few patients of the whole cohort have is written as "rare": where names come from free text, no
text of one patient gets here. Files made earlier have `service` alone.
"""

import io
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Int, Int16, Int32, Int64

from medrec import splits
from medrec.cohort import Cohort
from medrec.predictions import Predictions
from sweeps.errors import StoreError
from sweeps.frequency import visit_quartiles

FILE = "visits.parquet"
FACTS = ("service", "age", "gender", "rarity")
RARE = "rare"
UNKNOWN = "unknown"
FEWEST = 10  # patients of the cohort below which a label is rare
AGES = ("0-17", "18-44", "45-64", "65-79", "80+")
RARITIES = ("1", "2", "3", "4")
_EDGES = (18, 45, 65, 80)
_MOST = 1 << 16  # visits of a patient: their position has 16 bits

Rows = Callable[[Predictions], Bool[np.ndarray, " visits"]]
"""Which visits of the predictions are meant."""


@dataclass(frozen=True)
class VisitFacts:
    """Labels of each test visit.

    Attributes:
        patient: the patient's row in the cohort.
        visit: position of the visit in its patient's history, 0 for the first.
        labels: by name of the fact, one a visit.
    """

    patient: Int32[np.ndarray, " visits"]
    visit: Int16[np.ndarray, " visits"]
    labels: Mapping[str, tuple[str, ...]]


def facts_of(cohort: Cohort) -> VisitFacts:
    """Returns the facts of the cohort's test visits, in the cohort's order."""
    patient = np.repeat(np.arange(cohort.patients), cohort.visits)
    test = cohort.members(splits.TEST)
    rows, counts = cohort.visits_of(test), cohort.visits[test]
    ages = np.where(
        cohort.age < 0, len(AGES), np.searchsorted(_EDGES, cohort.age, side="right")
    ).astype(np.int64)
    coded: dict[str, tuple[np.ndarray, Sequence[str]]] = {
        "service": (cohort.service, cohort.services),
        "age": (ages, (*AGES, UNKNOWN)),
        "gender": (cohort.gender[patient], cohort.genders),
        "rarity": (visit_quartiles(cohort), (UNKNOWN, *RARITIES)),
    }
    labels = {}
    for name, (index, names) in coded.items():
        shown = _without_rare(index, names, patient)
        labels[name] = tuple(shown[each] for each in index[rows].tolist())
    return VisitFacts(
        patient=patient[rows].astype(np.int32),
        visit=(rows - np.repeat(cohort.offsets[test], counts)).astype(np.int16),
        labels=labels,
    )


def _without_rare(
    index: Int[np.ndarray, " visits"], names: Sequence[str], patient: Int64[np.ndarray, " visits"]
) -> list[str]:
    """Returns the names, but `RARE` for one that fewer than `FEWEST` patients have."""
    pairs = np.unique(np.stack([index.astype(np.int64), patient]), axis=1)
    patients = np.bincount(pairs[0], minlength=len(names)).tolist()
    return [name if many >= FEWEST else RARE for name, many in zip(names, patients, strict=True)]


def to_parquet(facts: VisitFacts) -> bytes:
    """Returns the file's bytes."""
    labels = {name: pa.array(column, pa.string()) for name, column in facts.labels.items()}
    sink = io.BytesIO()
    table = pa.table({"patient": facts.patient, "visit": facts.visit, **labels})
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def from_parquet(data: bytes, place: str) -> VisitFacts:
    """Returns what `to_parquet` wrote, now or earlier; `place` begins an error's message.

    Raises:
        StoreError: the file is damaged, or another one.
    """
    try:
        table = pq.read_table(io.BytesIO(data), use_threads=False)
        return VisitFacts(
            patient=table["patient"].to_numpy().astype(np.int32),
            visit=table["visit"].to_numpy().astype(np.int16),
            labels={
                name: tuple(map(str, table[name].to_pylist()))
                for name in FACTS
                if name in table.column_names
            },
        )
    except (pa.ArrowInvalid, KeyError, ValueError, OSError) as error:
        raise StoreError(
            f"{place} is damaged: it is no table of test visits. Run the study again, which "
            "writes it anew, or delete it: then there are no tables by service, age and so on."
        ) from error


def rows_with(facts: VisitFacts, name: str, members: Collection[str]) -> Rows:
    """Returns the visits that have one of some labels.

    Args:
        facts: of the test visits.
        name: of the fact.
        members: its labels that are meant.

    Returns:
        What selects those visits; it raises `StoreError` for predictions of visits that the facts
        say nothing of.
    """
    keys = _keys(facts.patient, facts.visit)
    order = np.argsort(keys)
    ordered = keys[order]
    labels = np.array(facts.labels[name], dtype=np.str_)
    inside = np.isin(labels, list(members))[order]

    def select(predictions: Predictions) -> np.ndarray:
        asked = _keys(predictions.patient, predictions.visit)
        at = np.minimum(np.searchsorted(ordered, asked), len(ordered) - 1)
        if not np.array_equal(ordered[at], asked):
            raise StoreError(
                f"{FILE} lacks visits that the trials were tested on: it belongs to another "
                "study. Run this study again, which writes it anew, or delete it."
            )
        return np.asarray(inside[at])

    return select


def _keys(patient: np.ndarray, visit: np.ndarray) -> np.ndarray:
    return np.asarray(patient.astype(np.int64) * _MOST + visit.astype(np.int64))
