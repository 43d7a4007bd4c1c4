import numpy as np
import pytest

from medrec.knowledge.ccs import load_ccs
from medrec.knowledge.gem import load_gem
from medrec.knowledge.hierarchy import Hierarchy
from medrec.knowledge.icd import load_icd
from medrec.knowledge.open_graph import OPEN_RELATIONS, open_graph
from medrec.knowledge.origin import Origin
from tests.shared_data import shared_data


def tree(title, *paths):
    """A tree from paths that begin at the root: "9:390-459 > 9:428 > 9:4280"."""
    titles, parents = {}, {}
    for path in paths:
        names = path.split(" > ")
        titles |= dict.fromkeys(names, "")
        parents |= dict(zip(names[1:], names[:-1], strict=True))
    return Hierarchy(Origin(title, "free", {title: f"sha of {title}"}), titles, parents)


ICD9 = tree(
    "icd9",
    "9:390-459 > 9:420-429 > 9:428 > 9:4280",
    "9:390-459 > 9:420-429 > 9:428 > 9:4281",
    "9:E870-E876 > 9:E871",
)
ICD10 = tree("icd10", "10:I00-I99 > 10:I50 > 10:I509", "10:E00-E89 > 10:E87 > 10:E871")
PROCEDURES = tree("icd9 procedures", "9:42-54 > 9:42 > 9:428 > 9:4280")
ATC = tree("atc", "C > C03 > C03C", "C > C03 > C03A", "A > A10 > A10A")
VOCABULARY = {
    "diagnoses": ("9:4280", "9:42899", "10:E871", "9:E871", "9:7777"),
    "procedures": ("9:4280",),
    "medications": ("C03C", "C03A"),
}


def build(vocabulary=VOCABULARY, **changed):
    sources = {
        "trees": {"diagnoses": [ICD9, ICD10], "procedures": [PROCEDURES], "medications": [ATC]},
        "categories": {
            "diagnoses": {"9:4280": "108", "9:4281": "108", "10:I509": "ccs:108", "10:E871": "55"},
            "procedures": {"9:4280": "108"},
        },
        "equivalents": {"diagnoses": lambda code: {"9:4280": ("10:I509",)}.get(code, ())},
        "interactions": [("C03A", "C03C"), ("C03A", "N02B")],
        "indications": [
            ("C03C", "9:428"),
            ("C03C", "9:999"),
            ("N02B", "9:4280"),
            ("C03", "9:4280"),
        ],
    }
    return open_graph(vocabulary, **(sources | changed))


def of(graph, relation):
    return [(head, tail) for head, name, tail in graph.names() if name == relation]


def test_codes_hang_below_their_ancestors():
    assert of(build(), "has_parent") == [
        ("diagnoses/10:E87", "diagnoses/10:E00-E89"),
        ("diagnoses/10:E871", "diagnoses/10:E87"),
        ("diagnoses/10:I50", "diagnoses/10:I00-I99"),
        ("diagnoses/10:I509", "diagnoses/10:I50"),
        ("diagnoses/9:420-429", "diagnoses/9:390-459"),
        ("diagnoses/9:428", "diagnoses/9:420-429"),
        ("diagnoses/9:4280", "diagnoses/9:428"),
        ("diagnoses/9:42899", "diagnoses/9:428"),  # retired: below the nearest prefix
        ("diagnoses/9:E871", "diagnoses/9:E870-E876"),
        ("medications/C03", "medications/C"),
        ("medications/C03A", "medications/C03"),
        ("medications/C03C", "medications/C03"),
        ("procedures/9:42", "procedures/9:42-54"),
        ("procedures/9:428", "procedures/9:42"),
        ("procedures/9:4280", "procedures/9:428"),
    ]


def test_categories_of_two_kinds_are_two_nodes():
    assert of(build(), "in_category") == [
        ("diagnoses/10:E871", "ccs/diagnoses:55"),
        ("diagnoses/10:I509", "ccs/diagnoses:108"),
        ("diagnoses/9:4280", "ccs/diagnoses:108"),
        ("procedures/9:4280", "ccs/procedures:108"),
    ]


