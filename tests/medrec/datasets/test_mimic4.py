import gzip
import json
import re
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from medrec.card.pages import pages
from medrec.cohort import KINDS, Cohort
from medrec.datasets import mimic4
from medrec.datasets._base import prepare
from medrec.datasets.mimic4 import Mimic4Options
from medrec.demographics import group_of
from medrec.errors import CohortError, InputError, KnowledgeError
from medrec.knowledge.drug_names import load_drug_names
from medrec.knowledge.ndc import load_mapping
from tests.medrec.datasets.mimic3_files import codes_of, named, rows_of, shared_tables_read_once
from tests.medrec.datasets.mimic4_files import TABLES, reverse_rows, write_csv, write_source
from tests.shared_data import shared_data

READ = ("patients", "admissions", "diagnoses_icd", "procedures_icd", "prescriptions")


@pytest.fixture(scope="module", autouse=True)
def _shared_tables_read_once():
    with shared_tables_read_once():
        yield


def cohort_of(source: Path, **options) -> Cohort:
    return prepare("mimic4", source, Mimic4Options(**options))


# ---- the hand-made folder: patient 10 (visit 101), patient 20 (visits 202, 201), patient 30 (301)


def small(source: Path, **options) -> Cohort:
    return cohort_of(source, fractions=(0.34, 0.33, 0.33), **options)


@pytest.mark.parametrize(("inner", "packed"), [("hosp", False), ("hosp", True), (".", False)])
def test_worked_example(tmp_path, inner, packed):
    cohort = small(write_source(tmp_path, inner, packed))
    assert cohort.visits.tolist() == [1, 2, 1]
    assert codes_of(cohort, "diagnoses") == [
        ["10:E871"],
        ["9:V707"],
        ["10:I5023", "9:E871"],
        ["9:V707"],
    ]
    assert codes_of(cohort, "procedures") == [[], [], ["10:0DTJ4ZZ"], []]
    assert codes_of(cohort, "medications") == [["C03A"], ["A10A"], ["A10A", "C03A"], ["A10A"]]
    assert cohort.vocabulary["diagnoses"] == ("10:E871", "10:I5023", "9:E871", "9:V707")
    # 2151-03-02 00:00 to 2152-03-02 12:00 crosses 29 February 2152
    np.testing.assert_array_equal(cohort.admitted, np.float32([0, 0, 366.5, 0]))
    # 89 at 2160, admitted in 2159; 60 at 2150, admitted in 2151 and 2152
    assert cohort.age.tolist() == [88, 61, 62, 40]
    assert named(cohort.service, cohort.services) == ["MED", "CMED", "MED", "unknown"]
    assert named(cohort.gender, cohort.genders) == ["M", "F", "F"]
    assert named(cohort.group, cohort.groups) == ["black", "white", "unknown"]


def test_counts_of_the_worked_example(tmp_path):
    records = mimic4.load(write_source(tmp_path), Mimic4Options())
    assert records.dropped == {
        "admissions of unknown patients": 1,
        "ages below 0 or above 120 years, taken as unknown": 0,
        "patients without admissions": 1,
        "services rows of admissions unknown or left out": 0,
        "diagnoses rows of admissions unknown or left out": 2,
        "procedures rows of admissions unknown or left out": 0,
        "prescriptions rows of admissions unknown or left out": 1,
        "prescriptions rows out of the window": 0,
    }
    assert records.mapped == {
        "services rows": 5,
        "admissions without a service": 1,
        "diagnoses rows of ICD-9": 4,
        "diagnoses rows of ICD-10": 2,
        "diagnoses rows without a code": 1,
        "diagnoses rows malformed as ICD-10": 1,
        "procedures rows of ICD-10": 1,
        "prescriptions rows": 12,
        # not 2222222222-2, 022222222222, 0, an empty cell, no RXCUI, no class
        "prescriptions rows classified by NDC": 6,
        "prescriptions rows not classified": 6,
    }
    assert sum(n for what, n in records.mapped.items() if what.startswith("diag")) == 10 - 2
    known = {f"{name}.csv" for name in TABLES} | {"drug_overrides.csv", "drugs.csv"}
    assert records.inputs.keys() == known


def test_a_row_without_a_known_package_is_classified_by_its_name(tmp_path):
    text = TABLES["prescriptions"].replace(",g,0", ",Furosemide 40mg Tab,0")
    text = (
        text.replace(",h,", ",D5W,").replace(",d,3", ",Warfarin,3").replace(",a,1", ",Heparin,1")
    )
    source = write_source(tmp_path, prescriptions=text)
    cohort = small(source)
    assert codes_of(cohort, "medications") == [
        ["C03A", "C03C"],
        ["A10A", "B01A"],
        ["A10A", "B01A"],  # heparin is in the table of overrides: before its package, of C03A
        ["A10A"],
    ]
    mapped = cohort.provenance.mapped
    assert {what: n for what, n in mapped.items() if what.startswith("prescriptions rows")} == {
        "prescriptions rows": 12,
        "prescriptions rows classified by NDC": 5,  # the six of the worked example but heparin's
        "prescriptions rows classified by the table of overrides": 1,
        "prescriptions rows classified by the drug's name": 2,  # furosemide, warfarin
        "prescriptions rows of diluents and supplies, left out": 1,
        "prescriptions rows not classified": 3,  # c, e, and j of 022222222222
    }
    assert sum(n for what, n in mapped.items() if what.startswith("prescriptions rows ")) == 12
    published = small(source, drug_names=False)
    assert codes_of(published, "medications") == [["C03A"], ["A10A"], ["A10A", "C03A"], ["A10A"]]


