"""From drug packages to drug classes: NDC (package) to RXCUI (drug) to ATC level 3 (class).

Two tables are needed, which hospitals do not export: NDC to RXCUI (columns `ndc11` or `ndc`, and
`rxcui`) and RXCUI to ATC (`rxcui`, and `atc4`, `atc5` or `atc`). What the literature calls ATC-3
is the first four characters of the code, e.g. C03A of C03AA03.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from medrec.errors import KnowledgeError, MissingSourceError
from medrec.knowledge.atc import Rule, choose
from medrec.knowledge.source_files import distinct_rows, files_named
from medrec.raw_files import read_table
from medrec.raw_table import Table, digests

T = TypeVar("T")

_NDC_FILES = re.compile(r"(ndc_rxcui|ndc2rxcui).*\.csv(\.gz)?")
_ATC_FILES = re.compile(r"(rxcui_atc|rxcui2atc4|ndc2atc_level4).*\.csv(\.gz)?")
_NDC_COLUMNS = {"ndc": ("ndc11", "ndc"), "rxcui": ("rxcui",)}
_ATC_COLUMNS = {"rxcui": ("rxcui",), "atc": ("atc4", "atc5", "atc")}
_RXCUI = re.compile(r"[0-9]{1,9}|")  # an empty cell is no mapping
_ATC = re.compile(r"([A-Z][0-9]{2}[A-Z]([A-Z]([0-9]{2})?)?)?")
_SEGMENTS = (5, 4, 2)  # digits of labeler, product and package


@dataclass(frozen=True)
class NdcMapping:
    """NDC to ATC level 3.

    Attributes:
        rxcui: RXCUI of each NDC of 11 digits.
        classes: ATC classes (four characters) of each RXCUI, never empty.
        inputs: sha256 of the tables used, by file name.
    """

    rxcui: dict[str, str]
    classes: dict[str, tuple[str, ...]]
    inputs: dict[str, str]

    def of(self, ndc: str | None) -> tuple[str, ...]:
        """Returns the classes of a package as `normalise` writes it, possibly none."""
        return self.classes.get(self.rxcui.get(ndc, ""), ()) if ndc else ()


def normalise(ndc: str) -> str | None:
    """Returns an NDC as 11 digits, or None if there is none in the cell.

    Hyphenated forms (4-4-2, 5-3-2, 5-4-1) get the zero that their short segment lacks. Digits
    alone get leading zeros, which spreadsheets eat.

    Example:
        >>> normalise("69-4200-30"), normalise("56017275"), normalise("0")
        ('00069420030', '00056017275', None)
    """
    parts = ndc.strip().split("-")
    if len(parts) == len(_SEGMENTS):
        parts = [part.zfill(size) for part, size in zip(parts, _SEGMENTS, strict=True)]
    elif len(parts) > 1:
        return None
    digits = "".join(parts).zfill(11)
    well_formed = len(digits) == 11 and digits.isascii() and digits.isdecimal()
    return digits if well_formed and digits.strip("0") else None


def load_mapping(
    folders: Sequence[Path],
    ndc_rxcui: str | None = None,
    rxcui_atc: str | None = None,
    rule: Rule = "systemic",
    *,
    required: bool = True,
) -> NdcMapping:
    """Returns the mapping of the tables named, or of those found in folders.

    Args:
        folders: where tables are looked for, at any depth.
        ndc_rxcui: NDC table to use instead of those found.
        rxcui_atc: ATC table to use instead of those found.
        rule: which classes count of an RXCUI that has several, see `medrec.knowledge.atc.choose`.
            The published pipelines keep the first row of the table.
        required: whether missing tables are an error; else the mapping knows nothing.

    Where there are several tables, the one with most keys counts and the others fill its gaps.

    Raises:
        KnowledgeError: a table is missing or malformed.
    """
    ndc_paths = _chosen("ndc_rxcui", ndc_rxcui, folders, _NDC_FILES)
    atc_paths = _chosen("rxcui_atc", rxcui_atc, folders, _ATC_FILES)
    if required and not (ndc_paths and atc_paths):
        raise _missing(folders, not ndc_paths, not atc_paths)
    if not ndc_paths or not atc_paths:
        named = {"ndc_rxcui": ndc_rxcui, "rxcui_atc": rxcui_atc}
        alone = [option for option, path in named.items() if path is not None]
        if alone:
            missing = next(option for option in named if option not in alone)
            raise KnowledgeError(f"`{alone[0]}` is of no use without `{missing}`. Name both.")
        return NdcMapping({}, {}, {})
    ndc_tables = [read_table(path, _NDC_COLUMNS, KnowledgeError) for path in ndc_paths]
    atc_tables = [read_table(path, _ATC_COLUMNS, KnowledgeError) for path in atc_paths]
    return NdcMapping(
        rxcui=_merged([_rxcui_of_ndc(table) for table in ndc_tables]),
        classes=_merged([_classes_of_rxcui(table, rule) for table in atc_tables]),
        inputs=digests([*ndc_paths, *atc_paths]),
    )


def _chosen(
    option: str, named: str | None, folders: Sequence[Path], pattern: re.Pattern[str]
) -> list[Path]:
    if named is None:
        return files_named(folders, pattern)
    path = Path(named).expanduser()
    if not path.is_file():
        raise KnowledgeError(f"`{option}` must name a file, but {named} is none.")
    return [path]


def _missing(folders: Sequence[Path], no_ndc: bool, no_atc: bool) -> MissingSourceError:
    wanted = {"NDC to RXCUI (ndc_rxcui.csv)": no_ndc, "RXCUI to ATC (rxcui_atc.csv)": no_atc}
    names = " and ".join(name for name, lacking in wanted.items() if lacking)
    places = " or below ".join(map(str, folders)) or "the folders of knowledge"
    return MissingSourceError(
        f"Packages become classes by two tables, but there is no table {names} below {places}. "
        "Put it there, or name the folder with `knowledge`, or the files with `ndc_rxcui` and "
        "`rxcui_atc`; or let the names of drugs decide (`drug_names: true`, `--drug-names`)."
    )


def _rxcui_of_ndc(table: Table) -> dict[str, str]:
    """Returns the smallest RXCUI of each NDC, so that the order of rows does not matter."""
    table.require("rxcui", lambda v: bool(_RXCUI.fullmatch(v)), "must be an RXCUI (digits)")
    pairs = {
        (normalise(ndc), int(rxcui))
        for ndc, rxcui in distinct_rows(table, "ndc", "rxcui")
        if rxcui
    }
    known = sorted(((ndc, rxcui) for ndc, rxcui in pairs if ndc), reverse=True)
    return {ndc: str(rxcui) for ndc, rxcui in known}


def _classes_of_rxcui(table: Table, rule: Rule) -> dict[str, tuple[str, ...]]:
    table.require("rxcui", lambda v: bool(_RXCUI.fullmatch(v)), "must be an RXCUI (digits)")
    table.require(
        "atc", lambda v: bool(_ATC.fullmatch(v.upper())), "must be an ATC code as C03A or C03AA03"
    )
    classes: dict[str, dict[str, None]] = {}  # in the order of the table
    for rxcui, atc in distinct_rows(table, "rxcui", "atc"):
        if rxcui and atc:
            classes.setdefault(str(int(rxcui)), {})[atc[:4].upper()] = None
    return {rxcui: choose(list(found), rule) for rxcui, found in classes.items()}


def _merged(tables: Sequence[dict[str, T]]) -> dict[str, T]:
    merged: dict[str, T] = {}
    for table in sorted(tables, key=len):
        merged |= table
    return merged
