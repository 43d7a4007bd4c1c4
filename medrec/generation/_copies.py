"""Which generated records, visits and courses of visits are those of training patients."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, Int64

from medrec.generation._numbered import Numbered

LONG = 10
"""Codes from which on a record is called long: one of a few common codes is copied by chance."""


@dataclass(frozen=True)
class Named:
    """Patients with a number for each distinct visit and each distinct record.

    Attributes:
        visits: number of each visit.
        records: number of each patient's visits in their order.
        codes: how many codes each record has, over all visits.
        follows: whether each visit but the first is of the patient of the visit before.
    """

    visits: Int64[np.ndarray, " visits"]
    records: Int64[np.ndarray, " patients"]
    codes: Int64[np.ndarray, " patients"]
    follows: Bool[np.ndarray, " later"]


def named(sides: list[Numbered]) -> list[Named]:
    """Returns the groups with numbers in common: equal visits and records have equal ones."""
    counts = np.concatenate([side.codes.counts for side in sides])
    visits = _numbers(counts, np.concatenate([side.codes.values for side in sides]))
    records = _numbers(np.concatenate([side.visits for side in sides]), visits)
    of_visits = np.split(visits, np.cumsum([len(side.patient) for side in sides])[:-1])
    of_patients = np.split(records, np.cumsum([side.patients for side in sides])[:-1])
    return [
        Named(
            own,
            record,
            np.bincount(side.patient, side.codes.counts, side.patients).astype(np.int64),
            side.patient[1:] == side.patient[:-1],
        )
        for side, own, record in zip(sides, of_visits, of_patients, strict=True)
    ]


def _numbers(
    lengths: Int[np.ndarray, " sequences"], values: Int[np.ndarray, " values"]
) -> Int64[np.ndarray, " sequences"]:
    """Returns a number for each sequence, equal for equal sequences alone.

    All sequences walk down a tree of prefixes, one value a step: a node is its parent and the
    value, and no two nodes have one number.
    """
    starts = np.cumsum(lengths) - lengths
    node = np.zeros(len(lengths), dtype=np.int64)
    largest, nodes = int(values.max(initial=0)) + 1, 1
    for step in range(int(lengths.max(initial=0))):
        rows = np.flatnonzero(lengths > step)
        child = node[rows] * largest + values[starts[rows] + step]
        distinct, which = np.unique(child, return_inverse=True)
        node[rows] = nodes + which
        nodes += len(distinct)
    return node


def copies(name: str, some: Named, training: Named) -> dict[str, float]:
    """Returns how much of some patients' records is found among the training patients.

    Args:
        name: of these patients, at the end of each key.
        some: patients.
        training: those whose records must not be given away.

    Returns:
        copied_records: patients with all visits of a training patient, in order and number.
        copied_long_records: those of them with at least `LONG` codes.
        copied_sequences: patients with two visits in a row that a training patient has in a row.
        copied_visits: share of visits that a training patient has.
    """
    same = np.isin(some.records, training.records)
    largest = max(some.visits.max(), training.visits.max()) + 1
    pairs, known = (
        (side.visits[:-1] * largest + side.visits[1:])[side.follows] for side in (some, training)
    )
    patient = np.concatenate([[0], np.cumsum(~some.follows)])[1:][some.follows]
    return {
        f"copied_records_{name}": float(same.sum()),
        f"copied_long_records_{name}": float((same & (some.codes >= LONG)).sum()),
        f"copied_sequences_{name}": float(len(np.unique(patient[np.isin(pairs, known)]))),
        f"copied_visits_{name}": float(np.isin(some.visits, training.visits).mean()),
    }
