"""Relations out of SemMedDB: predications that a program read in the sentences of PubMed.

The table PREDICATION comes as csv.gz without header; fields may stand in double quotes, with a
backslash before a quote inside. Later versions have three columns more. Concepts are UMLS
CUIs, or numbers of genes: "C1414968|2597" is a concept and its gene. Names are not read, since
their encoding varies.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import compute

from medrec.errors import KnowledgeError
from medrec.knowledge.origin import Origin
from medrec.knowledge.relations import (
    COLUMNS,
    Relations,
    from_indices,
    from_table,
    kind_of,
    names_digest,
    node,
)
from medrec.knowledge.streams import Layout, stream
from medrec.raw_table import digests

LICENCE = "SemMedDB (NLM): free, for holders of a UMLS Metathesaurus License"

_FIRST = (
    "PREDICATION_ID,SENTENCE_ID,PMID,PREDICATE,SUBJECT_CUI,SUBJECT_NAME,SUBJECT_SEMTYPE,"
    "SUBJECT_NOVELTY,OBJECT_CUI,OBJECT_NAME,OBJECT_SEMTYPE,OBJECT_NOVELTY"
)
_LAYOUTS = [
    Layout("PREDICATION", heading, delimiter=",", quoted=True)
    for heading in (_FIRST, _FIRST + ",FACT_VALUE,MOD_SCALE,MOD_VALUE")
]
_NEGATED = "NEG_"
_NOVELTIES = ("SUBJECT_NOVELTY", "OBJECT_NOVELTY")

_D, _P = "diagnoses", "procedures"
_PREDICATES = {
    "AFFECTS": ((_D, _D), (_P, _D), (_P, _P)),
    "ASSOCIATED_WITH": ((_D, _D),),
    "AUGMENTS": ((_D, _D),),
    "CAUSES": ((_D, _D), (_D, _P), (_P, _D)),
    "COEXISTS_WITH": ((_D, _D), (_D, _P), (_P, _P)),
    "COMPLICATES": ((_D, _D), (_P, _D)),
    "DIAGNOSES": ((_D, _D),),
    "ISA": ((_D, _D), (_P, _P)),
    "MANIFESTATION_OF": ((_D, _D),),
    "MEASURES": ((_P, _D),),
    "METHOD_OF": ((_P, _P),),
    "PRECEDES": ((_D, _D), (_P, _D), (_P, _P)),
    "PREDISPOSES": ((_D, _D), (_P, _D)),
    "PREVENTS": ((_P, _D),),
    "TREATS": ((_P, _D),),
}
KINDMED_RELATIONS = tuple(
    (predicate, source, target)
    for predicate, ends in _PREDICATES.items()
    for source, target in ends
)
"""(predicate, kind of the source, kind of the target) of KindMed's 26 semantic relations."""


def load_predications(
    predication: Path,
    concepts: Iterable[str],
    *,
    min_sentences: int = 1,
    novel_only: bool = False,
) -> Relations:
    """Returns (subject, PREDICATE, object) between the given concepts.

    Negated predications (NEG_...) are left out. A field that holds several concepts stands for
    each of them; numbers of genes are ignored.

    Args:
        predication: the table PREDICATION, csv, plain or gzip.
        concepts: CUIs; nodes also where they have no relation.
        min_sentences: distinct sentences that must state a relation, at least 1.
        novel_only: whether to leave out predications with a concept that SemMedDB holds too
            general to be news ("Disease").

    Raises:
        KnowledgeError: the file is missing or malformed, or `min_sentences` is less than 1.
    """
    if min_sentences < 1:
        raise KnowledgeError(f"`min_sentences` must be at least 1, but got {min_sentences=}.")
    given = sorted(set(concepts))
    kept = [*COLUMNS, "sentence"] if min_sentences > 1 else list(COLUMNS)
    table = _predications(predication, pa.array(given, pa.string()), kept, novel_only=novel_only)
    if min_sentences > 1:
        table = table.group_by(list(COLUMNS)).aggregate([("sentence", "count")])
        table = table.filter(compute.greater_equal(table["sentence_count"], min_sentences))
    origin = Origin(
        "SemMedDB predications",
        LICENCE,
        digests([predication]),
        {
            "min_sentences": str(min_sentences),
            "novel_only": str(novel_only),
            "between": names_digest(given),
        },
    )
    return from_table(origin, table, nodes=[node("cui", cui) for cui in given])


def _predications(
    path: Path, concepts: pa.StringArray, kept: list[str], *, novel_only: bool
) -> pa.Table:
    """Returns the distinct rows of the columns `kept` that are between the concepts."""
    needed = ["PREDICATE", "SUBJECT_CUI", "OBJECT_CUI"]
    needed += ["SENTENCE_ID"] if "sentence" in kept else []
    needed += _NOVELTIES if novel_only else ()
    parts = [pa.table({name: pa.array([], pa.string()) for name in kept})]
    for batch in stream(path, _LAYOUTS, needed):
        rows = batch.filter(compute.invert(compute.starts_with(batch["PREDICATE"], _NEGATED)))
        for novelty in _NOVELTIES if novel_only else ():
            rows = rows.filter(compute.equal(rows[novelty], "1"))
        rows, heads = _each_concept(rows, "SUBJECT_CUI", concepts)
        rows = rows.append_column("head", heads)
        rows, tails = _each_concept(rows, "OBJECT_CUI", concepts)
        found = {"head": rows["head"], "relation": rows["PREDICATE"], "tail": tails}
        if "sentence" in kept:
            found["sentence"] = rows["SENTENCE_ID"]
        grouped = pa.table(found).group_by(kept, use_threads=False)
        parts.append(grouped.aggregate([]).select(kept))
    table = pa.concat_tables(parts)
    return table.group_by(kept).aggregate([]).select(kept)  # a sentence may lie in two blocks


def _each_concept(
    rows: pa.RecordBatch, column: str, concepts: pa.StringArray
) -> tuple[pa.RecordBatch, pa.StringArray]:
    """Returns each row once for every known concept in that column, and those concepts."""
    parts = compute.split_pattern(rows[column], "|")
    names, parents = compute.list_flatten(parts), compute.list_parent_indices(parts)
    known = compute.is_in(names, value_set=concepts)
    return rows.take(parents.filter(known)), compute.binary_join_element_wise(
        "cui", names.filter(known), "/"
    )


def kindmed_relations(relations: Relations) -> Relations:
    """Returns KindMed's 26 relations between codes, each by predicate and kinds of its ends.

    Every one of them is registered, also without a triple, and always in the same order: that of
    `KINDMED_RELATIONS`, named as "AFFECTS/diagnoses/diagnoses". All nodes stay.

    Args:
        relations: SemMedDB's between codes, as `umls.code_relations` gives them.
    """
    kinds = np.array([kind_of(name) for name in relations.nodes], dtype=object)
    head, relation, tail = relations.triples.T
    sources, targets = kinds[head], kinds[tail]
    parts = [np.empty((0, 3), np.int32)]
    for i, (predicate, source, target) in enumerate(KINDMED_RELATIONS):
        if predicate not in relations.relations:
            continue
        same = relation == relations.relations.index(predicate)
        rows = relations.triples[same & (sources == source) & (targets == target)].copy()
        rows[:, 1] = i
        parts.append(rows)
    names = ["/".join(each) for each in KINDMED_RELATIONS]
    return from_indices(relations.origin, relations.nodes, names, np.concatenate(parts))
