"""The cohort: patients, their visits, and the codes of each visit, on disk and in memory.

    cohort.json      schema, fingerprint, counts, options, sha256 of the inputs, what was dropped
    vocabulary.json  code of each index, for diagnoses, procedures and medications
    patients.arrow   a row a patient: number of visits, split, gender, group
    visits.arrow     a row a visit, patients in order: days since the first admission, age at it,
                     service, and one list column per kind of code (Arrow's list layout *is*
                     compressed sparse row)
    card.md, .html   the counts and options for people (medrec.card)

The Arrow files are uncompressed, so every worker of a node maps one copy. No identifier of the
source is kept: a patient is a row number.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int, Int8, Int16, Int64

from medrec import splits
from medrec.errors import CohortError
from medrec.storage import read_arrow, replacing, write_arrow

SCHEMA = 2
KINDS: tuple["Kind", ...] = ("diagnoses", "procedures", "medications")
Kind = Literal["diagnoses", "procedures", "medications"]
_PATIENT = ("split", "gender", "group")
_VISIT = ("admitted", "age", "service")
_FILES = ("vocabulary.json", "patients.arrow", "visits.arrow")


@dataclass(frozen=True)
class Codes:
    """Codes of each visit in compressed sparse row form.

    Visit v has values[offsets[v]:offsets[v + 1]], distinct and ascending.
    """

    offsets: Int[np.ndarray, " ends"]
    values: Int[np.ndarray, " codes"]

    @property
    def counts(self) -> Int[np.ndarray, " visits"]:
        """Number of codes of each visit."""
        return np.diff(self.offsets)

    def take(self, rows: Int64[np.ndarray, " some"]) -> "Codes":
        """Returns the codes of these visits, in this order.

        Example:
            >>> codes = Codes(np.array([0, 2, 3]), np.array([4, 7, 5]))
            >>> codes.take(np.array([1, 0])).values.tolist()
            [5, 4, 7]
        """
        counts = self.counts[rows]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(self.offsets.dtype)
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
        return Codes(offsets, self.values[np.repeat(self.offsets[rows], counts) + within])

    def multi_hot(self, size: int) -> np.ndarray:
        """Returns a bool matrix [visits, size], true where a visit has a code."""
        hot = np.zeros((len(self.offsets) - 1, size), dtype=bool)
        hot[np.repeat(np.arange(len(hot)), self.counts), self.values] = True
        return hot


@dataclass(frozen=True)
class Provenance:
    """Where a cohort comes from. Nothing here identifies a patient.

    Attributes:
        dataset: name of the data set plug-in.
        options: every option used, defaults included.
        inputs: sha256 of each input file by its name.
        dropped: rows, visits or patients left out, by reason.
        mapped: counts of the code mapping (found, not found), by step.
        unmapped: what a mapping did not know, with its rows: kind of code, then code or name.
            Names with few rows are left out, so that no rare text of one patient gets here.
    """

    dataset: str
    options: dict[str, Any]
    inputs: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    mapped: dict[str, int] = field(default_factory=dict)
    unmapped: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Cohort:
    """A cohort in memory. Visits of a patient are adjacent and in the cohort's visit order."""

    vocabulary: dict[Kind, tuple[str, ...]]
    visits: Int64[np.ndarray, " patients"]  # how many each patient has, at least 1
    split: Int8[np.ndarray, " patients"]  # index into medrec.splits.NAMES
    gender: Int8[np.ndarray, " patients"]  # index into `genders`
    group: Int8[np.ndarray, " patients"]  # index into `groups`
    admitted: Float32[np.ndarray, " visits"]  # days since the patient's first admission
    age: Int16[np.ndarray, " visits"]  # whole years at admission, 0 to 120; -1 where unknown
    service: Int8[np.ndarray, " visits"]  # first service of the stay; index into `services`
    codes: dict[Kind, Codes]
    genders: tuple[str, ...]
    groups: tuple[str, ...]
    services: tuple[str, ...]
    provenance: Provenance

    @property
    def patients(self) -> int:
        """Number of patients."""
        return len(self.visits)

    @cached_property
    def offsets(self) -> Int64[np.ndarray, " ends"]:
        """First visit of each patient, and the number of visits."""
        return np.concatenate([[0], np.cumsum(self.visits)]).astype(np.int64)

    @property
    def drugs(self) -> int:
        """Number of drug classes."""
        return len(self.vocabulary["medications"])

    def members(self, split: int) -> Int64[np.ndarray, " members"]:
        """Returns the patients of one split, ascending."""
        return np.flatnonzero(self.split == split)

    def visits_of(self, patients: Int64[np.ndarray, " some"]) -> Int64[np.ndarray, " visits"]:
        """Returns the visit rows of these patients, patient by patient."""
        counts = self.visits[patients]
        starts = np.repeat(self.offsets[patients], counts)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return starts + within

    def carriers(self, kind: Kind, split: int | None = None) -> Int64[np.ndarray, " codes"]:
        """Returns how many patients, of one split or of all, have each code of a kind."""
        rows = np.arange(len(self.age))
        if split is not None:
            rows = self.visits_of(self.members(split))
        codes = self.codes[kind].take(rows)
        visit = np.repeat(rows, codes.counts)
        return self._patients_with(codes.values, visit, len(self.vocabulary[kind]))

    def served(self) -> Int64[np.ndarray, " services"]:
        """Returns how many patients each service cared for."""
        return self._patients_with(self.service, np.arange(len(self.age)), len(self.services))

    def _patients_with(
        self,
        values: Int[np.ndarray, " some"],
        visit: Int64[np.ndarray, " some"],
        size: int,
    ) -> Int64[np.ndarray, " values"]:
        patient = np.repeat(np.arange(self.patients), self.visits)[visit]
        pairs = np.unique(np.stack([values.astype(np.int64), patient]), axis=1)
        return np.bincount(pairs[0], minlength=size)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over schema, vocabularies and every array; the same on every machine."""
        digest = hashlib.sha256()
        head = {"schema": SCHEMA, "vocabulary": self.vocabulary, "genders": self.genders}
        digest.update(_canonical({**head, "groups": self.groups}).encode())
        digest.update(_canonical(self.services).encode())
        for name in ("visits", *_PATIENT, *_VISIT):
            digest.update(np.ascontiguousarray(getattr(self, name)).tobytes())
        for kind in KINDS:
            digest.update(self.codes[kind].offsets.astype(np.int64).tobytes())
            digest.update(self.codes[kind].values.astype(np.int64).tobytes())
        return digest.hexdigest()

    def counts(self) -> dict[str, float]:
        """Returns the numbers that a table's caption and the card print."""
        per_visit = {f"{kind}_per_visit": float(self.codes[kind].counts.mean()) for kind in KINDS}
        sizes = {kind: float(len(self.vocabulary[kind])) for kind in KINDS}
        parts = {
            f"{name}_patients": float((self.split == i).sum())
            for i, name in enumerate(splits.NAMES)
        }
        return {
            "patients": float(self.patients),
            "visits": float(self.visits.sum()),
            "visits_per_patient": float(self.visits.mean()),
            "most_visits": float(self.visits.max()),
            **sizes,
            **per_visit,
            **parts,
        }

    def save(self, folder: Path, pages: Mapping[str, str] | None = None) -> None:
        """Writes the cohort aside, then renames it: whole or absent.

        Who has an older cohort of that folder open keeps reading the older one.

        Args:
            folder: where to.
            pages: further files for people, text by file name.
        """
        with replacing(folder) as fresh:
            self._write(fresh)
            for name, text in (pages or {}).items():
                (fresh / name).write_text(text, encoding="utf-8")

    def _write(self, folder: Path) -> None:
        (folder / "vocabulary.json").write_text(_canonical(self.vocabulary) + "\n")
        patients = {name: getattr(self, name) for name in _PATIENT}
        write_arrow(folder / "patients.arrow", {"visits": self.visits, **patients})
        lists: dict[str, Any] = {
            kind: pa.ListArray.from_arrays(
                pa.array(self.codes[kind].offsets, pa.int32()),
                pa.array(self.codes[kind].values, pa.int32()),
            )
            for kind in KINDS
        }
        visits = {name: getattr(self, name) for name in _VISIT}
        write_arrow(folder / "visits.arrow", {**visits, **lists})
        description = {
            "schema": SCHEMA,
            "fingerprint": self.fingerprint,
            "counts": self.counts(),
            "genders": self.genders,
            "groups": self.groups,
            "services": self.services,
            **vars(self.provenance),
        }
        (folder / "cohort.json").write_text(json.dumps(description, indent=2))

    @staticmethod
    def open(folder: Path) -> "Cohort":
        """Returns the cohort in `folder`, its arrays mapped from disk and its fingerprint checked.

        Raises:
            CohortError: a file is missing or damaged, a code is not in the vocabulary, the schema
                is another, or the content does not match the fingerprint.
        """
        description = describe(folder)
        names = _read_json(folder / "vocabulary.json")
        patients = _read_arrow(folder / "patients.arrow")
        visits = _read_arrow(folder / "visits.arrow")
        try:
            expected = str(description["fingerprint"])
            cohort = Cohort(
                vocabulary={kind: tuple(names[kind]) for kind in KINDS},
                visits=patients["visits"].to_numpy(),
                **{name: patients[name].to_numpy() for name in _PATIENT},
                **{name: visits[name].to_numpy() for name in _VISIT},
                codes={
                    kind: Codes(visits[kind].offsets.to_numpy(), visits[kind].values.to_numpy())
                    for kind in KINDS
                },
                genders=tuple(description["genders"]),
                groups=tuple(description["groups"]),
                services=tuple(description["services"]),
                provenance=Provenance(
                    **{key: description[key] for key in Provenance.__dataclass_fields__}
                ),
            )
        except (KeyError, AttributeError) as error:
            raise CohortError(
                f"{folder}: a column or field is missing ({error}). Prepare the cohort again."
            ) from error
        _validate(cohort, folder)
        if cohort.fingerprint != expected:
            raise CohortError(
                f"{folder}: the content has fingerprint {cohort.fingerprint[:12]}, but "
                f"cohort.json says {expected[:12]}. A file was changed; prepare "
                "it again."
            )
        return cohort