@pytest.mark.parametrize(
    ("name", "rule", "expected", "step"),
    [
        ("a", "systemic", ["C03A"], "classified by NDC"),  # of {N02B, C03A} the first
        # the package is listed in the class of the name, too
        ("Paracetamol 325mg Tab", "systemic", ["N02B"], "classified by NDC"),
        # of another class altogether: the package counts
        ("Furosemide 40mg Tab", "systemic", ["C03A"], "classified by NDC"),
        # the first row of the package, and all of them, whatever the name says
        ("Chlorothiazide", "systemic", ["C03A"], "classified by NDC"),
        ("Chlorothiazide", "listed", ["N02B"], "classified by NDC"),
        ("Paracetamol 325mg Tab", "all", ["C03A", "N02B"], "classified by NDC"),
        ("Heparin", "systemic", ["B01A"], "classified by the table of overrides"),
        ("Heparin", "all", ["B01A"], "classified by the table of overrides"),
        ("D5W", "systemic", [], "of diluents and supplies, left out"),
        ("D5W", "listed", [], "of diluents and supplies, left out"),
        ("D5W", "all", [], "of diluents and supplies, left out"),
    ],
)
def test_a_package_that_is_known(tmp_path, name, rule, expected, step):
    """Overrides come before the package, the package before the name that it does not list."""
    text = f"subject_id,hadm_id,starttime,drug,ndc\n10,101,,{name},11111111111\n"
    text += "20,201,,b,22222222222\n"
    source = write_source(tmp_path, prescriptions=text)
    records = mimic4.load(source, Mimic4Options(atc_rule=rule))
    rows = records.codes["medications"]
    assert rows.loc[rows["visit"] == 101, "code"].tolist() == expected
    counted = Counter({"prescriptions rows classified by NDC": 1, "prescriptions rows": 2})
    counted[f"prescriptions rows {step}"] += 1
    assert {k: n for k, n in records.mapped.items() if k.startswith("prescr")} == counted
    listed = {"systemic": ["C03A"], "listed": ["N02B"], "all": ["C03A", "N02B"]}[rule]
    records = mimic4.load(source, Mimic4Options(atc_rule=rule, drug_names=False))
    rows = records.codes["medications"]
    assert rows.loc[rows["visit"] == 101, "code"].tolist() == listed
    assert records.mapped["prescriptions rows classified by NDC"] == 2


def test_names_not_known_are_listed_if_they_are_not_rare(tmp_path):
    often = "20,201,2152-03-02 10:00:00,Xyzzymab,0\n" * 10
    rare = "20,201,2152-03-02 10:00:00,Name Of A Person,0\n" * 9
    cohort = small(write_source(tmp_path, prescriptions=TABLES["prescriptions"] + often + rare))
    assert cohort.provenance.unmapped == {"drug name": {"Xyzzymab": 10}}
    assert cohort.provenance.mapped["prescriptions rows not classified"] == 6 + 19


def test_all_classes_of_a_drug(tmp_path):
    cohort = small(write_source(tmp_path), atc_rule="all")
    assert codes_of(cohort, "medications") == [
        ["C03A", "N02B"],
        ["A10A"],
        ["A10A", "C03A", "N02B"],
        ["A10A"],
    ]
    assert codes_of(small(tmp_path, atc_rule="listed"), "medications")[0] == ["N02B"]


def test_row_order_does_not_matter(tmp_path):
    turned = {name: reverse_rows(text) for name, text in TABLES.items()}
    one = small(write_source(tmp_path / "a"))
    other = small(write_source(tmp_path / "b", **turned))
    assert one.fingerprint == other.fingerprint


def test_block_size_does_not_matter(tmp_path, monkeypatch):
    header, *rows = TABLES["prescriptions"].splitlines()
    source = write_source(tmp_path, prescriptions="\n".join([header, *rows * 50]) + "\n")
    options = {"medication_window": "first_date", "forward_fill": True, "drug_names": False}
    options["require"] = ("diagnoses",)
    whole = [small(source), small(source, **options)]
    monkeypatch.setattr("medrec.raw_files._BLOCK", 1000)
    monkeypatch.setattr("medrec.datasets._gathering._SLACK", 1)
    cut = [small(source), small(source, **options)]
    assert [c.fingerprint for c in cut] == [c.fingerprint for c in whole]
    assert [c.provenance for c in cut] == [c.provenance for c in whole]
    assert whole[0].fingerprint != whole[1].fingerprint


