"""Diagnoses and procedures: ICD codes of one version or the other, apart or mapped."""

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from medrec import codes
from medrec.datasets._gathering import Found
from medrec.errors import KnowledgeError, MissingSourceError
from medrec.knowledge.gem import Gem, load_gem
from medrec.knowledge.icd import load_icd
from medrec.knowledge.icd_tree import CodedKind, Version
from medrec.knowledge.origin import Origin

T = TypeVar("T")
ICD_KINDS: tuple[Literal["diagnoses"], Literal["procedures"]] = ("diagnoses", "procedures")
Icd = Literal["both", "9", "10", "map-to-9", "map-to-10"]
_FORMS = {
    ("diagnoses", "9"): re.compile(r"\d{3,5}|V\d{2,4}|E\d{3,4}", re.ASCII),
    ("diagnoses", "10"): re.compile(r"[A-Z]\d[0-9A-Z]{1,5}", re.ASCII),
    ("procedures", "9"): re.compile(r"\d{2,4}", re.ASCII),
    ("procedures", "10"): re.compile(r"[0-9A-HJ-NP-Z]{7}"),
}


class IcdCodes:
    """Decides what a diagnosis or procedure code of a version becomes.

    Attributes:
        inputs: sha256 of the mapping table used, by file name.
    """

    def __init__(
        self,
        kind: Literal["diagnoses", "procedures"],
        icd: Icd,
        folders: Sequence[Path],
        *,
        versions: bool = True,
    ) -> None:
        """Reads the mapping if one is asked for.

        Args:
            kind: of the codes.
            icd: which version to keep, or to map to.
            folders: where the General Equivalence Mappings may lie.
            versions: whether codes keep their version; without it codes of two versions that look
                alike become one, as in published pipelines.

        Raises:
            KnowledgeError: the mapping is missing or malformed.
        """
        self._kind = kind
        self._target = icd.removeprefix("map-to-")
        self._versions = versions
        self._gem: Gem | None = None
        self.inputs: dict[str, str] = {}
        if icd.startswith("map-to-"):
            self._gem, titles = _gem(kind, "10" if self._target == "9" else "9", folders)
            self.inputs = {**self._gem.origin.inputs, **(titles.inputs if titles else {})}

    def find(self, version: str, code: str) -> Found:
        """Returns what a code of a version ("9" or "10") becomes."""
        if not code:
            return Found("without a code", ())
        name = codes.join(version, code)
        if not _FORMS[self._kind, version].fullmatch(codes.split(name)[1]):
            return Found(f"malformed as ICD-{version}", ())
        if self._target in ("both", version):
            return Found(f"of ICD-{version}", self._written((name,)))
        if self._gem is None:
            return Found(f"of ICD-{version}, left out", ())
        mapped = self._gem.map(name)
        if not mapped:
            kind = f"ICD-{version} {self._kind} without an ICD-{self._target} code"
            return Found(f"of ICD-{version}, not mapped", (), (kind, codes.split(name)[1]))
        how = "ambiguously mapped" if name in self._gem.ambiguous else "mapped"
        return Found(f"of ICD-{version}, {how}", self._written(mapped))

    def _written(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return names if self._versions else tuple(codes.split(name)[1] for name in names)


def _gem(kind: CodedKind, version: Version, folders: Sequence[Path]) -> tuple[Gem, Origin | None]:
    """Returns the mapping of the first folder that has it, and the origin of titles, if any.

    Titles decide between alternatives; without them the alphabetically first counts.
    """
    if not folders:
        raise KnowledgeError(
            "Mapping ICD codes needs the General Equivalence Mappings, but there is no folder of "
            "knowledge tables. Give it with `knowledge`."
        )
    other: Version = "10" if version == "9" else "9"
    tree = _first(folders, partial(load_icd, kind, other))
    titles = tree.titles if tree else None
    found = _first(folders, lambda folder: load_gem(kind, version, folder, titles=titles))
    if found is None:
        found = load_gem(kind, version, folders[-1], titles=titles)  # says what is missing
    return found, tree.origin if tree else None


def _first(folders: Sequence[Path], load: Callable[[Path], T]) -> T | None:
    """Returns what the first folder has that has it, or None."""
    for folder in folders:
        with suppress(MissingSourceError):
            return load(folder)
    return None
