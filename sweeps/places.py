"""A folder on any file system: what the results store, locks and copies are built on.

A local folder (`LocalPlace`), which a shared NFS-like folder is too, or one that pyarrow reaches
(`sweeps.remote`): s3://, gs://. Names in it are relative, with slashes, and never lead out of it.
"""

import os
import shutil
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from sweeps.errors import StoreError


class Place(ABC):
    """A folder on some file system.

    **Whole or absent.** A file is there with all its bytes, or not at all. **Inside.** No name
    leads out of the folder: neither `..`, nor an absolute path, nor a link.

    Every method raises `StoreError` with rule, value and remedy if the file system refuses.

    Attributes:
        local: the folder where it is one of this machine; None elsewhere.
    """

    local: Path | None = None

    @abstractmethod
    def __str__(self) -> str:
        """Returns what `place_of` makes the same place of, in any process; without secrets."""

    @abstractmethod
    def child(self, name: str) -> "Place":
        """Returns a folder in this one."""

    @abstractmethod
    def at(self, name: str) -> str:
        """Returns how messages call a file of this place."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Returns a file's bytes.

        Raises:
            FileNotFoundError: there is no such file.
        """

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Writes a file whole, with the folders above it; an older one is replaced."""

    @abstractmethod
    def size(self, name: str) -> int | None:
        """Returns a file's bytes; None if there is no such file."""

    @abstractmethod
    def names(self, folder: str = "") -> list[str]:
        """Returns the names of files and folders right in a folder, sorted; hidden ones too."""

    @abstractmethod
    def files(self, folder: str = "") -> dict[str, int]:
        """Returns the size of every file below a folder, by its name from there, sorted."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Deletes a file, if it is there."""

    @abstractmethod
    def remove_folder(self, name: str) -> None:
        """Deletes a folder and all in it, if it is there."""

    @abstractmethod
    def move_folder(self, name: str, to: str) -> None:
        """Moves a folder within this place, to where nothing is."""

    def exists(self, name: str) -> bool:
        """Returns whether there is a file of that name."""
        return self.size(name) is not None

    def read_some(self, names: Iterable[str]) -> dict[str, bytes]:
        """Returns the bytes of several files by name; those that do not exist are left out."""
        found = {}
        for name in names:
            try:
                found[name] = self.read(name)
            except FileNotFoundError:
                continue
        return found


def place_of(root: Path | str | Place) -> Place:
    """Returns the place that a path or URI names.

    Example:
        >>> place_of("results/demo").local
        PosixPath('results/demo')
        >>> str(place_of("file:///data/my%20results"))
        '/data/my results'

    Raises:
        StoreError: the URI is none, holds credentials, or names a file system that is not there.
    """
    if isinstance(root, Place):
        return root
    if isinstance(root, Path) or "://" not in root:
        return LocalPlace(Path(root))
    parts = urlsplit(root)
    if parts.scheme == "file":
        return LocalPlace(Path(unquote(parts.path)))
    from sweeps.remote import remote_place  # file systems of pyarrow take a while to load

    return remote_place(root)


def checked(name: str) -> str:
    """Returns a name in its plain form.

    Raises:
        StoreError: it leads out of its place, or is no name.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise StoreError(f"{name!r} lies outside the results directory: names are relative to it.")
    return "" if path == PurePosixPath() else str(path)


class LocalPlace(Place):
    """A folder of this machine, or one that it has mounted."""

    def __init__(self, local: Path) -> None:
        self.local: Path = local

    def __str__(self) -> str:
        return str(self.local.absolute())

    def child(self, name: str) -> "LocalPlace":
        """Returns a folder in this one."""
        return LocalPlace(self.path(name))

    def at(self, name: str) -> str:
        """Returns the file's path."""
        return str(self.local / name)

    @cached_property
    def _real(self) -> str:
        return os.path.realpath(self.local)

    def path(self, name: str) -> Path:
        """Returns where a file or folder of this place lies.

        Raises:
            StoreError: it lies outside of the place, be it by a link.
        """
        path = self.local / checked(name)
        real = os.path.realpath(path)
        if real != self._real and not real.startswith(self._real.rstrip("/") + "/"):
            raise StoreError(f"{name!r} lies outside the results directory {self.local}.")
        return path

    def read(self, name: str) -> bytes:
        """Returns a file's bytes."""
        path = self.path(name)
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise FileNotFoundError(error.errno, error.strerror, str(path)) from error
        except OSError as error:
            raise StoreError(
                f"Cannot read {path}: {error.strerror or error}. Mend the permissions or the "
                "disk, then run the same command."
            ) from error

    def write(self, name: str, data: bytes) -> None:
        """Writes a file aside, brings it to the disk, and renames it."""
        path = self.path(name)
        with _translated(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            aside = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")
            try:
                _write_synced(aside, data)
                aside.replace(path)
            finally:
                aside.unlink(missing_ok=True)

    def add_folder(self, name: str, files: Mapping[str, bytes]) -> None:
        """Writes a folder aside, then renames it.

        A folder of that name which has the last of the files stays as it is.
        """
        target = self.path(name)
        aside = target.with_name(f".{target.name}-{uuid.uuid4().hex[:8]}")
        with _translated(aside):
            aside.mkdir(parents=True)
            for file, data in files.items():
                _write_synced(aside / file, data)
            try:
                aside.rename(target)
            except OSError:
                if not (target / [*files][-1]).is_file():
                    raise
                shutil.rmtree(aside)

    def size(self, name: str) -> int | None:
        """Returns a file's bytes."""
        path = self.path(name)
        try:
            return path.stat().st_size if path.is_file() else None
        except OSError:
            return None

    def names(self, folder: str = "") -> list[str]:
        """Returns what is right in a folder."""
        try:
            return sorted(os.listdir(self.path(folder)))  # noqa: PTH208  names alone
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise StoreError(
                f"Cannot look into {self.at(folder)}: {error.strerror}. Mend the permissions."
            ) from error

    def files(self, folder: str = "") -> dict[str, int]:
        """Returns the size of every file below a folder; links are left out."""
        top = str(self.path(folder))
        found = {}
        for path, _, names in os.walk(top):
            for name in names:
                full = f"{path}/{name}"
                if os.path.islink(full):  # noqa: PTH114  thousands of them
                    continue
                try:
                    found[full[len(top) + 1 :]] = os.stat(full).st_size  # noqa: PTH116
                except OSError:
                    continue  # deleted meanwhile
        return dict(sorted(found.items()))

    def remove(self, name: str) -> None:
        """Deletes a file, if it is there."""
        path = self.path(name)
        with _translated(path):
            path.unlink(missing_ok=True)

    def remove_folder(self, name: str) -> None:
        """Deletes a folder, if it is there."""
        shutil.rmtree(self.path(name), ignore_errors=True)

    def move_folder(self, name: str, to: str) -> None:
        """Renames a folder."""
        source, target = self.path(name), self.path(to)
        with _translated(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            source.rename(target)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turns an operating-system error into a `StoreError`; leaves nothing half-written behind."""
    try:
        yield
    except OSError as error:
        if path.name.startswith("."):
            shutil.rmtree(path, ignore_errors=True)
        raise StoreError(
            f"Cannot write {path}: {error.strerror or error}. Free space or mend the permissions, "
            "then run the same command: finished trials are kept."
        ) from error


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