def test_hadm_id_order_is_available(tmp_path):
    cohort = small(write_source(tmp_path), visit_order="hadm_id")
    np.testing.assert_array_equal(cohort.admitted, np.float32([0, 366.5, 0, 0]))


def test_ethnicity_stands_for_race_in_early_versions(tmp_path):
    early = TABLES["admissions"].replace("race", "ethnicity").upper()
    cohort = small(write_source(tmp_path, admissions=early))
    assert named(cohort.group, cohort.groups) == ["black", "white", "unknown"]


def test_an_unknown_age_is_minus_one_and_none_is_negative(tmp_path):
    """10 would be 5 - 11 years at 2159, and 30 at 2150 is 120 + 1."""
    patients = TABLES["patients"].replace("F,60,2150", "F,,2150").replace("89,2160", "5,2170")
    patients = patients.replace("30,F,40,2150", "30,F,120,2149")
    records = mimic4.load(write_source(tmp_path, patients=patients), Mimic4Options())
    ages = dict(zip(records.visits["visit"], records.visits["age"], strict=True))
    assert ages == {101: -1, 102: -1, 201: -1, 202: -1, 301: -1}
    what = "ages below 0 or above 120 years, taken as unknown"
    assert records.dropped[what] == 3  # visits whose age is written, and cannot be


def test_latin_1_text_does_not_stop_it(tmp_path):
    source = write_source(tmp_path)
    path = source / "hosp" / "prescriptions.csv"
    path.write_bytes(path.read_bytes().replace(b",a,", b",\xb5g,"))
    path = source / "hosp" / "admissions.csv"
    path.write_bytes(path.read_bytes().replace(b",OTHER", b",OTR\xc9"))
    assert small(source).patients == 3


def test_without_a_services_table_no_service_is_known(tmp_path):
    source = write_source(tmp_path)
    (source / "hosp" / "services.csv").unlink()
    cohort = small(source)
    assert cohort.services == ("unknown",)
    assert "services.csv" not in cohort.provenance.inputs
    with pytest.raises(InputError, match=r"`service` needs the table services\.csv"):
        small(source, service=("MED",))


def test_stays_of_a_service_are_those_it_cared_for_at_any_time(tmp_path):
    """201 began in MED and came to CMED; its first service stays MED."""
    source = write_source(tmp_path)
    records = mimic4.load(source, Mimic4Options(service=("cmed",)))
    assert records.visits[["visit", "service"]].to_numpy().tolist() == [
        [202, "CMED"],
        [201, "MED"],
    ]
    assert records.patients["patient"].tolist() == [20]
    assert records.dropped["admissions of other services"] == 3
    both = mimic4.load(source, Mimic4Options(service=("CMED", "PSYCH")))
    assert both.visits["visit"].tolist() == [102, 202, 201]
    with pytest.raises(InputError, match=r"no stay has the service 'CSURG'.*'CMED', 'MED', 'PSY"):
        small(source, service=("CSURG",))


def test_a_service_of_unknown_admissions_alone_leaves_nothing(tmp_path):
    text = TABLES["services"] + "99,991,2161-01-01 00:30:00,,GYN\n"
    with pytest.raises(CohortError, match=r"No visit is left"):
        small(write_source(tmp_path, services=text), service=("GYN",))


def drugs_in(source: Path, window: str) -> dict[int, set[str]]:
    """Returns the classes of each visit, and checks that no row is lost uncounted."""
    records = mimic4.load(source, Mimic4Options(medication_window=window))
    lost = records.dropped["prescriptions rows out of the window"]
    assert records.mapped["prescriptions rows"] + lost == 12
    given: dict[int, set[str]] = {}
    for visit, code in records.codes["medications"].itertuples(index=False):
        given.setdefault(visit, set()).add(code)
    return given


def test_windows(tmp_path):
    """Of 201: 11111111111 before admission, 22222222222 until 24 hours after it to the second."""
    source = write_source(tmp_path)
    assert drugs_in(source, "stay") == {
        201: {"A10A", "C03A"},
        202: {"A10A"},
        101: {"C03A"},
        301: {"A10A"},
    }
    # 202's and 301's only packages that are known start 24 hours after admission
    assert drugs_in(source, "first_24_hours") == {201: {"A10A", "C03A"}, 101: {"C03A"}}
    # 201: 2 March; 202: 2 March, 301: 5 May, without a package that is known
    assert drugs_in(source, "first_date") == {201: {"C03A"}, 101: {"C03A"}}
    text = TABLES["prescriptions"].replace("2152-03-03 11:59:59", "2152-03-03 12:00:00")
    later = write_source(tmp_path / "later", prescriptions=text)
    assert drugs_in(later, "first_24_hours") == {201: {"C03A"}, 101: {"C03A"}}


