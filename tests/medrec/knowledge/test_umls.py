import hashlib

import pytest

from medrec.errors import KnowledgeError
from medrec.knowledge.origin import Origin
from medrec.knowledge.relations import from_names, restrict
from medrec.knowledge.umls import (
    CodeConcepts,
    code_concept_relations,
    code_relations,
    load_code_concepts,
    load_concept_relations,
    load_semantic_types,
    source_code,
)
from tests.medrec.knowledge.relation_files import (
    MRCONSO,
    MRREL,
    MRSTY,
    atom,
    line,
    write,
)

CODES = {
    "diagnoses": ("9:4280", "9:E871", "10:E871", "9:E8809", "10:E8809", "10:I509", "4280"),
    "procedures": ("9:4280", "10:0BH17EZ", "10:E871"),
    "medications": ("C03C", "C03A"),
}


@pytest.fixture
def mrconso(tmp_path):
    return write(tmp_path / "MRCONSO.RRF", MRCONSO)


@pytest.fixture
def mrrel(tmp_path):
    return write(tmp_path / "MRREL.RRF", MRREL)


@pytest.mark.parametrize(
    ("kind", "code", "expected"),
    [
        ("diagnoses", "9:4280", ("ICD9CM", "428.0")),
        ("diagnoses", "9:42820", ("ICD9CM", "428.20")),
        ("diagnoses", "9:428", ("ICD9CM", "428")),
        ("diagnoses", "9:V707", ("ICD9CM", "V70.7")),
        ("diagnoses", "9:E871", ("ICD9CM", "E871")),
        ("diagnoses", "9:E8809", ("ICD9CM", "E880.9")),
        ("diagnoses", "10:E871", ("ICD10CM", "E87.1")),
        ("diagnoses", "10:E8809", ("ICD10CM", "E88.09")),
        ("diagnoses", "10:E119", ("ICD10CM", "E11.9")),
        ("diagnoses", "10:T814XXA", ("ICD10CM", "T81.4XXA")),
        ("diagnoses", "10:I10", ("ICD10CM", "I10")),
        ("diagnoses", "9:420-429", ("ICD9CM", "420-429.99")),
        ("diagnoses", "9:E870-E876", ("ICD9CM", "E870-E876.9")),
        ("diagnoses", "10:I30-I52", ("ICD10CM", "I30-I52")),
        ("procedures", "9:4280", ("ICD9CM", "42.80")),
        ("procedures", "9:42", ("ICD9CM", "42")),
        ("procedures", "9:0066", ("ICD9CM", "00.66")),
        ("procedures", "10:0BH17EZ", ("ICD10PCS", "0BH17EZ")),
        ("procedures", "10:E871", ("ICD10PCS", "E871")),
        ("medications", "C03C", ("ATC", "C03C")),
        ("diagnoses", "4280", None),
        ("diagnoses", "9:42", None),  # else it would be the procedure 42
        ("procedures", "4280", None),
    ],
)
def test_version_and_kind_choose_vocabulary_and_dot(kind, code, expected):
    assert source_code(kind, code) == expected


def test_codes_find_their_concepts(mrconso):
    found = load_code_concepts(mrconso, CODES)
    assert found.cui == {
        ("diagnoses", "10:E871"): ("C0000004",),
        ("diagnoses", "10:E8809"): ("C0000006",),
        ("diagnoses", "10:I509"): ("C0000013", "C0000014", "C0000015"),
        ("diagnoses", "9:4280"): ("C0000001",),
        ("diagnoses", "9:E871"): ("C0000003",),
        ("diagnoses", "9:E8809"): ("C0000005",),
        ("medications", "C03C"): ("C0000008",),
        ("procedures", "10:0BH17EZ"): ("C0000007",),
        ("procedures", "9:4280"): ("C0000002",),
    }
    assert found.unmapped == (
        ("diagnoses", "4280"),
        ("medications", "C03A"),
        ("procedures", "10:E871"),
    )
    assert found.concepts == (*(f"C000000{i}" for i in range(1, 9)), *THREE)
    assert len(found.nodes) == 12
    digest = hashlib.sha256(MRCONSO.encode()).hexdigest()
    assert found.origin.inputs == {"MRCONSO.RRF": digest}
    assert "License" in found.origin.licence


