import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from medrec.cohort import Cohort
from medrec.datasets import eicu
from medrec.datasets._base import prepare
from medrec.datasets.eicu import EicuOptions, icd_versions, names_of_hicl
from medrec.demographics import group_of
from medrec.errors import CohortError, InputError, KnowledgeError
from medrec.knowledge.drug_names import load_drug_names
from tests.medrec.datasets.eicu_files import TABLES, write_source
from tests.medrec.datasets.mimic3_files import (
    codes_of,
    named,
    rows_of,
    shared_tables_read_once,
)
from tests.medrec.datasets.mimic4_files import reverse_rows, write_csv
from tests.shared_data import shared_data

THIRDS = (0.34, 0.33, 0.33)


@pytest.fixture(scope="module", autouse=True)
def _shared_tables_read_once():
    with shared_tables_read_once():
        yield


def cohort_of(source: Path, **options) -> Cohort:
    return prepare("eicu", source, EicuOptions(**options))


def small(source: Path, **options) -> Cohort:
    return cohort_of(source, **{"fractions": THIRDS, "require": (), **options})


# ---- the hand-made folder: hospital stays 600, 700, 701, 800, 900 in the order of their keys


def test_worked_example(tmp_path):
    cohort = small(write_source(tmp_path))
    assert cohort.visits.tolist() == [1, 2, 2, 1, 2]
    assert codes_of(cohort, "diagnoses") == [
        ["9:51881"],  # 31
        *(["9:2761"], ["9:0389", "9:99591"]),  # 21, 22
        *(["9:4019"], ["9:E8700"]),  # 23, 24
        ["9:4280"],  # 13: E87.1 is ICD-10 alone
        *(["9:V6284"], ["9:51881"]),  # 12, 11
    ]
    assert codes_of(cohort, "medications") == [
        ["B01A"],
        *([], ["C03C"]),
        *([], ["B01A"]),
        ["C03C"],  # Xyzzyx: not known itself, but other rows of its HICL say furosemide
        *(["C03C"], ["B01A", "C03C"]),
    ]
    assert cohort.vocabulary["procedures"] == ()
    assert cohort.age.tolist() == [90, 50, 50, 50, 50, 71, 70, 70]
    assert named(cohort.gender, cohort.genders) == ["unknown", *["Male"] * 2, *["Female"] * 2]
    assert named(cohort.group, cohort.groups) == ["unknown", *["hispanic"] * 2, *["white"] * 2]
    services = ["MICU", "MICU", "SICU", "MICU", "SICU", "CTICU", "Med-Surg ICU", "MICU"]
    assert named(cohort.service, cohort.services) == services
    days = [0, 0, 1440 / 1440, 0, 2980 / 1440, 0, 0, 2820 / 1440]
    np.testing.assert_allclose(cohort.admitted, days, atol=1e-3)


def test_counts_of_the_worked_example(tmp_path):
    records = eicu.load(write_source(tmp_path), EicuOptions())
    assert records.dropped == {
        "medication rows of unit stays unknown or left out": 1,
        "medication rows of cancelled orders": 1,
        "diagnosis rows of unit stays unknown or left out": 1,
    }
    assert records.mapped == {
        "medication rows": 10,
        "medication rows classified by name": 5,
        "medication rows classified by the name of another row of its HICL": 2,
        "medication rows of diluents and supplies, left out": 1,
        "medication rows without a name": 2,
        "diagnosis rows": 12,
        "diagnosis rows of ICD-9": 9,
        "diagnosis rows of ICD-10, left out": 1,
        "diagnosis rows malformed": 1,
        "diagnosis rows without a code": 1,
    }
    known = TABLES["medication"].replace("Xyzzyx", "Lasix")
    known = known.replace("1,11,100,No,FUROSEMIDE 40 MG PO TABS", "1,11,100,No,Heparin")
    again = eicu.load(write_source(tmp_path / "known", medication=known), EicuOptions())
    assert again.mapped == records.mapped | {
        "medication rows classified by name": 6,  # Lasix is a name of its own
        "medication rows classified by the name of another row of its HICL": 1,
    }
    assert not any(records.unmapped.values())  # what few rows have may be a patient's own
    visits = records.visits.loc[records.visits["visit"].isin(records.prescribed), "visit"]
    assert sorted(visits) == [11, 12, 13, 21, 22, 23, 24, 31]


