"""The results store: one directory per study, one directory per finished trial.

study.json                      what the study is about (`sweeps.record`)
visits.parquet                  service, age band, … of each test visit (`sweeps.visits`)
trials/<key>/trial.json         spec, best epoch, validation, times, failed attempts, versions
             history.parquet    a row an epoch: training loss, validation metrics, seconds
             predictions.parquet  a row a test visit: true set, chosen set, scores; or, of what
                                is no recommender:
             measures.parquet   a row a unit (test patient, code): terms of each measure
             tree.json          the learned hierarchy, of a builder of hierarchies
             model.safetensors  weights of the best validation epoch; a slim copy has none
             manifest.json      size and sha256 of the files above
failed/<key>.json               why a trial failed, how often, and the seconds lost
rehearsals/<key>.json           what a first step showed of a trial (`sweeps.rehearse`)
superseded/                     trials that other code made, set aside at request
searches/<name>/<number>.json   what a search suggested, and what became of it
trees/<arm>.html                learned hierarchies to look at
running/<key>/                  epoch checkpoint of an unfinished trial
tensorboard/<key>/              event files
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from medrec.measures import Measured
from medrec.predictions import Predictions
from sweeps import trial_files
from sweeps.errors import DamagedTrialError, StoreError
from sweeps.notes import Notes
from sweeps.places import LocalPlace, Place
from sweeps.record import StudyRecord
from sweeps.trial_folders import (
    FOLDER,
    FURTHER,
    MEASURES,
    PREDICTIONS,
    WEIGHTS,
    TrialFolders,
    damaged,
)
from sweeps.visits import FILE, VisitFacts, from_parquet, to_parquet

SCHEMA = 1
_CHECKPOINT = "checkpoint.safetensors"
# What readers of JSON and Parquet raise where a file is of another kind, or lacks a column.
_NONSENSE = (ValueError, TypeError, LookupError, AttributeError, NotImplementedError, OSError)


@dataclass(frozen=True)
class StoredTrial:
    """A finished trial.

    Attributes:
        key: the spec's key.
        summary: `trial.json`: spec, best_epoch, validation (metrics), seconds, started, ended,
            failed_attempts (where there were any), environment.
        history: columns of `history.parquet`, each a list with one value an epoch.
        found: predictions of the test split by a recommender, measures of what is none.
    """

    key: str
    summary: dict[str, Any]
    history: dict[str, list[float]]
    found: Predictions | Measured

    @property
    def predictions(self) -> Predictions:
        """Predictions of the test split; of a recommender alone."""
        if isinstance(self.found, Measured):
            raise StoreError(f"Trial {self.key} is of no recommender, and has no predictions.")
        return self.found

    @property
    def measured(self) -> Measured:
        """Measures of what is no recommender."""
        if not isinstance(self.found, Measured):
            raise StoreError(f"Trial {self.key} is of a recommender, and has no measures.")
        return self.found


class ResultsStore(Notes):
    """Keeps every finished trial of a study.

    **Whole or absent.** A trial is visible with all its files and matching checksums, or not at
    all. **One writer per key.** Two workers that finish the same key leave one trial, and neither
    fails. **Never rewritten.** What a key holds does not change. **Nothing runs.** Reading it
    executes no stored code: JSON, Parquet and safetensors only.
    """

    def __init__(self, root: Path | str | Place) -> None:
        super().__init__(root)
        self._trials = TrialFolders(self.place)

    # ------------------------------------------------------------------ the study

    def write_study(self, record: StudyRecord) -> None:
        """Writes `study.json` without paths of this machine, replacing an older one whole."""
        self.write_text("study.json", record.without_places().model_dump_json(indent=2) + "\n")

    def study(self) -> StudyRecord:
        """Returns the study's record.

        Raises:
            StoreError: the directory holds no study, or one of another schema.
        """
        try:
            content = self.place.read("study.json")
        except FileNotFoundError as error:
            raise StoreError(
                f"{self.place} holds no study: it has no study.json. "
                f"Start one with `medsweep run STUDY --out {self.place}`."
            ) from error
        try:
            return StudyRecord.model_validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise StoreError(
                f"{self.place.at('study.json')}, field {where or '(whole file)'}: {first['msg']}. "
                "It was changed or written by another version; run the study again, stored trials "
                "are kept."
            ) from error

    def write_visits(self, facts: VisitFacts) -> None:
        """Writes `visits.parquet`, replacing an older one whole."""
        self.place.write(FILE, to_parquet(facts))

    def visits(self) -> VisitFacts | None:
        """Returns the facts of each test visit; None in a directory made before they were kept.

        Raises:
            StoreError: the file is damaged.
        """
        try:
            return from_parquet(self.place.read(FILE), self.place.at(FILE))
        except FileNotFoundError:
            return None

    # ------------------------------------------------------------------ trials

    def trial_keys(self) -> list[str]:
        """Returns the keys of all finished trials, sorted; one listing."""
        return self._trials.keys()

    def trial_folders(self) -> list[str]:
        """Returns the keys that a folder exists for, sorted: also those without a manifest.

        On an object store what has no manifest was never stored, and is left out.
        """
        return self._trials.folders()

    def has(self, key: str) -> bool:
        """Returns whether the trial is stored, without reading it."""
        return self._trials.has(key)

    @contextmanager
    def at_a_glance(self) -> Iterator[None]:
        """Lets `has` answer from one listing, for who asks of many trials while none is stored."""
        with self._trials.at_a_glance():
            yield

    def scan(self) -> dict[str, bool]:
        """Returns of every stored trial whether its files are there in full size, by key.

        It says what `has` and `intact` say of each: ten thousand trials in about a second.
        """
        return self._trials.scan()

    def save(
        self,
        key: str,
        summary: dict[str, Any],
        history: list[dict[str, float]],
        found: Predictions | Measured,
        weights: bytes,
    ) -> None:
        """Stores a finished trial, whole or not at all. A key already stored stays.

        Raises:
            StoreError: the files cannot be written (disk full, no permission).
        """
        if isinstance(found, Measured):
            summary = {**summary, "facts": dict(found.facts)}
            evidence = {MEASURES: trial_files.measures_to_bytes(found), **found.files}
        else:
            evidence = {PREDICTIONS: trial_files.predictions_to_bytes(found)}
        head = json.dumps({**summary, "schema": SCHEMA, "key": key}, indent=2, sort_keys=True)
        files = {
            "trial.json": head.encode(),
            "history.parquet": trial_files.history_to_bytes(history),
            **evidence,
            WEIGHTS: weights,
        }
        self.save_files(key, files)

    def save_files(self, key: str, files: dict[str, bytes]) -> None:
        """Stores a finished trial's files, as `save` does; the weights may be left out.

        Raises:
            StoreError: the files cannot be written (disk full, no permission).
        """
        self._trials.save(key, files)
        self.place.remove(f"failed/{key}.json")
        self.forget_running(key)

    def intact(self, key: str) -> bool:
        """Returns whether the trial's files are there in their full size; reads none of them."""
        return self._trials.intact(key)

    def check(self, key: str) -> None:
        """Raises `DamagedTrialError` unless every file of the trial matches its manifest."""
        for name in self._trials.manifest(key):
            self._trials.read(key, name)
        self.summary(key)

    def load(self, key: str) -> StoredTrial:
        """Returns a stored trial, its checksums verified.

        Raises:
            DamagedTrialError: a file is missing or differs from its manifest.
        """
        summary, history = self.summary(key), self.history(key)
        if MEASURES in self._trials.manifest(key):
            data = self._trials.read(key, MEASURES)
            with self._understood(key, MEASURES):
                measured = trial_files.measures_from_bytes(data, summary.get("facts", {}))
            return StoredTrial(key, summary, history, measured)
        data = self._trials.read(key, PREDICTIONS)
        with self._understood(key, PREDICTIONS):
            predictions = trial_files.predictions_from_bytes(data)
        return StoredTrial(key, summary, history, predictions)

    def further(self, key: str) -> dict[str, bytes]:
        """Returns the files of `FURTHER` that the trial has, checksums verified."""
        names = [name for name in FURTHER if name in self._trials.manifest(key)]
        return {name: self._trials.read(key, name) for name in names}

    def summary(self, key: str) -> dict[str, Any]:
        """Returns `trial.json` of a stored trial, its checksum verified.

        Raises:
            DamagedTrialError: it is missing, changed, or of another trial.
        """
        data = self._trials.read(key, "trial.json")
        with self._understood(key, "trial.json"):
            summary = dict(json.loads(data))
        if summary.get("key", key) != key:  # trials of older versions do not say
            where = self.place.at(f"{FOLDER}/{key}")
            raise DamagedTrialError(damaged(where, f"it holds the trial {summary['key']}"))
        return summary

    def history(self, key: str) -> dict[str, list[float]]:
        """Returns the columns of `history.parquet`, checksum verified.

        Raises:
            DamagedTrialError: it is missing, changed, or holds something else.
        """
        data = self._trials.read(key, "history.parquet")
        with self._understood(key, "history.parquet"):
            return trial_files.history_from_bytes(data)

    @contextmanager
    def _understood(self, key: str, name: str) -> Iterator[None]:
        """Turns what a file's reader says of a content that is none into a `DamagedTrialError`."""
        try:
            yield
        except _NONSENSE as error:
            where = self.place.at(f"{FOLDER}/{key}/{name}")
            raise DamagedTrialError(damaged(where, "it holds something else")) from error

    def weights(self, key: str) -> bytes:
        """Returns `model.safetensors` of a stored trial, its checksum verified.

        Raises:
            StoreError: this is a copy that was made without weights.
        """
        if not self.has_weights(key):
            raise StoreError(
                f"{self.place} has no weights of trial {key}: this copy was made without weights. "
                "Use the results directory that it was made from."
            )
        return self._trials.read(key, WEIGHTS)

    def has_weights(self, key: str) -> bool:
        """Returns whether the trial was stored with its weights, by its manifest."""
        return WEIGHTS in self._trials.manifest(key)

    def content(self, key: str) -> dict[str, bytes]:
        """Returns every file of a stored trial but its weights, checksums verified."""
        names = [name for name in self._trials.manifest(key) if name != WEIGHTS]
        return {name: self._trials.read(key, name) for name in names}

    def set_aside(self, key: str) -> str:
        """Moves a damaged trial to `damaged/`, so that its key counts as missing; says where."""
        return self.place.at(self._trials.move(key, "damaged"))

    def supersede(self, key: str) -> str:
        """Moves a stored trial to `superseded/`, so that it is computed again; says where."""
        return self.place.at(self._trials.move(key, "superseded"))

    # ------------------------------------------------------------------ unfinished trials

    def begun(self) -> set[str]:
        """Returns the keys of trials that have an epoch checkpoint, and so are not finished."""
        if isinstance(self.place, LocalPlace):
            names = self.place.names("running")
            return {key for key in names if self.place.exists(f"running/{key}/{_CHECKPOINT}")}
        found = self.place.files("running")
        return {name.rpartition("/")[0] for name in found if name.endswith(f"/{_CHECKPOINT}")}

    def fetch_checkpoint(self, key: str, to: Path) -> bool:
        """Copies the epoch checkpoint of a trial to a file; returns whether there is one.

        Where results are a folder of this machine the trial uses `running/<key>/` itself.
        """
        try:
            data = self.place.read(f"running/{key}/{_CHECKPOINT}")
        except FileNotFoundError:
            return False
        LocalPlace(to.parent).write(to.name, data)
        return True

    def send_checkpoint(self, key: str, source: Path) -> None:
        """Copies a file to the epoch checkpoint of a trial, if the file is there."""
        if source.is_file():
            self.place.write(f"running/{key}/{_CHECKPOINT}", source.read_bytes())

    def forget_running(self, key: str) -> None:
        """Deletes the epoch checkpoint of a trial that will not go on."""
        self.place.remove_folder(f"running/{key}")

    def send_folder(self, source: Path, name: str) -> None:
        """Copies the files of a folder into one of this directory, in place of what is there."""
        self.place.remove_folder(name)
        for path in sorted(path for path in source.rglob("*") if path.is_file()):
            self.place.write(f"{name}/{path.relative_to(source).as_posix()}", path.read_bytes())