THREE = ("C0000013", "C0000014", "C0000015")


def test_blocks_find_their_concepts(mrconso):
    blocks = {"diagnoses": ("9:420-429", "9:E870-E876", "10:I30-I52")}
    found = load_code_concepts(mrconso, blocks)
    assert sorted(found.cui.values()) == [("C0000016",), ("C0000017",), ("C0000018",)]


def test_entry_terms_may_be_left_out(mrconso):
    code = ("diagnoses", "10:I509")
    found = load_code_concepts(mrconso, CODES, entry_terms=False)
    assert found.cui[code] == THREE[:2]
    assert found.origin.fingerprint != load_code_concepts(mrconso, CODES).origin.fingerprint


def test_the_order_of_the_lines_and_gzip_change_no_concept(tmp_path, mrconso):
    lines = MRCONSO.splitlines(keepends=True)
    other = write(tmp_path / "m.gz", "".join(reversed(lines)), packed=True)
    one, two = load_code_concepts(mrconso, CODES), load_code_concepts(other, CODES)
    assert (one.cui, one.unmapped) == (two.cui, two.unmapped)
    assert list(one.cui) == list(two.cui) == sorted(one.cui)


def test_no_codes_have_no_concepts(mrconso):
    found = load_code_concepts(mrconso, {"diagnoses": (), "procedures": ("4280",)})
    assert found.cui == {}
    assert found.unmapped == (("procedures", "4280"),)


def test_a_subset_without_the_vocabularies_is_refused(tmp_path):
    path = write(tmp_path / "MRCONSO.RRF", atom("C0000001", "MSH", "D006333"))
    with pytest.raises(KnowledgeError, match=r"has none of the 12 codes\. Install .*ICD10PCS"):
        load_code_concepts(path, CODES)


def test_an_unknown_kind_is_refused(mrconso):
    with pytest.raises(KnowledgeError, match=r"must be one of .* but got 'drugs'"):
        load_code_concepts(mrconso, {"drugs": ("C03C",)})


@pytest.mark.parametrize(
    ("load", "good"),
    [
        (lambda path: load_code_concepts(path, CODES), MRCONSO),
        (lambda path: load_concept_relations(path, ["C0000001"], 2), MRREL),
        (lambda path: load_semantic_types(path, ["C0000001"]), MRSTY),
    ],
    ids=["MRCONSO", "MRREL", "MRSTY"],
)
def test_malformed_tables_are_named(tmp_path, load, good):
    path, lines = tmp_path / "TABLE.RRF", good.count("\n")
    fields = good.splitlines()[0].count("|")
    first = good.splitlines()[0]
    for bad, message in [
        (good + first[:-1] + "\n", rf"TABLE\.RRF, line {lines + 1}: .*must have {fields} fields"),
        (good + "C0000001|X|\n", rf"line {lines + 1}: .* but it has 2\."),
        (good.encode() + b"\xff" + first.encode() + b"\n", rf"line {lines + 1}: `CUI1?` must"),
        ("", "is empty"),
    ]:
        with pytest.raises(KnowledgeError, match=message):
            load(write(path, bad))
    whole = write(path, good, packed=True).read_bytes()
    with pytest.raises(KnowledgeError, match="damaged or incomplete"):
        load(write(path, whole[:-20]))
    with pytest.raises(KnowledgeError, match="There is no file"):
        load(tmp_path / "missing.RRF")


def test_a_name_in_another_encoding_is_refused(tmp_path):
    content = (MRCONSO + atom("C0000001", "MSH", "D1", "Ménière")).encode("latin-1", "replace")
    path = write(tmp_path / "MRCONSO.RRF", content)
    with pytest.raises(KnowledgeError, match=r"line 1: `STR` must be UTF-8, but it is 'Congest"):
        load_code_concepts(path, CODES)