def test_malformed_codes_are_listed_if_they_are_not_rare(tmp_path):
    text = TABLES["diagnosis"] + '14,11,"401.9, see note"\n' * 9 + "15,12,31.1\n" * 9
    unmapped = eicu.load(write_source(tmp_path, diagnosis=text), EicuOptions()).unmapped
    assert unmapped["diagnosis codes that are malformed"] == {"31.1": 10}


@pytest.mark.parametrize(
    ("cell", "versions"),
    [
        ("518.81, J96.00", {"518.81": "9", "J96.00": "10"}),
        ("J96.00, 518.81", {"J96.00": "10", "518.81": "9"}),
        ("038.9, 995.91, A41.9, R65.20", ["9", "9", "10", "10"]),
        ("V62.84, R45.851", {"V62.84": "9", "R45.851": "10"}),
        ("E870.0", {"E870.0": "9"}),  # E and three digits: external cause
        ("E87.1", {"E87.1": "10"}),  # E and two: low sodium
        ("276.1, E87.1", {"276.1": "9", "E87.1": "10"}),
        ("e87.1", {"E87.1": "10"}),
        ("427", {"427": "9"}),
        ("I10", {"I10": "10"}),
        ("31.1", {"31.1": ""}),  # of procedures
        ("unknown", {"UNKNOWN": ""}),
        ("4280", {"4280": ""}),  # without its dot
    ],
)
def test_versions_of_a_cell(cell, versions):
    found = icd_versions(cell)
    assert (list(found.values()) if isinstance(versions, list) else found) == versions


def diagnoses_of(source: Path, unit: int, **options) -> set[str]:
    codes = eicu.load(source, EicuOptions(**options)).codes["diagnoses"]
    return set(codes.loc[codes["visit"] == unit, "code"])


@pytest.mark.parametrize(
    ("options", "of_11", "of_13"),
    [
        ({}, {"9:51881"}, {"9:4280"}),
        ({"icd": "10"}, {"10:J9600"}, {"10:E871"}),
        ({"icd": "both"}, {"9:51881", "10:J9600"}, {"9:4280", "10:E871"}),
        ({"icd": "map-to-9"}, {"9:51881"}, {"9:2761", "9:4280"}),
        ({"icd": "map-to-10"}, {"10:J9600"}, {"10:E871", "10:I509"}),
        ({"diagnosis_cell": "written"}, {"518.81, J96.00"}, {"428.0", "E87.1"}),
    ],
)
def test_what_a_pair_becomes(tmp_path, options, of_11, of_13):
    """Of a pair the code of the target stands as it is; the other is not mapped besides."""
    text = "icd10cm,icd9cm,flags\nE871,2761,00000\nJ9600,51884,10000\n"
    write_csv(tmp_path / "knowledge" / "icd10cmtoicd9gem.csv", text)
    text = "icd9cm,icd10cm,flags\n4280,I509,10000\n51881,J9601,10000\n"
    write_csv(tmp_path / "knowledge" / "icd9toicd10cmgem.csv", text)
    source = write_source(tmp_path)
    assert diagnoses_of(source, 11, **options) == of_11
    assert diagnoses_of(source, 13, **options) == of_13


def visits_of(source: Path, **options) -> dict[str, list[int]]:
    """Returns the visits of each patient in the order of `order`, then key."""
    records = eicu.load(source, EicuOptions(**options))
    visits = records.visits.sort_values(["patient", "order", "visit"])
    return {str(p): rows["visit"].tolist() for p, rows in visits.groupby("patient")}


def test_unit_stays_are_in_the_order_of_their_number(tmp_path):
    source = write_source(tmp_path)
    assert visits_of(source) == {
        "600": [31],
        "700": [21, 22],
        "701": [23, 24],
        "800": [13],
        "900": [12, 11],
    }
    assert visits_of(source, visit="hospital") == {
        str(key): [key] for key in (600, 700, 701, 800, 900)
    }


