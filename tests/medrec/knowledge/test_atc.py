import pytest

from medrec.errors import KnowledgeError
from medrec.knowledge.atc import choose, is_local, load_atc, parent
from tests.medrec.datasets.mimic4_files import write_csv
from tests.shared_data import shared_data

INDEX = "atc_code,atc_name,level,parent\nC,HEART,1,\nc03ca01,furosemide,5,C03CA\nC03C,LOOP,3,C03\n"


@pytest.mark.parametrize(
    ("drug", "classes", "expected"),
    [
        ("aspirin", ["A01A", "B01A", "N02B"], "B01A"),
        ("vancomycin", ["A07A", "J01X"], "J01X"),
        ("dexamethasone", ["A01A", "C05A", "D07A", "D10A", "H02A", "R01A", "S01B"], "H02A"),
        ("metronidazole", ["A01A", "D06B", "G01A", "J01X", "P01A"], "J01X"),
        ("naloxone", ["A06A", "V03A"], "V03A"),
        ("mannitol", ["A06A", "B05B", "B05C", "R05C", "V04C"], "B05B"),
        ("sodium bicarbonate", ["B05C", "B05X"], "B05X"),
        ("magnesium sulfate", ["A06A", "A12C", "B05X", "D11A"], "A12C"),
        ("pseudoephedrine", ["R01B"], "R01B"),
        ("terbinafine", ["D01A", "D01B"], "D01B"),
        ("permethrin", ["P03A"], "P03A"),
        ("nystatin", ["G01A", "A07A", "D01A"], "A07A"),
        ("acyclovir", ["S01A", "D06B", "J05A"], "J05A"),
    ],
)
def test_systemic_use_comes_first(drug, classes, expected):
    assert choose(classes, "systemic") == (expected,)
    assert choose(classes[::-1], "systemic") == (expected,)


def test_the_other_rules():
    classes = ["N02B", "A01A", "B01A", "N02B"]
    assert choose(classes, "listed") == ("N02B",)
    assert choose(classes, "all") == ("A01A", "B01A", "N02B")


@pytest.mark.parametrize("rule", ["systemic", "listed", "all"])
def test_no_class_stays_none(rule):
    assert choose([], rule) == ()


@pytest.mark.parametrize(
    ("code", "local"),
    [("S01A", True), ("A06A", True), ("A05A", False), ("D05B", False), ("R01B", False)],
)
def test_is_local(code, local):
    assert is_local(code) is local


@pytest.mark.parametrize(
    ("code", "expected"),
    [("C", None), ("C03", "C"), ("C03C", "C03"), ("C03CA", "C03C"), ("C03CA01", "C03CA")],
)
def test_parent(code, expected):
    assert parent(code) == expected


def test_the_embedded_tree_reaches_from_level_3_to_level_1():
    tree = load_atc()
    assert tree.ancestors("C03C") == ("C03", "C")
    assert tree.titles["C03C"] == "loop diuretics"
    assert tree.titles["C03"] == ""
    assert tree.resolve("C03CA01") == "C03C"
    assert {len(code) for code in tree.titles} == {1, 3, 4}
    assert set(tree.parents) == {code for code in tree.titles if len(code) > 1}
    assert set(tree.parents.values()) <= set(tree.titles)


def test_reads_the_index_of_a_user(tmp_path):
    tree = load_atc(write_csv(tmp_path / "atc.csv", INDEX))
    assert tree.titles == {
        "C": "HEART", "C03": "", "C03C": "LOOP", "C03CA": "", "C03CA01": "furosemide"
    }  # fmt: skip
    assert tree.ancestors("C03CA01") == ("C03CA", "C03C", "C03", "C")
    assert set(tree.origin.inputs) == {"atc.csv"}
    assert tree.origin.fingerprint != load_atc().origin.fingerprint


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("C0,x,2,C", r"line 5: `atc_code` must be an ATC code.*'C0'"),
        ("C03C,other,3,C03", r"line 5: `atc_name` must be 'LOOP', as an earlier.*'other'"),
    ],
)
def test_a_malformed_index_is_named(tmp_path, row, message):
    with pytest.raises(KnowledgeError, match=message):
        load_atc(write_csv(tmp_path / "atc.csv", INDEX + row + "\n"))


def test_the_parents_of_the_whole_index_are_those_it_states():
    path = shared_data("knowledge", "nc", "atc", "atc_hierarchy_2026.csv")
    tree = load_atc(path)
    stated = {
        fields[0]: fields[-1]
        for line in path.read_text().splitlines()[1:]
        if (fields := line.split(",")) and fields[-1]
    }
    assert len(tree.titles) == 6_996
    assert tree.parents == stated
