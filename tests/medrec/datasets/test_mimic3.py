from collections import Counter
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pytest

from medrec.cohort import KINDS, Cohort
from medrec.datasets import mimic3
from medrec.datasets._base import prepare
from medrec.datasets.mimic3 import Mimic3Options
from medrec.demographics import group_of
from medrec.errors import CohortError, InputError
from medrec.knowledge.ndc import load_mapping
from tests.medrec.datasets.mimic3_files import (
    TABLES,
    codes_of,
    named,
    rows_of,
    shared_tables_read_once,
    write_source,
)
from tests.medrec.datasets.mimic4_files import reverse_rows, write_csv
from tests.shared_data import shared_data

READ = ("PATIENTS", "ADMISSIONS", "DIAGNOSES_ICD", "PROCEDURES_ICD", "PRESCRIPTIONS")


@pytest.fixture(scope="module", autouse=True)
def _shared_tables_read_once():
    with shared_tables_read_once():
        yield


def cohort_of(source: Path, **options) -> Cohort:
    return prepare("mimic3", source, Mimic3Options(**options))


def small(source: Path, **options) -> Cohort:
    return cohort_of(source, fractions=(0.34, 0.33, 0.33), **options)


# ---- the hand-made folder: patient 10 (visit 101), patient 20 (visits 202, 201), patient 30 (301)


def test_worked_example(tmp_path):
    cohort = small(write_source(tmp_path))
    assert cohort.visits.tolist() == [1, 2, 1]
    assert codes_of(cohort, "diagnoses") == [
        ["9:V5861"],
        ["9:4280"],
        ["9:0389", "9:4280"],
        ["9:E8788"],
    ]
    assert codes_of(cohort, "procedures") == [["9:9604"], [], ["9:0331"], []]
    assert codes_of(cohort, "medications") == [
        ["A10A"],
        ["A10A"],
        ["A10A", "B01A", "C03A", "C03C"],  # aspirin and warfarin are both B01A
        ["C03A"],
    ]
    # 300 years; the eve of the 61st birthday; two days after the 62nd's eve; the birthday itself
    assert cohort.age.tolist() == [90, 60, 62, 40]
    assert named(cohort.service, cohort.services) == ["MED", "CMED", "MED", "MED"]
    assert named(cohort.gender, cohort.genders) == ["M", "F", "F"]
    assert named(cohort.group, cohort.groups) == ["asian", "white", "unknown"]
    days = (datetime(2152, 3, 2, 12) - datetime(2151, 3, 1, 23, 59)).total_seconds() / 86_400
    np.testing.assert_allclose(cohort.admitted, [0, 0, days, 0], rtol=1e-6)


def test_counts_of_the_worked_example(tmp_path):
    records = mimic3.load(write_source(tmp_path), Mimic3Options())
    assert set(records.dropped.values()) == {0}
    assert records.mapped == {
        "services rows": 5,
        "admissions without a service": 0,
        "diagnoses rows of ICD-9": 5,
        "diagnoses rows without a code": 1,
        "procedures rows of ICD-9": 2,
        "prescriptions rows": 9,
        "prescriptions rows classified by NDC": 5,
        "prescriptions rows classified by the drug's name": 2,
        "prescriptions rows classified by the table of overrides": 1,
        "prescriptions rows of diluents and supplies, left out": 1,
    }


@pytest.mark.parametrize("form", ["lower", "packed", "lower headings", "backwards", "mixed"])
def test_names_headings_and_compression_change_nothing(tmp_path, form):
    plain = small(write_source(tmp_path / "plain"))
    folder = tmp_path / "other"
    for name, text in TABLES.items():
        header, _, rows = text.partition("\n")
        if name in ("ndc_rxcui", "rxcui_atc"):
            write_csv(folder / "knowledge" / f"{name}.csv", text)
        elif form == "lower headings":
            write_csv(folder / f"{name}.csv", f"{header.lower()}\n{rows}")
        elif form == "backwards":
            write_csv(folder / f"{name}.csv", reverse_rows(text))
        elif form == "mixed":
            write_csv(folder / f"{name.title()}.CSV", f"{header.title()}\r\n{rows}")
        elif form == "lower":
            write_csv(folder / f"{name.lower()}.csv", text)
        else:
            write_csv(folder / f"{name}.csv", text, packed=True)
    assert small(folder).fingerprint == plain.fingerprint


