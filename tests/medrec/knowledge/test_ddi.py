import csv
from itertools import combinations

import pytest

from medrec.errors import KnowledgeError
from medrec.knowledge import tables
from medrec.knowledge.ddi import (
    load_ndfrt,
    load_pairs,
    load_reduced_twosides,
    load_twosides,
    read_drug_atc,
)
from medrec.knowledge.drug_names import load_drug_names
from tests.medrec.datasets.mimic4_files import write_csv
from tests.shared_data import shared_data

HEADER = "STITCH 1,STITCH 2,Polypharmacy Side Effect,Side Effect Name\n"
RAGGED = (
    "CID000000001,C03CA01\nCID000000002,B01AC06,N02BA01\nCID000000003,A10AB01\n"
    "CID000000004,J01XA01\nCID000000005,C03CA02\n"
)
# 1-2 has the common effect (three rows), 1-3 the second one (two rows), 1-4 the forty rare ones.
OTHERS = [("CID000000009", "CID000000008"), ("CID000000008", "CID000000007")]


def twosides_rows():
    rows = [("CID000000001", "CID000000002", "common")]
    rows += [(a, b, "common") for a, b in OTHERS]
    rows += [("CID000000001", "CID000000003", "second"), (*OTHERS[0], "second")]
    rows += [("CID000000001", "CID000000004", f"rare {i:02d}") for i in range(40)]
    return rows


def write_twosides(path, rows):
    lines = "".join(f"{a},{b},C{i:07d},{effect}\n" for i, (a, b, effect) in enumerate(rows))
    return write_csv(path, HEADER + lines)


@pytest.fixture
def drug_atc(tmp_path):
    path = tmp_path / "drug-atc.csv"
    path.write_text(RAGGED)
    return path


@pytest.mark.parametrize(
    ("side_effects", "expected"),
    [
        ("rarest40", {("C03C", "J01X")}),
        (
            "most_frequent40",
            {("B01A", "C03C"), ("C03C", "N02B"), ("A10A", "C03C"), ("C03C", "J01X")},
        ),
        ("all", {("B01A", "C03C"), ("C03C", "N02B"), ("A10A", "C03C"), ("C03C", "J01X")}),
    ],
)
def test_which_side_effects_count(tmp_path, drug_atc, side_effects, expected):
    path = write_twosides(tmp_path / "combo.csv", twosides_rows())
    found = load_twosides(path, drug_atc, side_effects)
    assert found.pairs == tuple(sorted(expected))
    assert found.severity == {}
    assert found.origin.rules == {"side_effects": side_effects}
    assert set(found.origin.inputs) == {"combo.csv", "drug-atc.csv"}


def test_the_last_in_the_alphabet_is_the_rarest_of_equals(tmp_path, drug_atc):
    names = [f"effect {i:02d}" for i in range(41)]
    rows = [("CID000000001", "CID000000003", names[0])]  # only in the forty first
    rows += [("CID000000001", "CID000000004", names[40])]  # only in the forty last
    rows += [(*OTHERS[0], name) for name in names[1:40]]
    path = write_twosides(tmp_path / "combo.csv", rows[::-1])
    assert load_twosides(path, drug_atc, "rarest40").pairs == (("C03C", "J01X"),)
    assert load_twosides(path, drug_atc, "most_frequent40").pairs == (("A10A", "C03C"),)


def test_the_order_of_rows_and_of_drugs_changes_nothing(tmp_path, drug_atc):
    rows = twosides_rows()
    swapped = [(b, a, effect) for a, b, effect in rows[::-1]]
    one = load_twosides(write_twosides(tmp_path / "one.csv", rows), drug_atc, "all")
    other = load_twosides(write_twosides(tmp_path / "other.csv", swapped), drug_atc, "all")
    assert one.pairs == other.pairs


def test_drugs_of_one_class_make_no_pair(tmp_path, drug_atc):
    path = write_csv(
        tmp_path / "reduced.csv",
        "STITCH 1,STITCH 2\nCID000000001,CID000000005\nCID000000002,CID000000002\n",
    )
    assert load_reduced_twosides(path, drug_atc).pairs == (("B01A", "N02B"),)


