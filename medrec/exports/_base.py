"""What a format for export is, and how its folder comes to be: whole or absent."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrec.errors import InputError
from medrec.storage import replacing


@dataclass(frozen=True)
class Export:
    """A format that cohorts can be written in.

    Attributes:
        title: one line for lists.
        write: (cohort folder, folder to write) to what was written: counts by name.
    """

    title: str
    write: Callable[[Path, Path], dict[str, int]]


@dataclass(frozen=True)
class Layout:
    """How an earlier export is told from a folder of the user's.

    Attributes:
        files: every file of an export, relative to its folder; it may have fewer.
        sign: the file that must be there, and hold JSON that `signed` accepts.
        signed: whether the content of that file is an export's.
    """

    files: frozenset[str]
    sign: str
    signed: Callable[[dict[str, Any]], bool]

    def made(self, folder: Path) -> bool:
        """Returns whether a folder holds an export of this layout and nothing else."""
        found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}
        if self.sign not in found or not found <= self.files:
            return False
        try:
            content = json.loads((folder / self.sign).read_text())
        except (OSError, ValueError):
            return False
        return isinstance(content, dict) and self.signed(content)


@contextmanager
def whole(out: Path, layout: Layout) -> Iterator[Path]:
    """Gives an empty folder beside `out`, which takes its place if all goes well.

    An earlier export of the same layout is replaced. When an error is raised inside, `out` stays
    as it was.

    Raises:
        InputError: `out` is a file, or holds what is no such export.
    """
    out = out.resolve()
    if out.exists() and not out.is_dir():
        raise InputError(f"The export is a folder, but {out} is a file. Choose another --out.")
    if out.exists() and any(out.iterdir()) and not layout.made(out):
        raise InputError(
            f"{out} is not empty and holds no earlier export of this format, or more than that. "
            "Choose another --out, so that nothing there is overwritten."
        )
    with replacing(out) as fresh:
        yield fresh