@pytest.mark.parametrize(
    ("table", "old", "new", "message"),
    [
        ("admissions", "2152-03-02 12:00:00", "02/03/2152", r"line 2: `admittime` .*'02/03/2152'"),
        ("admissions", "2152-03-02 12", "2152-02-30 12", r"line 2: `admittime` .*2152-02-30"),
        ("admissions", "2152-03-02 12:00:00", "", r"line 2: `admittime` .* ''"),
        ("admissions", "20,202", "20,201", r"admissions\.csv, line 3: `hadm_id` must differ"),
        ("admissions", "20,202", "20,", r"line 3: `hadm_id` must be a number"),
        ("admissions", "admittime", "intime", r"column `admittime`.*nearest: intime"),
        ("diagnoses_icd", "I5023,10", "I5023,11", r"line 3: `icd_version` must be 9 or 10.*'11'"),
        ("diagnoses_icd", "20,202,1,V707 ,9", "20,202,1", r"diagnoses_icd\.csv, line 5: .* has 3"),
        ("patients", "10,M", "20,M", r"patients\.csv, line 3: `subject_id` must differ"),
        ("patients", "M,89", "M,old", r"line 3: `anchor_age` must be years"),
        ("patients", "M,89", "M,121", r"line 3: `anchor_age` must be years"),
        ("prescriptions", ",", ";", r"prescriptions\.csv .* seems to have ';'"),
        (
            "prescriptions",
            "10,101,2160-01-01 00:00:00,f",
            "10,x1,,f",
            r"line 9: `hadm_id`",
        ),
        (
            "services",
            "2152-03-04",
            "soon",
            r"line 2: `transfertime` must be a date",
        ),
    ],
)
def test_a_wrong_cell_is_named(tmp_path, table, old, new, message):
    source = write_source(tmp_path, **{table: TABLES[table].replace(old, new)})
    with pytest.raises(InputError, match=message):
        small(source)


def test_a_wrong_start_is_named_where_it_is_needed(tmp_path):
    text = TABLES["prescriptions"].replace("2150-05-06 08:00:00", "6 May")
    source = write_source(tmp_path, prescriptions=text)
    assert small(source).patients == 3
    for window in ("first_24_hours", "first_date"):
        with pytest.raises(InputError, match=r"line 14: `starttime` must be a date.*'6 May'"):
            small(source, medication_window=window)


@pytest.mark.parametrize("name", READ)
def test_missing_and_empty_tables_are_named(tmp_path, name):
    path = write_source(tmp_path) / "hosp" / f"{name}.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    with pytest.raises(InputError, match=rf"{name}\.csv has a header, but no rows"):
        small(tmp_path)
    path.unlink()
    with pytest.raises(InputError, match=rf"must hold {name}\.csv or {name}\.csv\.gz"):
        small(tmp_path)


def test_a_truncated_download_is_named(tmp_path):
    path = write_source(tmp_path, packed=True) / "hosp" / "admissions.csv.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"admissions\.csv\.gz is damaged or incomplete"):
        small(tmp_path)


def test_a_source_is_needed():
    with pytest.raises(InputError, match="--source"):
        prepare("mimic4", None, Mimic4Options())


def test_mapping_tables_that_know_no_package_are_refused(tmp_path):
    source = write_source(tmp_path, ndc_rxcui="ndc,rxcui\n77777777777,500\n")
    with pytest.raises(KnowledgeError, match=r"no prescription could be classified.*ndc_rxcui\.c"):
        small(source)


def test_mapping_tables_are_needed_only_where_names_do_not_decide(tmp_path):
    text = TABLES["prescriptions"].replace(",f,", ",Furosemide,").replace(",c,", ",Warfarin,")
    source = write_source(tmp_path, prescriptions=text.replace(",j,", ",Heparin,"))
    for name in ("ndc_rxcui", "rxcui_atc"):
        (source / "knowledge" / f"{name}.csv").unlink()
    made = small(source, require=("medications",))
    assert codes_of(made, "medications") == [["C03C"], ["B01A"], ["B01A"]]
    with pytest.raises(KnowledgeError, match="table NDC to RXCUI"):
        small(source, drug_names=False)


def test_nothing_left_is_an_error(tmp_path):
    with pytest.raises(CohortError, match="No visit is left"):
        small(write_source(tmp_path), min_visits=3)


def test_a_repeated_identifier_is_not_printed(tmp_path):
    doubled = TABLES["admissions"].replace("20,202", "20,201")
    with pytest.raises(InputError) as refused:
        mimic4.load(write_source(tmp_path, admissions=doubled), Mimic4Options())
    assert "201" not in str(refused.value).split("line 3")[1]


# ---- ICD versions


GEM_10 = """icd10cm,icd9cm,flags
I5023,42823,00000
E871,2761,00000
E871,2760,10000
Z9999,NoDx,11000
"""
GEM_9 = """icd9cm,icd10cm,flags
V707,Z006,10000
E871,Y658,10000
"""
MAPPING = {
    "icd10cmtoicd9gem": GEM_10,
    "icd9toicd10cmgem": GEM_9,
    "icd10pcstoicd9gem": "icd10pcs,icd9cm,flags\n0DTJ4ZZ,4701,10000\n",
    "icd9toicd10pcsgem": "icd9cm,icd10pcs,flags\n4701,0DTJ4ZZ,00000\n",
}


