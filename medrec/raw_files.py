"""Finding and reading the csv files that hospitals export: fast, and with clear errors."""

import csv
import gzip
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from medrec.errors import InputError
from medrec.raw_table import Column, Table, compressed, records, text

_BLOCK = 1 << 23  # bytes parsed at once; a row must fit in
_CELLS = pa.dictionary(pa.int32(), pa.binary())
_observer: ContextVar[Callable[[Path, int], None]] = ContextVar(
    "_observer", default=lambda path, rows: None
)
_MARKS = {",": "commas", "\t": "tabs", "|": "bars", ";": "semicolons"}


def source_folder(dataset: str, source: Path | None) -> Path:
    """Returns the absolute source folder.

    Raises:
        InputError: none was given, or it is missing or no folder.
    """
    how = f"Give the folder that holds the files: `--source DIR` ({dataset})."
    if source is None:
        raise InputError(f"{dataset} reads files, but no source folder was given. {how}")
    if not source.exists():
        raise InputError(f"The source folder {source} does not exist. {how}")
    if not source.is_dir():
        raise InputError(f"The source must be a folder, but {source} is a file. {how}")
    return source.resolve()


def find_table(folder: Path, name: str) -> Path:
    """Returns NAME.csv.gz or NAME.csv in `folder`, upper or lower case; compressed first.

    Raises:
        InputError: there is neither.
    """
    path = optional_table(folder, name)
    if path is not None:
        return path
    files = sorted(file.name for file in folder.iterdir())
    tables = [file for file in files if file.lower().endswith((".csv", ".csv.gz"))]
    raise InputError(
        f"{folder} must hold {name}.csv or {name}.csv.gz, but its tables are {tables}. "
        f"Download the missing file, or give the folder that has it."
    )


def optional_table(folder: Path, name: str) -> Path | None:
    """Returns as `find_table` does, or None if there is neither."""
    with readable(folder, InputError):
        files = sorted(path.name for path in folder.iterdir() if path.is_file())
    for wanted in (f"{name}.csv.gz", f"{name}.csv"):
        for file in files:
            if file.lower() == wanted:
                return folder / file
    return None


def read_table(
    path: Path,
    columns: Mapping[str, tuple[str, ...]],
    error: type[InputError] = InputError,
    *,
    delimiter: str = ",",
    quote: str = '"',
) -> Table:
    """Returns the needed columns of a csv file, plain or gzip (told by its content).

    Args:
        path: the file; a cell is UTF-8, or Latin-1 where it is not valid UTF-8.
        columns: our name of each column, and the headings it may have, best first, lower case;
            a file's headings may have any case.
        error: class of the errors raised.
        delimiter: between fields.
        quote: around fields that hold a delimiter.

    Raises:
        InputError: as class `error`: the file is empty, damaged, has another delimiter, lacks a
            column, or has a line with too many or too few fields.
    """
    blocks = list(read_blocks(path, columns, error, delimiter=delimiter, quote=quote))
    return Table(
        path=path,
        columns={name: _joined([block[name] for block in blocks]) for name in columns},
        headings=blocks[0].headings,
        error=error,
        marks=(delimiter, quote),
    )


def read_blocks(
    path: Path,
    columns: Mapping[str, tuple[str, ...]],
    error: type[InputError] = InputError,
    *,
    delimiter: str = ",",
    quote: str = '"',
) -> Iterator[Table]:
    """Yields the rows of a csv file in order, some ten thousands at once; at least one block.

    Memory does not grow with the file. Arguments and errors are those of `read_table`; an error
    of a later line comes when its block is read.
    """
    with readable(path, error):
        header = _header(path, error, delimiter, quote)
        headings = {
            name: _heading(path, header, wanted, error, delimiter)
            for name, wanted in columns.items()
        }
        row = 0
        for batch in _parse(path, header, sorted(set(headings.values())), delimiter, quote, error):
            found = {name: _column(batch.column(heading)) for name, heading in headings.items()}
            numbers = np.arange(row, row + batch.num_rows)
            yield Table(path, found, headings, error, numbers, (delimiter, quote))
            row += batch.num_rows
            _observer.get()(path, row)
    if row == 0:
        raise error(f"{path} has a header, but no rows. Download or export the file again.")


@contextmanager
def watched(observer: Callable[[Path, int], None]) -> Iterator[None]:
    """Calls `observer` with the file and the rows read so far, after each block within."""
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


