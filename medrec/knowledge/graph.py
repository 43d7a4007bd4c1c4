"""The knowledge graph of a cohort: open relations, and those out of the user's licensed copies."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from medrec.cohort import KINDS, Kind
from medrec.errors import KnowledgeError
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
from medrec.knowledge.sources import FILES, Sources
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
    linked = {graph.nodes[i] for i in np.unique(graph.triples[:, [0, 2]])}
    for kind in KINDS:
        own = [c for c in sources.cohort.vocabulary[kind] if node(kind, c) in linked]
        sources.coverage.append(coverage_of(sources.cohort, "knowledge graph", kind, own))
    return graph


def _open(sources: Sources, options: KnowledgeOptions, known: Known) -> Relations:
    categories: dict[str, dict[str, str]] = {}
    gems: dict[str, list[Gem]] = {}
    for kind, version in sources.coded():
        own = sources.of_version(kind, version)
        ccs = sources.optional(
            f"CCS of ICD-{version} {kind}",
            partial(load_ccs, kind, version),
        )
        if ccs is not None:
            found = {code: name for code in own if (name := ccs.of(code))}
            sources.note(ccs.origin, kind, found)
            # Equivalents of codes are nodes, too, and belong to a category as well.
            categories[kind] = {**categories.get(kind, {}), **ccs.category, **found}
        gem = sources.optional(
            f"GEM of ICD-{version} {kind}",
            partial(load_gem, kind, version),
        )
        if gem is not None:
            sources.note(gem.origin, kind, [code for code in own if gem.map(code)])
            gems.setdefault(kind, []).append(gem)
    equivalents = {name: _either(found) for name, found in gems.items()}
    indications = _indications(sources, known.trees["diagnoses"], known.names)
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
    sources: Sources, trees: Sequence[Hierarchy], names: DrugNames
) -> list[tuple[str, str]]:
    """Returns pairs of drug class and diagnosis out of whatever lists are there."""
    loaders: dict[str, Callable[[Path], Indications]] = {
        "medi": lambda path: load_medi(path, names)
    }
    if trees:
        loaders["labeledin"] = lambda path: load_labeledin(path, names, trees[0])
        loaders["pharmacotherapydb"] = lambda path: load_pharmacotherapydb(path, names, trees[0])
    pairs: set[tuple[str, str]] = set()
    for name, load in loaders.items():
        if not sources.has(name):
            sources.missing.append(f"indications ({FILES[name][0]})")
            continue
        found = load(sources.file(name))
        sources.note(found.origin, "medications", {drug for drug, _ in found.pairs})
        pairs |= set(found.pairs)
    return sorted(pairs)


def _licensed(sources: Sources, options: KnowledgeOptions) -> list[Relations]:
    """Returns relations out of the user's own copies of UMLS and SemMedDB."""
    if options.umls is None:
        raise KnowledgeError(
            "The graphs umls, semmeddb and kindmed need the concepts of codes: give the folder of "
            "your MRCONSO.RRF with `umls`."
        )
    folder = Path(options.umls).expanduser()
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
        if options.semmeddb is None:
            raise KnowledgeError("Give your copy of SemMedDB's PREDICATION csv with `semmeddb`.")
        stated = load_predications(Path(options.semmeddb).expanduser(), concepts.concepts)
        sources.origins.append(stated.origin)
        between = code_relations(concepts, stated)
        if "semmeddb" in options.graph:
            parts.append(between)
        if "kindmed" in options.graph:
            parts.append(kindmed_relations(between))
    return parts


def _rrf(folder: Path, name: str) -> Path:
    return require_files(folder, rf"{name.lower()}\.rrf(\.gz)?", f"{name}.RRF")[-1]
