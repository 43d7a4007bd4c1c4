"""Finding and reading the csv files that hospitals export: fast, and with clear errors."""

import csv
import gzip
import hashlib
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow_csv

from medrec.errors import InputError
from medrec.raw_table import Column, Table, compressed, records, text

_BLOCK = 1 << 23  # bytes parsed at once; a row must fit in
_TEXT = pa.dictionary(pa.int32(), pa.string())


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
    with _readable(folder, InputError):
        files = sorted(path.name for path in folder.iterdir() if path.is_file())
    for wanted in (f"{name}.csv.gz", f"{name}.csv"):
        for file in files:
            if file.lower() == wanted:
                return folder / file
    tables = [file for file in files if file.lower().endswith((".csv", ".csv.gz"))]
    raise InputError(
        f"{folder} must hold {name}.csv or {name}.csv.gz, but its tables are {tables}. "
        f"Download the missing file, or give the folder that has it."
    )


def read_table(
    path: Path, columns: Mapping[str, tuple[str, ...]], error: type[InputError] = InputError
) -> Table:
    """Returns the needed columns of a csv file, plain or gzip (told by its content).

    Args:
        path: the file; UTF-8, or Latin-1 where it is not valid UTF-8.
        columns: our name of each column, and the headings it may have, best first, lower case;
            a file's headings may have any case.
        error: class of the errors raised.

    Raises:
        InputError: as class `error`: the file is empty, damaged, has another delimiter, lacks a
            column, or has a line with too many or too few fields.
    """
    with _readable(path, error):
        header = _header(path, error)
        headings = {
            name: _heading(path, header, wanted, error) for name, wanted in columns.items()
        }
        arrow = _read(path, header, sorted(set(headings.values())), error)
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if arrow.num_rows == 0:
        raise error(f"{path} has a header, but no rows. Download or export the file again.")
    arrow = arrow.unify_dictionaries().combine_chunks()
    found = {name: _column(arrow.column(heading)) for name, heading in headings.items()}
    return Table(path, found, digest, headings, error)


@contextmanager
def _readable(path: Path, error: type[InputError]) -> Iterator[None]:
    """Turns what the decompressor and the disk raise into one message."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as cause:
        raise _damaged(path, error) from cause
    except OSError as cause:
        if cause.errno is None:  # pyarrow's decompressor gives no system error number
            raise _damaged(path, error) from cause
        raise error(f"{path} cannot be read: {cause.strerror}. Check its permissions.") from cause


def _damaged(path: Path, error: type[InputError]) -> InputError:
    return error(
        f"{path} is damaged or incomplete (its gzip data cannot be read to the end). "
        "Download it again."
    )


def _header(path: Path, error: type[InputError]) -> list[str]:
    if path.name.lower().endswith(".gz") and not compressed(path) and path.stat().st_size:
        raise error(f"{path} is not gzip data, as its name says. Download it again.")
    with text(path) as stream:
        line = stream.readline(1 << 16)
    line = line.removeprefix("\u00ef\u00bb\u00bf").strip("\r\n")  # a UTF-8 mark read as Latin-1
    if not line.strip():
        raise error(f"{path} is empty: its first line must name the columns. Download it again.")
    return next(csv.reader([line]))


def _heading(
    path: Path, header: list[str], wanted: tuple[str, ...], error: type[InputError]
) -> str:
    for name in wanted:
        found = [heading for heading in header if heading.strip().lower() == name]
        if len(found) > 1:
            raise error(f"{path} has {len(found)} columns `{name}`. Remove all but one.")
        if found:
            return found[0]
    counts = {";": 0, "\t": 0, "|": 0, ",": len(header) - 1}
    counts |= {mark: ",".join(header).count(mark) for mark in counts if mark != ","}
    mark = max(counts, key=lambda each: counts[each])
    if mark != "," and counts[mark]:
        raise error(
            f"{path} must have commas between its fields, but it seems to have {mark!r}. "
            f"Use the file as published, or convert it to commas."
        )
    names = " or ".join(f"`{name}`" for name in wanted)
    raise error(
        f"{path} must have a column {names} (in any case), but it has {header}. "
        f"Use the file as published."
    )


def _read(path: Path, header: list[str], needed: list[str], error: type[InputError]) -> pa.Table:
    try:
        try:
            return _parse(path, header, needed, "utf8")
        except pa.ArrowInvalid as cause:
            if "UTF8" not in str(cause):
                raise
            return _parse(path, header, needed, "latin-1")
    except pa.ArrowInvalid as cause:
        if "Empty CSV" in str(cause):
            return pa.table({name: pa.array([], _TEXT) for name in needed})
        _check_fields(path, len(header), error)
        raise error(f"{path} cannot be read as csv ({cause}). Download it again.") from cause


def _parse(path: Path, header: list[str], needed: list[str], encoding: str) -> pa.Table:
    compression = "gzip" if compressed(path) else None
    with pa.input_stream(str(path), compression=compression) as stream:
        return arrow_csv.read_csv(
            stream,
            arrow_csv.ReadOptions(
                column_names=header, skip_rows=1, block_size=_BLOCK, encoding=encoding
            ),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=needed,
                column_types=dict.fromkeys(needed, _TEXT),
                strings_can_be_null=False,
            ),
        )


def _column(chunks: pa.ChunkedArray) -> Column:
    array = chunks.combine_chunks() if isinstance(chunks, pa.ChunkedArray) else chunks
    names = tuple(name.strip() for name in array.dictionary.to_pylist())
    return Column(array.indices.to_numpy(zero_copy_only=False).astype(np.int32), names)


def _check_fields(path: Path, expected: int, error: type[InputError]) -> None:
    for line, fields in records(path):
        if fields != expected:
            raise error(
                f"{path}, line {line}: a line must have {expected} fields, as the header, but it "
                f"has {fields}. Correct that line, or download the file again."
            )