@pytest.fixture
def with_gem(tmp_path) -> Path:
    for name, text in MAPPING.items():
        write_csv(tmp_path / "knowledge" / f"{name}.csv", text)
    more = TABLES["diagnoses_icd"] + "20,202,2,4019,9\n20,202,3,Z9999,10\n20,202,4,4019,9\n"
    return write_source(tmp_path, diagnoses_icd=more)


@pytest.mark.parametrize(
    ("icd", "diagnoses", "procedures"),
    [
        ("9", [[], ["9:4019", "9:V707"], ["9:E871"], ["9:V707"]], []),
        ("10", [["10:E871"], ["10:Z9999"], ["10:I5023"], []], ["10:0DTJ4ZZ"]),
        (
            "map-to-9",
            [["9:2761"], ["9:4019", "9:V707"], ["9:42823", "9:E871"], ["9:V707"]],
            ["9:4701"],
        ),
        (
            "map-to-10",
            [["10:E871"], ["10:Z006", "10:Z9999"], ["10:I5023", "10:Y658"], ["10:Z006"]],
            ["10:0DTJ4ZZ"],
        ),
    ],
)
def test_one_version_of_icd(with_gem, icd, diagnoses, procedures):
    cohort = small(with_gem, icd=icd, require=("medications",))
    assert codes_of(cohort, "diagnoses") == diagnoses
    assert codes_of(cohort, "procedures")[2] == procedures


def test_codes_that_cannot_be_mapped_are_counted_and_listed(with_gem):
    to9 = small(with_gem, icd="map-to-9").provenance
    assert to9.mapped["diagnoses rows of ICD-10, mapped"] == 2  # I5023; E871, by its exact entry
    assert to9.mapped["diagnoses rows of ICD-10, not mapped"] == 1
    assert to9.unmapped["ICD-10 diagnoses without an ICD-9 code"] == {"Z9999": 1}
    assert {"icd10cmtoicd9gem.csv", "icd10pcstoicd9gem.csv"} <= to9.inputs.keys()
    to10 = small(with_gem, icd="map-to-10").provenance
    assert to10.mapped["diagnoses rows of ICD-9, not mapped"] == 2
    assert to10.unmapped["ICD-9 diagnoses without an ICD-10 code"] == {"4019": 2}
    one = small(with_gem, icd="9", require=("medications",)).provenance
    assert one.mapped["diagnoses rows of ICD-10, left out"] == 3


TITLES_9 = """4010  Malignant essential hypertension
4011  Benign essential hypertension
4019  Unspecified essential hypertension
"""


def hypertension(root: Path, **options) -> tuple[list[str], Cohort]:
    """Returns what I10 of admission 101 becomes."""
    text = "icd10cm,icd9cm,flags\nE871,2761,00000\n"
    text += "".join(f"I10,{code},10000\n" for code in ("4011", "4019", "4010"))
    write_csv(root / "knowledge" / "icd10cmtoicd9gem.csv", text)
    text = MAPPING["icd10pcstoicd9gem"]
    write_csv(root / "knowledge" / "icd10pcstoicd9gem.csv", text)
    source = write_source(root, diagnoses_icd=TABLES["diagnoses_icd"] + "10,101,4,I10,10\n")
    cohort = small(source, icd="map-to-9", require=("medications",), **options)
    assert cohort.provenance.mapped["diagnoses rows of ICD-10, mapped"] == 1  # E871
    what = "diagnoses rows of ICD-10, ambiguously mapped"
    assert cohort.provenance.mapped[what] == 1
    return codes_of(cohort, "diagnoses")[0], cohort


def test_of_alternatives_the_one_whose_title_says_least(tmp_path):
    found, plain = hypertension(tmp_path)
    assert found == ["9:2761", "9:4010"]  # no titles: the first of the alphabet
    assert "CMS32_DESC_LONG_DX.txt" not in plain.provenance.inputs
    write_csv(tmp_path / "knowledge" / "below" / "CMS32_DESC_LONG_DX.txt", TITLES_9)
    found, titled = hypertension(tmp_path)
    assert found == ["9:2761", "9:4019"]
    assert "CMS32_DESC_LONG_DX.txt" in titled.provenance.inputs
    assert titled.fingerprint != plain.fingerprint


def test_mapped_codes_lose_their_version_too(with_gem):
    options = {"require": ("medications",), "code_version": "dropped"}
    to9 = small(with_gem, icd="map-to-9", **options)
    assert codes_of(to9, "diagnoses") == [["2761"], ["4019", "V707"], ["42823", "E871"], ["V707"]]
    assert to9.vocabulary["diagnoses"] == ("2761", "4019", "42823", "E871", "V707")
    assert to9.vocabulary["procedures"] == ("4701",)
    to10 = small(with_gem, icd="map-to-10", **options)
    assert codes_of(to10, "diagnoses") == [
        ["E871"], ["Z006", "Z9999"], ["I5023", "Y658"], ["Z006"],
    ]  # fmt: skip
    assert to10.vocabulary["procedures"] == ("0DTJ4ZZ",)


