"""A knowledge graph of the size of the UMLS neighbourhood of a hospital's codes.

DKINet's graph of MIMIC-III has 112,298 concepts. Here every code stands for a concept of its own,
every other concept neighbours at least one of those, and half of the triples between concepts
start at a code's concept, half end at one.
"""

from dataclasses import replace

import numpy as np

from medrec.cohort import KINDS, Cohort
from medrec.knowledge.built_in import built_in_bundle
from medrec.knowledge.bundle import Bundle
from medrec.knowledge.origin import Origin
from medrec.knowledge.relations import from_indices, node
from medrec.knowledge.umls import CO_OCCUR

RELATIONS = 289  # DKINet's graph of MIMIC-IV


def large_bundle(
    cohort: Cohort, entities: int = 100_000, triples: int = 400_000, seed: int = 0
) -> Bundle:
    """Returns the cohort's built-in bundle with a large made-up graph in place of its own.

    Args:
        cohort: the cohort; it must have fewer codes than there are entities.
        entities: number of concepts.
        triples: number of relations between them, at least one a concept, before repeats go.
        seed: of the graph.
    """
    rng = np.random.default_rng(seed)
    codes = [node(kind, code) for kind in KINDS for code in cohort.vocabulary[kind]]
    concepts = [node("cui", f"C{i:07d}") for i in range(entities)]
    own = len(codes)  # the first concepts are the codes' own
    near = rng.integers(0, own, triples)
    # Each of the others once, and the rest as it falls, so that every concept is linked.
    far = np.append(np.arange(own, entities), rng.integers(0, entities, triples))[:triples]
    # As in UMLS, a few relations hold most of the triples.
    kind = np.minimum(rng.geometric(0.02, triples) - 1, RELATIONS - 1)
    forth = rng.random(triples) < 0.5
    between = np.stack([np.where(forth, near, far), kind, np.where(forth, far, near)], axis=1)
    between += np.array([own, 0, own])
    linked = np.stack([np.arange(own), np.full(own, RELATIONS), own + np.arange(own)], axis=1)
    names = [f"relation {i:03d}" for i in range(RELATIONS)] + [CO_OCCUR]
    graph = from_indices(
        Origin("made up", "as this project", rules={"seed": str(seed)}),
        codes + concepts,
        names,
        np.concatenate([linked, between]),
    )
    return replace(built_in_bundle(cohort, (), {}), relations=graph)
