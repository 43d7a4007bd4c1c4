"""A cohort as plain Parquet tables, for pandas, polars, DuckDB and R.

    patients.parquet    a row a patient: patient (row number), visits, split, gender, group
    visits.parquet      a row a visit, in the cohort's order: patient, visit (0 for the first),
                        admitted_days (since the patient's first admission), age (years, or null),
                        service, and lists of code strings: diagnoses, procedures, medications
    vocabulary.parquet  a row a code: kind, index (in the cohort), code, title (of drug classes)
    cohort.json         as in the cohort: counts, options, where it comes from

Like the cohort, it has neither identifiers nor dates.
"""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet as pq

from medrec import splits
from medrec.cohort import KINDS, Cohort, Kind
from medrec.exports._base import Export, Layout, whole
from medrec.knowledge.tables import titles

LAYOUT = Layout(
    files=frozenset({"patients.parquet", "visits.parquet", "vocabulary.parquet", "cohort.json"}),
    sign="cohort.json",
    signed=lambda content: {"schema", "fingerprint", "dataset"} <= set(content),
)
_VOCABULARY = pa.schema(
    [("kind", pa.string()), ("index", pa.int32()), ("code", pa.string()), ("title", pa.string())]
)
_SLICE = 1 << 16  # visits written at once: only their codes are ever text


def write(cohort: Path, out: Path) -> dict[str, int]:
    """Writes the cohort in folder `cohort` to the folder `out`, and returns what was written.

    Raises:
        CohortError: the cohort is missing or damaged.
        InputError: `out` holds something else.
    """
    opened = Cohort.open(cohort)
    with whole(out, LAYOUT) as fresh:
        pq.write_table(_patients(opened), fresh / "patients.parquet")
        pq.write_table(_vocabulary(opened), fresh / "vocabulary.parquet")
        total = len(opened.admitted)
        with pq.ParquetWriter(fresh / "visits.parquet", _visits(opened, 0, 0).schema) as writer:
            for start in range(0, total, _SLICE):
                writer.write_table(_visits(opened, start, min(start + _SLICE, total)))
        shutil.copyfile(cohort / "cohort.json", fresh / "cohort.json")
    return {"patients": opened.patients, "visits": total}


def _patients(cohort: Cohort) -> pa.Table:
    return pa.table(
        {
            "patient": np.arange(cohort.patients),
            "visits": cohort.visits,
            "split": _named(splits.NAMES, cohort.split),
            "gender": _named(cohort.genders, cohort.gender),
            "group": _named(cohort.groups, cohort.group),
        }
    )


def _visits(cohort: Cohort, start: int, end: int) -> pa.Table:
    patient = np.repeat(np.arange(cohort.patients), cohort.visits)[start:end]
    age = cohort.age[start:end]
    table = pa.table(
        {
            "patient": patient,
            "visit": np.arange(start, end) - cohort.offsets[patient],
            "admitted_days": cohort.admitted[start:end],
            "age": pa.array(age, mask=age < 0),
            "service": _named(cohort.services, cohort.service[start:end]),
        }
    )
    for kind in KINDS:
        table = table.append_column(kind, _lists(cohort, kind, start, end))
    return table


def _lists(cohort: Cohort, kind: Kind, start: int, end: int) -> pa.ListArray:
    offsets = cohort.codes[kind].offsets[start : end + 1].astype(np.int32)
    values = cohort.codes[kind].values[offsets[0] : offsets[-1]]
    return pa.ListArray.from_arrays(
        pa.array(offsets - offsets[0]), _named(cohort.vocabulary[kind], values)
    )


def _named(names: tuple[str, ...], index: np.ndarray) -> pa.Array:
    return pa.array(names, pa.string()).take(pa.array(index, pa.int64()))


def _vocabulary(cohort: Cohort) -> pa.Table:
    known = titles()
    rows = [
        {
            "kind": kind,
            "index": index,
            "code": code,
            "title": known.get(code) if kind == "medications" else None,
        }
        for kind in KINDS
        for index, code in enumerate(cohort.vocabulary[kind])
    ]
    return pa.Table.from_pylist(rows, _VOCABULARY)


EXPORT = Export(title="plain Parquet tables: patients, visits, vocabulary", write=write)
