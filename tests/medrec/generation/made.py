"""Made-up patients, and plain lists of their codes."""

from dataclasses import replace

import numpy as np

from medrec.cohort import KINDS, Kind
from medrec.generation._histories import Histories
from medrec.knowledge.base import Knowledge
from tests.medrec.small import small_knowledge, to_codes

SIZES: dict[Kind, int] = {"diagnoses": 6, "procedures": 4, "medications": 5}
Record = list[dict[str, list[int]]]


def histories_of(records: list[Record]) -> Histories:
    """Returns patients given as lists of visits, each a list of codes by kind."""
    visits = [visit for record in records for visit in record]
    codes = {kind: to_codes([visit.get(kind, []) for visit in visits]) for kind in KINDS}
    return Histories(np.array([len(record) for record in records], dtype=np.int64), codes)


def records_of(real: Histories) -> list[Record]:
    """Returns the patients as lists of visits."""
    starts = np.cumsum(real.visits) - real.visits
    return [
        [_visit(real, row) for row in range(start, start + visits)]
        for start, visits in zip(starts, real.visits, strict=True)
    ]


def _visit(real: Histories, row: int) -> dict[str, list[int]]:
    return {
        kind: codes.values[codes.offsets[row] : codes.offsets[row + 1]].tolist()
        for kind, codes in real.codes.items()
    }


def some_patients(patients: int, seed: int, most_visits: int = 4) -> Histories:
    """Returns patients of up to so many visits; each visit has a diagnosis."""
    rng = np.random.default_rng(seed)
    likely = {kind: rng.uniform(0.1, 0.7, size) for kind, size in SIZES.items()}
    records = []
    for _ in range(patients):
        record = []
        for _ in range(rng.integers(1, most_visits + 1)):
            has = {kind: rng.random(SIZES[kind]) < likely[kind] for kind in KINDS}
            has["diagnoses"][rng.integers(SIZES["diagnoses"])] = True
            record.append({kind: np.flatnonzero(of).tolist() for kind, of in has.items()})
        records.append(record)
    return histories_of(records)


def numbers_of(record: Record) -> list[list[int]]:
    """Returns each visit's codes by number."""
    first, start = {}, 0
    for kind in KINDS:
        first[kind] = start
        start += SIZES[kind]
    return [[first[kind] + c for kind in KINDS for c in visit.get(kind, [])] for visit in record]


def part_of(real: Histories, patients: list[int]) -> Histories:
    """Returns some of the patients, in this order; one may come more than once."""
    records = records_of(real)
    return histories_of([records[i] for i in patients])


def knowledge_of(sizes: dict[Kind, int]) -> Knowledge:
    """Returns knowledge whose vocabularies have these sizes; nothing else of it is of use."""
    diagnoses, procedures, drugs = (sizes[kind] for kind in KINDS)
    return replace(small_knowledge(), diagnoses=diagnoses, procedures=procedures, drugs=drugs)