@contextmanager
def readable(
    path: Path, error: type[InputError], remedy: str = "Check its permissions."
) -> Iterator[None]:
    """Turns what the decompressor and the disk raise about a file into an `error`."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as cause:
        raise _damaged(path, error) from cause
    except OSError as cause:
        if cause.errno is None:  # pyarrow's decompressor gives no system error number
            raise _damaged(path, error) from cause
        raise error(f"{path} cannot be read: {cause.strerror}. {remedy}") from cause


def _damaged(path: Path, error: type[InputError]) -> InputError:
    return error(
        f"{path} is damaged or incomplete (its gzip data cannot be read to the end). "
        "Download it again."
    )


def _header(path: Path, error: type[InputError], delimiter: str, quote: str) -> list[str]:
    if path.name.lower().endswith(".gz") and not compressed(path) and path.stat().st_size:
        raise error(f"{path} is not gzip data, as its name says. Download it again.")
    with text(path) as stream:
        line = stream.readline(1 << 16)
    line = line.removeprefix("\u00ef\u00bb\u00bf").strip("\r\n")  # a UTF-8 mark read as Latin-1
    if not line.strip():
        raise error(f"{path} is empty: its first line must name the columns. Download it again.")
    return next(csv.reader([line], delimiter=delimiter, quotechar=quote))


def _heading(
    path: Path, header: list[str], wanted: tuple[str, ...], error: type[InputError], delimiter: str
) -> str:
    for name in wanted:
        found = [heading for heading in header if heading.strip().lower() == name]
        if len(found) > 1:
            raise error(f"{path} has {len(found)} columns `{name}`. Remove all but one.")
        if found:
            return found[0]
    counts = {mark: delimiter.join(header).count(mark) for mark in ";\t|,"}
    mark = max(counts, key=lambda each: (counts[each], each == delimiter))
    if mark != delimiter and counts[mark]:
        wants = _MARKS.get(delimiter, repr(delimiter))
        raise error(
            f"{path} must have {wants} between its fields, but it seems to have {mark!r}. "
            "Use the file as published, or convert it."
        )
    names = " or ".join(f"`{name}`" for name in wanted)
    # The first line may be a patient's, so no more of it is shown than what looks like the name.
    others = {each.strip().lower() for each in header if not re.search("[0-9]{3}", each)}
    near = sorted({near for name in wanted for near in get_close_matches(name, others, n=1)})
    hint = f" (nearest: {', '.join(near)})" if near else ""
    raise error(
        f"{path} must have a column {names} (in any case), but none of the {len(header)} fields "
        f"of its first line is that{hint}. Use the file as published."
    )


def _parse(
    path: Path,
    header: list[str],
    needed: list[str],
    delimiter: str,
    quote: str,
    error: type[InputError],
) -> Iterator[pa.RecordBatch]:
    compression = "gzip" if compressed(path) else None
    try:
        with pa.input_stream(str(path), compression=compression) as stream:
            yield from arrow_csv.open_csv(
                stream,
                arrow_csv.ReadOptions(column_names=header, skip_rows=1, block_size=_BLOCK),
                arrow_csv.ParseOptions(delimiter=delimiter, quote_char=quote),
                arrow_csv.ConvertOptions(
                    include_columns=needed,
                    column_types=dict.fromkeys(needed, _CELLS),
                    strings_can_be_null=False,
                    check_utf8=False,
                ),
            )
    except pa.ArrowInvalid as cause:
        if "Empty CSV" in str(cause):
            return
        _check_fields(path, len(header), error, delimiter, quote)
        raise error(
            f"{path} cannot be read as csv: a quote may be open, or a row too long. "
            "Download it again."
        ) from cause


def _column(array: pa.DictionaryArray) -> Column:
    try:
        cells = pc.utf8_trim_whitespace(array.dictionary.cast(pa.string())).to_pylist()
    except pa.ArrowInvalid:  # some cell is not UTF-8
        cells = [_decoded(cell).strip() for cell in array.dictionary.to_pylist()]
    return Column(array.indices.to_numpy(zero_copy_only=False).astype(np.int32), tuple(cells))


def _decoded(cell: bytes) -> str:
    try:
        return cell.decode()
    except UnicodeDecodeError:
        return cell.decode("latin-1")


def _joined(columns: Sequence[Column]) -> Column:
    """Returns the blocks of one column as one, each name once."""
    place: dict[str, int] = {}
    indices = []
    for column in columns:
        local = [place.setdefault(name, len(place)) for name in column.names]
        indices.append(np.array(local, dtype=np.int32)[column.index])
    return Column(np.concatenate(indices), tuple(place))


def _check_fields(
    path: Path, expected: int, error: type[InputError], delimiter: str, quote: str
) -> None:
    for line, fields in records(path, delimiter, quote):
        if fields != expected:
            raise error(
                f"{path}, line {line}: a line must have {expected} fields, as the header, but it "
                f"has {fields}. Correct that line, or download the file again."
            )
