"""Relations out of the UMLS Metathesaurus: the user's own licensed copy, in RRF files.

    MRCONSO.RRF   which concept (CUI) a code belongs to
    MRREL.RRF     relations between concepts; a line reads "CUI2 RELA CUI1", so its head is CUI2
    MRSTY.RRF     the semantic types of concepts

All three have fields ended by "|", no header, and quotes that are characters as any other. They
may be compressed (.gz). Rows that UMLS marks as suppressed are left out. UMLS names may_treat and
contraindicated_with between diseases and drugs: relations close to what a recommender predicts.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Int64, Integer
from pyarrow import compute

from medrec.codes import split
from medrec.errors import KnowledgeError
from medrec.knowledge.origin import Origin
from medrec.knowledge.relations import (
    COLUMNS,
    Relations,
    from_indices,
    from_names,
    from_table,
    names_digest,
    node,
    positions,
    require_hops,
)
from medrec.knowledge.streams import Layout, stream
from medrec.raw_table import digests

LICENCE = "UMLS Metathesaurus License (NLM): your own copy, not to be passed on"
KINDS = ("diagnoses", "procedures", "medications")
CO_OCCUR, HAS_TYPE, ISA = "co_occur", "has_type", "isa"

_MRCONSO = Layout(
    "MRCONSO.RRF",
    "CUI|LAT|TS|LUI|STT|SUI|ISPREF|AUI|SAUI|SCUI|SDUI|SAB|TTY|CODE|STR|SRL|SUPPRESS|CVF",
    delimiter="|",
    ended=True,
)
_MRREL = Layout(
    "MRREL.RRF",
    "CUI1|AUI1|STYPE1|REL|CUI2|AUI2|STYPE2|RELA|RUI|SRUI|SAB|SL|RG|DIR|SUPPRESS|CVF",
    delimiter="|",
    ended=True,
)
_MRSTY = Layout("MRSTY.RRF", "CUI|TUI|STN|STY|ATUI|CVF", delimiter="|", ended=True)
_SUPPRESSED = pa.array(["O", "E", "Y"])
_ENTRY_TERM = "ET"
# What follows the second code of a range in UMLS: "420-429.99", "E870-E876.9", but "I30-I52".
_RANGE_ENDS = {"9": ".99", "9E": ".9", "10": ""}


@dataclass(frozen=True)
class CodeConcepts:
    """The concepts of codes.

    Attributes:
        origin: where they come from.
        cui: concepts of each (kind, code) that has any, ascending.
        unmapped: the (kind, code) without concept, ascending.
    """

    origin: Origin
    cui: dict[tuple[str, str], tuple[str, ...]]
    unmapped: tuple[tuple[str, str], ...]

    @property
    def concepts(self) -> tuple[str, ...]:
        """All concepts, ascending."""
        return tuple(sorted({cui for found in self.cui.values() for cui in found}))

    @property
    def nodes(self) -> tuple[str, ...]:
        """All codes as nodes, also those without concept, ascending."""
        return tuple(sorted(node(kind, code) for kind, code in [*self.cui, *self.unmapped]))


def source_code(kind: str, code: str) -> tuple[str, str] | None:
    """Returns the vocabulary (SAB) of a code and how UMLS writes it; None if UMLS cannot have it.

    The version decides, not the first letter: "10:E871" is ICD-10-CM E87.1 (low sodium) and
    "9:E871" ICD-9-CM E871 (an object left in the body). A code of unknown version has none.

    Args:
        kind: "diagnoses", "procedures" or "medications".
        code: as in `medrec.codes`; an ICD block as "9:420-429".

    Raises:
        KnowledgeError: there is no such kind.

    Example:
        >>> source_code("diagnoses", "9:4280"), source_code("procedures", "9:4280")
        (('ICD9CM', '428.0'), ('ICD9CM', '42.80'))
        >>> source_code("diagnoses", "10:E8809"), source_code("diagnoses", "9:E8809")
        (('ICD10CM', 'E88.09'), ('ICD9CM', 'E880.9'))
    """
    if kind not in KINDS:
        raise KnowledgeError(f"A kind of codes must be one of {list(KINDS)}, but got {kind!r}.")
    if kind == "medications":
        return ("ATC", code)
    version, bare = split(code)
    if version == "10" and kind == "procedures":
        return ("ICD10PCS", bare)
    if not version:
        return None
    external = version == "9" and bare.startswith("E")
    if re.fullmatch(r"[A-Z0-9]+-[A-Z0-9]+", bare):
        end = _RANGE_ENDS["9E" if external else version]
        return (f"ICD{version}CM", bare + end)
    stem = 2 if kind == "procedures" else 4 if external else 3
    if len(bare) < stem:
        return None
    dotted = f"{bare[:stem]}.{bare[stem:]}" if len(bare) > stem else bare
    return (f"ICD{version}CM", dotted)


def load_code_concepts(
    mrconso: Path, codes: Mapping[str, Sequence[str]], *, entry_terms: bool = True
) -> CodeConcepts:
    """Returns the concepts of the given codes; of an ambiguous code all of them.

    Args:
        mrconso: MRCONSO.RRF, plain or gzip.
        codes: codes by kind ("diagnoses", "procedures", "medications").
        entry_terms: whether the terms of ICD's index that share a code count, too. They may
            belong to a narrower concept than the code's own title.

    Raises:
        KnowledgeError: the file is missing or malformed, a kind is unknown, or the file has none
            of the codes.
    """
    written: dict[tuple[str, str], str] = {}
    for kind, found in codes.items():
        for code in found:
            vocabulary_code = source_code(kind, code)
            written[kind, code] = "|".join(vocabulary_code) if vocabulary_code else ""
    known = _concepts_of(mrconso, {name for name in written.values() if name}, entry_terms)
    if not known and any(written.values()):
        raise KnowledgeError(
            f"{mrconso} has none of the {len(written)} codes. Install the vocabularies ICD9CM, "
            "ICD10CM, ICD10PCS and ATC with your UMLS subset."
        )
    origin = Origin(
        "UMLS concepts of codes (MRCONSO)",
        LICENCE,
        digests([mrconso]),
        {"entry_terms": str(entry_terms), "codes": names_digest(node(*key) for key in written)},
    )
    mapped = {key: known[name] for key, name in sorted(written.items()) if name in known}
    return CodeConcepts(origin, mapped, tuple(sorted(written.keys() - mapped.keys())))


def _concepts_of(mrconso: Path, names: set[str], entry_terms: bool) -> dict[str, tuple[str, ...]]:
    """Returns the concepts of each "SAB|CODE" that has any."""
    wanted = pa.array(sorted(names), pa.string())
    vocabularies = pa.array(sorted({name.partition("|")[0] for name in names}), pa.string())
    found: dict[str, set[str]] = {}
    # STR is read only to be checked: a file in another encoding is not the one published.
    for batch in stream(mrconso, [_MRCONSO], ["CUI", "SAB", "TTY", "CODE", "STR", "SUPPRESS"]):
        rows = batch.filter(compute.is_in(batch["SAB"], value_set=vocabularies))
        keys = compute.binary_join_element_wise(rows["SAB"], rows["CODE"], "|")
        kept = compute.and_(compute.is_in(keys, value_set=wanted), _valid(rows))
        if not entry_terms:
            kept = compute.and_(kept, compute.not_equal(rows["TTY"], _ENTRY_TERM))
        names, cuis = keys.filter(kept).to_pylist(), rows["CUI"].filter(kept).to_pylist()
        for name, cui in zip(names, cuis, strict=True):
            found.setdefault(name, set()).add(cui)
    return {name: tuple(sorted(cuis)) for name, cuis in found.items()}


def _valid(rows: pa.RecordBatch) -> pa.BooleanArray:
    return compute.invert(compute.is_in(rows["SUPPRESS"], value_set=_SUPPRESSED))


def load_concept_relations(mrrel: Path, concepts: Iterable[str], hops: int = 1) -> Relations:
    """Returns the relations around concepts: head CUI2, RELA (REL where there is none), tail CUI1.

    Args:
        mrrel: MRREL.RRF, plain or gzip; read once a hop.
        concepts: where to start (CUIs); nodes also where they have no relation.
        hops: as in `relations.restrict`: 0 keeps the relations between the concepts, k those that
            a walk of at most k steps from a concept meets.

    Raises:
        KnowledgeError: the file is missing or malformed, or `hops` is negative.
    """
    require_hops(hops)
    given = sorted(set(concepts))
    reached = pa.array(given, pa.string())
    for _ in range(hops - 1):
        reached = _neighbours(mrrel, reached)
    parts = [_EMPTY]
    for batch in stream(mrrel, [_MRREL], ["CUI1", "REL", "CUI2", "RELA", "SUPPRESS"]):
        rows = batch.filter(_met(batch, reached, both=hops == 0))
        label = compute.if_else(compute.equal(rows["RELA"], ""), rows["REL"], rows["RELA"])
        parts.append(_distinct(_cui_nodes(rows["CUI2"]), label, _cui_nodes(rows["CUI1"])))
    origin = Origin(
        "UMLS relations of concepts (MRREL)",
        LICENCE,
        digests([mrrel]),
        {"hops": str(hops), "around": names_digest(given)},
    )
    nodes = [node("cui", cui) for cui in given]
    return from_table(origin, pa.concat_tables(parts), nodes=nodes)


_EMPTY = pa.table({name: pa.array([], pa.string()) for name in COLUMNS})


def _met(batch: pa.RecordBatch, reached: pa.StringArray, *, both: bool) -> pa.BooleanArray:
    one, other = (compute.is_in(batch[name], value_set=reached) for name in ("CUI1", "CUI2"))
    ends = compute.and_(one, other) if both else compute.or_(one, other)
    return compute.and_(ends, _valid(batch))


def _neighbours(mrrel: Path, reached: pa.StringArray) -> pa.StringArray:
    found = set(reached.to_pylist())
    for batch in stream(mrrel, [_MRREL], ["CUI1", "CUI2", "SUPPRESS"]):
        rows = batch.filter(_met(batch, reached, both=False))
        for name in ("CUI1", "CUI2"):
            found.update(compute.unique(rows[name]).to_pylist())
    return pa.array(sorted(found), pa.string())


def _cui_nodes(cuis: pa.StringArray) -> pa.StringArray:
    return compute.binary_join_element_wise("cui", cuis, "/")


def _distinct(heads: pa.Array, relations: pa.Array, tails: pa.Array) -> pa.Table:
    """Returns each triple once, as MRREL repeats a relation for every pair of synonyms."""
    table = pa.table(dict(zip(COLUMNS, (heads, relations, tails), strict=True)))
    return table.group_by(list(COLUMNS), use_threads=False).aggregate([]).select(COLUMNS)


def load_semantic_types(mrsty: Path, cuis: Iterable[str]) -> Relations:
    """Returns (concept, has_type, type), and (type, isa, type above), of the given concepts.

    Types are named by their tree number: "sty/B2.2.1.2" is below "sty/B2.2.1", and "sty/A1" below
    "sty/A".

    Args:
        mrsty: MRSTY.RRF, plain or gzip.
        cuis: the concepts; nodes also where they have no type.

    Raises:
        KnowledgeError: the file is missing or malformed.
    """
    given = sorted(set(cuis))
    wanted = pa.array(given, pa.string())
    found: set[tuple[str, str]] = set()
    for batch in stream(mrsty, [_MRSTY], ["CUI", "STN", "STY"]):
        rows = batch.filter(compute.is_in(batch["CUI"], value_set=wanted))
        found.update(zip(rows["CUI"].to_pylist(), rows["STN"].to_pylist(), strict=True))
    triples = [(node("cui", cui), HAS_TYPE, node("sty", number)) for cui, number in found]
    for number in {number for _, number in found}:
        below = number
        while above := _type_above(below):
            triples.append((node("sty", below), ISA, node("sty", above)))
            below = above
    origin = Origin(
        "UMLS semantic types (MRSTY)", LICENCE, digests([mrsty]), {"of": names_digest(given)}
    )
    nodes = [node("cui", cui) for cui in given]
    return from_names(origin, triples, nodes=nodes, relations=(HAS_TYPE, ISA))


def _type_above(number: str) -> str:
    """Returns the tree number above one, "" above a root: A1.2.3 is below A1.2, A1 below A."""
    above, dot, _ = number.rpartition(".")
    return above if dot else number[:1] if len(number) > 1 else ""


def code_concept_relations(concepts: CodeConcepts) -> Relations:
    """Returns (code, co_occur, concept) for every code; one without concept is a mere node."""
    triples = (
        (node(kind, code), CO_OCCUR, node("cui", cui))
        for (kind, code), cuis in concepts.cui.items()
        for cui in cuis
    )
    return from_names(concepts.origin, triples, nodes=concepts.nodes, relations=(CO_OCCUR,))


def code_relations(concepts: CodeConcepts, relations: Relations) -> Relations:
    """Returns the relations between concepts as relations between the codes that have them.

    Two codes are related as any of their concepts are. All codes are nodes and all relations keep
    their names, also where nothing is left of them.

    Args:
        concepts: the codes.
        relations: between nodes of the kind "cui"; others are ignored.
    """
    index = {name: i for i, name in enumerate(relations.nodes)}
    links = sorted(
        (index[node("cui", cui)], node(kind, code))
        for (kind, code), cuis in concepts.cui.items()
        for cui in cuis
        if node("cui", cui) in index
    )
    codes = positions([code for _, code in links], concepts.nodes)
    owners = np.array([concept for concept, _ in links], dtype=np.int64)
    starts = np.searchsorted(owners, np.arange(len(relations.nodes) + 1))
    mapped = np.diff(starts) > 0
    triples = relations.triples[mapped[relations.triples[:, [0, 2]]].all(axis=1)]
    for column in (0, 2):
        triples = _with_codes(triples, column, starts, codes)
    origin = Origin(
        f"{relations.origin.title}, between codes",
        "; ".join(sorted({relations.origin.licence, concepts.origin.licence})),
        relations.origin.inputs | concepts.origin.inputs,
        relations.origin.rules | concepts.origin.rules,
    )
    return from_indices(origin, concepts.nodes, relations.relations, triples)


def _with_codes(
    triples: Integer[np.ndarray, "rows 3"],
    column: int,
    starts: Int64[np.ndarray, " ends"],
    codes: Int64[np.ndarray, " links"],
) -> Int64[np.ndarray, "more 3"]:
    """Returns each row once for every code of the concept in that column, the code in its place.

    Codes of concept i are ``codes[starts[i]:starts[i + 1]]``.
    """
    concept = triples[:, column]
    counts = starts[concept + 1] - starts[concept]
    before = np.repeat(np.cumsum(counts) - counts, counts)
    place = np.repeat(starts[concept], counts) + np.arange(counts.sum()) - before
    rows = np.repeat(triples.astype(np.int64), counts, axis=0)
    rows[:, column] = codes[place]
    return rows
