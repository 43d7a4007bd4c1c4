"""Which hospital service cared for each test visit: `visits.parquet` of a results directory.

Three columns, a row a test visit: `patient` and `visit` as in predictions, and `service`. A
service that few patients of the whole cohort have is written as "rare": where names come from free
text, no text of one patient gets here.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Int16, Int32

from medrec import splits
from medrec.cohort import Cohort
from medrec.predictions import Predictions
from sweeps.errors import StoreError

FILE = "visits.parquet"
RARE = "rare"
FEWEST = 10  # patients of the cohort below which a service is rare
LEAST = 30  # test visits below which a service has no block of its own in the table
OTHER = f"other, fewer than {LEAST} visits"
_MOST = 1 << 16  # visits of a patient: their position has 16 bits

Rows = Callable[[Predictions], Bool[np.ndarray, " visits"]]
"""Which visits of the predictions are meant."""


@dataclass(frozen=True)
class Services:
    """Service of each test visit.

    Attributes:
        patient: the patient's row in the cohort.
        visit: position of the visit in its patient's history, 0 for the first.
        service: name of the service.
    """

    patient: Int32[np.ndarray, " visits"]
    visit: Int16[np.ndarray, " visits"]
    service: tuple[str, ...]


def services_of(cohort: Cohort) -> Services:
    """Returns the services of the cohort's test visits, in the cohort's order."""
    test = cohort.members(splits.TEST)
    rows, counts = cohort.visits_of(test), cohort.visits[test]
    names = [
        name if patients >= FEWEST else RARE
        for name, patients in zip(cohort.services, cohort.served().tolist(), strict=True)
    ]
    return Services(
        patient=np.repeat(test, counts).astype(np.int32),
        visit=(rows - np.repeat(cohort.offsets[test], counts)).astype(np.int16),
        service=tuple(names[index] for index in cohort.service[rows].tolist()),
    )


def to_parquet(services: Services) -> bytes:
    """Returns the file's bytes."""
    table = pa.table(
        {
            "patient": services.patient,
            "visit": services.visit,
            "service": pa.array(services.service, pa.string()),
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def from_parquet(data: bytes, place: str) -> Services:
    """Returns what `to_parquet` wrote; `place` begins an error's message.

    Raises:
        StoreError: the file is damaged, or another one.
    """
    try:
        table = pq.read_table(io.BytesIO(data))
        return Services(
            patient=table["patient"].to_numpy().astype(np.int32),
            visit=table["visit"].to_numpy().astype(np.int16),
            service=tuple(map(str, table["service"].to_pylist())),
        )
    except (pa.ArrowInvalid, KeyError, ValueError, OSError) as error:
        raise StoreError(
            f"{place} is damaged: it is no table of patient, visit and service. Run the study "
            "again, which writes it anew, or delete it: then there is no table by service."
        ) from error


def service_rows(services: Services) -> dict[str, Rows]:
    """Returns which visits each block of the table has, by the block's name.

    Services with at least `LEAST` test visits have a block each, by number of visits and then by
    name; the others, rare ones always, share the last block. A single block is none at all.
    """
    names, counts = np.unique(np.array(services.service, dtype=np.str_), return_counts=True)
    found = dict(zip(names.tolist(), counts.tolist(), strict=True))
    frequent = [name for name in found if found[name] >= LEAST and name != RARE]
    frequent.sort(key=lambda name: (-found[name], name))
    blocks = {name: (name,) for name in frequent}
    rest = tuple(name for name in found if name not in blocks)
    if rest:
        blocks[OTHER] = rest
    if len(blocks) < 2:
        return {}
    return {name: _rows(services, members) for name, members in blocks.items()}


def _rows(services: Services, members: tuple[str, ...]) -> Rows:
    keys = _keys(services.patient, services.visit)
    order = np.argsort(keys)
    ordered = keys[order]
    inside = np.isin(np.array(services.service, dtype=np.str_), members)[order]

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
