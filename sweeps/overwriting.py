"""What a command may write over: nothing of a user's, and no sound result that is another."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from medrec.errors import InputError
from sweeps.errors import StoreError


class Fingerprinted(Protocol):
    """What says by its fingerprint whether it is the same."""

    @property
    def fingerprint(self) -> str:
        """sha256 of its content."""


def refuse_foreign(out: Path, sign: str, what: str) -> None:
    """Raises an error if `out` holds something, but not the file that a `what` has."""
    taken = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if taken and not (out / sign).is_file():
        raise StoreError(
            f"{out} is not empty and holds no {what}. Choose another --out, so that nothing there "
            "is overwritten."
        )


def refuse_another(
    out: Path, made: Fingerprinted, read: Callable[[Path], Fingerprinted], what: str
) -> None:
    """Raises an error if `out` holds another sound `what` than `made`: studies rest on it."""
    try:
        stored = read(out)
    except InputError:
        return
    if stored.fingerprint != made.fingerprint:
        raise StoreError(
            f"{out} holds another {what} ({stored.fingerprint[:12]}; this one is "
            f"{made.fingerprint[:12]}). Choose another --out, or delete that folder first."
        )
