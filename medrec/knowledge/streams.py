"""Reading tables of tens of millions of lines block by block.

What a reader does not keep of a block never takes memory for long.
"""

import csv
import gzip
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import csv as arrow_csv

from medrec.errors import KnowledgeError
from medrec.knowledge.source_files import readable
from medrec.raw_table import compressed

_BLOCK = 1 << 24  # bytes parsed at once; a row must fit in


@dataclass(frozen=True)
class Layout:
    """The form of a table without header.

    Attributes:
        name: what it is called, for errors.
        heading: names of the fields, in order, with the delimiter between them.
        delimiter: the character between fields.
        ended: whether the last field is followed by a delimiter, too.
        quoted: whether fields may stand in double quotes, doubled or after a backslash inside;
            else a quote is a character as any other.
    """

    name: str
    heading: str
    delimiter: str
    ended: bool = False
    quoted: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the fields."""
        return tuple(self.heading.split(self.delimiter))


def stream(
    path: Path, layouts: Sequence[Layout], needed: Collection[str]
) -> Iterator[pa.RecordBatch]:
    """Yields the needed columns of a large table as text, block by block, in the file's order.

    Args:
        path: the file; UTF-8 in the needed columns; gzip data is told by its content.
        layouts: the forms that it may have; its first line decides by its number of fields.
        needed: columns to read.

    Raises:
        KnowledgeError: the file is missing, empty, damaged or not UTF-8, or a line has too many
            or too few fields.
    """
    if not path.is_file():
        raise KnowledgeError(f"There is no file {path}. Name the table as you downloaded it.")
    with readable(path):
        layout = _layout(path, layouts)
        names = [*layout.columns, "(end)"] if layout.ended else list(layout.columns)
        compression = "gzip" if compressed(path) else None
        try:
            with pa.input_stream(str(path), compression=compression) as source:
                yield from arrow_csv.open_csv(
                    source,
                    arrow_csv.ReadOptions(column_names=names, block_size=_BLOCK),
                    arrow_csv.ParseOptions(
                        delimiter=layout.delimiter,
                        quote_char='"' if layout.quoted else False,
                        escape_char="\\" if layout.quoted else False,
                    ),
                    arrow_csv.ConvertOptions(
                        include_columns=list(needed),
                        column_types=dict.fromkeys(needed, pa.string()),
                        strings_can_be_null=False,
                    ),
                )
        except pa.ArrowInvalid as cause:
            raise _wrong_line(path, layout, needed, cause) from cause


def _layout(path: Path, layouts: Sequence[Layout]) -> Layout:
    for number, line in _lines(path):
        for layout in layouts:
            if _count(line, layout) == len(layout.columns):
                return layout
        raise _wrong_count(path, number, layouts, _count(line, layouts[0]))
    raise KnowledgeError(f"{path} is empty. Download it again.")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields number and text of the lines that are not blank, as Latin-1, which cannot fail."""
    with path.open("rb") as raw:
        plain = gzip.GzipFile(fileobj=raw) if compressed(path) else raw
        for number, line in enumerate(plain, start=1):
            text = line.decode("latin-1").rstrip("\r\n")
            if text:
                yield number, text


def _split(line: str, layout: Layout) -> list[str]:
    if not layout.quoted:
        return line.split(layout.delimiter)
    return next(csv.reader([line], delimiter=layout.delimiter, escapechar="\\"))


def _count(line: str, layout: Layout) -> int:
    return len(_split(line, layout)) - layout.ended


def _wrong_line(
    path: Path, layout: Layout, needed: Collection[str], cause: Exception
) -> KnowledgeError:
    """Reads the file again, line by line, for the first one that cannot be used."""
    for number, line in _lines(path):
        count = _count(line, layout)
        if count != len(layout.columns):
            return _wrong_count(path, number, [layout], count)
        fields = dict(zip(layout.columns, _split(line, layout), strict=False))
        for name in needed:
            try:
                fields[name].encode("latin-1").decode()
            except UnicodeDecodeError:
                return KnowledgeError(
                    f"{path}, line {number}: `{name}` must be UTF-8, but it is "
                    f"{fields[name]!r} in bytes. Use the file as published."
                )
    return KnowledgeError(f"{path} cannot be read ({cause}). Download it again.")


def _wrong_count(path: Path, number: int, layouts: Sequence[Layout], count: int) -> KnowledgeError:
    layout = layouts[0]
    numbers = " or ".join(str(len(each.columns)) for each in layouts)
    ended = f", each followed by {layout.delimiter!r}" if layout.ended else ""
    return KnowledgeError(
        f"{path}, line {number}: a line of {layout.name} must have {numbers} fields{ended}, but "
        f"it has {count}. Use the file as published, or download it again."
    )
