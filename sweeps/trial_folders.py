"""The folder `trials/` of a results directory: files with a manifest, whole or absent.

Where folders can be renamed, a trial's files lie beside their manifest, and the folder is renamed
into its place. On an object store each writer puts its files under a name of its own, and the
manifest last, which says where they lie; a writer that dies before leaves nothing to be seen, and
of two writers the later manifest counts, each with its own files:

trials/<key>/manifest.json
trials/<key>/<attempt>/trial.json …

An attempt's name ends with a digest of the files' sizes, so that one listing tells whether they
are there in full.
"""

import hashlib
import json
import os
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sweeps.errors import DamagedTrialError
from sweeps.places import LocalPlace, Place

FOLDER = "trials"
MANIFEST = "manifest.json"
HEAD = ("trial.json", "history.parquet")
PREDICTIONS, MEASURES = "predictions.parquet", "measures.parquet"
WEIGHTS = "model.safetensors"
FURTHER = ("tree.json",)
"""What trials of some models leave besides."""
Manifest = dict[str, dict[str, Any]]


class TrialFolders:
    """Stored trials by key."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._glance: set[str] | None = None

    # ------------------------------------------------------------------ what there is

    def keys(self) -> list[str]:
        """Returns the keys of finished trials, sorted; one listing."""
        if not isinstance(self.place, LocalPlace):
            found = self.place.files(FOLDER)
            return sorted(name[: -len(MANIFEST) - 1] for name in found if _is_manifest(name))
        top = self.place.path(FOLDER)
        return [key for key in self.folders() if os.path.isfile(f"{top}/{key}/{MANIFEST}")]  # noqa: PTH113  thousands

    def folders(self) -> list[str]:
        """Returns the keys that a folder exists for, sorted: also those without a manifest.

        On an object store what has no manifest was never stored, so that it is left out.
        """
        if not isinstance(self.place, LocalPlace):
            return self.keys()
        return [name for name in self.place.names(FOLDER) if not name.startswith(".")]

    def has(self, key: str) -> bool:
        """Returns whether the trial is stored, without reading it."""
        if self._glance is not None:
            return key in self._glance
        return self.place.exists(f"{FOLDER}/{key}/{MANIFEST}")

    @contextmanager
    def at_a_glance(self) -> Iterator[None]:
        """Lets `has` answer from one listing, made now; what is stored meanwhile is not seen."""
        self._glance = set(self.keys())
        try:
            yield
        finally:
            self._glance = None

    def scan(self) -> dict[str, bool]:
        """Returns of every stored trial whether its files are there in full size, by key."""
        if not isinstance(self.place, LocalPlace):
            return self._scan_listing()
        top = str(self.place.path(FOLDER))
        states = {key: _whole(f"{top}/{key}") for key in self.folders()}
        return {key: whole for key, whole in states.items() if whole is not None}

    def _scan_listing(self) -> dict[str, bool]:
        found: dict[str, dict[str, int]] = defaultdict(dict)
        for name, size in self.place.files(FOLDER).items():
            key, _, file = name.partition("/")
            found[key][file] = size
        state = {}
        for key, files in found.items():
            if MANIFEST not in files:
                continue
            attempts: dict[str, dict[str, int]] = defaultdict(dict)
            for file, size in files.items():
                attempt, _, name = file.rpartition("/")
                if attempt:
                    attempts[attempt][name] = size
            whole = [name.endswith(f"-{_digest(sizes)}") for name, sizes in attempts.items()]
            # One attempt, and whole: the manifest is of it. Otherwise the manifest has to tell.
            state[key] = True if whole == [True] else self.intact(key)
        return state

    # ------------------------------------------------------------------ writing

    def save(self, key: str, files: Mapping[str, bytes]) -> None:
        """Stores a trial's files; a key already stored stays.

        Raises:
            StoreError: the files cannot be written.
        """
        manifest: Manifest = {
            name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in files.items()
        }
        folder = f"{FOLDER}/{key}"
        if isinstance(self.place, LocalPlace):
            self.place.add_folder(folder, {**files, MANIFEST: _json(manifest)})
            return
        if self.place.exists(f"{folder}/{MANIFEST}"):
            return
        sizes = {name: len(data) for name, data in files.items()}
        attempt = f"{uuid.uuid4().hex[:8]}-{_digest(sizes)}"
        for name, data in files.items():
            manifest[name]["at"] = f"{attempt}/{name}"
            self.place.write(f"{folder}/{attempt}/{name}", data)
        if self.place.exists(f"{folder}/{MANIFEST}"):  # another was faster; that one stays
            self.place.remove_folder(f"{folder}/{attempt}")
            return
        self.place.write(f"{folder}/{MANIFEST}", _json(manifest))

    def move(self, key: str, folder: str) -> str:
        """Moves a trial out of `trials/`; returns where it lies then."""
        target = f"{folder}/{key}-{uuid.uuid4().hex[:8]}"
        self.place.move_folder(f"{FOLDER}/{key}", target)
        if self._glance is not None:
            self._glance.discard(key)
        return target

    # ------------------------------------------------------------------ reading

    def manifest(self, key: str) -> Manifest:
        """Returns the manifest: bytes, sha256 and name (`at`) of each file.

        Raises:
            DamagedTrialError: it is missing or no manifest.
        """
        name = f"{FOLDER}/{key}/{MANIFEST}"
        try:
            content = json.loads(self.place.read(name))
            return {file: {"at": file, **content[file]} for file in wanted(content)}
        except (OSError, ValueError, TypeError, KeyError, IndexError) as error:
            why = getattr(error, "strerror", None) or "it is no manifest"
            raise DamagedTrialError(damaged(self.place.at(name), why)) from error

    def intact(self, key: str) -> bool:
        """Returns whether the trial's files are there in their full size; reads none of them."""
        try:
            return all(
                self.place.size(f"{FOLDER}/{key}/{entry['at']}") == entry["bytes"]
                for entry in self.manifest(key).values()
            )
        except (DamagedTrialError, KeyError):
            return False

    def read(self, key: str, name: str) -> bytes:
        """Returns a file of a trial, checked against its manifest.

        Raises:
            DamagedTrialError: it is missing or another one.
        """
        expected = self.manifest(key).get(name, {"at": name})
        file = f"{FOLDER}/{key}/{expected['at']}"
        where = self.place.at(file)
        try:
            data = self.place.read(file)
        except FileNotFoundError as error:
            raise DamagedTrialError(damaged(where, error.strerror or str(error))) from error
        if len(data) != expected.get("bytes"):
            why = f"it has {len(data):,} bytes, its manifest says {expected.get('bytes', 0):,}"
            raise DamagedTrialError(damaged(where, why))
        if hashlib.sha256(data).hexdigest() != expected.get("sha256"):
            raise DamagedTrialError(damaged(where, "its sha256 is not the manifest's"))
        return data


