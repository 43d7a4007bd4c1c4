"""A csv table in memory: every cell as text, and errors that name the line.

No code is ever a number here: 0389 stays "0389". A column comes factorised, row i holding
``names[index[i]]``, because millions of rows share a few thousand values: what depends on a value
alone is computed once a value, and the rest is integer arithmetic over `index`.
"""

import csv
import gzip
import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int32, Int64

from medrec.errors import InputError

_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Column:
    """One column: row i holds ``names[index[i]]``. Names are stripped, so two may be equal."""

    index: Int32[np.ndarray, " rows"]
    names: tuple[str, ...]

    def first(self, bad: Iterable[bool]) -> int | None:
        """Returns the first row whose name is marked in `bad` (one mark a name), or None."""
        marked = np.fromiter(bad, bool, len(self.names))
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
        sha256: of the file's bytes, as they are on disk.
        headings: each column's name in the file.
        error: class of the errors about this table.
    """

    path: Path
    columns: dict[str, Column]
    sha256: str
    headings: dict[str, str]
    error: type[InputError]

    def __getitem__(self, name: str) -> Column:
        return self.columns[name]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values())).index)

    def wrong(self, name: str, row: int, rule: str) -> InputError:
        """Returns the error that says which rule the cell breaks, where, and its value."""
        value = self[name].names[self[name].index[row]]
        return self.error(
            f"{self.path}, line {_line(self.path, row)}: `{self.headings[name]}` {rule}, "
            f"but it is {value!r}. Correct that line, or download the file again."
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
        allowed = {""} if empty is not None else set()
        self.require(name, lambda value: value in allowed or _is_key(value), "must be a number")
        numbers = [int(value) if value else empty for value in self[name].names]
        return np.array(numbers, dtype=np.int64)

    def require_unique(self, name: str) -> None:
        """Raises an error for the first row whose number an earlier row has; not which number."""
        _, first = np.unique(self.integers(name)[self[name].index], return_index=True)
        if len(first) < self.rows:
            repeated = np.setdiff1d(np.arange(self.rows), first)[0]
            raise self.error(
                f"{self.path}, line {_line(self.path, int(repeated))}: `{self.headings[name]}` "
                "must differ from line to line, but an earlier line has the same. Correct that "
                "line, or download the file again."
            )


def distinct(
    *columns: Column,
) -> tuple[tuple[Int64[np.ndarray, " rows"], ...], Int64[np.ndarray, " rows"]]:
    """Returns the distinct rows, as indices into the columns' names, and how often each occurs."""
    shape = tuple(len(column.names) for column in columns)
    keys = np.ravel_multi_index(tuple(column.index for column in columns), shape)
    found, counts = np.unique(keys, return_counts=True)
    return np.unravel_index(found, shape), counts


def digests(tables: Iterable[Table]) -> dict[str, str]:
    """Returns sha256 by file name; a name that two files share gets its folder's name in front."""
    found: dict[str, str] = {}
    for table in tables:
        name = table.path.name
        if found.get(name, table.sha256) != table.sha256:
            name = f"{table.path.parent.name}/{name}"
        found[name] = table.sha256
    return found


def _is_key(value: str) -> bool:
    return value.isascii() and value.isdecimal() and len(value) <= 18


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


def records(path: Path) -> Iterator[tuple[int, int]]:
    """Yields the last line and the number of fields of each row below the header. Slow."""
    with text(path) as stream:
        reader = csv.reader(stream)
        with suppress(csv.Error):  # a field without end, say: nothing can be counted behind it
            next(reader, None)
            yield from ((reader.line_num, len(fields)) for fields in reader if fields)


def _line(path: Path, row: int) -> int:
    for number, (line, _) in enumerate(records(path)):
        if number == row:
            return line
    return row + 2
