"""A cache for what is computed once: arrays and a few facts, found again by content.

CACHE/NAME-<hash of the key>/manifest.json   facts, checksums
CACHE/NAME-<hash of the key>/ARRAY.npy       memory-mapped: processes of a node share one copy
"""

import errno
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

logger = logging.getLogger(__name__)
SCHEMA = 1
STALE = 3600.0  # seconds; to write an entry that is already computed takes far less
SMALL = 1 << 22  # bytes; the checksum of a larger file is not checked at each opening
_ASIDE = ".aside"
_MANIFEST = "manifest.json"
# What reading a damaged entry may raise, and what renaming to a name that is taken does raise.
_DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError)
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
_NAME = re.compile(r"[a-z0-9_]+")


@dataclass(frozen=True)
class Entry:
    """What an entry holds.

    Attributes:
        arrays: by name (lower case letters, digits, underscores); of no object dtype.
        facts: anything that JSON can write.
    """

    arrays: Mapping[str, np.ndarray]
    facts: Mapping[str, Any] = field(default_factory=dict)


def cached(cache: Path | None, name: str, key: object, build: Callable[[], Entry]) -> Entry:
    """Returns `build()`, from the folder `cache` if it was built before.

    **By content.** The key is everything that the result depends on, the version of the code that
    computes it included. Other keys have other entries; none is ever brought up to date.
    **Whole or absent.** An entry is written aside and renamed, all its files at once. Where two
    processes build the same one, one copy stays, and both get it.
    **Checked.** Sizes, types and shapes at each opening, the checksum too of files up to `SMALL`
    bytes. A damaged entry is reported in the log and built anew.
    **Only a cache.** A folder that cannot be written is reported in the log, and the result is
    returned all the same. What dead writers leave is removed after `STALE` seconds.

    Args:
        cache: the folder, made if missing; None builds anew.
        name: what is cached: lower case letters, digits, underscores.
        key: anything that JSON can write; a file by its checksum, say.
        build: computes the entry.

    Returns:
        The entry. Its arrays cannot be written to, and its facts went through JSON (tuples are
        lists), whether it was built or found.

    Raises:
        ValueError: the name of the entry or of an array is not as said above, or an array is of
            object dtype.
        TypeError: key or facts are not for JSON.

    Example:
        >>> cached(None, "squares", [3], lambda: Entry({"of": np.arange(3) ** 2})).arrays["of"]
        array([0, 1, 4])
    """
    _require_name(name)
    digest = hashlib.sha256(_json([SCHEMA, key])).hexdigest()
    if cache is None:
        return _frozen(build())
    folder = cache / f"{name}-{digest[:32]}"
    found = _open(folder)
    if found is None:
        built = _frozen(build())
        found = _keep(folder, built) or built
    return found


def _keep(folder: Path, entry: Entry) -> Entry | None:
    """Writes the entry and returns it as others will find it, or None if that cannot be done."""
    aside = _aside(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(folder.parent)
        _write(aside, folder.name, entry)
        _move(aside, folder)
    except OSError as error:
        logger.warning("%s could not be kept: %s", folder, error)
        return None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return _open(folder)


def _write(aside: Path, name: str, entry: Entry) -> None:
    aside.mkdir()
    files = {}
    for each, array in entry.arrays.items():
        path = aside / f"{each}.npy"
        with path.open("wb") as file:
            np.save(file, array, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        files[each] = {
            "bytes": path.stat().st_size,
            "sha256": _checksum(path),
            "form": _form(array),
        }
    content = {"schema": SCHEMA, "entry": name, "facts": entry.facts, "arrays": files}
    with (aside / _MANIFEST).open("wb") as file:
        file.write(_json({**content, "sha256": hashlib.sha256(_json(content)).hexdigest()}))
        file.flush()
        os.fsync(file.fileno())


def _move(aside: Path, folder: Path) -> None:
    """Gives the folder its name, unless another process was first; a damaged one makes way."""
    for _ in range(10):
        try:
            aside.rename(folder)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
        else:
            return
        with suppress(*_DAMAGE):
            _read(folder)
            return
        _discard(folder)
    raise OSError("other processes keep changing it")


def _discard(folder: Path) -> None:
    """Removes an entry at one stroke: a reader finds all of it or nothing."""
    doomed = _aside(folder)
    try:
        folder.rename(doomed)
    except FileNotFoundError:
        return  # another process was first
    if doomed.is_dir() and not doomed.is_symlink():
        shutil.rmtree(doomed, ignore_errors=True)
    else:
        doomed.unlink()


def _aside(folder: Path) -> Path:
    # Not tempfile: its folders are closed to the other users of a shared cache.
    return folder.parent / f".{folder.name}.{secrets.token_hex(8)}{_ASIDE}"


def _remove_stale(cache: Path) -> None:
    for path in cache.glob(f".*{_ASIDE}"):
        try:
            age = time.time() - path.stat().st_mtime
        except OSError:
            continue  # its writer was just done
        if age > STALE:
            shutil.rmtree(path, ignore_errors=True)


def _open(folder: Path) -> Entry | None:
    """Returns the entry, or None if there is none that is whole."""
    if not folder.exists():
        return None
    try:
        return _read(folder)
    except _DAMAGE as error:
        logger.warning("%s is damaged (%s); built anew.", folder, error)
        return None


def _read(folder: Path) -> Entry:
    """Returns the entry, or raises one of `_DAMAGE`."""
    content = json.loads((folder / _MANIFEST).read_bytes())
    checksum = content.pop("sha256")
    if checksum != hashlib.sha256(_json(content)).hexdigest():
        raise ValueError(f"{_MANIFEST} does not match its checksum")
    if content["entry"] != folder.name:
        raise ValueError(f"it is the entry {content['entry']}")
    described = content["arrays"].items()
    arrays = {name: _array(folder / f"{name}.npy", facts) for name, facts in described}
    return Entry(arrays, content["facts"])


def _array(path: Path, expected: dict[str, Any]) -> np.ndarray:
    size = path.stat().st_size
    if size != expected["bytes"]:
        raise ValueError(f"{path.name} has {size} bytes, not {expected['bytes']}")
    if size <= SMALL and _checksum(path) != expected["sha256"]:
        raise ValueError(f"{path.name} does not match its checksum")
    array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    if _form(array) != expected["form"]:
        raise ValueError(f"{path.name} is {_form(array)}, not {expected['form']}")
    return array


def _form(array: np.ndarray) -> list[Any]:
    return [str(array.dtype), list(array.shape)]


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _frozen(entry: Entry) -> Entry:
    """Returns what was built in the form that `_open` gives."""
    arrays = {}
    for name, array in entry.arrays.items():
        _require_name(name)
        if array.dtype.hasobject:
            raise ValueError(f"Array {name!r} holds Python objects. Give it a dtype of its own.")
        arrays[name] = array.view()
        arrays[name].flags.writeable = False
    return Entry(arrays, json.loads(_json(entry.facts)))


def _require_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"A name has letters a-z, digits and underscores, but this is {name!r}.")


def _json(content: object) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
