"""A copy of a results directory that lies elsewhere, for commands that read: tables, the report.

The copy is kept in this user's cache, so that the next command fetches what is new alone; what
was made from it (tables, figures, pages) is sent back. A trial's files lie in the copy as in a
folder of this machine, by default without its weights, which its manifest then does not name.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sweeps.caches import cache_folder, locked
from sweeps.errors import StoreError
from sweeps.places import Place, checked, place_of
from sweeps.remote import RemotePlace
from sweeps.trial_folders import FOLDER, MANIFEST, WEIGHTS

_FILES = ("study.json", "visits.parquet", "copy.json", "report.html", "cases.html", "lease.json")
_FOLDERS = (
    "failed", "figures", "rehearsals", "running", "searches", "sessions", "tables",
)  # fmt: skip
_MADE = ("tables/", "figures/", "trees/", "report.html", "cases.html")
_INDEX = ".index.json"
_CHECKPOINT = "checkpoint.safetensors"
_origins: dict[Path, str] = {}  # of the copies that this process uses
_AT_ONCE = 256  # files held in memory


@contextmanager
def mirrored(
    root: Path | str | Place, weights: bool = False, events: bool = False
) -> Iterator[Path]:
    """Gives a folder of this machine with what a results directory holds.

    A local one is given itself. Of another one it is a copy, which is made or brought up to date
    first; tables, figures and pages that were made in it are sent back at the end. Checkpoints of
    unfinished trials are there by name alone.

    Args:
        root: the results directory.
        weights: whether weights are needed.
        events: whether TensorBoard's event files are needed.

    Raises:
        StoreError: the directory cannot be read, or what was made cannot be sent back.
    """
    place = place_of(root)
    if not isinstance(place, RemotePlace):
        if place.local is None:
            raise StoreError(f"{place} is neither a folder nor an object store.")
        yield place.local
        return
    name = hashlib.sha256(str(place).encode()).hexdigest()[:16]
    folder = cache_folder() / "mirrors" / name
    with locked(f"mirror-{name}"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _Mirror(place, folder).update(weights, events)
        before = _made(folder)
        _origins[folder] = str(place).partition("?")[0]
        if not events:
            yield folder
            _send_back(place, folder, before)
            return
    yield folder  # what shows events goes on for hours, and must keep nobody waiting


def shown(path: Path) -> str:
    """Returns what a person calls a file: in a copy, that which it is sent back to."""
    for folder, origin in _origins.items():
        if path.is_relative_to(folder):
            return f"{origin}/{path.relative_to(folder).as_posix()}"
    return str(path)


class _Mirror:
    """One copy; its index says of which version of each file or trial it is."""

    def __init__(self, place: RemotePlace, folder: Path) -> None:
        self.place, self.folder = place, folder
        self._held = self._index()

    def update(self, weights: bool, events: bool) -> None:
        """Fetches what is new, and deletes what is gone."""
        trials: dict[str, dict[str, str]] = defaultdict(dict)
        files: dict[str, str] = {}
        for name, version in self.place.versions().items():
            top, _, rest = name.partition("/")
            if top == FOLDER:
                key, _, file = rest.partition("/")
                trials[key][file] = version
            elif name in _FILES or top in (*_FOLDERS, *(["tensorboard"] if events else [])):
                files[name] = version
        whole = {key: found for key, found in trials.items() if MANIFEST in found}
        wanted = {**files, **{f"{FOLDER}/{k}": _digest(v, weights) for k, v in whole.items()}}
        for name in set(self._held) - set(wanted):
            if events or not name.startswith("tensorboard/"):
                self._forget(name)
        new = [name for name in files if self._held.get(name) != files[name]]
        keys = [key for key in whole if not self._has_trial(key, whole[key], weights)]
        try:
            self._fetch_files(new, files)
            self._fetch_trials(keys, whole, weights)
        finally:
            (self.folder / _INDEX).write_text(json.dumps(self._held))

    def _index(self) -> dict[str, str]:
        try:
            found = json.loads((self.folder / _INDEX).read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _has_trial(self, key: str, found: dict[str, str], weights: bool) -> bool:
        held = self._held.get(f"{FOLDER}/{key}")
        return held == _digest(found, True) or (not weights and held == _digest(found, False))

    def _forget(self, name: str) -> None:
        if name.startswith(f"{FOLDER}/"):
            place_of(self.folder).remove_folder(name)
        else:
            place_of(self.folder).remove(name)
        del self._held[name]

    def _fetch_files(self, names: list[str], versions: dict[str, str]) -> None:
        bare = [name for name in names if name.endswith(f"/{_CHECKPOINT}")]
        names = [name for name in names if name not in set(bare)]
        for start in range(0, len(names), _AT_ONCE):
            for name, data in self.place.read_some(names[start : start + _AT_ONCE]).items():
                self._write(name, data)
                self._held[name] = versions[name]
        for name in bare:
            self._write(name, b"")
            self._held[name] = versions[name]

    def _fetch_trials(
        self, keys: list[str], found: dict[str, dict[str, str]], weights: bool
    ) -> None:
        step = max(1, _AT_ONCE // 4)
        for start in range(0, len(keys), step):
            some = keys[start : start + step]
            manifests = self.place.read_some(f"{FOLDER}/{key}/{MANIFEST}" for key in some)
            wanted: dict[str, tuple[str, str]] = {}
            told: dict[str, bytes] = {}
            for key in some:
                data = manifests.get(f"{FOLDER}/{key}/{MANIFEST}", b"")
                told[key], files = _flat(data, weights)
                for name, at in files.items():
                    wanted[f"{FOLDER}/{key}/{at}"] = (key, name)
            content = self.place.read_some(wanted)
            for key in some:
                place_of(self.folder).remove_folder(f"{FOLDER}/{key}")
            for source, data in content.items():
                key, name = wanted[source]
                self._write(f"{FOLDER}/{key}/{name}", data)
            for key in some:
                self._write(f"{FOLDER}/{key}/{MANIFEST}", told[key])
                self._held[f"{FOLDER}/{key}"] = _digest(found[key], weights)

    def _write(self, name: str, data: bytes) -> None:
        # Neither aside nor synced, since the index counts it only once all of it is written.
        path = self.folder / checked(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _digest(found: dict[str, str], weights: bool) -> str:
    text = json.dumps([weights, sorted(found.items())])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _flat(data: bytes, weights: bool) -> tuple[bytes, dict[str, str]]:
    """Returns a manifest whose files lie beside it, and where each lies; damaged as it is."""
    try:
        manifest: dict[str, dict[str, Any]] = json.loads(data)
        kept = {name: dict(e) for name, e in manifest.items() if weights or name != WEIGHTS}
        files = {name: str(entry.pop("at", name)) for name, entry in kept.items()}
        for name in (*files, *files.values()):
            checked(name)
        flat = all("/" not in name and not name.startswith(".") for name in files)
    except (ValueError, TypeError, AttributeError, StoreError):
        return data, {}
    return (json.dumps(kept, indent=2).encode(), files) if flat else (data, {})


def _made(folder: Path) -> dict[str, tuple[int, int]]:
    """Returns time and size of everything that commands make, by name."""
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if name.startswith(_MADE) and path.is_file():
            state = path.stat()
            found[name] = (state.st_mtime_ns, state.st_size)
    return found


def _send_back(place: Place, folder: Path, before: dict[str, tuple[int, int]]) -> None:
    after = _made(folder)
    for name, state in sorted(after.items()):
        if before.get(name) != state:
            place.write(name, (folder / name).read_bytes())
    for name in sorted(set(before) - set(after)):
        place.remove(name)
