"""Making a bundle for a cohort from whatever sources a folder holds.

A source whose files are not there is left out and named; a file that is there but malformed is an
error. What a user must license (UMLS, SemMedDB) is read from the user's own copy only.
"""

from functools import partial
from pathlib import Path

import numpy as np

from medrec.cohort import KINDS, Cohort, Kind
from medrec.errors import KnowledgeError
from medrec.knowledge import ddi, tables
from medrec.knowledge.atc import load_atc
from medrec.knowledge.bundle import Bundle, vocabulary_digest
from medrec.knowledge.coverage import coverage_of
from medrec.knowledge.drug_names import DrugNames, load_drug_names
from medrec.knowledge.functional_groups import load_drugcentral
from medrec.knowledge.graph import Known, knowledge_graph
from medrec.knowledge.hierarchy import Hierarchy
from medrec.knowledge.icd import load_icd
from medrec.knowledge.nodes import titled
from medrec.knowledge.options import KnowledgeOptions
from medrec.knowledge.origin import Origin
from medrec.knowledge.relations import node
from medrec.knowledge.sources import FILES, Sources
from medrec.knowledge.text import embed_titles


def build_bundle(
    cohort: Cohort, folder: Path | None, options: KnowledgeOptions, cache: Path | None = None
) -> tuple[Bundle, tuple[str, ...]]:
    """Returns the bundle for a cohort, and the names of the sources that are not there.

    Args:
        cohort: whose codes it is for.
        folder: of source files, looked in at any depth; None: embedded tables only.
        options: what to put in.
        cache: folder for what is computed once.

    Raises:
        KnowledgeError: a source that was asked for is missing, or one is malformed.
    """
    sources = Sources(cohort, folder)
    names = load_drug_names(sources.folders, cohort.provenance.options.get("atc_rule", "systemic"))
    interactions = _interactions(sources, options)
    structures = _structures(sources, options, names)
    trees = _trees(sources)
    graph = knowledge_graph(sources, options, Known(trees, interactions, names))
    nodes, titles, parents = titled(cohort, trees)
    text = np.zeros((len(nodes), 0), dtype=np.float32)
    if options.text != "none":
        by_node = dict(zip(nodes, titles, strict=True))
        _, text = embed_titles(by_node, options.text, options.text_dimension, cache)
        known = {name for name, vector in zip(nodes, text, strict=True) if vector.any()}
        for kind in KINDS:
            own = [c for c in cohort.vocabulary[kind] if node(kind, c) in known]
            sources.coverage.append(coverage_of(cohort, "text vectors", kind, own))
    bundle = Bundle(
        vocabulary=vocabulary_digest(cohort),
        interactions=interactions,
        structures=structures,
        nodes=nodes,
        titles=titles,
        parents=parents,
        text=text,
        relations=graph,
        coverage=tuple(sources.coverage),
        origins=tuple(sources.origins),
        options=options.model_dump(mode="json", exclude={"umls", "semmeddb"}),
    )
    return bundle, tuple(sources.missing)


def _interactions(sources: Sources, options: KnowledgeOptions) -> dict[tuple[str, str], str]:
    if options.interactions == "embedded":
        found = ddi.load_pairs("embedded")
    elif options.interactions == "ndfrt":
        # A drug interacts in every class that it is listed in, whichever the cohort counts it in.
        names = load_drug_names(sources.folders, "all")
        found = ddi.load_ndfrt(sources.file("ndfrt"), names, options.severity)
    else:
        found = _twosides(sources, options)
    known = {code for pair in found.pairs for code in pair}
    sources.note(found.origin, "medications", known)
    return {pair: found.severity.get(pair, "") for pair in found.pairs}


def _twosides(sources: Sources, options: KnowledgeOptions) -> ddi.Interactions:
    classes = sources.file("drug_atc")
    if sources.has("twosides"):
        return ddi.load_twosides(sources.file("twosides"), classes, options.side_effects)
    if options.side_effects != "rarest40":
        raise KnowledgeError(
            f"`side_effects: {options.side_effects}` needs the whole table of TWOSIDES "
            f"({FILES['twosides'][0]}), but there is only the one reduced to the 40 rarest."
        )
    return ddi.load_reduced_twosides(sources.file("twosides_reduced"), classes)


def _structures(
    sources: Sources, options: KnowledgeOptions, names: DrugNames
) -> dict[str, tuple[str, ...]]:
    if options.structures == "drugcentral":
        found = load_drugcentral(sources.file("drugcentral"), names)
        origin, smiles = found.origin, found.smiles
    else:
        smiles = tables.read_structures("embedded")
        content = {"smiles": tables.fingerprint((), smiles)}
        origin = Origin("Structures, embedded", "as this project", rules=content)
    sources.note(origin, "medications", smiles)
    return dict(smiles)


def _trees(sources: Sources) -> dict[Kind, list[Hierarchy]]:
    trees: dict[Kind, list[Hierarchy]] = {kind: [] for kind in KINDS}
    for kind, version in sources.coded():
        what = f"tree of ICD-{version} {kind}"
        tree = sources.optional(what, partial(load_icd, kind, version))
        if tree is not None:
            trees[kind].append(tree)
            titled = {code for code, title in tree.titles.items() if title}
            sources.note(tree.origin, kind, titled, version)
    atc = load_atc()
    trees["medications"].append(atc)
    sources.note(atc.origin, "medications", atc.titles)
    return trees
