"""Other hierarchies over a cohort's codes than ICD's and ATC's own.

    none    no code has a parent
    ccs     a diagnosis or procedure hangs below its single-level CCS category, and nothing above;
            drugs keep ATC
    mash    learned from the training visits (`medrec.ontology`)

Models read hierarchies from the bundle alone, so a bundle with other parents is all they need.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from medrec.cohort import Kind
from medrec.errors import KnowledgeError
from medrec.knowledge.bundle import Bundle
from medrec.knowledge.open_graph import IN_CATEGORY
from medrec.knowledge.relations import kind_of, node

VERSION = 1
"""Counts up whenever a cohort's codes get another hierarchy by one of these rules."""


def without_parents(bundle: Bundle) -> Bundle:
    """Returns the bundle without any hierarchy."""
    return replace(bundle, parents=np.full(len(bundle.nodes), -1, dtype=np.int32))


def in_categories(bundle: Bundle, vocabulary: Mapping[Kind, tuple[str, ...]]) -> Bundle:
    """Returns the bundle with CCS categories above diagnoses and procedures.

    Args:
        bundle: whose relations say which category a code is in.
        vocabulary: codes of each kind.

    Raises:
        KnowledgeError: the bundle knows no category of any code.
    """
    own = {
        node(kind, code)
        for kind in vocabulary
        if kind != "medications"
        for code in vocabulary[kind]
    }
    require_categories(bundle)
    graph, above = bundle.relations, {}
    for head, _, tail in graph.triples[_in_category(bundle)].tolist():
        name, category = graph.nodes[head], graph.nodes[tail].rpartition(":")[2]
        if name in own:
            above[name] = node(kind_of(name), f"ccs:{category}")
    for row in np.flatnonzero(bundle.parents >= 0).tolist():
        name = bundle.nodes[row]
        if kind_of(name) == "medications":
            above[name] = bundle.nodes[bundle.parents[row]]
    return with_parents(bundle, above, {})


def require_categories(bundle: Bundle | None) -> None:
    """Raises `KnowledgeError` unless the bundle knows CCS categories."""
    if bundle is None or not _in_category(bundle).any():
        raise KnowledgeError(
            "`knowledge.ontology: ccs` needs a bundle with CCS categories, and this has none. "
            "Make one with `medsweep data knowledge --sources DIR`, where DIR holds AHRQ's CCS "
            "files, and name it in `knowledge.bundle`."
        )


def _in_category(bundle: Bundle) -> Bool[np.ndarray, " triples"]:
    """Returns which of the bundle's triples say that a code is in a category."""
    label = np.array([name == IN_CATEGORY for name in bundle.relations.relations], dtype=bool)
    found: np.ndarray = label[bundle.relations.triples[:, 1]]
    return found


def with_parents(bundle: Bundle, parents: Mapping[str, str], titles: Mapping[str, str]) -> Bundle:
    """Returns the bundle with these parents and no others.

    Args:
        bundle: its nodes stay; what it lacks is added, without a text vector.
        parents: name of the node above each node that has one.
        titles: of nodes that are added; "" where none is given.
    """
    known = dict(zip(bundle.nodes, bundle.titles, strict=True))
    names = tuple(sorted({*known, *parents, *parents.values()}))
    row = {name: place for place, name in enumerate(names)}
    above = np.array([row[parents[n]] if n in parents else -1 for n in names], dtype=np.int32)
    text = np.zeros((len(names), bundle.text.shape[1]), dtype=np.float32)
    text[[row[name] for name in bundle.nodes]] = bundle.text
    return replace(
        bundle,
        nodes=names,
        titles=tuple(known.get(name) or titles.get(name, "") for name in names),
        parents=above,
        text=text,
    )