def test_stays_of_one_person_in_one_year_are_left_out_unless_kept(tmp_path):
    source = write_source(tmp_path)
    ordered = {"002-1": [12, 11, 13], "003-3": [31]}
    assert visits_of(source, patient="uniquepid") == ordered
    assert visits_of(source, patient="uniquepid", visit="hospital") == {
        "002-1": [900, 800],
        "003-3": [600],
    }
    dropped = eicu.load(source, EicuOptions(patient="uniquepid")).dropped
    assert dropped["hospital stays of one year, in unknown order"] == 2
    kept = visits_of(source, patient="uniquepid", unordered="kept")
    assert kept == {**ordered, "002-2": [21, 22, 23, 24]}  # no two stays interleaved
    hospital = visits_of(source, patient="uniquepid", visit="hospital", unordered="kept")
    assert hospital["002-2"] == [700, 701]


def test_codes_of_a_hospital_visit_are_those_of_its_units(tmp_path):
    cohort = small(write_source(tmp_path), visit="hospital")
    assert codes_of(cohort, "diagnoses")[-1] == ["9:51881", "9:V6284"]
    assert codes_of(cohort, "medications")[-1] == ["B01A", "C03C"]
    assert named(cohort.service, cohort.services)[-1] == "Med-Surg ICU"  # of the first unit


def test_rows_in_any_order_and_any_block_size(tmp_path, monkeypatch):
    plain = small(write_source(tmp_path / "a", packed=True))
    turned = {name: reverse_rows(text) for name, text in TABLES.items()}
    assert small(write_source(tmp_path / "b", **turned)).fingerprint == plain.fingerprint
    header, *rows = TABLES["medication"].splitlines()
    long = write_source(tmp_path / "c", medication="\n".join([header, *rows * 50]) + "\n")
    whole = small(long)
    monkeypatch.setattr("medrec.raw_files._BLOCK", 1000)
    monkeypatch.setattr("medrec.datasets._gathering._SLACK", 1)
    cut = small(long)
    assert cut.fingerprint == whole.fingerprint == plain.fingerprint
    assert cut.provenance == whole.provenance
    assert cut.provenance.mapped["medication rows"] == 50 * 10


def people(count: int) -> str:
    """Two hospital stays of each person, in different years."""
    rows = [
        f"{10 * i + year},{1000 + 10 * i + year},Male,50,,0,201{year},MICU,1,002-{i}"
        for i in range(count)
        for year in (4, 5)
    ]
    return TABLES["patient"].splitlines()[0] + "\n" + "\n".join(rows) + "\n"


@pytest.mark.parametrize("rule", ["random", "sequential"])
def test_stays_of_one_person_are_never_in_two_splits(tmp_path, rule):
    source = write_source(tmp_path, patient=people(40))
    for seed in range(3):
        cohort = small(source, split=rule, split_seed=seed)
        assert cohort.patients == 80  # in the order of stays: 1004, 1005, 1014, ...
        assert (cohort.split[0::2] == cohort.split[1::2]).all()
    apart = small(source, split_by="patient")
    assert (apart.split[0::2] != apart.split[1::2]).any()


def test_a_number_of_an_ingredient_tells_the_name_of_other_rows(tmp_path):
    path = write_source(tmp_path) / "medication.csv"
    assert names_of_hicl(path) == {
        "5": "FUROSEMIDE 40 MG PO TABS",  # three different names, once each: the first
        "7": "HEPARIN SODIUM",
        "8": "SODIUM CHLORIDE 0.9 %",
        "2812": "Warfarin",
    }


def drugs_of(source: Path, **options) -> dict[int, set[str]]:
    codes = eicu.load(source, EicuOptions(**options)).codes["medications"]
    return {int(v): set(rows["code"]) for v, rows in codes.groupby("visit", observed=True)}


