"""Finding and reading the files that sources of knowledge are published in.

They are found by name in a folder or below it (upper or lower case, plain or gzip).
"""

import io
import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from medrec import raw_files
from medrec.errors import KnowledgeError, MissingSourceError
from medrec.raw_table import Table, text


def files_named(folders: Iterable[Path], pattern: re.Pattern[str] | str) -> list[Path]:
    """Returns the files in some folders or below them whose lower-case name matches, by path."""
    found = {path for folder in folders for path in folder.rglob("*")}
    matching = (path for path in found if re.fullmatch(pattern, path.name.lower()))
    return sorted(path for path in matching if path.is_file())


def find_files(folder: Path, pattern: str) -> list[Path]:
    """Returns the files in a folder or below it whose lower-case name matches, by name.

    Raises:
        KnowledgeError: the folder does not exist.
    """
    if not folder.is_dir():
        raise KnowledgeError(
            f"The folder of knowledge files {folder} does not exist. Give the folder that holds "
            "the downloaded files."
        )
    return sorted(files_named([folder], pattern), key=lambda path: (path.name.lower(), path))


def require_files(folder: Path, pattern: str, wanted: str) -> list[Path]:
    """Returns the files that match, at least one; `wanted` names the file in the message.

    Raises:
        KnowledgeError: the folder does not exist, or has no such file.
    """
    found = find_files(folder, pattern)
    if not found:
        raise missing(folder, wanted)
    return found


def missing(folder: Path, wanted: str) -> MissingSourceError:
    """Returns the error that names a file which the folder lacks."""
    return MissingSourceError(
        f"{folder} must hold the file {wanted}, plain or packed as .gz, in it or in a folder "
        "below it, but has none. Download it, or give the folder that has it."
    )


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields number and text of the lines that are not blank, from a plain or gzip file.

    The text is UTF-8, or Latin-1 in a line that is not.

    Raises:
        KnowledgeError: the file is missing, damaged, or cannot be read.
    """
    with reading(path) as stream:
        for number, line in enumerate(stream, 1):
            bare = line.rstrip("\r\n\x1a ")  # \x1a ends some of the older official files
            if bare:
                yield number, bare if bare.isascii() else decoded(bare)


def decoded(line: str) -> str:
    """Returns a text read as Latin-1 as the UTF-8 that it is, if it is."""
    with suppress(UnicodeError):
        line = line.encode("latin-1").decode("utf-8-sig")
    return line


@contextmanager
def reading(path: Path) -> Iterator[io.TextIOBase]:
    """Opens a plain or gzip file as Latin-1.

    Raises:
        KnowledgeError: the file is missing, damaged, or cannot be read.
    """
    with readable(path), text(path) as stream:
        yield stream


def readable(path: Path) -> AbstractContextManager[None]:
    """Turns what the decompressor and the disk raise about a file into a `KnowledgeError`."""
    return raw_files.readable(path, KnowledgeError, "Check the path and its permissions.")


def wrong_line(path: Path, line: int, rule: str, value: str) -> KnowledgeError:
    """Returns the error that says which rule a line breaks, and what stands there."""
    return KnowledgeError(
        f"{path}, line {line}: {rule}, but it is {value[:80]!r}. Use the file as published, or "
        "download it again."
    )


def cells(table: Table, column: str) -> list[str]:
    """Returns a column's cell in each row."""
    names = table[column].names
    return [names[index] for index in table[column].index.tolist()]


def distinct_rows(table: Table, *names: str) -> Iterator[tuple[str, ...]]:
    """Yields the cells of some columns row by row, in the order of the file, each row once."""
    columns = [table[name] for name in names]
    rows = zip(*(column.index.tolist() for column in columns), strict=True)
    for row in dict.fromkeys(rows):
        yield tuple(column.names[i] for column, i in zip(columns, row, strict=True))
