import pytest

from medrec.errors import KnowledgeError
from medrec.knowledge.origin import Origin
from medrec.knowledge.relations import from_names
from medrec.knowledge.semmeddb import KINDMED_RELATIONS, kindmed_relations, load_predications
from medrec.knowledge.umls import CodeConcepts, code_relations
from tests.medrec.knowledge.relation_files import PREDICATION, predication, write

CONCEPTS = ("C0000001", "C0000002", "C0000004", "C0000007", "C0000013", "C0000999")
EVERY = [
    ("C0000001", "AFFECTS", "C0000013"),
    ("C0000001", "CAUSES", "C0000004"),
    ("C0000002", "TREATS", "C0000001"),
    ("C0000002", "TREATS", "C0000013"),
    ("C0000004", "CAUSES", "C0000001"),
    ("C0000007", "TREATS", "C0000001"),
]


def longer(table):
    return "".join(f'{row},1,"\\N",0.5\n' for row in table.splitlines())


def triples(relations):
    return [(head[4:], name, tail[4:]) for head, name, tail in relations.names()]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("table", [PREDICATION, longer(PREDICATION)], ids=["12", "15"])
def test_predications_between_the_concepts(tmp_path, table, packed):
    path = write(tmp_path / "semmed_PREDICATION.csv.gz", table, packed=packed)
    relations = load_predications(path, CONCEPTS)
    assert triples(relations) == EVERY
    assert relations.nodes == tuple(f"cui/{cui}" for cui in CONCEPTS)
    assert list(relations.origin.inputs) == ["semmed_PREDICATION.csv.gz"]


def test_sentences_are_counted_once_each(tmp_path):
    path = write(tmp_path / "p.csv", PREDICATION)
    assert triples(load_predications(path, CONCEPTS, min_sentences=2)) == [EVERY[1]]
    assert triples(load_predications(path, CONCEPTS, min_sentences=3)) == []


def test_only_novel(tmp_path):
    path = write(tmp_path / "p.csv", PREDICATION)
    novel = load_predications(path, CONCEPTS, novel_only=True)
    assert triples(novel) == [row for row in EVERY if row != EVERY[3]]
    both = load_predications(path, CONCEPTS, novel_only=True, min_sentences=2)
    assert triples(both) == [EVERY[1]]
    assert novel.origin.fingerprint != both.origin.fingerprint


def test_the_order_of_the_lines_changes_nothing(tmp_path):
    rows = PREDICATION.splitlines(keepends=True)
    path = write(tmp_path / "p.csv", "".join(rows[::-1]))
    assert triples(load_predications(path, CONCEPTS)) == EVERY


def test_names_may_have_any_encoding(tmp_path):
    row = predication("C0000001", "CAUSES", "C0000002", name="Sj\u00f6gren").encode("latin-1")
    relations = load_predications(write(tmp_path / "p.csv", row), CONCEPTS)
    assert triples(relations) == [("C0000001", "CAUSES", "C0000002")]


def test_at_least_one_sentence(tmp_path):
    with pytest.raises(KnowledgeError, match=r"`min_sentences` must be at least 1, .*=0"):
        load_predications(tmp_path / "p.csv", CONCEPTS, min_sentences=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PREDICATION + '1,2,"3"\n', r"p\.csv, line 12: .* must have 12 fields, but it has 3"),
        (PREDICATION + longer(PREDICATION), r"line 12: .* must have 12 fields, but it has 15"),
        ("1,2,3\n", r"line 1: a line of PREDICATION must have 12 or 15 fields, but it has 3"),
        (
            PREDICATION.encode() + predication("C1", "X\u00ff", "C2").encode("latin-1"),
            r"line 12: `PREDICATE` must be UTF-8",
        ),
        ("", "is empty"),
    ],
)
def test_malformed_tables_are_named(tmp_path, content, message):
    with pytest.raises(KnowledgeError, match=message):
        load_predications(write(tmp_path / "p.csv", content), CONCEPTS)


def test_a_cut_table_is_named(tmp_path):
    path = write(tmp_path / "p.csv.gz", PREDICATION, packed=True)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(KnowledgeError, match=r"p\.csv\.gz is damaged or incomplete"):
        load_predications(path, CONCEPTS)


def test_kindmed_has_the_26_relations_of_the_paper():
    counts = {}
    for predicate, source, target in KINDMED_RELATIONS:
        counts.setdefault(predicate, []).append(source[0] + target[0])
    assert counts == {
        "AFFECTS": ["dd", "pd", "pp"],
        "ASSOCIATED_WITH": ["dd"],
        "AUGMENTS": ["dd"],
        "CAUSES": ["dd", "dp", "pd"],
        "COEXISTS_WITH": ["dd", "dp", "pp"],
        "COMPLICATES": ["dd", "pd"],
        "DIAGNOSES": ["dd"],
        "ISA": ["dd", "pp"],
        "MANIFESTATION_OF": ["dd"],
        "MEASURES": ["pd"],
        "METHOD_OF": ["pp"],
        "PRECEDES": ["dd", "pd", "pp"],
        "PREDISPOSES": ["dd", "pd"],
        "PREVENTS": ["pd"],
        "TREATS": ["pd"],
    }
    assert len(KINDMED_RELATIONS) == 26


@pytest.mark.parametrize("rows", [[], [("procedures/9:1", "TREATS", "diagnoses/9:1")]])
def test_all_26_are_registered_in_one_order(rows):
    found = kindmed_relations(from_names(Origin("", ""), rows))
    assert found.relations == tuple("/".join(each) for each in KINDMED_RELATIONS)
    assert sum(found.counts().values()) == len(rows)


def test_only_the_26_are_kept():
    rows = [
        ("procedures/9:1", "TREATS", "diagnoses/9:1"),
        ("diagnoses/9:1", "TREATS", "procedures/9:1"),  # not this way round
        ("medications/C03C", "TREATS", "diagnoses/9:1"),
        ("diagnoses/9:1", "CAUSES", "procedures/9:1"),
        ("diagnoses/9:1", "CAUSES", "diagnoses/9:2"),
        ("diagnoses/9:1", "LOCATION_OF", "diagnoses/9:2"),
    ]
    found = kindmed_relations(from_names(Origin("", ""), rows))
    assert list(found.names()) == [
        ("diagnoses/9:1", "CAUSES/diagnoses/diagnoses", "diagnoses/9:2"),
        ("diagnoses/9:1", "CAUSES/diagnoses/procedures", "procedures/9:1"),
        ("procedures/9:1", "TREATS/procedures/diagnoses", "diagnoses/9:1"),
    ]
    assert "medications/C03C" in found.nodes


def test_from_the_table_to_codes(tmp_path):
    path = write(tmp_path / "p.csv", PREDICATION)
    concepts = CodeConcepts(
        Origin("", ""),
        {
            ("diagnoses", "9:4280"): ("C0000001",),
            ("procedures", "9:4280"): ("C0000002",),
            ("diagnoses", "10:E871"): ("C0000004",),
        },
        (),
    )
    found = load_predications(path, concepts.concepts)
    assert list(kindmed_relations(code_relations(concepts, found)).names()) == [
        ("diagnoses/10:E871", "CAUSES/diagnoses/diagnoses", "diagnoses/9:4280"),
        ("diagnoses/9:4280", "CAUSES/diagnoses/diagnoses", "diagnoses/10:E871"),
        ("procedures/9:4280", "TREATS/procedures/diagnoses", "diagnoses/9:4280"),
    ]
