"""The bundle that a cohort has without any file: hierarchies, interactions, no text.

What is known of ICD and ATC by heart is enough for trees: prefixes of codes, the fixed chapters
and blocks of ICD-9-CM, the sections of ICD-10-PCS. Models that need hierarchies so train on every
cohort; `medsweep data knowledge` makes a richer bundle out of files.

A synthetic cohort also gets the relations of `medrec.knowledge.planted`, which are invented.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping

import numpy as np

from medrec import codes
from medrec.cohort import KINDS, Cohort, Kind
from medrec.knowledge.atc import load_atc
from medrec.knowledge.bundle import Bundle, vocabulary_digest
from medrec.knowledge.hierarchy import Hierarchy
from medrec.knowledge.icd_chapters import CHAPTERS_9_PROCEDURES, RANGES_9, SECTIONS_PCS
from medrec.knowledge.icd_known import (
    diagnosis_tree_9,
    diagnosis_tree_10,
    procedure_tree_9,
    procedure_tree_10,
)
from medrec.knowledge.icd_tree import IcdTree
from medrec.knowledge.nodes import titled
from medrec.knowledge.open_graph import open_graph
from medrec.knowledge.origin import Origin
from medrec.knowledge.planted import RELATION_NAMES, planted_digest, planted_relations
from medrec.knowledge.relations import Relations, from_names, node, union

BUILT_IN_VERSION = 1
"""Counts up whenever the same codes and tables get another bundle."""

_Builder = Callable[[Mapping[str, str]], IcdTree]
_ICD: dict[tuple[Kind, str], tuple[str, str, _Builder]] = {  # title, form of a code, tree of codes
    ("diagnoses", "9"): (
        "ICD-9-CM diagnoses",
        r"[0-9]{3,5}|V[0-9]{2,4}|E[0-9]{3,4}",
        diagnosis_tree_9,
    ),
    ("procedures", "9"): ("ICD-9-CM procedures", r"[0-9]{2,4}", procedure_tree_9),
    ("diagnoses", "10"): (
        "ICD-10-CM diagnoses",
        r"[A-Z][0-9][0-9A-Z]{1,5}",
        diagnosis_tree_10,
    ),
    ("procedures", "10"): ("ICD-10-PCS procedures", r"[0-9A-HJ-NP-Z]{7}", procedure_tree_10),
}


def built_in_bundle(
    cohort: Cohort,
    interactions: tuple[tuple[str, str], ...],
    structures: Mapping[str, tuple[str, ...]],
) -> Bundle:
    """Returns the bundle for a cohort; its nodes are the cohort's codes and their ancestors.

    Its graph has the relations of `open_graph` (of which `has_parent` and `interacts` have
    triples) and KindMed's 26, which have triples in synthetic cohorts only. A code that is of
    neither ICD nor ATC, a local name say, has no parent.

    Args:
        cohort: whose codes it is for.
        interactions: pairs of drug classes.
        structures: SMILES of each drug class.
    """
    trees = _trees(cohort)
    nodes, titles, parents = titled(cohort, trees)
    return Bundle(
        vocabulary=vocabulary_digest(cohort),
        interactions=dict.fromkeys(interactions, ""),
        structures=dict(structures),
        nodes=nodes,
        titles=titles,
        parents=parents,
        text=np.zeros((len(nodes), 0), dtype=np.float32),
        relations=_graph(cohort, trees, interactions),
        coverage=(),
        origins=tuple(tree.origin for kind in KINDS for tree in trees[kind]),
        options={"built_in": BUILT_IN_VERSION},
    )


def built_in_fingerprint() -> str:
    """Returns the sha256 of what a built-in bundle rests on besides codes and tables."""
    content = {
        "version": BUILT_IN_VERSION,
        "chapters": [RANGES_9, CHAPTERS_9_PROCEDURES, SECTIONS_PCS],
        "atc": load_atc().origin.fingerprint,
        "planted": planted_digest(),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _trees(cohort: Cohort) -> dict[Kind, list[Hierarchy]]:
    trees: dict[Kind, list[Hierarchy]] = {kind: [] for kind in KINDS}
    for (kind, version), (title, form, build) in _ICD.items():
        split = [codes.split(code) for code in cohort.vocabulary[kind]]
        known = {bare: "" for own, bare in split if own == version and re.fullmatch(form, bare)}
        if known:
            tree = build(known).finish(f"{title}, built in", [], {"codes": "prefixes"})
            trees[kind].append(tree)
    trees["medications"].append(load_atc())
    return trees


def _graph(
    cohort: Cohort,
    trees: Mapping[Kind, list[Hierarchy]],
    interactions: tuple[tuple[str, str], ...],
) -> Relations:
    known = open_graph(
        {str(kind): names for kind, names in cohort.vocabulary.items()},
        trees={str(kind): found for kind, found in trees.items()},
        categories={},
        equivalents={},
        interactions=interactions,
        indications=(),
    )
    return union(known, _semantic(cohort))


def _semantic(cohort: Cohort) -> Relations:
    """Returns KindMed's relations between the cohort's codes: planted ones, or none."""
    origin = Origin("KindMed's relations", "as this project")
    if cohort.provenance.dataset != "synthetic":
        return from_names(origin, [], relations=RELATION_NAMES)
    own = {node(kind, code) for kind in KINDS for code in cohort.vocabulary[kind]}
    triples = [each for each in planted_relations() if each[0] in own and each[2] in own]
    invented = Origin("planted, invented", "as this project", rules={"planted": planted_digest()})
    return from_names(invented, triples, relations=RELATION_NAMES)
