"""Pairs of drug classes that interact, from the sources that hold pairs of drugs.

    TWOSIDES   STITCH 1,STITCH 2,Polypharmacy Side Effect,Side Effect Name   (SNAP, Decagon)
    reduced    STITCH 1,STITCH 2                       (drug-DDI-TOP40.csv: forty kept by others)
    drug-ATC   CID000003015,G03HA01[,G03HA02...] without header, or stitch_cid,atc
    NDF-RT     rxcui1,rxcui2,severity,label            (severity: Critical or Significant)
    any other  two columns of ATC codes, see `medrec.knowledge.tables.read_interactions`

Two classes interact if any drug of one interacts with any drug of the other: a drug counts in
every class of it, cut to level 3.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Literal

from medrec.errors import KnowledgeError
from medrec.knowledge import tables
from medrec.knowledge.drug_names import DrugNames
from medrec.knowledge.origin import Origin
from medrec.knowledge.source_files import reading
from medrec.raw_files import read_blocks, read_table
from medrec.raw_table import Table, digests, distinct

Pair = tuple[str, str]
SideEffects = Literal["rarest40", "most_frequent40", "all"]
Severity = Literal["critical", "all"]

_KEPT = 40
_CID = re.compile(r"CID[ms]?[0-9]{1,9}")
_ATC = re.compile(r"[A-Z][0-9]{2}[A-Z]([A-Z]([0-9]{2})?)?")
_STITCH = {"a": ("stitch 1",), "b": ("stitch 2",)}
_EFFECT = {"effect": ("side effect name",)}
_CID_ATC = {"cid": ("stitch_cid", "cid"), "atc": ("atc", "atc5", "atc4")}
_NDFRT = {
    "a": ("rxcui1",), "b": ("rxcui2",), "severity": ("severity",), "label": ("label",)
}  # fmt: skip
_SEVERITIES = ("Critical", "Significant")
_TWOSIDES_LICENCE = "TWOSIDES (Tatonetti 2012): free download, no licence text; CID-ATC: STITCH"


@dataclass(frozen=True)
class Interactions:
    """Which drug classes interact.

    Attributes:
        origin: where it comes from.
        pairs: ATC classes of level 3, the first before the second, ascending.
        severity: "Critical" or "Significant" for each pair of a graded source, else empty. Of
            several pairs of drugs the gravest counts.
    """

    origin: Origin
    pairs: tuple[Pair, ...]
    severity: dict[Pair, str] = field(default_factory=dict)


def load_twosides(
    path: Path, drug_atc: Path, side_effects: SideEffects = "rarest40"
) -> Interactions:
    """Returns the interactions of TWOSIDES; the file is read twice in blocks, never whole.

    Args:
        path: TWOSIDES in the layout of SNAP, csv.
        drug_atc: ATC codes of each drug, either form.
        side_effects: which side effects count, by their number of rows. `rarest40`: the published
            pipelines sort them from frequent to rare and keep the *last* forty; their papers
            speak of the top forty, which is `most_frequent40`. Of equally frequent ones the name
            that is later in the alphabet counts as the rarer.

    Raises:
        KnowledgeError: a file is missing or malformed, or no pair of drugs has classes.
    """
    kept = None if side_effects == "all" else _kept_effects(path, side_effects)
    drugs: set[Pair] = set()
    for table in read_blocks(path, _STITCH | _EFFECT, KnowledgeError):
        _require_cids(table)
        drugs.update(_drug_pairs(table, kept))
    rules = {"side_effects": side_effects}
    return _of_drugs("TWOSIDES", drugs, path, drug_atc, rules)


def load_reduced_twosides(path: Path, drug_atc: Path) -> Interactions:
    """Returns the interactions of a table of drug pairs whose side effects others have chosen.

    Raises:
        KnowledgeError: a file is missing or malformed, or no pair of drugs has classes.
    """
    table = read_table(path, _STITCH, KnowledgeError)
    _require_cids(table)
    (a, b), _ = distinct(table["a"], table["b"])
    names = (table["a"].names, table["b"].names)
    drugs = {(names[0][i], names[1][j]) for i, j in zip(a.tolist(), b.tolist(), strict=True)}
    return _of_drugs("TWOSIDES, reduced", drugs, path, drug_atc, {})


def load_ndfrt(path: Path, names: DrugNames, severity: Severity = "critical") -> Interactions:
    """Returns the drug interactions of the US Department of Veterans Affairs (NDF-RT).

    A row counts by the RXCUIs of both drugs, or else by both names of its label, "A/B"; a row
    whose drugs have no classes counts nothing.

    Args:
        path: csv with the columns rxcui1, rxcui2, severity and label.
        names: classes of drugs; loaded with the rule `all` they are those TWOSIDES goes by.
        severity: `critical` keeps the critical ones, `all` the significant ones too.

    Raises:
        KnowledgeError: the file is missing or malformed, or no pair of drugs has classes.
    """
    table = read_table(path, _NDFRT, KnowledgeError)
    table.require(
        "severity", lambda v: v in _SEVERITIES, f"must be one of {', '.join(_SEVERITIES)}"
    )
    columns = [table[name] for name in ("severity", "a", "b", "label")]
    cells, _ = distinct(*columns)
    found: dict[Pair, str] = {}
    for row in zip(*(index.tolist() for index in cells), strict=True):
        grade, a, b, label = (column.names[i] for column, i in zip(columns, row, strict=True))
        if severity == "all" or grade == _SEVERITIES[0]:
            for pair in _class_pairs(*_ndfrt_classes(names, a, b, label)):
                found[pair] = min(grade, found.get(pair, grade))  # C before S
    origin = Origin(
        "NDF-RT drug interactions (US Department of Veterans Affairs, 2014)",
        "public domain; classes: terms of the tables of drug names",
        digests([path]) | names.origin.inputs,
        names.origin.rules | {"severity": severity},
    )
    pairs = _sorted(path, found)
    return Interactions(origin, pairs, {pair: found[pair] for pair in pairs})


def load_pairs(source: str) -> Interactions:
    """Returns the embedded interactions ("embedded") or those of a table of class pairs.

    Raises:
        KnowledgeError: the file is missing, damaged, empty or no csv, or a cell is no ATC code.
    """
    pairs = tables.read_interactions(source)
    if source == tables.EMBEDDED:
        rules = {"pairs": " ".join(f"{a}-{b}" for a, b in pairs)}
        return Interactions(Origin("Interactions, embedded", "as this project", {}, rules), pairs)
    return Interactions(Origin("Interactions", "the user's own", digests([Path(source)])), pairs)


def read_drug_atc(path: Path) -> dict[str, tuple[str, ...]]:
    """Returns the ATC classes (level 3, ascending) of each STITCH CID, written "CID000003015".

    Raises:
        KnowledgeError: the file is missing or malformed.
    """
    found: dict[str, set[str]] = {}
    for cid, atc in _ragged(path) if _has_no_header(path) else _long(path):
        found.setdefault(cid, set()).add(atc[:4])
    return {cid: tuple(sorted(found[cid])) for cid in sorted(found)}


def _kept_effects(path: Path, side_effects: SideEffects) -> set[str]:
    counts: Counter[str] = Counter()
    for table in read_blocks(path, _EFFECT, KnowledgeError):
        (index,), rows = distinct(table["effect"])
        for i, count in zip(index.tolist(), rows.tolist(), strict=True):
            counts[table["effect"].names[i]] += count
    ordered = sorted(counts, key=lambda name: (-counts[name], name))
    return set(ordered[:_KEPT] if side_effects == "most_frequent40" else ordered[-_KEPT:])


def _drug_pairs(table: Table, kept: set[str] | None) -> Iterable[Pair]:
    a, b, effect = (table[name] for name in ("a", "b", "effect"))
    cells, _ = distinct(a, b, effect)
    for i, j, k in zip(*(index.tolist() for index in cells), strict=True):
        if kept is None or effect.names[k] in kept:
            yield a.names[i], b.names[j]


def _require_cids(table: Table) -> None:
    for name in ("a", "b"):
        table.require(name, lambda v: bool(_CID.fullmatch(v)), "must be a CID as CID000003015")


def _normal(cid: str) -> str:
    return f"CID{int(cid.lstrip('CIDms')):09d}"


def _of_drugs(
    title: str, drugs: Iterable[Pair], path: Path, drug_atc: Path, rules: Mapping[str, str]
) -> Interactions:
    classes = read_drug_atc(drug_atc)
    found: set[Pair] = set()
    for a, b in drugs:
        found.update(_class_pairs(classes.get(_normal(a), ()), classes.get(_normal(b), ())))
    origin = Origin(title, _TWOSIDES_LICENCE, digests([path, drug_atc]), dict(rules))
    return Interactions(origin, _sorted(path, found))


def _class_pairs(first: Iterable[str], second: Iterable[str]) -> Iterable[Pair]:
    return ((min(a, b), max(a, b)) for a, b in product(first, second) if a != b)


def _sorted(path: Path, found: Iterable[Pair]) -> tuple[Pair, ...]:
    pairs = tuple(sorted(found))
    if not pairs:
        raise KnowledgeError(
            f"{path} must have pairs of drugs whose ATC classes are known, but it has none. "
            "Give the table of ATC codes that belongs to it."
        )
    return pairs


def _ndfrt_classes(
    names: DrugNames, a: str, b: str, label: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    numbered: Mapping[str, tuple[str, ...]] = names.rxcui
    if a in numbered and b in numbered:
        return numbered[a], numbered[b]
    left, _, right = label.partition("/")
    if "/" in right:  # more than two names: which belong together is not said
        return (), ()
    return names.exact(left).classes, names.exact(right).classes


def _has_no_header(path: Path) -> bool:
    return bool(_CID.fullmatch(next(_lines(path), (1, [""]))[1][0]))


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        with reading(path) as stream:
            reader = csv.reader(stream)
            for cells in reader:
                if any(cells):
                    yield reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise KnowledgeError(f"{path} cannot be read ({error}). Check the file.") from error


def _ragged(path: Path) -> Iterable[Pair]:
    for line, (cid, *codes) in _lines(path):
        if not _CID.fullmatch(cid):
            raise KnowledgeError(
                f"{path}, line {line}, field 1: must be a CID as CID000003015, but it is {cid!r}. "
                "Correct that line, or download the file again."
            )
        for code in filter(None, codes):
            if not _ATC.fullmatch(code):
                raise KnowledgeError(
                    f"{path}, line {line}: must be an ATC code as C03C or C03CA01, but it is "
                    f"{code!r}. Correct that line, or download the file again."
                )
            yield _normal(cid), code


def _long(path: Path) -> Iterable[Pair]:
    table = read_table(path, _CID_ATC, KnowledgeError)
    table.require("cid", lambda v: bool(_CID.fullmatch(v)), "must be a CID as CID000003015")
    table.require("atc", lambda v: bool(_ATC.fullmatch(v)), "must be an ATC code as C03CA01")
    cids, codes = table["cid"], table["atc"]
    for i, j in zip(cids.index.tolist(), codes.index.tolist(), strict=True):
        yield _normal(cids.names[i]), codes.names[j]