def test_cancelled_orders_and_windows(tmp_path):
    source = write_source(tmp_path)
    plain = drugs_of(source)
    assert drugs_of(source, cancelled="kept") == {**plain, 21: {"B01A"}}
    early = eicu.load(source, EicuOptions(medication_window="first_24_hours"))
    assert early.dropped["medication rows out of the window"] == 1  # at 1440 minutes exactly
    assert drugs_of(source, medication_window="first_24_hours") == {**plain, 11: {"C03C"}}


def test_a_wrong_start_of_a_row_that_does_not_count_is_no_matter(tmp_path):
    text = TABLES["medication"].replace("12,99,0,", "12,99,soon,")
    source = write_source(tmp_path, medication=text)
    assert drugs_of(source, medication_window="first_24_hours")[31] == {"B01A"}
    source = write_source(
        tmp_path, medication=TABLES["medication"].replace("11,31,0,", "11,31,x,")
    )
    with pytest.raises(InputError, match=r"line 12: `drugstartoffset` must be minutes, .*'x'"):
        drugs_of(source, medication_window="first_24_hours")


def test_gtc_numbers_as_published(tmp_path):
    source = write_source(tmp_path)
    assert drugs_of(source, drug_code="gtc", cancelled="kept") == {
        11: {"37"},
        12: {"37"},
        13: {"37", "38"},
        21: {"38"},
        22: {"37"},
        23: {"59"},
        24: {"38"},
        31: {"38"},
    }
    mapped = eicu.load(source, EicuOptions(drug_code="gtc")).mapped
    assert mapped["medication rows without a GTC"] == 2


def test_treatments_as_third_stream(tmp_path):
    source = write_source(tmp_path)
    cohort = small(source, procedures="treatments")
    names = (
        "pulmonary|ventilation|mechanical ventilation",
        "renal|dialysis|hemodialysis",
    )
    assert cohort.vocabulary["procedures"] == names
    assert codes_of(cohort, "procedures") == [[], [], [], [], [], [names[1]], [], [names[0]]]
    assert cohort.provenance.mapped["treatment rows without one"] == 1
    assert cohort.provenance.dropped["treatment rows of unit stays unknown or left out"] == 1
    (source / "treatment.csv").unlink()
    assert small(source).patients == 5
    with pytest.raises(InputError, match=r"must hold treatment\.csv"):
        small(source, procedures="treatments")


def test_patients_over_89(tmp_path):
    source = write_source(tmp_path)
    kept, dropped = small(source), small(source, over_89="dropped", split_by="patient")
    assert (kept.age.max(), dropped.age.max()) == (90, 71)
    assert dropped.patients == kept.patients - 1
    assert "unknown" not in dropped.genders
    assert dropped.provenance.dropped["unit stays of patients over 89"] == 1
    rows = TABLES["patient"].splitlines()
    alone = write_source(tmp_path / "alone", patient="\n".join([rows[0], rows[-1]]) + "\n")
    with pytest.raises(CohortError, match="No visit is left"):
        small(alone, over_89="dropped")


@pytest.mark.parametrize(
    ("table", "old", "new", "message"),
    [
        ("patient", "11,900,Female,70", "11,900,Female,old", r"line 2: `age` must be 0 to 120"),
        ("patient", "Female,71", "Female,121", r"line 4: `age` must be 0 to 120.*'121'"),
        ("patient", "2015", "15", r"line 4: `hospitaldischargeyear` must be a year"),
        ("patient", "12,900", "11,900", r"line 3: `patientunitstayid` must differ"),
        ("patient", "MICU,2,002-1", "MICU,,002-1", r"line 2: `unitvisitnumber` must be 1, 2, 3"),
        ("patient", "-2880", "", r"line 2: `hospitaladmitoffset` must be minutes"),
        ("patient", "1,003-3", "1,", r"line 9: `uniquepid` must be as 002-1039"),
        ("patient", "Female,70", "W,70", r"line 2: `gender` must be a gender.*'W'"),
        ("patient", "CTICU", "4 West", r"line 4: `unittype` must be a name"),
        ("diagnosis", "4,13,", "4,x,", r"diagnosis\.csv, line 5: `patientunitstayid` must be"),
        ("medication", "gtc", "class", "column `gtc`"),
    ],
)
def test_a_wrong_cell_is_named(tmp_path, table, old, new, message):
    source = write_source(tmp_path, **{table: TABLES[table].replace(old, new)})
    with pytest.raises(InputError, match=message):
        small(source)