def test_the_head_of_a_relation_is_the_second_concept(tmp_path):
    """CUI1 dyspepsia, RELA disease_may_have_finding, CUI2 gastric cancer: the cancer may."""
    row = "C0013395|A1|AUI|RO|C0278701|A2|AUI|disease_may_have_finding|R1||NCI|NCI|||N||\n"
    relations = load_concept_relations(write(tmp_path / "MRREL.RRF", row), ["C0013395"])
    assert list(relations.names()) == [
        ("cui/C0278701", "disease_may_have_finding", "cui/C0013395")
    ]


def test_one_hop(mrrel):
    relations = load_concept_relations(mrrel, ["C0000001", "C0000999"])
    assert list(relations.names()) == [
        ("cui/C0000001", "RB", "cui/C0000013"),
        ("cui/C0000001", "isa", "cui/C0000100"),
        ("cui/C0000008", "may_treat", "cui/C0000001"),
    ]
    assert "cui/C0000999" in relations.nodes
    assert relations.counts() == {"RB": 1, "isa": 1, "may_treat": 1}


def test_no_hop_keeps_what_is_between_the_concepts(mrrel):
    relations = load_concept_relations(mrrel, ["C0000001", "C0000008", "C0000400"], hops=0)
    assert list(relations.names()) == [("cui/C0000008", "may_treat", "cui/C0000001")]


