"""Diagnosis and procedure codes of the synthetic visits.

Codes within a condition and within a pool follow Zipf's law in the order of the table, so the
cohort has few common codes and many rare ones. A chronic condition is mostly coded the same way
at every visit of a patient.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int64

from medrec.cohort import Kind
from medrec.datasets._conditions import Condition, Pool
from medrec.datasets._population import Population

MOST_CODES = 39  # of one kind at one visit: a cap of this generator
_ZIPF = {"diagnoses": 2.15, "procedures": 1.05}  # exponents
_SAME_CODE = 0.7  # chance that a chronic condition is coded as the patient's habit
_SECOND_CODE = 0.22  # chance of a second code for one condition
_POOL = {"diagnoses": 1.9, "procedures": 0.5}  # mean number of pool codes beyond the first
_OWN_CODES = 3  # pool diagnoses that come back at a patient's visits, each with chance
_OWN_CHANCE = 0.25
VERSION = "9:"


@dataclass(frozen=True)
class _Lists:
    """Lists of codes laid end to end, with the cumulated Zipf weights of each list.

    `edges` grows by one from list to list, so that one binary search finds list and code at once.
    """

    codes: tuple[str, ...]
    edges: Float64[np.ndarray, " codes"]

    def pick(
        self, which: Int64[np.ndarray, " draws"], where: Float64[np.ndarray, " draws"]
    ) -> Int64[np.ndarray, " draws"]:
        """Returns code positions: `which` list, and `where` in its cumulated weights, [0, 1)."""
        inside = np.minimum(where, 1.0 - 1e-9)  # a sum must not round up into the next list
        return np.searchsorted(self.edges, which + inside, side="right").astype(np.int64)


def draw_codes(
    population: Population,
    conditions: tuple[Condition, ...],
    pools: tuple[Pool, ...],
    visit: Int64[np.ndarray, " visits"],
    rng: np.random.Generator,
) -> dict[Kind, pd.DataFrame]:
    """Returns the rows (`visit` key, `code`) of diagnoses and procedures."""
    diagnoses = _join(
        _diagnosed(population, conditions, rng), _background("diagnoses", population, pools, rng)
    )
    procedures = _join(
        _performed(population, conditions, rng), _background("procedures", population, pools, rng)
    )
    return {
        "diagnoses": _frame(*_capped(*diagnoses, rng), visit),
        "procedures": _frame(*_capped(*procedures, rng), visit),
    }


_Rows = tuple[np.ndarray, np.ndarray, tuple[str, ...]]  # visit row, code position, codes


def _diagnosed(
    population: Population, conditions: tuple[Condition, ...], rng: np.random.Generator
) -> _Rows:
    """Returns codes of the recorded conditions."""
    lists = _lists([c.diagnoses for c in conditions], "diagnoses")
    coded = np.array([len(c.diagnoses) > 0 for c in conditions])
    chronic = np.array([c.chronic for c in conditions])
    habit = rng.random((len(population.visits), len(conditions)))
    row, which = np.nonzero(population.recorded & coded)
    where = rng.random(len(row))
    same = chronic[which] & (rng.random(len(row)) < _SAME_CODE)
    where = np.where(same, habit[population.patient[row], which], where)
    again = rng.random(len(row)) < _SECOND_CODE
    second = rng.random(int(again.sum()))
    return (
        np.concatenate([row, row[again]]),
        np.concatenate([lists.pick(which, where), lists.pick(which[again], second)]),
        lists.codes,
    )


def _performed(
    population: Population, conditions: tuple[Condition, ...], rng: np.random.Generator
) -> _Rows:
    """Returns procedures caused by the recorded conditions."""
    lists = _lists([c.procedures for c in conditions], "procedures")
    rate = np.array([c.procedure_rate if c.procedures else 0.0 for c in conditions])
    row, which = np.nonzero(population.recorded & (rate > 0))
    times = rng.poisson(rate[which])
    row, which = np.repeat(row, times), np.repeat(which, times)
    return row, lists.pick(which, rng.random(len(row))), lists.codes


def _background(
    kind: Kind, population: Population, pools: tuple[Pool, ...], rng: np.random.Generator
) -> _Rows:
    """Returns at least one pool code a visit; some diagnoses come back as the patient's own."""
    mine = [pool for pool in pools if pool.kind == kind]
    lists = _lists([pool.codes for pool in mine], kind)
    shares = np.cumsum([pool.weight for pool in mine])
    shares = shares / shares[-1]

    def draw(size: int) -> np.ndarray:
        which = np.searchsorted(shares[:-1], rng.random(size), side="right").astype(np.int64)
        return lists.pick(which, rng.random(size))

    visits = len(population.patient)
    row = np.repeat(np.arange(visits), 1 + rng.poisson(_POOL[kind], visits))
    code = draw(len(row))
    if kind == "procedures":
        return row, code, lists.codes
    own = draw(len(population.visits) * _OWN_CODES).reshape(-1, _OWN_CODES)
    back, place = np.nonzero(rng.random((visits, _OWN_CODES)) < _OWN_CHANCE)
    again = own[population.patient[back], place]
    return np.concatenate([row, back]), np.concatenate([code, again]), lists.codes


def _lists(lists: list[tuple[str, ...]], kind: Kind) -> _Lists:
    edges = []
    for number, codes in enumerate(lists):
        weights = np.cumsum(np.arange(1, len(codes) + 1) ** -_ZIPF[kind])
        edges.append(number + weights / weights[-1] if len(codes) else np.zeros(0))
    return _Lists(tuple(code for codes in lists for code in codes), np.concatenate(edges))


def _join(first: _Rows, second: _Rows) -> _Rows:
    """Returns both, over one list of codes without repeats."""
    names = tuple(dict.fromkeys((*first[2], *second[2])))
    index = {name: i for i, name in enumerate(names)}
    codes = [np.array([index[c] for c in part[2]])[part[1]] for part in (first, second)]
    return np.concatenate([first[0], second[0]]), np.concatenate(codes), names


def _capped(
    row: np.ndarray, code: np.ndarray, names: tuple[str, ...], rng: np.random.Generator
) -> _Rows:
    """Returns each code of a visit once, and at most `MOST_CODES` of them, chosen at random."""
    pairs = np.unique(row * len(names) + code)
    row, code = pairs // len(names), pairs % len(names)
    order = np.lexsort((rng.random(len(row)), row))
    row, code = row[order], code[order]
    start = np.flatnonzero(_changes(row))
    place = np.arange(len(row)) - np.repeat(start, np.diff(np.append(start, len(row))))
    keep = place < MOST_CODES
    return row[keep], code[keep], names


def _changes(row: Int64[np.ndarray, " rows"]) -> Bool[np.ndarray, " rows"]:
    return np.concatenate([[True], row[1:] != row[:-1]])


def _frame(
    row: np.ndarray, code: np.ndarray, names: tuple[str, ...], visit: np.ndarray
) -> pd.DataFrame:
    labels = np.array([VERSION + name for name in names], dtype=object)
    return pd.DataFrame({"visit": visit[row], "code": labels[code]})