def test_leap_days(tmp_path):
    """Born on 29 February: a year older on 1 March of a year that has no such day."""
    patients = TABLES["PATIENTS"].replace("2090-03-02", "2096-02-29")
    stays = TABLES["ADMISSIONS"].replace("2152-03-02 12:00", "2153-02-28 12:00")
    stays = stays.replace("2151-03-01 23:59", "2151-03-01 00:00")
    source = write_source(tmp_path, PATIENTS=patients, ADMISSIONS=stays)
    assert small(source).age.tolist()[1:3] == [55, 56]


@pytest.mark.parametrize(("born", "age"), [("2060-06-01", 90), ("2070-06-01", 90)])
def test_ages_over_89_count_as_90(tmp_path, born, age):
    """101 is in 2160: 100, and exactly 90; a day later and it is 89."""
    patients = TABLES["PATIENTS"].replace("1860-01-01", born)
    assert small(write_source(tmp_path, PATIENTS=patients)).age[0] == age
    patients = TABLES["PATIENTS"].replace("1860-01-01", "2070-06-02")
    assert small(write_source(tmp_path / "later", PATIENTS=patients)).age[0] == 89


@pytest.mark.parametrize("born", ["2020-06-01", "1900-06-01", "1800-06-01"])
def test_ages_that_no_shift_explains_are_unknown(tmp_path, born):
    """140, 260 and 360 years; 300 is what hides the age of those over 89."""
    patients = TABLES["PATIENTS"].replace("1860-01-01", born)
    cohort = small(write_source(tmp_path, PATIENTS=patients))
    assert cohort.age[0] == -1
    assert cohort.provenance.dropped["ages below 0 or above 120 years, taken as unknown"] == 1


def test_a_newborn_is_zero_and_nobody_is_born_later(tmp_path):
    patients = TABLES["PATIENTS"].replace("1860-01-01", "2160-06-01")
    assert small(write_source(tmp_path / "born", PATIENTS=patients)).age[0] == 0
    patients = TABLES["PATIENTS"].replace("1860-01-01", "2161-06-02")
    later = small(write_source(tmp_path / "later", PATIENTS=patients))
    assert later.age[0] == -1
    assert later.provenance.dropped["ages below 0 or above 120 years, taken as unknown"] == 1


def drugs_in(source: Path, window: str, **options) -> dict[int, set[str]]:
    records = mimic3.load(source, Mimic3Options(medication_window=window, **options))
    given: dict[int, set[str]] = {}
    for visit, code in records.codes["medications"].itertuples(index=False):
        given.setdefault(visit, set()).add(code)
    return given


def test_windows(tmp_path):
    """First dates are those of each ICU stay: 3 March in 7, 5 March in 8, 2 March on the ward."""
    source = write_source(tmp_path)
    others = {202: {"A10A"}, 101: {"A10A"}, 301: {"C03A"}}
    assert drugs_in(source, "first_date") == {201: {"C03A", "A10A", "B01A"}, **others}
    # 201 was admitted at 12:00 on 2 March; a date stands for its midnight
    assert drugs_in(source, "first_24_hours") == {201: {"C03A", "B01A"}, **others}
    assert drugs_in(source, "stay")[201] == {"A10A", "B01A", "C03A", "C03C"}
    mapped = mimic3.load(source, Mimic3Options(medication_window="first_date"))
    assert mapped.dropped["prescriptions rows out of the window"] == 2
    assert mapped.mapped["prescriptions rows"] == 7


def test_rows_without_a_date_are_in_no_first_date(tmp_path):
    text = TABLES["PRESCRIPTIONS"].replace(",8,2152-03-05 00:00:00", ",8,")
    source = write_source(tmp_path, PRESCRIPTIONS=text)
    assert drugs_in(source, "first_date")[201] == {"C03A", "B01A"}
    assert drugs_in(source, "stay")[201] == {"A10A", "B01A", "C03A", "C03C"}


