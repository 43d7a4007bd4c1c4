from functools import cache

import pandas as pd
import pytest

from medrec.errors import KnowledgeError
from medrec.knowledge.gem import load_gem
from tests.medrec.knowledge.test_icd import demo, write
from tests.shared_data import shared_data

# exact; approximate; exact beside approximate; no map; two approximate; combination of two
# scenarios with choices; combination beside a simple row; one target in both lists
ROWS = """0010,A000,00000
0031,A021,10000
0043,A033,10000
0043,A039,00000
3657,NoDx,11000
0589,A058,10000
0589,A054,10000
2495,E0939,10121
2495,E0865,10122
2495,E0836,10112
2495,E0835,10112
2495,E0839,10111
2496,E1100,10112
2496,E1101,10111
2496,E1199,10000
2497,E1200,10111
2497,E1200,10112
"""
CSV = '"icd9cm","icd10cm","flags"\n' + ROWS
MAPPED = {
    "9:0010": ("10:A000",),
    "9:0031": ("10:A021",),
    "9:0043": ("10:A039",),
    "9:0589": ("10:A054",),
    "9:2495": ("10:E0839", "10:E0835"),
    "9:2496": ("10:E1199",),
    "9:2497": ("10:E1200",),
}
PROCEDURES = """icd_9,icd_10,flags,year
9670,5A1935Z,10000,2018
9670,5A1955Z,10000,2018
9672,5A1955Z,10000,2018
0783,07BM4ZZ,00000,2018
0110,07BM4ZZ,10000,2018
0052,02PA4MZ,10112,2018
0051,02PA4MZ,10000,2018
0050,02H40JZ,10112,2018
0050,0JH607Z,10111,2018
0016,NoPCS,11000,2018
"""


@cache
def shared_gem(kind, version):
    return load_gem(kind, version, shared_data("knowledge", "open", "icd"))


@pytest.mark.parametrize("reverse", [False, True])
def test_every_kind_of_flag(tmp_path, reverse):
    rows = sorted(ROWS.splitlines(), reverse=reverse)
    write(
        tmp_path / "deep" / "ICD9toICD10CMGEM.csv.gz", "icd9cm,icd10cm,flags\n" + "\n".join(rows)
    )
    gem = load_gem("diagnoses", "9", tmp_path)
    assert gem.targets == MAPPED
    assert gem.map("9:3657") == ()  # has no map
    assert gem.map("9:001") == ()  # a header
    assert gem.map("0010") == ()
    assert gem.map("10:A000") == ()  # the other version
    assert gem.origin.rules["direction"] == "as published"


def test_all_gives_every_target(tmp_path):
    write(tmp_path / "icd9toicd10cmgem.csv", CSV)
    gem = load_gem("diagnoses", "9", tmp_path, rule="all")
    assert gem.map("9:0589") == ("10:A054", "10:A058")
    assert gem.map("9:2495") == ("10:E0835", "10:E0836", "10:E0839", "10:E0865", "10:E0939")
    assert gem.map("9:3657") == ()
    first = load_gem("diagnoses", "9", tmp_path)
    assert gem.origin.fingerprint != first.origin.fingerprint


def test_the_official_text_is_the_same(tmp_path):
    write(tmp_path / "2018_I9gem.txt", ROWS.replace(",", " "))
    assert load_gem("diagnoses", "9", tmp_path).targets == MAPPED


def test_back_to_icd9(tmp_path):
    text = "icd10cm,icd9cm,flags\nI5023,42823,00000\nA021,0031,10111\nA021,99591,10112\n"
    write(tmp_path / "icd10cmtoicd9gem.csv", text)
    gem = load_gem("diagnoses", "10", tmp_path)
    assert gem.map("10:I5023") == ("9:42823",)
    assert gem.map("10:A021") == ("9:0031", "9:99591")


