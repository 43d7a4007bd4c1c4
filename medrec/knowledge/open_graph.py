"""A graph of codes out of sources that need no licence to be granted.

    code has_parent code            ICD and ATC trees, up to their roots
    code in_category category       CCS, which spans both versions of ICD
    code same_category code         both ways, on request
    code equivalent code            general equivalence mappings between ICD-9 and ICD-10
    class interacts class           drug interactions, both ways
    class indicated_for code        what a drug class is given for

Each source is a plain mapping, so that any table of that content can be used.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise, permutations

from medrec.knowledge.hierarchy import Hierarchy
from medrec.knowledge.origin import Origin
from medrec.knowledge.relations import Relations, from_names, joined_origin, names_digest, node

HAS_PARENT, IN_CATEGORY, SAME_CATEGORY = "has_parent", "in_category", "same_category"
EQUIVALENT, INTERACTS, INDICATED_FOR = "equivalent", "interacts", "indicated_for"
OPEN_RELATIONS = tuple(
    sorted((HAS_PARENT, IN_CATEGORY, SAME_CATEGORY, EQUIVALENT, INTERACTS, INDICATED_FOR))
)
_MEDICATIONS, _DIAGNOSES = "medications", "diagnoses"
Equivalents = Callable[[str], tuple[str, ...]]
Triple = tuple[str, str, str]


def open_graph(
    vocabulary: Mapping[str, tuple[str, ...]],
    *,
    trees: Mapping[str, Sequence[Hierarchy]],
    categories: Mapping[str, Mapping[str, str]],
    equivalents: Mapping[str, Equivalents],
    interactions: Iterable[tuple[str, str]],
    indications: Iterable[tuple[str, str]],
    siblings: bool = False,
    origins: Sequence[Origin] = (),
) -> Relations:
    """Returns the graph around a vocabulary; all of `OPEN_RELATIONS` are registered.

    Nodes are every code of the vocabulary, its equivalents, the ancestors of both, and their
    categories.

    Args:
        vocabulary: codes by kind, written as in `medrec.codes`.
        trees: trees of each kind; a code that a tree lacks hangs below the node that
            `Hierarchy.resolve` finds for it.
        categories: category of codes, by kind, "108" or "ccs:108"; the same one of two kinds is
            two nodes, "ccs/diagnoses:108" and "ccs/procedures:108", since CCS numbers both from 1.
        equivalents: codes of the other version, by kind: "9:3961" is one thing as a diagnosis and
            another as a procedure.
        interactions: pairs of drug classes; those that are no nodes are ignored.
        indications: pairs of a drug class and a diagnosis; likewise.
        siblings: whether codes of the vocabulary that share a category are joined directly. Their
            number grows with the square of the category's size.
        origins: where the categories, equivalents, interactions and indications come from; the
            trees know it themselves.
    """
    triples: set[Triple] = set()
    for kind, codes in vocabulary.items():
        mapped = set(_equivalent(kind, codes, equivalents))
        triples |= mapped
        every = {*codes, *(tail.partition("/")[2] for _, _, tail in mapped)}
        triples |= set(_parents(kind, every, trees.get(kind, ())))
        triples |= set(_categories(kind, every, categories.get(kind, {})))
        if siblings:
            triples |= set(_siblings(kind, codes, categories.get(kind, {})))
    given = {node(kind, code) for kind, codes in vocabulary.items() for code in codes}
    nodes = given | {end for head, _, tail in triples for end in (head, tail)}
    triples |= set(_of_medications(interactions, indications, nodes))
    sources = [*(tree.origin for kind in sorted(trees) for tree in trees[kind]), *origins]
    origin = joined_origin(sources)
    rules = origin.rules | {"siblings": str(siblings), "vocabulary": names_digest(given)}
    return from_names(
        replace(origin, rules=rules), sorted(triples), nodes=given, relations=OPEN_RELATIONS
    )


def _equivalent(
    kind: str, codes: Iterable[str], equivalents: Mapping[str, Equivalents]
) -> Iterator[Triple]:
    if kind in equivalents:
        for code in codes:
            for other in equivalents[kind](code):
                yield node(kind, code), EQUIVALENT, node(kind, other)


def _parents(kind: str, codes: Iterable[str], trees: Iterable[Hierarchy]) -> Iterator[Triple]:
    for tree in trees:
        for code in codes:
            found = code if code in tree else tree.resolve(code)
            if found is None:
                continue
            path = [code, found] if found != code else [code]
            path += tree.ancestors(found)
            for child, parent in pairwise(path):
                yield node(kind, child), HAS_PARENT, node(kind, parent)


def _categories(
    kind: str, codes: Iterable[str], categories: Mapping[str, str]
) -> Iterator[Triple]:
    for code in codes:
        if code in categories:
            category = categories[code].removeprefix("ccs:")
            yield node(kind, code), IN_CATEGORY, node("ccs", f"{kind}:{category}")


def _siblings(kind: str, codes: Iterable[str], categories: Mapping[str, str]) -> Iterator[Triple]:
    members = defaultdict(set)
    for code in codes:
        if code in categories:
            members[categories[code]].add(node(kind, code))
    for found in members.values():
        for one, other in permutations(found, 2):
            yield one, SAME_CATEGORY, other


def _of_medications(
    interactions: Iterable[tuple[str, str]],
    indications: Iterable[tuple[str, str]],
    nodes: set[str],
) -> Iterator[Triple]:
    for pair in interactions:
        one, other = (node(_MEDICATIONS, each) for each in pair)
        if one in nodes and other in nodes:
            yield one, INTERACTS, other
            yield other, INTERACTS, one
    for drug_class, code in indications:
        one, other = node(_MEDICATIONS, drug_class), node(_DIAGNOSES, code)
        if one in nodes and other in nodes:
            yield one, INDICATED_FOR, other