def describe(folder: Path) -> dict[str, Any]:
    """Returns `cohort.json` of a cohort folder without opening the rest.

    Raises:
        CohortError: there is no cohort, or it has another schema.
    """
    for name in ("cohort.json", *_FILES):
        if not (folder / name).is_file():
            raise CohortError(
                f"{folder} is no cohort: it has no {name}. "
                f"Make one with `medsweep data prepare DATASET --out {folder}`."
            )
    description = _read_json(folder / "cohort.json")
    if description.get("schema") != SCHEMA:
        raise CohortError(
            f"{folder}/cohort.json has schema {description.get('schema')}, but this version reads "
            f"schema {SCHEMA}. Prepare the cohort again."
        )
    return description


def _validate(cohort: Cohort, folder: Path) -> None:
    for kind in KINDS:
        values, size = cohort.codes[kind].values, len(cohort.vocabulary[kind])
        wrong = np.flatnonzero((values < 0) | (values >= size))
        if len(wrong):
            row = int(np.searchsorted(cohort.codes[kind].offsets, wrong[0], side="right")) - 1
            raise CohortError(
                f"{folder}/visits.arrow, row {row}, {kind}: code {values[wrong[0]]} is not in the "
                f"vocabulary of {size} codes. Prepare the cohort again."
            )
    if cohort.visits.sum() != len(cohort.admitted):
        raise CohortError(
            f"{folder}: patients.arrow counts {cohort.visits.sum()} visits, visits.arrow has "
            f"{len(cohort.admitted)}. Prepare the cohort again."
        )


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise CohortError(f"{path} is not valid JSON ({error}). Prepare it again.") from error


def _read_arrow(path: Path) -> dict[str, Any]:
    try:
        return read_arrow(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise CohortError(f"{path} cannot be read ({error}). Prepare it again.") from error