def test_without_the_mapping_it_is_said_which_file_is_missing(tmp_path):
    with pytest.raises(KnowledgeError, match=r"icd10cmtoicd9gem\.csv"):
        small(write_source(tmp_path), icd="map-to-9")


# ---- the open demo


@pytest.fixture(scope="module")
def demo() -> Path:
    shared_data("knowledge", "nc", "drug", "rxcui_atc4_2020.csv.gz")
    return shared_data("mimic-iv-demo")


@pytest.fixture(scope="module")
def cohort(demo) -> Cohort:
    return cohort_of(demo)


def table(demo: Path, name: str) -> list[dict[str, str]]:
    return rows_of(demo / "hosp" / f"{name}.csv.gz")


def visits_in_order(demo: Path, *kinds: str) -> list[str]:
    """Returns the admissions that have rows in each of these tables, in the cohort's order."""
    having = [{row["hadm_id"] for row in table(demo, kind)} for kind in kinds]
    rows = [row for row in table(demo, "admissions") if all(row["hadm_id"] in h for h in having)]
    rows.sort(key=lambda r: (int(r["subject_id"]), r["admittime"], int(r["hadm_id"])))
    return [row["hadm_id"] for row in rows]


def steps_of(rows: list[dict[str, str]]) -> Counter[str]:
    """Counts what decides each row: overrides, then the package, then the name."""
    mapping = load_mapping([shared_data("knowledge")], rule="all")
    names = load_drug_names([shared_data("knowledge")], "systemic")
    steps = Counter[str]()
    for (ndc, drug), count in Counter((row["ndc"], row["drug"]) for row in rows).items():
        step = names.find(drug).step
        packaged = mapping.classes.get(mapping.rxcui.get(ndc.zfill(11), ""))
        steps["package" if packaged and step not in ("override", "excluded") else step] += count
    return steps


def test_demo_rows_and_mapping(demo):
    records = mimic4.load(demo, Mimic4Options())
    assert (len(records.visits), len(records.patients)) == (275, 100)
    assert set(records.dropped.values()) == {0}
    visits = {kind: rows["visit"].nunique() for kind, rows in records.codes.items()}
    assert visits == {
        "diagnoses": len({r["hadm_id"] for r in table(demo, "diagnoses_icd")}),
        "procedures": len({r["hadm_id"] for r in table(demo, "procedures_icd")}),
        "medications": 250,
    }
    # independently: 18,087 rows; 70.1 % reach a class by NDC
    assert records.mapped["prescriptions rows"] == 18_087
    published = mimic4.load(demo, Mimic4Options(drug_names=False))
    assert published.mapped["prescriptions rows classified by NDC"] == 12_684
    # of these, overrides decide 4,887 and leave out 1,783 as diluents and supplies
    assert records.mapped["prescriptions rows classified by NDC"] == 12_684 - 4_887 - 1_783
    steps = steps_of(table(demo, "prescriptions"))
    assert steps["package"] == 6_014
    assert steps == {
        "package": records.mapped["prescriptions rows classified by NDC"],
        "override": records.mapped["prescriptions rows classified by the table of overrides"],
        "name": records.mapped["prescriptions rows classified by the drug's name"],
        "synonym": records.mapped["prescriptions rows classified by a synonym of the drug's name"],
        "excluded": records.mapped["prescriptions rows of diluents and supplies, left out"],
        "unknown": records.mapped["prescriptions rows not classified"],
    }
    parts = Counter(
        {what: n for what, n in records.mapped.items() if "prescriptions rows " in what}
    )
    assert parts.total() == 18_087
    classified = sum(n for what, n in parts.items() if " classified by" in what)
    # a plain matcher that counts diluents classifies 86.9 % of all rows
    assert classified / (18_087 - steps["excluded"]) > 0.999
    assert (classified + steps["excluded"]) / 18_087 > 0.999
    for version, rows in Counter(r["icd_version"] for r in table(demo, "diagnoses_icd")).items():
        assert records.mapped[f"diagnoses rows of ICD-{version}"] == rows
    for version, rows in Counter(r["icd_version"] for r in table(demo, "procedures_icd")).items():
        assert records.mapped[f"procedures rows of ICD-{version}"] == rows


def test_demo_visits(demo, cohort):
    assert (cohort.patients, int(cohort.visits.sum())) == (100, 250)
    assert int((cohort.visits >= 2).sum()) == 46
    whole = cohort_of(demo, require=KINDS)
    assert (whole.patients, int(whole.visits.sum())) == (92, 186)
    assert int((whole.visits >= 2).sum()) == 38
    assert len(cohort.admitted) == len(visits_in_order(demo, "diagnoses_icd", "prescriptions"))