HYPERTENSION = """icd10cm,icd9cm,flags
I10,4019,10000
I10,4011,10000
I10,4010,10000
I11,4029,00000
I11,4020,10000
I12,4030,10111
I12,4039,10111
I12,585,10112
I13,404,10000
"""
TITLES = {
    "9:4010": "Malignant essential hypertension",
    "9:4011": "Benign essential hypertension",
    "9:4019": "Unspecified essential hypertension",
    "9:4020": "Unspecified hypertensive heart disease, unspecified",
    "9:4029": "Hypertensive heart disease with heart failure",
    "9:4030": "Malignant kidney disease",
    "9:4039": "Kidney disease NOS",
}


def test_of_alternatives_the_title_that_says_least(tmp_path):
    write(tmp_path / "icd10cmtoicd9gem.csv", HYPERTENSION)
    first = load_gem("diagnoses", "10", tmp_path)
    assert first.map("10:I10") == ("9:4010",)  # malignant, as it stands first in the alphabet
    assert first.map("10:I12") == ("9:4030", "9:585")
    titled = load_gem("diagnoses", "10", tmp_path, titles=TITLES)
    assert titled.targets == {
        "10:I10": ("9:4019",),
        "10:I11": ("9:4029",),  # exact before approximate, whatever the titles say
        "10:I12": ("9:4039", "9:585"),  # in a list of a combination
        "10:I13": ("9:404",),
    }
    assert first.ambiguous == titled.ambiguous == {"10:I10", "10:I12"}
    assert first.origin.fingerprint != titled.origin.fingerprint
    every = load_gem("diagnoses", "10", tmp_path, rule="all", titles=TITLES)
    assert every.map("10:I10") == ("9:4010", "9:4011", "9:4019")
    assert every.ambiguous == set()


@pytest.mark.parametrize(
    ("titles", "expected"),
    [
        (("Aa, unspecified", "Bb", "Cc NOS, unspecified, of some length"), "4019"),  # two words
        (("Aaaa NOS", "Bb NOS", "Cc nostrils"), "4011"),  # of equals the shortest
        (("Aa UNSPECIFIED", "Bb", "C"), "4010"),
        (("Aaaa", "Not otherwise specified, at length", "C"), "4011"),
        (("Aaa", "Bbb", "Ccc"), "4010"),  # of equals the alphabetically first
        (("Bbbb", "Aaa", "Cc"), "4019"),
    ],
)
def test_the_order_of_titles(tmp_path, titles, expected):
    write(tmp_path / "icd10cmtoicd9gem.csv", HYPERTENSION)
    named = dict(zip(("9:4010", "9:4011", "9:4019"), titles, strict=True))
    found = load_gem("diagnoses", "10", tmp_path, titles=named)
    assert found.map("10:I10") == (f"9:{expected}",)


def test_procedures_are_read_backwards_where_only_one_direction_is_there(tmp_path):
    write(tmp_path / "icd_pcs_9_to_10_gem.csv", PROCEDURES)
    gem = load_gem("procedures", "10", tmp_path)
    assert gem.targets == {
        "10:5A1935Z": ("9:9670",),
        "10:5A1955Z": ("9:9672",),  # says it more exactly than 9670
        "10:07BM4ZZ": ("9:0783",),  # exact before approximate
        "10:02PA4MZ": ("9:0051",),  # alone before part of a combination
        "10:02H40JZ": ("9:0050",),
        "10:0JH607Z": ("9:0050",),
    }
    assert gem.origin.rules["direction"].startswith("9 to 10 read backwards")
    assert load_gem("procedures", "10", tmp_path, "all").map("10:5A1955Z") == ("9:9670", "9:9672")
    forth = load_gem("procedures", "9", tmp_path)
    assert forth.map("9:0050") == ("10:0JH607Z", "10:02H40JZ")
    write(tmp_path / "gem_pcsi9.txt", "5A1955Z 9672 10000\n")
    assert load_gem("procedures", "10", tmp_path).targets == {"10:5A1955Z": ("9:9672",)}


