"""An exported model: a folder that holds all that `medsweep predict` needs, and what people ask.

study.yaml         the configuration as a study that `medsweep run` accepts
model.safetensors  the weights
spec.json          the trial's spec without places, its key, sha256 of weights and codes
vocabulary.json    codes of each kind, genders and groups in the model's order
card.md            the model card
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int8, Int64
from pydantic import ValidationError

from medrec.cohort import KINDS, Cohort, Kind
from medrec.exports._base import Layout
from medrec.spec import KnowledgeSpec, TrialSpec
from sweeps.errors import StoreError
from sweeps.open_data import is_open
from sweeps.record import StudyRecord
from sweeps.visits import FEWEST, RARE

if TYPE_CHECKING:
    from medrec.apply import Coding, Learned

SCHEMA = 1
STUDY, WEIGHTS, SPEC = "study.yaml", "model.safetensors", "spec.json"
CODES, CARD = "vocabulary.json", "card.md"
LAYOUT = Layout(
    files=frozenset({STUDY, WEIGHTS, SPEC, CODES, CARD}),
    sign=SPEC,
    signed=lambda content: {"schema", "key", "spec", "sha256"} <= set(content),
)
_AGAIN = "Export the model again with `medsweep export best`."


def codes_of(record: StudyRecord, cohort: Cohort | None) -> dict[str, Any]:
    """Returns the content of `vocabulary.json`.

    On data that are not open, names that few patients have are written as "rare": they may be a
    hospital's own texts. `whole` says whether every name is there; without, or without the cohort
    (which alone knows genders and groups), the model can be applied beside that cohort only.

    Args:
        record: of the study.
        cohort: that the study ran on, if it is at hand.
    """
    if cohort is None:
        known = {str(kind): codes for kind, codes in record.vocabulary.items()}
        return {"whole": False, "vocabulary": {**known, "medications": record.medications}}
    shown = {
        str(kind): _shown(cohort, cohort.vocabulary[kind], cohort.carriers(kind))
        for kind in KINDS
        if kind != "medications"
    }
    people = {
        "genders": _shown(cohort, cohort.genders, _members(cohort.gender, cohort.genders)),
        "groups": _shown(cohort, cohort.groups, _members(cohort.group, cohort.groups)),
    }
    return {
        "whole": not any(RARE in names for names in (*shown.values(), *people.values())),
        "dataset": cohort.provenance.dataset,
        "vocabulary": {**shown, "medications": record.medications},
        **people,
    }


def _members(values: Int8[np.ndarray, " patients"], names: tuple[str, ...]) -> np.ndarray:
    return np.bincount(values, minlength=len(names))


def _shown(
    cohort: Cohort, names: tuple[str, ...], patients: Int64[np.ndarray, " names"]
) -> tuple[str, ...]:
    """Returns the names; on data that are not open, without those of few patients."""
    if is_open(cohort.provenance):
        return names
    pairs = zip(names, patients.tolist(), strict=True)
    return tuple(name if many >= FEWEST else RARE for name, many in pairs)


def spec_text(spec: TrialSpec, study: str, contents: Mapping[str, bytes]) -> str:
    """Returns `spec.json`; `contents` are the files that it vouches for."""
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(contents.items())}
    shared = spec.without_places()
    head = {"schema": SCHEMA, "study": study, "key": spec.key, "sha256": sums}
    return json.dumps({**head, "spec": shared.model_dump(mode="json")}, indent=2) + "\n"


def read_exported(folder: Path, knowledge: KnowledgeSpec) -> "Learned":
    """Returns the model in a folder.

    Args:
        folder: that `medsweep export best` wrote.
        knowledge: where its knowledge tables are here; what is "embedded" need not be said.

    Raises:
        StoreError: a file is missing or was changed, or it is no such folder.
    """
    from medrec.apply import Learned  # imports torch

    head = _json(folder, SPEC)
    if head.get("schema") != SCHEMA:
        raise StoreError(
            f"{folder / SPEC} has schema {head.get('schema')}, but this version reads schema "
            f"{SCHEMA}. {_AGAIN}"
        )
    try:
        spec = TrialSpec.model_validate(head.get("spec"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, ("spec", *first["loc"])))
        raise StoreError(f"{folder / SPEC}, field {where}: {first['msg']}. {_AGAIN}") from error
    if spec.key != head.get("key"):
        raise StoreError(
            f"{folder / SPEC} was changed: its settings have the key {spec.key}, not "
            f"{head.get('key')}. {_AGAIN}"
        )
    sums = head.get("sha256") if isinstance(head.get("sha256"), dict) else {}
    weights = _checked(folder, WEIGHTS, sums or {})
    _checked(folder, CODES, sums or {})
    located = _located(spec.knowledge, knowledge)
    return Learned(
        spec.model_copy(update={"knowledge": located}), weights, _coding(_json(folder, CODES))
    )


def _coding(content: dict[str, Any]) -> "Coding | None":
    from medrec.apply import Coding

    if not content.get("whole"):
        return None
    vocabulary: dict[Kind, tuple[str, ...]] = {
        kind: tuple(content["vocabulary"][kind]) for kind in KINDS
    }
    genders, groups = tuple(content["genders"]), tuple(content["groups"])
    return Coding(vocabulary, genders, groups, str(content["dataset"]))


def _located(stored: KnowledgeSpec, given: KnowledgeSpec) -> KnowledgeSpec:
    """Returns the stored spec with the places given.

    Raises:
        StoreError: the model needs a table or bundle that is not given.
    """
    default = KnowledgeSpec()
    places = {}
    for field in ("bundle", "interactions", "structures"):
        was, now = getattr(stored, field), getattr(given, field)
        if was != getattr(default, field) and now == getattr(default, field):
            raise StoreError(
                f"The model was trained with the {field} {was!r}. Give its place here as "
                f"--{field}."
            )
        places[field] = now
    return stored.model_copy(update=places)


def _checked(folder: Path, name: str, sums: Mapping[str, Any]) -> bytes:
    data = _bytes(folder, name)
    if hashlib.sha256(data).hexdigest() != sums.get(name):
        raise StoreError(f"{folder / name} is damaged: its sha256 is not {SPEC}'s. {_AGAIN}")
    return data


def _json(folder: Path, name: str) -> dict[str, Any]:
    try:
        return dict(json.loads(_bytes(folder, name)))
    except (ValueError, TypeError) as error:
        raise StoreError(f"{folder / name} is not valid JSON ({error}). {_AGAIN}") from error


def _bytes(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise StoreError(
            f"{folder} is no exported model: {name} cannot be read ({error.strerror}). {_AGAIN}"
        ) from error