@pytest.mark.parametrize(
    ("table", "old", "new", "message"),
    [
        ("PATIENTS", "2110-05-05 00", "1.1.2110 00", r"PATIENTS\.csv, line 4: `DOB` must be a da"),
        ("PATIENTS", "2,10,M", "2,20,M", r"line 3: `SUBJECT_ID` must differ"),
        ("ADMISSIONS", "20,202", "20,201", r"line 3: `HADM_ID` must differ"),
        ("ADMISSIONS", "ETHNICITY", "RACE", "column `ethnicity`"),
        ("PRESCRIPTIONS", "20,202,", "20,2x2,", r"line 7: `HADM_ID` must be a number.*'2x2'"),
        ("DIAGNOSES_ICD", "ICD9_CODE", "ICD_CODE", "column `icd9_code`"),
        ("SERVICES", "2152-03-04", "2152-3-4", r"line 2: `TRANSFERTIME` must be a date"),
    ],
)
def test_a_wrong_cell_is_named(tmp_path, table, old, new, message):
    source = write_source(tmp_path, **{table: TABLES[table].replace(old, new)})
    with pytest.raises(InputError, match=message):
        small(source)


@pytest.mark.parametrize("name", READ)
def test_a_missing_table_is_named(tmp_path, name):
    (write_source(tmp_path) / f"{name}.csv").unlink()
    with pytest.raises(InputError, match=rf"must hold {name.lower()}\.csv"):
        small(tmp_path)


def test_a_service(tmp_path):
    records = mimic3.load(write_source(tmp_path), Mimic3Options(service=("CSURG", "CMED")))
    assert records.visits["visit"].tolist() == [202, 201]
    assert records.dropped["admissions of other services"] == 2


def test_admissions_of_nobody_leave_no_visit(tmp_path):
    source = write_source(
        tmp_path, PATIENTS=TABLES["PATIENTS"].splitlines()[0] + "\n1,77,F,2090-01-01,\n"
    )
    with pytest.raises(CohortError, match="No visit is left"):
        small(source)


# ---- the open demo


@pytest.fixture(scope="module")
def demo() -> Path:
    shared_data("knowledge", "nc", "drug", "rxcui_atc4_2020.csv.gz")
    return shared_data("mimic-iii-demo")


@pytest.fixture(scope="module")
def cohort(demo) -> Cohort:
    return cohort_of(demo)


def table(demo: Path, name: str) -> list[dict[str, str]]:
    return rows_of(demo / f"{name}.csv")


def visits_in_order(demo: Path, *kinds: str) -> list[str]:
    having = [{row["hadm_id"] for row in table(demo, kind)} for kind in kinds]
    rows = [row for row in table(demo, "ADMISSIONS") if all(row["hadm_id"] in h for h in having)]
    rows.sort(key=lambda r: (int(r["subject_id"]), r["admittime"], int(r["hadm_id"])))
    return [row["hadm_id"] for row in rows]


def test_demo_visits(demo, cohort):
    assert (int(cohort.visits.sum()), cohort.patients, int((cohort.visits >= 2).sum())) == (
        *(122, 94),
        13,
    )
    whole = cohort_of(demo, require=KINDS)
    assert (int(whole.visits.sum()), whole.patients, int((whole.visits >= 2).sum())) == (
        *(107, 82),
        11,
    )


def test_demo_rows_and_mapping(demo):
    records = mimic3.load(demo, Mimic3Options())
    assert (len(records.visits), len(records.patients)) == (129, 100)
    assert set(records.dropped.values()) == {0}
    mapped = records.mapped
    assert mapped["diagnoses rows of ICD-9"] == len(table(demo, "DIAGNOSES_ICD")) == 1761
    assert mapped["procedures rows of ICD-9"] == len(table(demo, "PROCEDURES_ICD")) == 506
    assert mapped["prescriptions rows"] == len(table(demo, "PRESCRIPTIONS")) == 10_398
    parts = Counter({what: n for what, n in mapped.items() if "prescriptions rows " in what})
    assert parts.total() == 10_398
    published = mimic3.load(demo, Mimic3Options(drug_names=False)).mapped
    by_package = published["prescriptions rows classified by NDC"]
    assert by_package / 10_398 == pytest.approx(0.695, abs=2e-3)
    # by a plain loop overrides decide 2,148 of these, and leave out 1,511 (and 1,364 without NDC)
    by_ndc = by_package - 2_148 - 1_511
    assert mapped["prescriptions rows classified by NDC"] == by_ndc == 3_579
    assert mapped["prescriptions rows classified by the table of overrides"] == 2_148 + 1_037
    assert mapped["prescriptions rows of diluents and supplies, left out"] == 1_511 + 1_364
    assert mapped["prescriptions rows not classified"] / 10_398 < 0.01