def test_a_table_without_known_drugs_is_refused(tmp_path, drug_atc):
    path = write_csv(tmp_path / "reduced.csv", "STITCH 1,STITCH 2\nCID1,CID7\n")
    with pytest.raises(KnowledgeError, match="must have pairs of drugs whose ATC classes"):
        load_reduced_twosides(path, drug_atc)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("CID000000001,15\n", r"line 2: `STITCH 2` must be a CID.*'15'"),
        ("CID000000001,\n", r"line 2: `STITCH 2` must be a CID.*''"),
    ],
)
def test_a_malformed_drug_is_named(tmp_path, drug_atc, rows, message):
    path = write_csv(tmp_path / "reduced.csv", "STITCH 1,STITCH 2\n" + rows)
    with pytest.raises(KnowledgeError, match=message):
        load_reduced_twosides(path, drug_atc)


def test_both_forms_of_the_drug_table(tmp_path, drug_atc):
    rows = [line.split(",") for line in RAGGED.splitlines()]
    long = "".join(f"{cid},{code}\n" for cid, *codes in rows for code in codes)
    other = read_drug_atc(write_csv(tmp_path / "long.csv", "stitch_cid,atc\n" + long))
    assert read_drug_atc(drug_atc) == other
    assert other["CID000000002"] == ("B01A", "N02B")
    assert read_drug_atc(write_csv(tmp_path / "m.csv", "CIDm00002,C03C\n")) == {
        "CID000000002": ("C03C",)
    }


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("CID1,C03\n", r"drug-atc\.csv, line 6: must be an ATC code.*'C03'"),
        ("X1,C03C\n", r"drug-atc\.csv, line 6, field 1: must be a CID.*'X1'"),
    ],
)
def test_a_malformed_drug_table_is_named(drug_atc, row, message):
    drug_atc.write_text(RAGGED + row)
    with pytest.raises(KnowledgeError, match=message):
        read_drug_atc(drug_atc)


def test_a_missing_drug_table_is_named(tmp_path):
    with pytest.raises(KnowledgeError, match=r"nothing\.csv cannot be read"):
        read_drug_atc(tmp_path / "nothing.csv")


NDFRT = """nui1,nui2,rxcui1,rxcui2,severity,label
N1,N2,10,20,Significant,ALFA/BETA
N1,N2,10,20,Critical,ALFA/BETA
N1,N3,10,30,Significant,ALFA/GAMMA
N4,N5,,50,Critical,WARFARIN/FUROSEMIDE
N4,N5,,50,Critical,WARFARIN/FUROSEMIDE/LISINOPRIL
N4,N6,,60,Critical,WARFARIN/NOBODY
"""
INGREDIENTS = """in_rxcui,in_tty,in_name,atc5
10,IN,alfa,C07AB01
20,IN,beta,J01XA01
20,IN,beta,A07AA01
30,IN,gamma,V03AB01
"""


@pytest.fixture
def ndfrt(tmp_path):
    write_csv(tmp_path / "tables" / "ingredient_atc5.csv", INGREDIENTS)
    return write_csv(tmp_path / "ndfrt.csv", NDFRT)


@pytest.mark.parametrize(
    ("severity", "rule", "expected"),
    [
        ("critical", "systemic", {("C07A", "J01X"): "Critical", ("B01A", "C03C"): "Critical"}),
        (
            "critical",
            "all",
            {
                ("C07A", "J01X"): "Critical",
                ("A07A", "C07A"): "Critical",
                ("B01A", "C03C"): "Critical",
            },
        ),
        (
            "all",
            "systemic",
            {
                ("C07A", "J01X"): "Critical",
                ("C07A", "V03A"): "Significant",
                ("B01A", "C03C"): "Critical",
            },
        ),
    ],
)
def test_graded_interactions(tmp_path, ndfrt, severity, rule, expected):
    found = load_ndfrt(ndfrt, load_drug_names([tmp_path / "tables"], rule), severity)
    assert found.severity == expected
    assert found.pairs == tuple(sorted(expected))
    assert {"ndfrt.csv", "ingredient_atc5.csv", "drugs.csv"} <= set(found.origin.inputs)
    assert found.origin.rules == {"severity": severity, "rule": rule}