def test_names_that_nobody_knows_are_refused(tmp_path):
    rows = TABLES["medication"].splitlines()[0] + "\n1,11,0,No,Xyzzymab,4,0\n"
    with pytest.raises(KnowledgeError, match=r"medication\.csv: no drug could be classified"):
        small(write_source(tmp_path, medication=rows))


# ---- the open demo


@pytest.fixture(scope="module")
def demo() -> Path:
    shared_data("knowledge", "nc", "drug", "ingredient_atc5_2020.csv.gz")
    return shared_data("eicu-demo")


@pytest.fixture(scope="module")
def cohort(demo) -> Cohort:
    return cohort_of(demo, require=())


def table(demo: Path, name: str) -> list[dict[str, str]]:
    return rows_of(demo / f"{name}.csv.gz")


def units_in_order(demo: Path) -> list[dict[str, str]]:
    keys = ("patienthealthsystemstayid", "unitvisitnumber", "patientunitstayid")
    return sorted(table(demo, "patient"), key=lambda row: tuple(int(row[key]) for key in keys))


def test_demo_nearly_every_stay_with_a_medication_row_has_a_class(demo):
    rows = table(demo, "medication")
    stays = {row["patientunitstayid"] for row in rows}
    assert len(stays) == 1857
    found = cohort_of(demo, require=("medications",), cancelled="kept")
    assert int(found.visits.sum()) >= 1852
    mapped = found.provenance.mapped
    assert mapped["medication rows"] == len(rows) == 75_604
    assert sum(n for what, n in mapped.items() if "medication rows " in what) == 75_604
    classified = sum(n for what, n in mapped.items() if "rows classified by" in what)
    assert classified / 75_604 > 0.744  # of a plain matcher


def test_demo_order_ages_and_demographics_equal_a_plain_loop(demo, cohort):
    units = units_in_order(demo)
    assert int(cohort.visits.sum()) == len(units) == 2520
    stays = list(dict.fromkeys(row["patienthealthsystemstayid"] for row in units))
    assert cohort.patients == len(stays) == 2174
    sizes = Counter(row["patienthealthsystemstayid"] for row in units)
    assert cohort.visits.tolist() == [sizes[stay] for stay in stays]
    assert sum(size >= 2 for size in sizes.values()) == int((cohort.visits >= 2).sum())
    ages = {"": -1, "> 89": 90}
    assert cohort.age.tolist() == [ages.get(r["age"]) or int(r["age"]) for r in units]
    services = [row["unittype"] for row in units]
    assert named(cohort.service, cohort.services) == services
    first = {row["patienthealthsystemstayid"]: row for row in reversed(units)}
    genders = [first[stay]["gender"] or "unknown" for stay in stays]
    assert named(cohort.gender, cohort.genders) == genders
    groups = [group_of(first[stay]["ethnicity"]) for stay in stays]
    assert named(cohort.group, cohort.groups) == groups
    start = 0
    for size in cohort.visits.tolist():
        minutes = [-int(row["hospitaladmitoffset"]) for row in units[start : start + size]]
        days = [(m - minutes[0]) / 1440 for m in minutes]
        np.testing.assert_allclose(cohort.admitted[start : start + size], days, atol=1e-2)
        start += size


def test_demo_diagnoses_equal_a_plain_loop(demo, cohort):
    """By the form alone: in this data ICD-9 codes begin with a digit, or V, or E and 3 digits."""
    wanted: dict[str, set[str]] = {}
    for row in table(demo, "diagnosis"):
        for part in row["icd9code"].split(", "):
            if re.fullmatch(r"\d{3}(\.\d+)?|V\d\d(\.\d+)?|E\d\d\d(\.\d)?", part):
                code = "9:" + part.replace(".", "")
                wanted.setdefault(row["patientunitstayid"], set()).add(code)
    units = [row["patientunitstayid"] for row in units_in_order(demo)]
    assert codes_of(cohort, "diagnoses") == [sorted(wanted.get(unit, ())) for unit in units]


