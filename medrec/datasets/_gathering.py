"""Gathering the codes of each stay from a long table, block by block.

A table may have 15 million rows; what it says is a few million distinct pairs of stay and code.
Each distinct combination of cells is looked at once, whatever its number of rows, and memory grows
with the distinct pairs only.
"""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Int64

from medrec.datasets._stays import Stays
from medrec.raw_table import Column, ascending

_WIDTH = 1 << 22  # more codes than any kind has
_SLACK = 4_000_000  # pairs that may wait before they are made distinct
RARE = 10  # rows below which free text is not listed: it may hold what only one patient has


class Found(NamedTuple):
    """What a combination of cells stands for.

    Attributes:
        step: how it was found, or why not; counted in rows.
        codes: zero or more codes.
        unknown: kind and name of what is not known, for the list of unmapped codes; or None.
    """

    step: str
    codes: tuple[str, ...]
    unknown: tuple[str, str] | None = None


class Gatherer:
    """The distinct pairs of stay and code, and how many rows each step decided.

    Attributes:
        rows: rows of each step.
        unknown: rows of each kind and name not known.
    """

    def __init__(self, resolve: Callable[[tuple[str, ...]], Found]) -> None:
        self.rows: Counter[str] = Counter()
        self.unknown: dict[str, Counter[str]] = {}
        self._resolve = resolve
        self._known: dict[tuple[str, ...], tuple[Found, tuple[int, ...]]] = {}
        self._names: dict[str, int] = {}
        self._pairs: list[Int64[np.ndarray, " some"]] = []
        self._waiting = 0

    def add(self, row: Int64[np.ndarray, " rows"], *columns: Column) -> None:
        """Adds a block: the stay of each row, none of them unknown, and the cells that decide."""
        shape = tuple(len(column.names) for column in columns)
        combined = np.ravel_multi_index(tuple(column.index for column in columns), shape)
        distinct, which, counts = np.unique(combined, return_inverse=True, return_counts=True)
        cells = zip(
            *(
                [column.names[i] for i in index]
                for column, index in zip(columns, np.unravel_index(distinct, shape), strict=True)
            ),
            strict=True,
        )
        codes = []
        for cell, count in zip(cells, counts.tolist(), strict=True):
            found, ids = self._look_up(cell)
            self.rows[found.step] += count
            if found.unknown is not None:
                kind, name = found.unknown
                self.unknown.setdefault(kind, Counter())[name] += count
            codes.append(ids)
        stay, code = _exploded(row, which, codes)
        self._keep(ascending(stay * _WIDTH + code))

    def frame(self, stays: Stays) -> pd.DataFrame:
        """Returns the distinct pairs: `visit` (key) and `code` (categorical)."""
        pairs = ascending(np.concatenate([*self._pairs, np.empty(0, np.int64)]))
        visit = stays.visits["visit"].to_numpy(np.int64)[pairs // _WIDTH]
        code = pd.Categorical.from_codes(
            (pairs % _WIDTH).astype(np.int32), categories=pd.Index(list(self._names), dtype=object)
        )
        return pd.DataFrame({"visit": visit, "code": code})

    def listed(self, least: int = 1) -> dict[str, dict[str, int]]:
        """Returns the unknown names of at least that many rows, most frequent first."""
        return {
            kind: {name: n for name, n in order_by_count(names) if n >= least}
            for kind, names in sorted(self.unknown.items())
        }

    def _look_up(self, cell: tuple[str, ...]) -> tuple[Found, tuple[int, ...]]:
        known = self._known.get(cell)
        if known is None:
            found = self._resolve(cell)
            ids = tuple(self._names.setdefault(code, len(self._names)) for code in found.codes)
            known = self._known[cell] = (found, ids)
        return known

    def _keep(self, pairs: Int64[np.ndarray, " pairs"]) -> None:
        self._pairs.append(pairs)
        self._waiting += len(pairs)
        if self._waiting > _SLACK + len(self._pairs[0]):
            self._pairs = [ascending(np.concatenate(self._pairs))]
            self._waiting = 0


def order_by_count(names: Counter[str]) -> list[tuple[str, int]]:
    """Returns names and counts, largest count first, then by name."""
    return sorted(names.items(), key=lambda item: (-item[1], item[0]))


def _exploded(
    row: Int64[np.ndarray, " rows"],
    which: Int64[np.ndarray, " rows"],
    codes: list[tuple[int, ...]],
) -> tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]:
    """Returns stay and code for each code of each row; `which` says whose codes a row has."""
    sizes = np.array([len(ids) for ids in codes], dtype=np.int64)
    flat = np.array([code for ids in codes for code in ids], dtype=np.int64)
    starts = np.cumsum(sizes) - sizes
    repeats = sizes[which]
    stay = np.repeat(row, repeats)
    within = np.arange(len(stay)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    return stay, flat[np.repeat(starts[which], repeats) + within]