@pytest.mark.parametrize("kind", ["diagnoses", "procedures"])
def test_demo_codes_equal_a_plain_loop(demo, cohort, kind):
    wanted: dict[str, set[str]] = {}
    for row in table(demo, f"{kind}_icd"):
        code = row["icd_code"].strip()
        wanted.setdefault(row["hadm_id"], set()).add(f"{row['icd_version']}:{code}")
    order = visits_in_order(demo, "diagnoses_icd", "prescriptions")
    expected = [sorted(wanted.get(hadm, ())) for hadm in order]
    assert codes_of(cohort, kind) == expected
    assert len(cohort.vocabulary[kind]) == len({code for codes in expected for code in codes})


def test_demo_medications_by_package_equal_a_plain_loop(demo):
    mapping = load_mapping([shared_data("knowledge")], rule="all")
    given: dict[str, set[str]] = {}
    for row in table(demo, "prescriptions"):
        rxcui = mapping.rxcui.get(row["ndc"].zfill(11), "")
        given.setdefault(row["hadm_id"], set()).update(mapping.classes.get(rxcui, ()))
    order = [hadm for hadm in visits_in_order(demo, "diagnoses_icd") if given.get(hadm)]
    made = cohort_of(demo, drug_names=False, atc_rule="all")
    assert codes_of(made, "medications") == [sorted(given[hadm]) for hadm in order]


def test_demo_times_ages_services_genders_and_groups_equal_a_plain_loop(demo, cohort):
    times = {r["hadm_id"]: r for r in table(demo, "admissions")}
    people = {r["subject_id"]: r for r in table(demo, "patients")}
    first: dict[str, tuple[str, str]] = {}
    for row in table(demo, "services"):
        entry = (row["transfertime"], row["curr_service"])
        first[row["hadm_id"]] = min(first.get(row["hadm_id"], entry), entry)
    order = visits_in_order(demo, "diagnoses_icd", "prescriptions")
    ages = []
    for hadm in order:
        person = people[times[hadm]["subject_id"]]
        years = int(times[hadm]["admittime"][:4]) - int(person["anchor_year"])
        ages.append(min(int(person["anchor_age"]) + years, 90))
    assert cohort.age.tolist() == ages
    assert named(cohort.service, cohort.services) == [first[hadm][1] for hadm in order]
    for patient in range(cohort.patients):
        rows = cohort.visits_of(np.array([patient]))
        moments = [datetime.fromisoformat(times[order[row]]["admittime"]) for row in rows]
        days = [(moment - moments[0]).total_seconds() / 86400 for moment in moments]
        np.testing.assert_allclose(cohort.admitted[rows], days, atol=1e-3)
        assert days == sorted(days)
        subject = times[order[rows[0]]]["subject_id"]
        assert cohort.genders[cohort.gender[patient]] == people[subject]["gender"]
        own = [r for r in times.values() if r["subject_id"] == subject]
        race = min(own, key=lambda r: r["admittime"])["race"]
        assert cohort.groups[cohort.group[patient]] == group_of(race)


def test_demo_of_one_service_equals_a_plain_loop(demo):
    theirs = {r["hadm_id"] for r in table(demo, "services") if r["curr_service"] == "CMED"}
    order = visits_in_order(demo, "diagnoses_icd", "prescriptions")
    made = cohort_of(demo, service=("CMED",))
    assert len(made.admitted) == len([hadm for hadm in order if hadm in theirs]) > 10


@pytest.mark.parametrize("window", ["first_24_hours", "first_date"])
def test_demo_windows_equal_a_plain_loop(demo, window):
    admitted = {r["hadm_id"]: r["admittime"] for r in table(demo, "admissions")}
    rows = table(demo, "prescriptions")
    first: dict[str, str] = {}
    for row in rows:
        if row["starttime"]:
            date = row["starttime"][:10]
            first[row["hadm_id"]] = min(first.get(row["hadm_id"], date), date)
    inside = 0
    for row in rows:
        if not row["starttime"]:
            continue
        if window == "first_date":
            inside += row["starttime"][:10] == first[row["hadm_id"]]
        else:
            start, stay = row["starttime"], admitted[row["hadm_id"]]
            late = datetime.fromisoformat(start) - datetime.fromisoformat(stay)
            inside += late.total_seconds() < 86_400
    records = mimic4.load(demo, Mimic4Options(medication_window=window))
    assert records.mapped["prescriptions rows"] == inside
    assert records.dropped["prescriptions rows out of the window"] == len(rows) - inside


def titles_said_least(version: str) -> Callable[[str], tuple[int, int]]:
    """Returns a key for codes by their published titles: unspecified first, then short ones."""
    folder = shared_data("knowledge", "open", "icd")
    if version == "9":
        with gzip.open(folder / "CMS32_DESC_LONG_DX.txt.gz", "rt", encoding="latin-1") as stream:
            titles = dict(line.rstrip("\r\n").split(maxsplit=1) for line in stream)
    else:
        rows = rows_of(folder / "icd10cm-order-Jan-2021.csv.gz")
        titles = {row["code"]: row["long"] for row in rows}

    def least(code: str) -> tuple[int, int]:
        if code not in titles:
            return 1, 0
        title = titles[code].strip()
        low = title.lower()
        said = low.count("unspecified") + low.count("not otherwise specified")
        return -said - re.findall(r"[a-z]+", low).count("nos"), len(title)

    return least


