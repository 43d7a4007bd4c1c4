"""The knowledge graph of a cohort: open relations, and those out of the user's licensed copies."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from medrec.cohort import KINDS, Kind
from medrec.knowledge.ccs import load_ccs
from medrec.knowledge.coverage import coverage_of
from medrec.knowledge.drug_names import DrugNames
from medrec.knowledge.gem import Gem, load_gem
from medrec.knowledge.hierarchy import Hierarchy
from medrec.knowledge.indications import (
    Indications,
    load_labeledin,
    load_medi,
    load_pharmacotherapydb,
)
from medrec.knowledge.open_graph import open_graph
from medrec.knowledge.options import KnowledgeOptions
from medrec.knowledge.origin import Origin
from medrec.knowledge.relations import Relations, from_names, node, union
from medrec.knowledge.semmeddb import kindmed_relations, load_predications
from medrec.knowledge.source_files import require_files
from medrec.knowledge.sources import FILES, VERSIONS, Sources
from medrec.knowledge.umls import (
    code_concept_relations,
    code_relations,
    load_code_concepts,
    load_concept_relations,
    load_semantic_types,
)


@dataclass(frozen=True)
class Known:
    """What a graph shares with the rest of a bundle.

    Attributes:
        trees: of each kind of code.
        interactions: pairs of drug classes, with their severity or "".
        names: classes of drugs.
    """

    trees: Mapping[Kind, Sequence[Hierarchy]]
    interactions: Mapping[tuple[str, str], str]
    names: DrugNames


def knowledge_graph(
    sources: Sources,
    options: KnowledgeOptions,
    known: Known,
) -> Relations:
    """Returns the graph, and notes in `sources` what its parts cover and what is missing.

    Args:
        sources: where its parts are looked for.
        options: which parts.
        known: what has been read for other purposes and is a part, too.

    Raises:
        KnowledgeError: a part that was asked for is missing, or one is malformed.
    """
    given = [node(kind, code) for kind in KINDS for code in sources.cohort.vocabulary[kind]]
    parts = [from_names(Origin("Codes of the cohort", ""), [], nodes=given)]
    if "open" in options.graph:
        parts.append(_open(sources, options, known))
    if {"umls", "semmeddb", "kindmed"} & set(options.graph):
        parts += _licensed(sources, options)
    graph = union(*parts) if len(parts) > 1 else parts[0]
    _note_relations(sources, graph)
    return graph


def _note_relations(sources: Sources, graph: Relations) -> None:
    """Notes which codes have each relation: that most have a parent says little."""
    for number, name in enumerate(graph.relations):
        ends = graph.triples[graph.triples[:, 1] == number][:, [0, 2]]
        linked = {graph.nodes[i] for i in np.unique(ends)}
        for kind in KINDS:
            own = [c for c in sources.cohort.vocabulary[kind] if node(kind, c) in linked]
            if own:
                title = f"graph: {name}"
                sources.coverage.append(coverage_of(sources.cohort, title, kind, own))


def _open(sources: Sources, options: KnowledgeOptions, known: Known) -> Relations:
    categories: dict[str, dict[str, str]] = {}
    gems: dict[str, list[Gem]] = {}
    for kind, version in sources.coded():
        ccs = sources.optional(
            f"CCS of ICD-{version} {kind}",
            partial(load_ccs, kind, version),
        )
        if ccs is not None:
            own = sources.of_version(kind, version)
            found = {code: name for code in own if (name := ccs.of(code))}
            sources.note(ccs.origin, kind, found, version)
            # Equivalents of codes are nodes, too, and belong to a category as well.
            categories[kind] = {**categories.get(kind, {}), **ccs.category, **found}
    # Both directions, whatever versions the cohort has: lists of indications are in ICD-9.
    for kind in dict.fromkeys(kind for kind, _ in sources.coded()):
        for version in VERSIONS:
            gem = sources.optional(
                f"GEM of ICD-{version} {kind}",
                partial(load_gem, kind, version, rule="all"),
            )
            own = sources.of_version(kind, version)
            if gem is not None:
                gems.setdefault(kind, []).append(gem)
            if gem is not None and own:
                covered = [code for code in own if gem.map(code)]
                sources.note(gem.origin, kind, covered, version)
    equivalents = {name: _either(found) for name, found in gems.items()}
    indications = _indications(sources, known, equivalents.get("diagnoses", lambda code: ()))
    return open_graph(
        {str(kind): names for kind, names in sources.cohort.vocabulary.items()},
        trees={str(kind): found for kind, found in known.trees.items()},
        categories=categories,
        equivalents=equivalents,
        interactions=known.interactions,
        indications=indications,
        siblings=options.siblings,
        origins=sources.origins,
    )


def _either(gems: Sequence[Gem]) -> Callable[[str], tuple[str, ...]]:
    return lambda code: tuple(sorted({name for gem in gems for name in gem.map(code)}))


def _indications(
    sources: Sources, known: Known, equivalents: Callable[[str], tuple[str, ...]]
) -> list[tuple[str, str]]:
    """Returns pairs of drug class and diagnosis out of whatever lists are there.

    The lists know ICD-9 or names of diseases. Names are looked up in the trees of both versions,
    and a pair holds for the equivalents of its code too: else what a drug is given for would
    depend on the year in which a visit was coded.
    """
    names = known.names
    trees = known.trees["diagnoses"]
    loaders: list[tuple[str, Callable[[Path], Indications]]] = [
        ("medi", lambda path: load_medi(path, names)),
        *(("labeledin", partial(load_labeledin, names=names, tree=tree)) for tree in trees),
        *(
            ("pharmacotherapydb", partial(load_pharmacotherapydb, names=names, tree=tree))
            for tree in trees
        ),
    ]
    pairs: set[tuple[str, str]] = set()
    for name in dict.fromkeys(name for name, _ in loaders):
        if not sources.has(name):
            sources.missing.append(f"indications ({FILES[name][0]})")
            continue
        found = [load(sources.file(name)) for each, load in loaders if each == name]
        own = {pair for each in found for pair in each.pairs}
        sources.note(found[0].origin, "medications", {drug for drug, _ in own})
        pairs |= own
    return sorted(pairs | {(drug, other) for drug, code in pairs for other in equivalents(code)})


def _licensed(sources: Sources, options: KnowledgeOptions) -> list[Relations]:
    """Returns relations out of the user's own copies of UMLS and SemMedDB."""
    folder = Path(str(options.umls)).expanduser()  # the options require both paths
    vocabulary = {str(kind): sources.cohort.vocabulary[kind] for kind in KINDS}
    concepts = load_code_concepts(_rrf(folder, "MRCONSO"), vocabulary)
    for kind in KINDS:
        known = [code for found, code in concepts.cui if found == kind]
        sources.note(concepts.origin, kind, known)
    parts = []
    if "umls" in options.graph:
        found = load_concept_relations(_rrf(folder, "MRREL"), concepts.concepts, options.hops)
        cuis = [name.partition("/")[2] for name in found.nodes]
        types = load_semantic_types(_rrf(folder, "MRSTY"), cuis)
        parts += [code_concept_relations(concepts), found, types]
        sources.origins += [found.origin, types.origin]
    if {"semmeddb", "kindmed"} & set(options.graph):
        stated = load_predications(Path(str(options.semmeddb)).expanduser(), concepts.concepts)
        sources.origins.append(stated.origin)
        between = code_relations(concepts, stated)
        if "semmeddb" in options.graph:
            parts.append(between)
        if "kindmed" in options.graph:
            parts.append(kindmed_relations(between))
    return parts


def _rrf(folder: Path, name: str) -> Path:
    return require_files(folder, rf"{name.lower()}\.rrf(\.gz)?", f"{name}.RRF")[-1]
