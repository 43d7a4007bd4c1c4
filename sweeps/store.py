"""The results store: one directory per study, one directory per finished trial.

study.json                      what the study is about (`sweeps.record`)
visits.parquet                  service, age band, … of each test visit (`sweeps.visits`)
trials/<key>/trial.json         spec, best epoch, validation, times, failed attempts, versions
             history.parquet    a row an epoch: training loss, validation metrics, seconds
             predictions.parquet  a row a test visit: true set, chosen set, scores
             model.safetensors  weights of the best validation epoch; a slim copy has none
             manifest.json      size and sha256 of the files above
failed/<key>.json               why a trial failed, how often, and the seconds lost
rehearsals/<key>.json           what a first step showed of a trial (`sweeps.rehearse`)
superseded/                     trials that other code made, set aside at request
searches/<name>/<number>.json   what a search suggested, and what became of it
running/<key>/                  epoch checkpoint of an unfinished trial
tensorboard/<key>/              event files
"""

import hashlib
import io
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from medrec.predictions import Predictions
from sweeps.errors import DamagedTrialError, StoreError
from sweeps.record import StudyRecord
from sweeps.visits import FILE, VisitFacts, from_parquet, to_parquet

SCHEMA = 1
_FILES = ("trial.json", "history.parquet", "predictions.parquet")
_WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class StoredTrial:
    """A finished trial.

    Attributes:
        key: the spec's key.
        summary: `trial.json`: spec, best_epoch, validation (metrics), seconds, started, ended,
            failed_attempts (where there were any), environment.
        history: columns of `history.parquet`, each a list with one value an epoch.
        predictions: of the test split.
    """

    key: str
    summary: dict[str, Any]
    history: dict[str, list[float]]
    predictions: Predictions


