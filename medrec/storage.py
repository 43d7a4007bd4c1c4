"""Folders that are written whole or not at all, and Arrow files that processes map."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Gives an empty folder beside `folder`, which takes its place if all goes well.

    When an error is raised inside, `folder` stays as it was. Who has a file of an older folder
    open keeps reading the older one.
    """
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as aside:
        fresh = Path(aside) / "new"
        fresh.mkdir()
        yield fresh
        if folder.exists():
            folder.rename(Path(aside) / "old")
        fresh.rename(folder)


def write_arrow(path: Path, columns: dict[str, Any]) -> None:
    """Writes columns of one length as an uncompressed Arrow file of one batch."""
    batch = pa.record_batch(columns)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def read_arrow(path: Path) -> dict[str, Any]:
    """Returns the columns of such a file, mapped from disk.

    Raises:
        pyarrow.ArrowInvalid, OSError: the file is damaged or cannot be read.
    """
    batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
    return {name: batch.column(name) for name in batch.schema.names}