@pytest.mark.parametrize("hops", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("packed", [False, True])
def test_hops_are_those_of_the_whole_graph_restricted(tmp_path, hops, packed):
    path = write(tmp_path / "MRREL.RRF", MRREL, packed=packed)
    rows = [
        ("cui/C0000008", "may_treat", "cui/C0000001"),
        ("cui/C0000001", "RB", "cui/C0000013"),
        ("cui/C0000001", "isa", "cui/C0000100"),
        ("cui/C0000100", "isa", "cui/C0000200"),
        ("cui/C0000200", "isa", "cui/C0000300"),
        ("cui/C0000200", "inverse_isa", "cui/C0000201"),
        ("cui/C0000400", "causes", "cui/C0000401"),
    ]
    start = ["C0000008", "C0000001"]
    whole = from_names(Origin("", ""), rows)
    expected = restrict(whole, [f"cui/{cui}" for cui in start], hops)
    found = load_concept_relations(path, start, hops)
    assert list(found.names()) == list(expected.names())
    assert found.nodes == expected.nodes


def test_hops_must_not_be_negative(mrrel):
    with pytest.raises(KnowledgeError, match="`hops` must be 0 or more"):
        load_concept_relations(mrrel, [], hops=-1)


def test_semantic_types_hang_on_a_tree(tmp_path):
    path = write(tmp_path / "MRSTY.RRF", MRSTY)
    relations = load_semantic_types(path, ["C0000001", "C0000008", "C0000002"])
    assert list(relations.names()) == [
        ("cui/C0000001", "has_type", "sty/B2.2.1.2"),
        ("cui/C0000001", "has_type", "sty/B2.2.1.2.1"),
        ("cui/C0000008", "has_type", "sty/A1.4.1.1.1"),
        ("sty/A1", "isa", "sty/A"),
        ("sty/A1.4", "isa", "sty/A1"),
        ("sty/A1.4.1", "isa", "sty/A1.4"),
        ("sty/A1.4.1.1", "isa", "sty/A1.4.1"),
        ("sty/A1.4.1.1.1", "isa", "sty/A1.4.1.1"),
        ("sty/B2", "isa", "sty/B"),
        ("sty/B2.2", "isa", "sty/B2"),
        ("sty/B2.2.1", "isa", "sty/B2.2"),
        ("sty/B2.2.1.2", "isa", "sty/B2.2.1"),
        ("sty/B2.2.1.2.1", "isa", "sty/B2.2.1.2"),
    ]
    assert "cui/C0000002" in relations.nodes


def concepts_of(cui, unmapped=()):
    return CodeConcepts(Origin("codes", "free"), cui, unmapped)


def test_every_code_is_joined_to_its_concepts(mrconso):
    found = load_code_concepts(mrconso, CODES)
    relations = code_concept_relations(found)
    assert relations.counts() == {"co_occur": 11}
    assert ("diagnoses/9:E8809", "co_occur", "cui/C0000005") in list(relations.names())
    assert ("diagnoses/10:E8809", "co_occur", "cui/C0000006") in list(relations.names())
    assert {"diagnoses/4280", "medications/C03A"} <= set(relations.nodes)


def test_relations_of_concepts_become_relations_of_codes():
    concepts = concepts_of(
        {
            ("diagnoses", "9:1"): ("C1", "C2"),
            ("diagnoses", "10:A"): ("C1",),
            ("procedures", "9:1"): ("C3",),
        },
        (("medications", "C03C"),),
    )
    rows = [
        ("cui/C1", "isa", "cui/C2"),  # 9:1 has both ends: no relation to itself
        ("cui/C3", "treats", "cui/C1"),
        ("cui/C3", "treats", "cui/C2"),
        ("cui/C3", "treats", "cui/C9"),
        ("cui/C9", "causes", "cui/C1"),
        ("cui/C1", "has_type", "sty/A1"),
    ]
    relations = code_relations(concepts, from_names(Origin("kg", "paid"), rows))
    assert list(relations.names()) == [
        ("diagnoses/10:A", "isa", "diagnoses/9:1"),
        ("procedures/9:1", "treats", "diagnoses/10:A"),
        ("procedures/9:1", "treats", "diagnoses/9:1"),
    ]
    assert relations.counts() == {"causes": 0, "has_type": 0, "isa": 1, "treats": 2}
    assert "medications/C03C" in relations.nodes
    assert relations.origin.licence == "free; paid"


def test_relations_of_codes_agree_with_plain_loops():
    cui = {
        ("diagnoses", f"9:{i}"): tuple(sorted({f"C{i % 7}", f"C{i * i % 11}"})) for i in range(20)
    }
    rows = [(f"cui/C{i % 13}", f"r{i % 3}", f"cui/C{i * 5 % 12}") for i in range(60)]
    expected = {
        (f"diagnoses/{one}", relation, f"diagnoses/{other}")
        for head, relation, tail in rows
        for (_, one), ones in cui.items()
        for (_, other), others in cui.items()
        if head != tail and head[4:] in ones and tail[4:] in others and one != other
    }
    found = code_relations(concepts_of(cui), from_names(Origin("", ""), rows))
    assert set(found.names()) == expected
    assert len(found.triples) == len(expected) > 100


def test_codes_without_any_concept_have_no_relations():
    concepts = concepts_of({}, (("diagnoses", "9:1"),))
    for rows in ([], [("cui/C1", "isa", "cui/C2")]):
        relations = code_relations(concepts, from_names(Origin("", ""), rows))
        assert relations.nodes == ("diagnoses/9:1",)
        assert relations.triples.shape == (0, 3)


def test_from_files_to_codes(mrconso, mrrel):
    concepts = load_code_concepts(mrconso, CODES)
    relations = code_relations(concepts, load_concept_relations(mrrel, concepts.concepts, 0))
    assert list(relations.names()) == [
        ("diagnoses/9:4280", "RB", "diagnoses/10:I509"),
        ("medications/C03C", "may_treat", "diagnoses/9:4280"),
    ]
    assert set(relations.origin.inputs) == {"MRCONSO.RRF", "MRREL.RRF"}


def test_the_lines_of_the_tables_have_the_published_fields():
    """Guards the hand-made lines themselves: 18, 16 and 6 fields, each ended by a pipe."""
    assert {row.count("|") for row in MRCONSO.splitlines()} == {18}
    assert {row.count("|") for row in MRREL.splitlines()} == {16}
    assert {row.count("|") for row in MRSTY.splitlines()} == {6}
    assert line("C2", "isa", "C1").split("|")[0] == "C1"