class ResultsStore:
    """Keeps every finished trial of a study.

    **Whole or absent.** A trial is visible with all its files and matching checksums, or not at
    all. **One writer per key.** Two workers that finish the same key leave one trial, and neither
    fails. **Never rewritten.** What a key holds does not change. **Nothing runs.** Reading it
    executes no stored code: JSON, Parquet and safetensors only.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    # ------------------------------------------------------------------ the study

    def write_study(self, record: StudyRecord) -> None:
        """Writes `study.json` without paths of this machine, replacing an older one whole."""
        self.write_text("study.json", record.without_places().model_dump_json(indent=2) + "\n")

    def study(self) -> StudyRecord:
        """Returns the study's record.

        Raises:
            StoreError: the directory holds no study, or one of another schema.
        """
        path = self.root / "study.json"
        if not path.is_file():
            raise StoreError(
                f"{self.root} holds no study: it has no study.json. "
                f"Start one with `medsweep run STUDY --out {self.root}`."
            )
        try:
            return StudyRecord.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise StoreError(
                f"{path}, field {where or '(whole file)'}: {first['msg']}. It was changed or "
                "written by another version; run the study again, stored trials are kept."
            ) from error

    def write_visits(self, facts: VisitFacts) -> None:
        """Writes `visits.parquet`, replacing an older one whole."""
        self._write_whole(FILE, to_parquet(facts))

    def visits(self) -> VisitFacts | None:
        """Returns the facts of each test visit; None in a directory made before they were kept.

        Raises:
            StoreError: the file is damaged.
        """
        path = self.root / FILE
        return from_parquet(path.read_bytes(), str(path)) if path.is_file() else None

    # ------------------------------------------------------------------ trials

    def trial_keys(self) -> list[str]:
        """Returns the keys of all finished trials, sorted."""
        return [key for key in self.trial_folders() if self.has(key)]

    def trial_folders(self) -> list[str]:
        """Returns the keys that a folder exists for, sorted: also those without a manifest."""
        return sorted(p.name for p in (self.root / "trials").glob("[!.]*"))

    def has(self, key: str) -> bool:
        """Returns whether the trial is stored, without reading it."""
        return (self.root / "trials" / key / "manifest.json").is_file()

    def save(
        self,
        key: str,
        summary: dict[str, Any],
        history: list[dict[str, float]],
        predictions: Predictions,
        weights: bytes,
    ) -> None:
        """Stores a finished trial: written aside, then renamed. A key already stored stays.

        Raises:
            StoreError: the files cannot be written (disk full, no permission).
        """
        head = json.dumps({**summary, "schema": SCHEMA, "key": key}, indent=2, sort_keys=True)
        files = {
            "trial.json": head.encode(),
            "history.parquet": _parquet(pa.Table.from_pylist(history)),
            "predictions.parquet": _parquet(_to_table(predictions)),
            _WEIGHTS: weights,
        }
        self.save_files(key, files)

    def save_files(self, key: str, files: dict[str, bytes]) -> None:
        """Stores a finished trial's files, as `save` does; the weights may be left out.

        Raises:
            StoreError: the files cannot be written (disk full, no permission).
        """
        folder = self.root / "trials"
        aside = folder / f".{key}-{uuid.uuid4().hex[:8]}"
        with _translated(aside):
            aside.mkdir(parents=True)
            manifest = {}
            for name, data in files.items():
                _write_synced(aside / name, data)
                manifest[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            _write_synced(aside / "manifest.json", json.dumps(manifest, indent=2).encode())
            try:
                aside.rename(folder / key)
            except OSError:
                if not self.has(key):
                    raise
                shutil.rmtree(aside)
        (self.root / "failed" / f"{key}.json").unlink(missing_ok=True)
        self.forget_running(key)

    def forget_running(self, key: str) -> None:
        """Deletes the epoch checkpoint of a trial that will not go on."""
        shutil.rmtree(self.root / "running" / key, ignore_errors=True)

    def intact(self, key: str) -> bool:
        """Returns whether the trial's files are there in their full size; reads none of them."""
        folder = self.root / "trials" / key
        try:
            sizes = {name: entry["bytes"] for name, entry in self._manifest(key).items()}
            return all((folder / name).stat().st_size == size for name, size in sizes.items())
        except (DamagedTrialError, OSError):
            return False

    def check(self, key: str) -> None:
        """Raises `DamagedTrialError` unless every file of the trial matches its manifest."""
        for name in self._manifest(key):
            self._read(key, name)
        self.summary(key)

    def load(self, key: str) -> StoredTrial:
        """Returns a stored trial, its checksums verified.

        Raises:
            DamagedTrialError: a file is missing or differs from its manifest.
        """
        table = _table(self._read(key, "predictions.parquet"))
        return StoredTrial(key, self.summary(key), self.history(key), _from_table(table))

    def summary(self, key: str) -> dict[str, Any]:
        """Returns `trial.json` of a stored trial, its checksum verified.

        Raises:
            DamagedTrialError: it is missing, changed, or of another trial.
        """
        summary = dict(json.loads(self._read(key, "trial.json")))
        if summary.get("key", key) != key:  # trials of older versions do not say
            path = self.root / "trials" / key
            raise DamagedTrialError(_damaged(path, f"it holds the trial {summary['key']}"))
        return summary

    def history(self, key: str) -> dict[str, list[float]]:
        """Returns the columns of `history.parquet`, checksum verified."""
        return dict(_table(self._read(key, "history.parquet")).to_pydict())

    def weights(self, key: str) -> bytes:
        """Returns `model.safetensors` of a stored trial, its checksum verified.

        Raises:
            StoreError: this is a copy that was made without weights.
        """
        if not self.has_weights(key):
            raise StoreError(
                f"{self.root} has no weights of trial {key}: this copy was made without weights. "
                "Use the results directory that it was made from."
            )
        return self._read(key, _WEIGHTS)

    def has_weights(self, key: str) -> bool:
        """Returns whether the trial was stored with its weights, by its manifest."""
        return _WEIGHTS in self._manifest(key)

    def content(self, key: str) -> dict[str, bytes]:
        """Returns every file of a stored trial but its weights, checksums verified."""
        return {name: self._read(key, name) for name in _FILES}

    def set_aside(self, key: str) -> Path:
        """Moves a damaged trial to `damaged/`, so that its key counts as missing."""
        return self._move(key, "damaged")

    def supersede(self, key: str) -> Path:
        """Moves a stored trial to `superseded/`, so that it is computed again."""
        return self._move(key, "superseded")

    def _move(self, key: str, folder: str) -> Path:
        target = self.root / folder / f"{key}-{uuid.uuid4().hex[:8]}"
        with _translated(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            (self.root / "trials" / key).rename(target)
        return target

    def _manifest(self, key: str) -> dict[str, dict[str, Any]]:
        path = self.root / "trials" / key / "manifest.json"
        try:
            manifest = json.loads(path.read_bytes())
            names = (*_FILES, _WEIGHTS) if _WEIGHTS in manifest else _FILES
            return {name: {**manifest[name]} for name in names}
        except (OSError, ValueError, TypeError, KeyError, IndexError) as error:
            why = getattr(error, "strerror", None) or "it is no manifest"
            raise DamagedTrialError(_damaged(path, why)) from error

    def _read(self, key: str, name: str) -> bytes:
        path = self.root / "trials" / key / name
        expected = self._manifest(key).get(name, {})
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DamagedTrialError(_damaged(path, error.strerror or str(error))) from error
        if len(data) != expected.get("bytes"):
            why = f"it has {len(data):,} bytes, its manifest says {expected.get('bytes', 0):,}"
            raise DamagedTrialError(_damaged(path, why))
        if hashlib.sha256(data).hexdigest() != expected.get("sha256"):
            raise DamagedTrialError(_damaged(path, "its sha256 is not the manifest's"))
        return data

    # ------------------------------------------------------------------ failures and small files

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
        note = self.read_all("failed").get(key, {})
        return {"attempts": note.get("attempts", 0), "seconds": note.get("seconds", 0.0)}

    def failures(self) -> dict[str, dict[str, Any]]:
        """Returns reason, attempts and lost seconds of every failed trial by key.

        A trial that is tried again is left out until it fails once more.
        """
        notes = self.read_all("failed")
        return {key: note for key, note in notes.items() if note.get("reason") is not None}

    def try_again(self, key: str) -> None:
        """Takes back why a trial failed, as it starts again; the attempts stay counted."""
        note = self.read_all("failed").get(key)
        if note is not None:
            self.write_text(f"failed/{key}.json", json.dumps({**note, "reason": None}, indent=2))

    def read_all(self, folder: str) -> dict[str, dict[str, Any]]:
        """Returns the JSON files of a folder by stem, sorted; an unreadable one is left out.

        These files are notes that can be made again; results are read with checksums instead.
        """
        found = {}
        for path in sorted((self.root / folder).glob("[!.]*.json")):
            try:
                content = json.loads(path.read_text())
            except (OSError, ValueError):
                continue
            if isinstance(content, dict):
                found[path.stem] = content
        return found

    def search_records(self, search: str) -> list[dict[str, Any]]:
        """Returns what became of each suggestion of a search, by number; what is none is left out.

        A suggestion whose note is lost is made again when the study is run.
        """
        found = self.read_all(f"searches/{search}").values()
        whole = [note for note in found if _is_search_record(note)]
        return sorted(whole, key=lambda note: int(note["number"]))

    def write_text(self, name: str, text: str) -> Path:
        """Writes a small file whole: aside, then renamed over."""
        return self._write_whole(name, text.encode())

    def write_bytes(self, name: str, data: bytes) -> Path:
        """Writes a small file that is no text, as `write_text` does."""
        return self._write_whole(name, data)

    def remove(self, name: str) -> None:
        """Deletes a small file that can be made again, if it is there."""
        with _translated(self.root / name):
            (self.root / name).unlink(missing_ok=True)

    def _write_whole(self, name: str, data: bytes) -> Path:
        path = self.root / name
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise StoreError(f"{name!r} lies outside the results directory {self.root}.")
        with _translated(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            aside = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")
            try:
                _write_synced(aside, data)
                aside.replace(path)
            finally:
                aside.unlink(missing_ok=True)
        return path


def _damaged(path: Path, why: str) -> str:
    return (
        f"{path} is damaged: {why}. `medsweep run` with the same study sets this trial aside and "
        "computes it again; nothing else is touched."
    )


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


def _is_search_record(note: dict[str, Any]) -> bool:
    kinds = {"number": int, "key": str, "params": dict, "state": str}
    values = note.get("values")
    return all(isinstance(note.get(name), kind) for name, kind in kinds.items()) and (
        values is None or isinstance(values, list)
    )


def _table(data: bytes) -> pa.Table:
    # One thread: the files are small, and a pool may outlive a process that ends early.
    return pq.read_table(io.BytesIO(data), use_threads=False)


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _lists(rows: np.ndarray) -> pa.Array:
    offsets = np.concatenate([[0], np.cumsum(rows.sum(axis=1))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.nonzero(rows)[1], pa.int16()))


def _to_table(predictions: Predictions) -> pa.Table:
    drugs = predictions.scores.shape[1]
    scores = pa.FixedSizeListArray.from_arrays(pa.array(predictions.scores.ravel()), drugs)
    return pa.table(
        {
            "patient": predictions.patient,
            "visit": predictions.visit,
            "truth": _lists(predictions.truth),
            "chosen": _lists(predictions.chosen),
            "scores": scores,
        }
    )


def _from_table(table: pa.Table) -> Predictions:
    table = table.combine_chunks()
    scores = table["scores"].combine_chunks()
    drugs = scores.type.list_size
    matrix = scores.flatten().to_numpy().reshape(-1, drugs).astype(np.float32, copy=False)
    sets = {}
    for name in ("truth", "chosen"):
        column = table[name].combine_chunks()
        hot = np.zeros(matrix.shape, dtype=bool)
        counts = np.diff(column.offsets.to_numpy())
        hot[np.repeat(np.arange(len(hot)), counts), column.flatten().to_numpy()] = True
        sets[name] = hot
    return Predictions(
        patient=table["patient"].to_numpy(),
        visit=table["visit"].to_numpy(),
        truth=sets["truth"],
        chosen=sets["chosen"],
        scores=matrix,
    )
