"""The folder of source files for one cohort: what is there, what it covers, what it lacks."""

from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from medrec import codes
from medrec.cohort import Cohort, Kind
from medrec.errors import KnowledgeError, MissingSourceError
from medrec.knowledge.coverage import Coverage, coverage_of
from medrec.knowledge.icd_tree import CodedKind, Version
from medrec.knowledge.origin import Origin
from medrec.knowledge.source_files import find_files, require_files

T = TypeVar("T")
_CODED: tuple[CodedKind, ...] = ("diagnoses", "procedures")
VERSIONS: tuple[Version, ...] = ("9", "10")
FILES = {  # name for people, and pattern of the file's name in lower case
    "twosides": ("drug-DDI.csv", r"(drug-ddi|bio-decagon-combo)\.csv(\.gz)?"),
    "twosides_reduced": ("drug-DDI-TOP40.csv", r"drug-ddi-top40\.csv(\.gz)?"),
    "drug_atc": ("drug-atc.csv", r"(drug-atc|cid_atc_long)\.csv(\.gz)?"),
    "ndfrt": ("ndfrt_va_ddi_2014.csv", r"ndfrt_.*ddi.*\.csv(\.gz)?"),
    "drugcentral": (
        "drugcentral_structures.smiles.tsv",
        r"(drugcentral_)?structures\.smiles\.tsv(\.gz)?",
    ),
    "medi": ("MEDI_01212013_HPS.csv", r"medi_.*\.csv(\.gz)?"),
    "labeledin": ("labeledin_indications.tsv", r"labeledin.*\.tsv(\.gz)?"),
    "pharmacotherapydb": (
        "pharmacotherapydb_indications.tsv",
        r"pharmacotherapydb.*\.tsv(\.gz)?",
    ),
}


@dataclass
class Sources:
    """What a folder of sources holds for a cohort, and what it lacks."""

    cohort: Cohort
    folder: Path | None
    origins: list[Origin] = field(default_factory=list)
    coverage: list[Coverage] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def folders(self) -> list[Path]:
        """The folder, if there is one."""
        return [self.folder] if self.folder else []

    def note(
        self, origin: Origin, kind: Kind, known: Collection[str], version: str | None = None
    ) -> None:
        """Keeps where something comes from and what it covers, of an ICD version or of all."""
        if origin not in self.origins:
            self.origins.append(origin)
        self.coverage.append(coverage_of(self.cohort, origin.title, kind, known, version))

    def has(self, source: str) -> bool:
        """Returns whether the folder has the file of a source."""
        return self.folder is not None and bool(find_files(self.folder, FILES[source][1]))

    def file(self, source: str) -> Path:
        """Returns the file of a source that was asked for."""
        wanted, pattern = FILES[source]
        if self.folder is None:
            raise KnowledgeError(
                f"{wanted} is needed: give the folder that has it with `sources`, or choose "
                "another source of that knowledge (`interactions: embedded`, say)."
            )
        return require_files(self.folder, pattern, wanted)[-1]

    def optional(self, what: str, load: Callable[[Path], T]) -> T | None:
        """Returns what `load` finds in the folder, or None and notes that it is missing."""
        if self.folder is not None:
            with suppress(MissingSourceError):
                return load(self.folder)
        self.missing.append(what)
        return None

    def coded(self) -> Iterator[tuple[CodedKind, Version]]:
        """Yields the kinds and ICD versions that the cohort's codes have."""
        for kind in _CODED:
            used = {codes.split(code)[0] for code in self.cohort.vocabulary[kind]}
            for version in VERSIONS:
                if version in used:
                    yield kind, version

    def of_version(self, kind: Kind, version: str) -> list[str]:
        """Returns the cohort's codes of one version."""
        return [c for c in self.cohort.vocabulary[kind] if codes.split(c)[0] == version]