def test_demo_medications_equal_a_plain_loop(demo, cohort):
    names = load_drug_names([shared_data("knowledge"), demo], "systemic")
    rows = table(demo, "medication")
    often: dict[str, Counter[str]] = {}
    for row in rows:
        name, hicl = row["drugname"].strip(), row["drughiclseqno"]
        if name and hicl not in ("", "0"):
            often.setdefault(hicl, Counter())[name] += 1
    fill = {h: min(names, key=lambda n: (-names[n], n)) for h, names in often.items()}
    named_rows = sum(bool(r["drugname"].strip() or fill.get(r["drughiclseqno"])) for r in rows)
    assert named_rows / len(rows) == pytest.approx(0.877, abs=2e-3)
    classes: dict[str, tuple[str, ...]] = {}
    wanted: dict[str, set[str]] = {}
    for row in rows:
        name, other = row["drugname"].strip(), fill.get(row["drughiclseqno"], "")
        if not name or (other and names.find(name).step == "unknown"):
            name = other
        if row["drugordercancelled"] == "Yes" or not name:
            continue
        if name not in classes:
            classes[name] = names.find(name).classes
        wanted.setdefault(row["patientunitstayid"], set()).update(classes[name])
    units = [row["patientunitstayid"] for row in units_in_order(demo)]
    assert codes_of(cohort, "medications") == [sorted(wanted.get(unit, ())) for unit in units]


def test_demo_hospital_stays_of_one_year(demo):
    stays = {(r["uniquepid"], r["hospitaldischargeyear"], r["patienthealthsystemstayid"])
             for r in table(demo, "patient")}  # fmt: skip
    years = Counter((person, year) for person, year, _ in stays)
    unknown = sum(n for n in years.values() if n > 1)
    options = {"patient": "uniquepid", "visit": "hospital", "require": ()}
    made = cohort_of(demo, **options)
    what = "hospital stays of one year, in unknown order"
    assert made.provenance.dropped[what] == unknown > 300
    assert int(made.visits.sum()) == len(stays) - unknown
    kept = cohort_of(demo, unordered="kept", **options)
    assert (kept.patients, int(kept.visits.sum())) == (1841, 2174)
    assert int((kept.visits >= 2).sum()) == 221


def test_demo_persons_are_in_one_split(demo, cohort):
    person = {r["patienthealthsystemstayid"]: r["uniquepid"] for r in table(demo, "patient")}
    stays = list(dict.fromkeys(r["patienthealthsystemstayid"] for r in units_in_order(demo)))
    splits: dict[str, set[int]] = {}
    for stay, split in zip(stays, cohort.split.tolist(), strict=True):
        splits.setdefault(person[stay], set()).add(split)
    assert len(splits) == 1841
    assert {len(found) for found in splits.values()} == {1}


def test_demo_of_the_published_pipeline(demo):
    """Hospital stays of two unit stays or more with both kinds, nobody over 89, GTC numbers."""
    made = cohort_of(demo, preset="dkinet")
    gtc: dict[str, set[str]] = {}
    for row in table(demo, "medication"):
        if row["gtc"] not in ("", "0"):
            gtc.setdefault(row["patientunitstayid"], set()).add(row["gtc"])
    cells: dict[str, set[str]] = {}
    for row in table(demo, "diagnosis"):
        if row["icd9code"]:
            cells.setdefault(row["patientunitstayid"], set()).add(row["icd9code"])
    units = [r for r in units_in_order(demo) if r["age"] != "> 89"]
    units = [r for r in units if r["patientunitstayid"] in gtc.keys() & cells.keys()]
    sizes = Counter(r["patienthealthsystemstayid"] for r in units)
    units = [r for r in units if sizes[r["patienthealthsystemstayid"]] >= 2]
    keys = [r["patientunitstayid"] for r in units]
    assert codes_of(made, "medications") == [sorted(gtc[key]) for key in keys]
    assert codes_of(made, "diagnoses") == [sorted(cells[key]) for key in keys]
