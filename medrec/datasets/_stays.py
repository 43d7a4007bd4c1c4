"""The stays that become visits, and how rows of other tables find theirs."""

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int64

from medrec.raw_table import Table

_CATEGORY = re.compile(r"([A-Za-z][A-Za-z &/()+.-]{0,39})?")
_GENDERS = ("", "F", "M", "Female", "Male", "Other", "Unknown")
DAY = 86_400  # seconds
OVER_89 = 90  # what ages count as that the data hide, 90 and above
_TIME = r"(1[789]|2[0-3])\d\d-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d+)?)?)?"


@dataclass(frozen=True)
class Stays:
    """The visits, and the keys under which other tables name them.

    Attributes:
        visits: as `medrec.records.Records.visits`, index 0, 1, ….
        keys: keys of the source, ascending; several may belong to one visit.
        row: the visit of each key, as a row of `visits`.
    """

    visits: pd.DataFrame
    keys: Int64[np.ndarray, " keys"]
    row: Int64[np.ndarray, " keys"]

    @staticmethod
    def of(visits: pd.DataFrame) -> "Stays":
        """Returns the stays that go by their visit key."""
        key = visits["visit"].to_numpy(np.int64)
        return Stays.under(visits, key, np.arange(len(key)))

    @staticmethod
    def under(
        visits: pd.DataFrame, keys: Int64[np.ndarray, " keys"], row: Int64[np.ndarray, " keys"]
    ) -> "Stays":
        """Returns the stays under other keys, in any order."""
        order = np.argsort(keys, kind="stable")
        return Stays(visits, keys[order], row[order])

    def find(self, table: Table, column: str) -> Int64[np.ndarray, " rows"]:
        """Returns the visit of each row of a table, or -1."""
        wanted = table.integers(column, empty=-1)
        if not len(self.keys):
            return np.full(len(table[column].index), -1, dtype=np.int64)
        place = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        known = self.keys[place] == wanted
        return np.where(known, self.row[place], -1)[table[column].index]


def seconds(table: Table, name: str, *, empty: bool = False) -> Int64[np.ndarray, " names"]:
    """Returns the time behind each of a column's *names*, in seconds since 1970.

    Args:
        table: the table.
        name: of a column with times as 2150-01-31 14:05:00, or dates.
        empty: whether a cell may be empty; its time is then the smallest int64.

    Raises:
        InputError: a cell is no date and time.
    """
    names = pd.Series(table[name].names, dtype=object)
    iso = names.where(names.str.fullmatch(_TIME, flags=re.ASCII))
    moments = pd.to_datetime(iso, format="ISO8601", errors="coerce")
    blank = (names == "") & empty
    row = table[name].first(moments.isna() & ~blank)
    if row is not None:
        raise table.wrong(name, row, "must be a date and time as 2150-01-31 14:05:00")
    return moments.to_numpy().astype("datetime64[s]").astype(np.int64)


def categories(table: Table, name: str) -> pd.Series:
    """Returns a column's cells, "unknown" where they are empty.

    Raises:
        InputError: a cell is no short name; the cohort lists each, so no number or date may pass.
    """
    rule = "must be a name of at most 40 letters and blanks"
    table.require(name, lambda cell: bool(_CATEGORY.fullmatch(cell)), rule)
    names = np.array([cell or "unknown" for cell in table[name].names], dtype=object)
    return pd.Series(names[table[name].index])


def genders(table: Table, name: str) -> pd.Series:
    """Returns a column's cells as `categories` does, those of genders.

    Raises:
        InputError: a cell is none that MIMIC or eICU writes.
    """
    table.require(name, lambda cell: cell in _GENDERS, "must be a gender as M or Female")
    return categories(table, name)