@pytest.mark.parametrize("target", ["9", "10"])
def test_demo_mapped_diagnoses_equal_a_plain_loop(demo, target):
    """Of alternatives exact before approximate, then the title that says least, then the first.

    Combinations stand alone.
    """
    least = titles_said_least(target)
    names = {"9": "icd10cmtoicd9gem", "10": "icd9toicd10cmgem"}
    source = {"9": "icd10cm", "10": "icd9cm"}[target]
    path = shared_data("knowledge", "open", "icd", f"{names[target]}.csv.gz")
    alternatives: dict[str, list[tuple[str, str]]] = {}
    combined: dict[str, dict[tuple[int, int], list[str]]] = {}
    for row in rows_of(path):
        goal = row[f"icd{target}cm"]
        if row["no_map"] == "1":
            continue
        if row["combination"] == "0":
            alternatives.setdefault(row[source], []).append((row["approximate"], goal))
        else:
            place = (int(row["scenario"]), int(row["choice_list"]))
            combined.setdefault(row[source], {}).setdefault(place, []).append(goal)
    wanted: dict[str, set[str]] = {}
    lost = Counter[str]()
    for row in table(demo, "diagnoses_icd"):
        code, found = row["icd_code"], wanted.setdefault(row["hadm_id"], set())
        if row["icd_version"] == target:
            found.add(f"{target}:{code}")
        elif code in alternatives:
            found.add(f"{target}:{min((a, least(c), c) for a, c in alternatives[code])[2]}")
        elif code in combined:
            first = min(scenario for scenario, _ in combined[code])
            lists = [
                min(goals, key=lambda c: (least(c), c))
                for (s, _), goals in combined[code].items()
                if s == first
            ]
            found.update(f"{target}:{goal}" for goal in lists)
        else:
            lost[code] += 1
    order = visits_in_order(demo, "diagnoses_icd", "prescriptions")
    made = cohort_of(demo, icd=f"map-to-{target}", require=("medications",))
    assert codes_of(made, "diagnoses") == [sorted(wanted[hadm]) for hadm in order]
    other = {"9": "10", "10": "9"}[target]
    listed = made.provenance.unmapped.get(
        f"ICD-{other} diagnoses without an ICD-{target} code", {}
    )
    assert listed == dict(lost)


def test_demo_ages_and_groups_are_plausible(cohort):
    assert cohort.age.min() >= 18
    assert cohort.age.max() <= 90
    assert set(cohort.groups) == {"white", "black", "hispanic", "other", "unknown"}
    assert np.bincount(cohort.group).argmax() == cohort.groups.index("white")


def test_demo_backwards_gives_the_same_cohort(demo, cohort, tmp_path):
    for name in (*READ, "services"):
        with gzip.open(demo / "hosp" / f"{name}.csv.gz", "rt") as stream:
            write_csv(tmp_path / "hosp" / f"{name}.csv", reverse_rows(stream.read()))
    turned = cohort_of(tmp_path, knowledge=str(shared_data("knowledge")))
    assert turned.fingerprint == cohort.fingerprint


def test_demo_leaves_no_identifier_in_the_saved_cohort(demo, cohort, tmp_path):
    cohort.save(tmp_path, pages(cohort))
    admissions = table(demo, "admissions")
    keys = {int(row[name]) for row in admissions for name in ("subject_id", "hadm_id")}
    assert len(keys) == 375
    assert {path.name for path in tmp_path.iterdir()} >= {"card.md", "card.html"}
    for path in sorted(tmp_path.iterdir()):
        if path.suffix == ".arrow":
            numbers = numbers_in(path)
        else:
            text = path.read_text()
            description = re.sub(r"\b[0-9a-f]{16,64}\b", "", text)  # digests are random digits
            numbers = {int(digits) for digits in re.findall(r"\d{8}", description)}
        assert not numbers & keys, path.name
    assert json.loads((tmp_path / "cohort.json").read_text())["dataset"] == "mimic4"


def numbers_in(path: Path) -> set[int]:
    """Returns every number of every column, and every 4 or 8 aligned bytes read as an integer."""
    found: set[int] = set()
    table = pa.ipc.open_file(path).read_all()
    for column in table.columns:
        flat = column.combine_chunks()
        flat = flat.values if pa.types.is_list(flat.type) else flat
        found |= {int(value) for value in flat.to_numpy(zero_copy_only=False)}
    data = path.read_bytes()
    for kind in (np.int32, np.int64):
        size = np.dtype(kind).itemsize
        found |= set(np.frombuffer(data[: len(data) // size * size], kind).tolist())
    return found