@pytest.mark.parametrize("kind", ["diagnoses", "procedures"])
def test_demo_codes_equal_a_plain_loop(demo, cohort, kind):
    wanted: dict[str, set[str]] = {}
    for row in table(demo, f"{kind.upper()}_ICD"):
        wanted.setdefault(row["hadm_id"], set()).add("9:" + row["icd9_code"])
    expected = [
        sorted(wanted.get(hadm, ()))
        for hadm in visits_in_order(demo, "DIAGNOSES_ICD", "PRESCRIPTIONS")
    ]
    assert codes_of(cohort, kind) == expected
    assert len(cohort.vocabulary[kind]) == len({code for codes in expected for code in codes})


def test_demo_medications_by_package_equal_a_plain_loop(demo):
    mapping = load_mapping([shared_data("knowledge")], rule="listed")
    given: dict[str, set[str]] = {}
    for row in table(demo, "PRESCRIPTIONS"):
        rxcui = mapping.rxcui.get(row["ndc"].zfill(11), "")
        given.setdefault(row["hadm_id"], set()).update(mapping.classes.get(rxcui, ()))
    order = [hadm for hadm in visits_in_order(demo, "DIAGNOSES_ICD") if given.get(hadm)]
    assert len(order) == 122
    made = cohort_of(demo, drug_names=False, atc_rule="listed")
    assert codes_of(made, "medications") == [sorted(given[hadm]) for hadm in order]


def test_demo_demographics_equal_a_plain_loop(demo, cohort):
    stays = {r["hadm_id"]: r for r in table(demo, "ADMISSIONS")}
    people = {r["subject_id"]: r for r in table(demo, "PATIENTS")}
    first: dict[str, tuple[str, str]] = {}
    for row in table(demo, "SERVICES"):
        entry = (row["transfertime"], row["curr_service"])
        first[row["hadm_id"]] = min(first.get(row["hadm_id"], entry), entry)
    order = visits_in_order(demo, "DIAGNOSES_ICD", "PRESCRIPTIONS")
    ages = []
    for hadm in order:
        born = date.fromisoformat(people[stays[hadm]["subject_id"]]["dob"][:10])
        day = date.fromisoformat(stays[hadm]["admittime"][:10])
        age = day.year - born.year - ((day.month, day.day) < (born.month, born.day))
        ages.append(min(age, 90))
    assert cohort.age.tolist() == ages
    assert max(ages) == 90
    assert named(cohort.service, cohort.services) == [first[hadm][1] for hadm in order]
    subjects = list(dict.fromkeys(stays[hadm]["subject_id"] for hadm in order))
    assert named(cohort.gender, cohort.genders) == [people[s]["gender"] for s in subjects]
    own = {s: [r for r in stays.values() if r["subject_id"] == s] for s in subjects}
    races = [min(own[s], key=lambda r: r["admittime"])["ethnicity"] for s in subjects]
    assert named(cohort.group, cohort.groups) == [group_of(race) for race in races]


def test_demo_first_dates_equal_a_plain_loop(demo):
    first: dict[tuple[str, str], str] = {}
    rows = table(demo, "PRESCRIPTIONS")
    for row in rows:
        stay = (row["hadm_id"], row["icustay_id"])
        if row["startdate"]:
            first[stay] = min(first.get(stay, "9"), row["startdate"])
    inside = sum(
        bool(r["startdate"]) and r["startdate"] == first[r["hadm_id"], r["icustay_id"]]
        for r in rows
    )
    records = mimic3.load(demo, Mimic3Options(medication_window="first_date"))
    assert records.mapped["prescriptions rows"] == inside < len(rows)


def test_demo_with_upper_case_headings_and_compressed_is_the_same(demo, cohort, tmp_path):
    for name in (*READ, "SERVICES"):
        header, _, rows = (demo / f"{name}.csv").read_text().partition("\n")
        write_csv(tmp_path / f"{name.lower()}.csv", f"{header.upper()}\n{rows}", packed=True)
    other = cohort_of(tmp_path, knowledge=str(shared_data("knowledge")))
    assert other.fingerprint == cohort.fingerprint