def wanted(names: Collection[str]) -> tuple[str, ...]:
    """Returns the files that a trial with a manifest of these names must have.

    Weights may have been left out of a copy; a recommender leaves predictions, others measures.
    """
    found = MEASURES if MEASURES in names else PREDICTIONS
    return (*HEAD, found, *(name for name in (WEIGHTS, *FURTHER) if name in names))


def damaged(where: str, why: str) -> str:
    """Returns the message of a damaged trial."""
    return (
        f"{where} is damaged: {why}. `medsweep run` with the same study sets this trial aside and "
        "computes it again; nothing else is touched."
    )


def _is_manifest(name: str) -> bool:
    return name.endswith(f"/{MANIFEST}") and name.count("/") == 1 and not name.startswith(".")


def _json(manifest: Manifest) -> bytes:
    return json.dumps(manifest, indent=2).encode()


def _digest(sizes: Mapping[str, int]) -> str:
    text = "".join(f"{name}:{sizes[name]}\n" for name in sorted(sizes))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _whole(folder: str) -> bool | None:
    """Returns whether a trial's folder holds what its manifest says, by sizes; None without."""
    try:
        # Paths as text and files without buffer: this is done ten thousand times.
        with open(f"{folder}/{MANIFEST}", "rb", buffering=0) as file:  # noqa: PTH123
            manifest = json.loads(file.readall())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError):
        return False
    try:
        names = wanted(manifest)
        return all(os.stat(f"{folder}/{n}").st_size == manifest[n]["bytes"] for n in names)  # noqa: PTH116
    except (OSError, TypeError, KeyError, IndexError):
        return False