def test_an_unknown_grade_is_named(tmp_path, ndfrt):
    write_csv(tmp_path / "ndfrt.csv", NDFRT + "N1,N2,10,20,Mild,A/B\n")
    with pytest.raises(KnowledgeError, match=r"line 8: `severity` must be one of.*'Mild'"):
        load_ndfrt(ndfrt, load_drug_names([], "all"))


def test_tables_of_classes(tmp_path):
    path = write_csv(tmp_path / "own.csv", "a,b\nN02B,B01AC06\n")
    own = load_pairs(str(path))
    assert own.pairs == (("B01A", "N02B"),)
    embedded = load_pairs("embedded")
    assert embedded.pairs == tables.read_interactions("embedded")
    assert own.origin.fingerprint != embedded.origin.fingerprint


def rebuilt(folder):
    """Returns the class pairs of the reduced table, by plain loops."""
    classes = {}
    for line in (folder / "drug" / "drug-atc.csv").read_text().split():
        cid, *codes = line.split(",")
        classes.setdefault(cid, set()).update(code[:4] for code in codes)
    pairs = set()
    for row in csv.reader((folder / "ddi" / "drug-DDI-TOP40.csv").read_text().splitlines()[1:]):
        for first in classes.get(row[0], ()):
            for second in classes.get(row[1], ()):
                if first != second:
                    pairs.add(tuple(sorted((first, second))))
    return pairs


def test_the_published_reduced_table_gives_606_class_pairs():
    folder = shared_data("knowledge", "open")
    reduced = folder / "ddi" / "drug-DDI-TOP40.csv"
    found = load_reduced_twosides(reduced, folder / "drug" / "drug-atc.csv")
    derived = csv.DictReader((folder / "ddi" / "ddi_atc3_pairs.csv").read_text().splitlines())
    assert len(found.pairs) == 606
    assert set(found.pairs) == {(row["code1"], row["code2"]) for row in derived}
    assert set(found.pairs) == rebuilt(folder)
    # The 112 classes of SafeDrug are not public here; 337 of these pairs lie among them.
    both = load_reduced_twosides(reduced, folder / "drug" / "cid_atc_long.csv")
    assert both.pairs == found.pairs


def test_the_published_table_as_twosides_itself(tmp_path):
    """With forty side effects in all, each choice of forty is the whole."""
    folder = shared_data("knowledge", "open")
    lines = (folder / "ddi" / "drug-DDI-TOP40.csv").read_text().split("\n")[1:]
    rows = [(*line.split(","), f"effect {i % 40}") for i, line in enumerate(filter(None, lines))]
    path = write_twosides(tmp_path / "combo.csv", rows)
    for side_effects in ("rarest40", "most_frequent40", "all"):
        found = load_twosides(path, folder / "drug" / "drug-atc.csv", side_effects)
        assert len(found.pairs) == 606


@pytest.mark.slow
def test_the_critical_interactions_are_among_all_of_them():
    names = load_drug_names([shared_data("knowledge", "nc", "drug")], "all")
    path = shared_data("knowledge", "open", "ddi", "ndfrt_va_ddi_2014.csv")
    critical, every = load_ndfrt(path, names), load_ndfrt(path, names, "all")
    assert set(critical.severity.values()) == {"Critical"}
    assert {p for p, grade in every.severity.items() if grade == "Critical"} == set(critical.pairs)
    assert len(critical.pairs) > 400
    assert len(every.pairs) > 1_200
    assert ("B01A", "M01A") in every.pairs


def test_pairs_are_sorted_unique_and_ordered():
    pairs = load_pairs("embedded").pairs
    assert all(a < b for a, b in pairs)
    assert all(one < other for one, other in combinations(pairs[:50], 2))
