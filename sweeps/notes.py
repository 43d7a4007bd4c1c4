"""The small JSON files of a results directory: why trials failed, what was suggested.

They are notes that can be made again, or done without; results are kept with checksums instead.
"""

import json
import re
from pathlib import Path
from typing import Any

from sweeps.errors import StoreError
from sweeps.places import Place, place_of

_KEY = re.compile(r"[0-9a-f]{16}")


class Notes:
    """Small files of a results directory, each written whole.

    Attributes:
        place: the results directory.
    """

    def __init__(self, root: Path | str | Place) -> None:
        """Opens the results directory `root`: a path, a URI, or a place.

        Raises:
            StoreError: the URI is wrong. Nothing is read or written yet.
        """
        self.place = place_of(root)

    @property
    def root(self) -> Path:
        """The results directory, where it is a folder of this machine.

        Raises:
            StoreError: it is elsewhere.
        """
        if self.place.local is None:
            raise StoreError(
                f"{self.place} is no folder of this machine, as this needs. Copy it here first."
            )
        return self.place.local

    def record_failure(self, key: str, reason: str, seconds: float = 0.0) -> None:
        """Notes that a trial failed, and why; counts the attempts and what was spent in vain.

        Args:
            key: the spec's key.
            reason: for the person who mends it.
            seconds: that the attempt took, without epochs that a further attempt goes on from.
        """
        lost = self.failed_attempts(key)
        note = {
            "reason": reason,
            "attempts": lost["attempts"] + 1,
            "seconds": lost["seconds"] + seconds,
        }
        self.write_text(f"failed/{key}.json", json.dumps(note, indent=2))

    def failed_attempts(self, key: str) -> dict[str, Any]:
        """Returns how often a trial that is not stored failed, and the seconds lost by that."""
        note = self.note(f"failed/{key}.json") or {}
        return {"attempts": note.get("attempts", 0), "seconds": note.get("seconds", 0.0)}

    def failures(self) -> dict[str, dict[str, Any]]:
        """Returns reason, attempts and lost seconds of every failed trial by key.

        A trial that is tried again is left out until it fails once more.
        """
        notes = self.read_all("failed")
        return {key: note for key, note in notes.items() if note.get("reason") is not None}

    def failure(self, key: str) -> dict[str, Any] | None:
        """Returns reason, attempts and lost seconds of a trial if it failed."""
        note = self.note(f"failed/{key}.json")
        return note if note is not None and note.get("reason") is not None else None

    def try_again(self, key: str) -> None:
        """Takes back why a trial failed, as it starts again; the attempts stay counted."""
        note = self.note(f"failed/{key}.json")
        if note is not None:
            self.write_text(f"failed/{key}.json", json.dumps({**note, "reason": None}, indent=2))

    def read_all(self, folder: str) -> dict[str, dict[str, Any]]:
        """Returns the JSON files of a folder by stem, sorted; an unreadable one is left out.

        These files are notes that can be made again; results are read with checksums instead.
        """
        found = {}
        names = [name for name in self.place.names(folder) if not name.startswith(".")]
        wanted = [f"{folder}/{name}" for name in names if name.endswith(".json")]
        for name, data in self.place.read_some(wanted).items():
            content = _json_object(data)
            if content is not None:
                found[name[len(folder) + 1 : -len(".json")]] = content
        return found

    def note(self, name: str) -> dict[str, Any] | None:
        """Returns what a small JSON file holds; None if it is not there, or holds no object."""
        data = self.place.read_some([name]).get(name)
        return None if data is None else _json_object(data)

    def search_records(self, search: str) -> list[dict[str, Any]]:
        """Returns what became of each suggestion of a search, by number; what is none is left out.

        A suggestion whose note is lost is made again when the study is run.
        """
        found = self.read_all(f"searches/{search}").values()
        whole = [note for note in found if _is_search_record(note)]
        return sorted(whole, key=lambda note: int(note["number"]))

    def write_text(self, name: str, text: str) -> Path:
        """Writes a small file whole, replacing an older one; returns its path.

        Where results are no folder of this machine, the path is that within them.
        """
        return self.write_bytes(name, text.encode())

    def write_bytes(self, name: str, data: bytes) -> Path:
        """Writes a small file that is no text, as `write_text` does."""
        self.place.write(name, data)
        return (self.place.local or Path()) / name

    def remove(self, name: str) -> None:
        """Deletes a small file that can be made again, if it is there."""
        self.place.remove(name)


def _json_object(data: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(data)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _is_search_record(note: dict[str, Any]) -> bool:
    kinds = {"number": int, "key": str, "params": dict, "state": str}
    values = note.get("values")
    return (
        all(isinstance(note.get(name), kind) for name, kind in kinds.items())
        and _KEY.fullmatch(note["key"]) is not None  # it becomes part of paths
        and (values is None or isinstance(values, list))
    )
