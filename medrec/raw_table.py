"""A csv table in memory: every cell as text, and errors that name the line.

No code is ever a number here: 0389 stays "0389". A column comes factorised, row i holding
``names[index[i]]``, because millions of rows share a few thousand values: what depends on a value
alone is computed once a value, and the rest is integer arithmetic over `index`.
"""

import csv
import gzip
import hashlib
import io
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int32, Int64

from medrec.errors import InputError

_GZIP = b"\x1f\x8b"
_KEY = r"^[0-9]{1,18}$"
_SHOWN = 40  # characters of a cell that a message shows
_IDENTIFIER = re.compile(r"[0-9]{5,}|(?<![0-9-])[0-9]{3}-[0-9]{2,}")  # maybe a patient's


@dataclass(frozen=True)
class Column:
    """One column: row i holds ``names[index[i]]``. Names are stripped, so two may be equal."""

    index: Int32[np.ndarray, " rows"]
    names: tuple[str, ...]

    def rows(self, keep: Bool[np.ndarray, " rows"]) -> "Column":
        """Returns the rows marked in `keep`."""
        return Column(self.index[keep], self.names)

    def first(self, bad: Iterable[bool] | Bool[np.ndarray, " names"]) -> int | None:
        """Returns the first row whose name is marked in `bad` (one mark a name), or None."""
        marked = bad if isinstance(bad, np.ndarray) else np.fromiter(bad, bool, len(self.names))
        if not marked.any():
            return None
        rows = np.flatnonzero(marked[self.index])
        return int(rows[0]) if len(rows) else None


@dataclass(frozen=True)
class Table:
    """The needed columns of one file, by the names that the reader asked for.

    Attributes:
        path: the file.
        columns: all of one length.
        headings: each column's name in the file.
        error: class of the errors about this table.
        numbers: place of each row in the file, from 0; None where they are its first rows.
        marks: what stands between fields, and around those that hold it.
    """

    path: Path
    columns: dict[str, Column]
    headings: dict[str, str]
    error: type[InputError]
    numbers: Int64[np.ndarray, " rows"] | None = None
    marks: tuple[str, str] = (",", '"')

    def __getitem__(self, name: str) -> Column:
        return self.columns[name]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values())).index)

    def only(self, keep: Bool[np.ndarray, " rows"]) -> "Table":
        """Returns the rows marked in `keep`."""
        numbers = np.arange(self.rows) if self.numbers is None else self.numbers
        columns = {name: column.rows(keep) for name, column in self.columns.items()}
        return replace(self, columns=columns, numbers=numbers[keep])

    def line(self, row: int) -> int:
        """Returns the line of the file on which a row ends. Slow: the file is read again."""
        wanted = row if self.numbers is None else int(self.numbers[row])
        for number, (line, _) in enumerate(records(self.path, *self.marks)):
            if number == wanted:
                return line
        return wanted + 2

    def wrong(self, name: str, row: int, rule: str) -> InputError:
        """Returns the error that says which rule the cell breaks, where, and its value."""
        value = self[name].names[self[name].index[row]]
        return self.error(
            f"{self.path}, line {self.line(row)}: `{self.headings[name]}` {rule}, "
            f"but it is {shown(value)}. Correct that line, or download the file again."
        )

    def require(self, name: str, good: Callable[[str], bool], rule: str) -> None:
        """Raises `wrong` for the first row whose value is not `good`; asks once a value."""
        row = self[name].first(not good(value) for value in self[name].names)
        if row is not None:
            raise self.wrong(name, row, rule)

    def integers(self, name: str, empty: int | None = None) -> Int64[np.ndarray, " names"]:
        """Returns the number behind each of a column's *names*; `empty` for an empty cell.

        Raises:
            InputError: a cell is no whole number, or is empty and `empty` is None.
        """
        cells = pa.array(self[name].names, pa.string())
        good = pc.match_substring_regex(cells, _KEY if empty is None else f"{_KEY}|^$")
        row = self[name].first(pc.invert(good).to_numpy(zero_copy_only=False))
        if row is not None:
            raise self.wrong(name, row, "must be a number")
        # Names that no row has any more may be anything.
        digits = pc.if_else(pc.match_substring_regex(cells, _KEY), cells, None).cast(pa.int64())
        return digits.fill_null(0 if empty is None else empty).to_numpy().astype(np.int64)

    def require_unique(self, name: str) -> None:
        """Raises an error for the first row whose number an earlier row has; not which number."""
        _, first = np.unique(self.integers(name)[self[name].index], return_index=True)
        if len(first) < self.rows:
            repeated = np.setdiff1d(np.arange(self.rows), first)[0]
            raise self.error(
                f"{self.path}, line {self.line(int(repeated))}: `{self.headings[name]}` "
                "must differ from line to line, but an earlier line has the same. Correct that "
                "line, or download the file again."
            )


def shown(value: str) -> str:
    """Returns a cell as messages show it: no more than that cell, and no patient's identifier.

    Behind a quote that is not closed a cell holds other columns and lines.

    Example:
        >>> shown("2150-13-01"), shown("10006.0"), shown("F,2094-03-05")
        ("'2150-13-01'", "'#####.0'", "12 characters that begin with 'F'")
    """
    plain = re.split(r"[,;|\t\r\n\"]", value, maxsplit=1)[0][:_SHOWN]
    masked = repr(_IDENTIFIER.sub(lambda found: "#" * len(found[0]), plain))
    return masked if plain == value else f"{len(value):,} characters that begin with {masked}"


def ascending(values: Int64[np.ndarray, " values"]) -> Int64[np.ndarray, " distinct"]:
    """Returns the distinct values, sorted: several times faster than numpy's hashing `unique`."""
    values = np.sort(values)
    return values[np.concatenate([[True], values[1:] != values[:-1]])] if len(values) else values


def distinct(
    *columns: Column,
) -> tuple[tuple[Int64[np.ndarray, " rows"], ...], Int64[np.ndarray, " rows"]]:
    """Returns the distinct rows, as indices into the columns' names, and how often each occurs."""
    shape = tuple(len(column.names) for column in columns)
    keys = np.ravel_multi_index(tuple(column.index for column in columns), shape)
    found, counts = np.unique(keys, return_counts=True)
    return np.unravel_index(found, shape), counts


def digests(paths: Iterable[Path]) -> dict[str, str]:
    """Returns sha256 by file name; a name that two files share gets its folder's name in front."""
    found: dict[str, str] = {}
    for path in paths:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        name = path.name
        if found.get(name, digest) != digest:
            name = f"{path.parent.name}/{name}"
        found[name] = digest
    return found


def compressed(path: Path) -> bool:
    """Returns whether the content is gzip data, whatever the name says."""
    with path.open("rb") as stream:
        return stream.read(2) == _GZIP


@contextmanager
def text(path: Path) -> Iterator[io.TextIOBase]:
    """Opens a plain or gzip file as Latin-1, which no byte can break."""
    with path.open("rb") as raw:
        plain = gzip.GzipFile(fileobj=raw) if compressed(path) else raw
        with io.TextIOWrapper(plain, "latin-1", newline="") as stream:
            yield stream


def records(path: Path, delimiter: str = ",", quote: str = '"') -> Iterator[tuple[int, int]]:
    """Yields the last line and the number of fields of each row below the header. Slow."""
    with text(path) as stream:
        reader = csv.reader(stream, delimiter=delimiter, quotechar=quote)
        with suppress(csv.Error):  # a field without end, say: nothing can be counted behind it
            next(reader, None)
            yield from ((reader.line_num, len(fields)) for fields in reader if fields)