def test_one_years_file_is_preferred_to_several_years_together(tmp_path):
    write(tmp_path / "icd_cm_9_to_10_gem.csv", "icd_9,icd_10,flags\n0084,A047,00000\n")
    assert load_gem("diagnoses", "9", tmp_path).map("9:0084") == ("10:A047",)
    write(tmp_path / "icd9toicd10cmgem.csv", "icd9cm,icd10cm,flags\n0084,A0472,10000\n")
    assert load_gem("diagnoses", "9", tmp_path).map("9:0084") == ("10:A0472",)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("icd9toicd10cmgem.csv", "icd9cm,icd10cm,flags\n0010,A000,0\n", r"line 2: `flags` must"),
        (
            "icd9toicd10cmgem.csv",
            "icd9cm,icd10cm,flags\n001.0,A000,00000\n",
            r"`icd9cm` must.*001",
        ),
        ("icd9toicd10cmgem.csv", "icd9cm,icd10cm,flags\n0010,,00000\n", r"`icd10cm` must"),
        ("2018_I9gem.txt", "0010 A000 00000\n0010 A000\n", r"line 2: a line must be a source"),
        ("other.csv", "x\n", r"icd9toicd10cmgem\.csv \(NBER\) or 2018_I9gem\.txt"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, name, text, message):
    write(tmp_path / name, text)
    with pytest.raises(KnowledgeError, match=message):
        load_gem("diagnoses", "9", tmp_path)


@pytest.mark.parametrize(
    ("kind", "version", "table", "file", "column", "rows", "known", "mapped"),
    [
        ("diagnoses", "9", "diagnoses", "icd9toicd10cmgem", "icd9cm", 1761, 0.97445, 0.95627),
        ("procedures", "9", "procedures", "icd_pcs_9_to_10_gem", "icd_9", 506, 0.99407, 0.96443),
        ("diagnoses", "9", "diagnoses_icd", "icd9toicd10cmgem", "icd9cm", 2193, 1.0, 0.98586),
        (
            "diagnoses",
            "10",
            "diagnoses_icd",
            "icd10cmtoicd9gem",
            "icd10cm",
            2313,
            0.99438,
            0.99265,
        ),
        ("procedures", "9", "procedures_icd", "icd_pcs_9_to_10_gem", "icd_9", 401, 1.0, 0.97007),
        # backwards: CMS's file of this direction, which is not here, has more
        (
            "procedures",
            "10",
            "procedures_icd",
            "icd_pcs_9_to_10_gem",
            "icd_10",
            321,
            0.77882,
            0.77882,
        ),
    ],
)
def test_coverage_of_the_demos(kind, version, table, file, column, rows, known, mapped):
    folder = shared_data("knowledge", "open", "icd")
    frame = pd.read_csv(folder / f"{file}.csv.gz", dtype=str)
    listed = set(f"{version}:" + frame[column])
    some = set(f"{version}:" + frame[frame["flags"].str[1] == "0"][column])
    gem = shared_gem(kind, version)
    codes = demo(table, version)
    assert len(codes) == rows
    assert codes.isin(listed).mean() == pytest.approx(known, abs=1e-5)
    assert codes.map(gem.map).map(bool).mean() == pytest.approx(mapped, abs=1e-5)
    assert set(gem.targets) == some


def test_as_published():
    back = shared_gem("diagnoses", "10")
    assert back.map("10:I5023") == ("9:42823",)
    assert back.map("10:E119") == ("9:25000",)
    assert back.map("10:A021") == ("9:0031", "9:99591")
    assert back.map("10:R402130") == ()  # no map
    assert shared_gem("diagnoses", "9").map("9:42823") == ("10:I5023",)
    assert shared_gem("procedures", "10").map("10:0BH17EZ") == ("9:9604",)
