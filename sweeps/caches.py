"""Copies that this user's processes on this machine share; patient data among them, so private."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sweeps.errors import StoreError

VARIABLE = "MEDSWEEP_CACHE"


def cache_folder() -> Path:
    """Returns the folder of copies, which nobody else may read; it can be deleted at any time.

    `$MEDSWEEP_CACHE`, or `medsweep` in the user's cache directory.

    Raises:
        StoreError: it cannot be made, or belongs to somebody else.
    """
    given = os.environ.get(VARIABLE)
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(given) if given else base / "medsweep"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        owner = folder.stat().st_uid
        if owner != os.geteuid():
            raise StoreError(
                f"The folder of copies {folder} belongs to another user. Set {VARIABLE} to one of "
                "your own."
            )
        folder.chmod(0o700)
    except OSError as error:
        raise StoreError(
            f"Cannot make the folder of copies {folder}: {error.strerror}. Set {VARIABLE} to a "
            "folder that can be written."
        ) from error
    return folder.absolute()


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Lets one process of this machine at a time make the copy of that name; others wait."""
    folder = cache_folder() / "locks"
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
