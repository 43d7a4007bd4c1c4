"""Which drug classes are given for which diagnoses.

    MEDI                RXCUI_IN,DRUG_DESC,ICD9,POSSIBLE_LABEL_USE          names ICD-9-CM codes
    LabeledIn           rxnorm_id, rxnorm_name, disease_mesh_name           names diseases (tsv)
    PharmacotherapyDB   drug, disease, category                             names diseases (tsv)

A disease named in words becomes a code only if a title of the ICD tree has the same words: case,
signs, word order, plural s, "unspecified" and "NOS" do not count, nothing else is guessed. Of
several such codes the shortest counts, and of equals the first.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medrec import codes
from medrec.errors import KnowledgeError
from medrec.knowledge.drug_names import DrugNames
from medrec.knowledge.hierarchy import Hierarchy
from medrec.knowledge.origin import Origin
from medrec.knowledge.source_files import distinct_rows
from medrec.raw_files import read_table
from medrec.raw_table import digests

Use = Literal["all", "labelled"]
Strength = Literal["modifying", "symptomatic"]

_MEDI = {
    "rxcui": ("rxcui_in",), "drug": ("drug_desc",), "icd": ("icd9",),
    "labelled": ("possible_label_use",),
}  # fmt: skip
_LABELEDIN = {
    "rxcui": ("rxnorm_id",), "drug": ("rxnorm_name",), "disease": ("disease_mesh_name",),
}  # fmt: skip
_PHARMACOTHERAPY = {"drug": ("drug",), "disease": ("disease",), "category": ("category",)}
_CATEGORIES = ("DM", "SYM", "NOT")
_CODE = r"(?:[0-9]{2,3}|V[0-9]{2}|E[0-9]{3})(?:\.[0-9]{1,2})?"
_ICD = re.compile(rf"{_CODE}(?:\|{_CODE})*")
_RANGE = re.compile(r"([0-9]{3})-([0-9]{3})\.99")
_WORD = re.compile(r"[a-z0-9]+")
_SILENT = frozenset({"unspecified", "nos", "the", "of", "s"})


@dataclass(frozen=True)
class Indications:
    """What drugs are given for.

    Attributes:
        origin: where it comes from.
        pairs: ATC class of level 3, and diagnosis as in `medrec.codes` or a block "9:401-405";
            ascending and unique.
        unmatched: ATC class and name of a disease that no ICD title is, ascending.
    """

    origin: Origin
    pairs: tuple[tuple[str, str], ...]
    unmatched: tuple[tuple[str, str], ...] = ()


def load_medi(path: Path, names: DrugNames, use: Use = "all") -> Indications:
    """Returns the indications of MEDI, which names ICD-9-CM codes itself.

    A range "401-405.99" is the block of that range, or the category if it spans one; a row of two
    codes "616.10|041.9", disease and germ, counts for the first.

    Args:
        path: MEDI, csv.
        names: classes of drugs.
        use: `labelled` keeps what a drug's label may say.

    Raises:
        KnowledgeError: the file is missing or malformed, or holds no drug known.
    """
    table = read_table(path, _MEDI, KnowledgeError)
    table.require(
        "icd",
        lambda v: bool(_ICD.fullmatch(v) or _RANGE.fullmatch(v)),
        "must be an ICD-9-CM code as 428.0, or a range as 401-405.99",
    )
    table.require("labelled", lambda v: v in {"0", "1"}, "must be 0 or 1")
    pairs = {
        (code, _medi_code(icd))
        for rxcui, drug, icd, labelled in distinct_rows(table, "rxcui", "drug", "icd", "labelled")
        if use == "all" or labelled == "1"
        for code in names.of_ingredient(rxcui, drug)
    }
    return _indications(
        "MEDI, high-precision subset (Vanderbilt)",
        "CC BY-NC-SA 3.0",
        path,
        names,
        {"use": use},
        pairs,
    )


def load_labeledin(path: Path, names: DrugNames, tree: Hierarchy) -> Indications:
    """Returns the indications on labels of the FDA (LabeledIn), diseases matched by title.

    Args:
        path: LabeledIn joined with the names of drugs and diseases, tab-separated.
        names: classes of drugs.
        tree: diagnoses whose titles count.

    Raises:
        KnowledgeError: the file is missing or malformed, or holds no drug known.
    """
    table = read_table(path, _LABELEDIN, KnowledgeError, delimiter="\t")
    said = {
        (code, disease)
        for rxcui, drug, disease in distinct_rows(table, "rxcui", "drug", "disease")
        for code in names.of_ingredient(rxcui, drug)
    }
    return _matched("LabeledIn (NCBI)", "public domain", path, names, {}, said, tree)


def load_pharmacotherapydb(
    path: Path, names: DrugNames, tree: Hierarchy, strength: Strength = "modifying"
) -> Indications:
    """Returns the indications of PharmacotherapyDB, diseases matched by title.

    Args:
        path: its table of indications, tab-separated.
        names: classes of drugs.
        tree: diagnoses whose titles count.
        strength: `modifying` keeps drugs that change the course of the disease (DM),
            `symptomatic` those against symptoms (SYM) too. Refuted ones (NOT) never count.

    Raises:
        KnowledgeError: the file is missing or malformed, or holds no drug known.
    """
    table = read_table(path, _PHARMACOTHERAPY, KnowledgeError, delimiter="\t")
    rule = f"must be one of {', '.join(_CATEGORIES)}"
    table.require("category", lambda v: v in _CATEGORIES, rule)
    kept = _CATEGORIES[: 1 if strength == "modifying" else 2]
    said = {
        (code, disease)
        for drug, disease, category in distinct_rows(table, "drug", "disease", "category")
        if category in kept
        for code in names.exact(drug).classes
    }
    rules = {"strength": strength}
    return _matched("PharmacotherapyDB", "CC0", path, names, rules, said, tree)


def match_title(name: str, index: dict[str, str]) -> str | None:
    """Returns the code whose title has the same words, or None; see `title_index`."""
    return index.get(_normal(name))


def title_index(tree: Hierarchy) -> dict[str, str]:
    """Returns the code of each title, by its words."""
    index: dict[str, str] = {}
    for code in sorted(tree.titles, key=lambda code: (len(code), code)):
        words = _normal(tree.titles[code])
        if words:
            index.setdefault(words, code)
    return index


def _normal(title: str) -> str:
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    words = (word for word in _WORD.findall(plain) if word not in _SILENT)
    return " ".join(sorted(_singular(word) for word in words))


def _singular(word: str) -> str:
    plural = len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "is", "us"))
    return word[:-1] if plural else word


def _medi_code(icd: str) -> str:
    span = _RANGE.fullmatch(icd)
    if span is None:
        return codes.join("9", icd.partition("|")[0])
    first, last = span.groups()
    return codes.join("9", first if first == last else f"{first}-{last}")


def _matched(
    title: str,
    licence: str,
    path: Path,
    names: DrugNames,
    rules: Mapping[str, str],
    said: Iterable[tuple[str, str]],
    tree: Hierarchy,
) -> Indications:
    index = title_index(tree)
    found = [(code, disease, match_title(disease, index)) for code, disease in said if disease]
    pairs = {(code, icd) for code, _, icd in found if icd is not None}
    rest = {(code, disease) for code, disease, icd in found if icd is None}
    rules = {**rules, "diseases": tree.origin.fingerprint}
    return _indications(title, licence, path, names, rules, pairs, rest)


def _indications(
    title: str,
    licence: str,
    path: Path,
    names: DrugNames,
    rules: dict[str, str],
    pairs: Iterable[tuple[str, str]],
    rest: Iterable[tuple[str, str]] = (),
) -> Indications:
    known, unmatched = tuple(sorted(pairs)), tuple(sorted(rest))
    if not known and not unmatched:
        raise KnowledgeError(
            f"{path} must hold drugs whose names are known, but it has none. "
            "Give tables of drug names too, or use the file as published."
        )
    origin = Origin(
        title,
        f"{licence}; classes: terms of the tables of drug names",
        digests([path]) | names.origin.inputs,
        names.origin.rules | rules,
    )
    return Indications(origin, known, unmatched)