def test_equivalents_go_by_kind():
    assert of(build(), "equivalent") == [("diagnoses/9:4280", "diagnoses/10:I509")]
    assert of(build(equivalents={}), "equivalent") == []


def test_interactions_go_both_ways_between_nodes():
    pairs = [("medications/C03A", "medications/C03C"), ("medications/C03C", "medications/C03A")]
    assert of(build(), "interacts") == pairs
    assert of(build(interactions=[("C03C", "C03A"), ("C03A", "C03C")]), "interacts") == pairs


def test_indications_reach_ancestors_too():
    assert of(build(), "indicated_for") == [
        ("medications/C03", "diagnoses/9:4280"),
        ("medications/C03C", "diagnoses/9:428"),
    ]


def test_siblings_are_joined_on_request():
    vocabulary = {"diagnoses": ("9:4280", "9:4281", "10:E871"), "procedures": ("9:4280",)}
    assert of(build(vocabulary), "same_category") == []
    assert of(build(vocabulary, siblings=True), "same_category") == [
        ("diagnoses/9:4280", "diagnoses/9:4281"),
        ("diagnoses/9:4281", "diagnoses/9:4280"),
    ]


def test_every_code_of_the_vocabulary_is_a_node():
    graph = build()
    every = {f"{kind}/{code}" for kind, codes in VOCABULARY.items() for code in codes}
    assert every <= set(graph.nodes)
    assert "diagnoses/9:7777" in every  # no source knows it


@pytest.mark.parametrize("vocabulary", [VOCABULARY, {}, {"diagnoses": ()}])
def test_every_relation_is_registered(vocabulary):
    assert build(vocabulary).relations == OPEN_RELATIONS


def test_a_code_is_looked_up_in_trees_of_its_kind_and_version_only():
    graph = build({"diagnoses": ("10:4280",), "medications": ("9:4280",)})
    assert len(graph.triples) == 0
    assert graph.nodes == ("diagnoses/10:4280", "medications/9:4280")


def test_the_order_of_the_sources_changes_nothing():
    backwards = {kind: codes[::-1] for kind, codes in reversed(VOCABULARY.items())}
    trees = {"medications": [ATC], "procedures": [PROCEDURES], "diagnoses": [ICD10, ICD9]}
    one, other = build(siblings=True), build(backwards, trees=trees, siblings=True)
    assert one.nodes == other.nodes
    assert np.array_equal(one.triples, other.triples)
    assert one.origin == other.origin


def test_the_origin_holds_that_of_every_source():
    extra = Origin("CCS", "public domain", {"ccs.csv": "sha of ccs"})
    origin = build(origins=[extra]).origin
    assert set(origin.inputs) == {"icd9", "icd10", "icd9 procedures", "atc", "ccs.csv"}
    assert "CCS" in origin.title
    assert origin.fingerprint != build().origin.fingerprint
    assert build(siblings=True).origin.fingerprint != build().origin.fingerprint
    assert build({"diagnoses": ("9:4280",)}).origin.fingerprint != build().origin.fingerprint


def test_the_published_sources_reach_heart_failure():
    folder = shared_data("knowledge", "open")
    ccs, gem = load_ccs("diagnoses", "9", folder), load_gem("diagnoses", "9", folder)
    graph = open_graph(
        {"diagnoses": ("9:4280",)},
        trees={"diagnoses": [load_icd("diagnoses", "9", folder)]},
        categories={"diagnoses": ccs.category},
        equivalents={"diagnoses": gem.map},
        interactions=(),
        indications=(),
        origins=[ccs.origin, gem.origin],
    )
    assert of(graph, "has_parent") == [
        ("diagnoses/9:420-429", "diagnoses/9:390-459"),
        ("diagnoses/9:428", "diagnoses/9:420-429"),
        ("diagnoses/9:4280", "diagnoses/9:428"),
    ]
    assert of(graph, "in_category") == [("diagnoses/9:4280", "ccs/diagnoses:108")]
    assert of(graph, "equivalent") == [("diagnoses/9:4280", "diagnoses/10:I509")]
    assert len(graph.origin.inputs) >= 3
