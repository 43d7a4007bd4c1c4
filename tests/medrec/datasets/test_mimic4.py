import csv
import gzip
import json
import re
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from medrec.cohort import KINDS, Cohort
from medrec.datasets import mimic4
from medrec.datasets._base import prepare
from medrec.datasets.mimic4 import Mimic4Options, group_of
from medrec.errors import CohortError, InputError, KnowledgeError
from tests.medrec.datasets.mimic4_files import TABLES, reverse_rows, write_csv, write_source
from tests.shared_data import shared_data


def cohort_of(source: Path, **options) -> Cohort:
    return prepare("mimic4", source, Mimic4Options(**options))


def codes_of(cohort: Cohort, kind) -> list[list[str]]:
    codes, names = cohort.codes[kind], cohort.vocabulary[kind]
    ends = zip(codes.offsets[:-1], codes.offsets[1:], strict=True)
    return [[names[i] for i in codes.values[a:b]] for a, b in ends]


# ---- the hand-made folder: patient 10 (visit 101), patient 20 (visits 202, 201), patient 30 (301)


def small(source: Path, **options) -> Cohort:
    return cohort_of(source, fractions=(0.34, 0.33, 0.33), **options)


@pytest.mark.parametrize(("inner", "packed"), [("hosp", False), ("hosp", True), (".", False)])
def test_worked_example(tmp_path, inner, packed):
    cohort = small(write_source(tmp_path, inner, packed))
    assert cohort.visits.tolist() == [1, 2, 1]
    assert codes_of(cohort, "diagnoses") == [
        ["10:0389"],
        ["9:V707"],
        ["10:I5023", "9:0389"],
        ["9:V707"],
    ]
    assert codes_of(cohort, "procedures") == [[], [], ["10:0DTJ4ZZ"], []]
    assert codes_of(cohort, "medications") == [["C03A"], ["A10A"], ["A10A", "C03A"], ["A10A"]]
    assert cohort.vocabulary["diagnoses"] == ("10:0389", "10:I5023", "9:0389", "9:V707")
    # 2151-03-02 00:00 to 2152-03-02 12:00 crosses 29 February 2152
    np.testing.assert_array_equal(cohort.admitted, np.float32([0, 0, 366.5, 0]))
    # 89 at 2160, admitted first in 2159; 60 at 2150, admitted first in 2151
    assert cohort.age.tolist() == [88, 61, 40]
    assert [cohort.genders[i] for i in cohort.gender] == ["M", "F", "F"]
    assert [cohort.groups[i] for i in cohort.group] == ["black", "white", "unknown"]


def test_counts_of_the_worked_example(tmp_path):
    records = mimic4.load(write_source(tmp_path), Mimic4Options())
    assert records.dropped == {
        "admissions of unknown patients": 1,
        "diagnoses_icd rows of unknown admissions": 2,
        "diagnoses_icd rows without a code": 1,
        "procedures_icd rows of unknown admissions": 0,
        "procedures_icd rows without a code": 0,
        "prescriptions rows of unknown admissions": 1,
        "patients without admissions": 1,
    }
    assert records.mapped == {
        "prescriptions rows": 12,
        "prescriptions rows with an NDC": 8,  # not 2222222222-2, 022222222222, 0 or an empty cell
        "prescriptions rows whose NDC has an RXCUI": 7,
        "prescriptions rows whose RXCUI has an ATC class": 6,
        "distinct ATC classes": 2,
    }
    files = [f"{name}.csv" for name in TABLES]
    assert sorted(records.inputs) == sorted(files)


def test_all_classes_of_a_drug(tmp_path):
    cohort = small(write_source(tmp_path), atc_rule="all")
    assert codes_of(cohort, "medications") == [
        ["C03A", "N02B"],
        ["A10A"],
        ["A10A", "C03A", "N02B"],
        ["A10A"],
    ]


def test_row_order_does_not_matter(tmp_path):
    turned = {name: reverse_rows(text) for name, text in TABLES.items()}
    one = small(write_source(tmp_path / "a"))
    other = small(write_source(tmp_path / "b", **turned))
    assert one.fingerprint == other.fingerprint


def test_hadm_id_order_is_available(tmp_path):
    cohort = small(write_source(tmp_path), visit_order="hadm_id")
    np.testing.assert_array_equal(cohort.admitted, np.float32([0, 366.5, 0, 0]))


def test_ethnicity_stands_for_race_in_early_versions(tmp_path):
    early = TABLES["admissions"].replace("race", "ethnicity").upper()
    cohort = small(write_source(tmp_path, admissions=early))
    assert [cohort.groups[i] for i in cohort.group] == ["black", "white", "unknown"]


def test_an_unknown_age_is_minus_one_and_none_is_negative(tmp_path):
    patients = TABLES["patients"].replace("F,60,2150", "F,,2150").replace("89,2160", "5,2170")
    assert small(write_source(tmp_path, patients=patients)).age.tolist() == [0, -1, 40]


def test_latin_1_text_does_not_stop_it(tmp_path):
    source = write_source(tmp_path)
    path = source / "hosp" / "prescriptions.csv"
    path.write_bytes(path.read_bytes().replace(b",a,", b",\xb5g,"))
    path = source / "hosp" / "admissions.csv"
    path.write_bytes(path.read_bytes().replace(b",OTHER", b",OTR\xc9"))
    assert small(source).patients == 3


@pytest.mark.parametrize(
    ("race", "group"),
    [
        ("WHITE", "white"),
        ("PORTUGUESE", "white"),
        ("BLACK/AFRICAN AMERICAN", "black"),
        ("ASIAN - CHINESE", "asian"),
        ("HISPANIC OR LATINO", "hispanic"),
        ("SOUTH AMERICAN", "hispanic"),
        ("NATIVE HAWAIIAN OR OTHER PACIFIC ISLANDER", "other"),
        ("OTHER", "other"),
        ("UNABLE TO OBTAIN", "unknown"),
        ("", "unknown"),
    ],
)
def test_groups(race, group):
    assert group_of(race) == group


@pytest.mark.parametrize(
    ("table", "old", "new", "message"),
    [
        ("admissions", "2152-03-02 12:00:00", "02/03/2152", r"line 2: `admittime` .*'02/03/2152'"),
        ("admissions", "2152-03-02 12", "2152-02-30 12", r"line 2: `admittime` .*2152-02-30"),
        ("admissions", "2152-03-02 12:00:00", "", r"line 2: `admittime` .* ''"),
        ("admissions", "20,202", "20,201", r"admissions\.csv, line 3: `hadm_id` must differ"),
        ("admissions", "20,202", "20,", r"line 3: `hadm_id` must be a number"),
        ("admissions", "admittime", "intime", r"column `admittime`.*'intime'"),
        ("diagnoses_icd", "I5023,10", "I5023,11", r"line 3: `icd_version` must be 9 or 10.*'11'"),
        ("diagnoses_icd", "20,202,1,V707 ,9", "20,202,1", r"diagnoses_icd\.csv, line 5: .* has 3"),
        ("patients", "10,M", "20,M", r"patients\.csv, line 3: `subject_id` must differ"),
        ("patients", "M,89", "M,old", r"line 3: `anchor_age` must be years"),
        ("prescriptions", ",", ";", r"prescriptions\.csv .* seems to have ';'"),
        ("prescriptions", "10,101,f", "10,x1,f", r"line 9: `hadm_id` must be a number.*'x1'"),
    ],
)
def test_a_wrong_cell_is_named(tmp_path, table, old, new, message):
    source = write_source(tmp_path, **{table: TABLES[table].replace(old, new)})
    with pytest.raises(InputError, match=message):
        small(source)


@pytest.mark.parametrize("name", sorted(mimic4._COLUMNS))
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
    with pytest.raises(KnowledgeError, match=r"no NDC could be mapped.*ndc_rxcui\.csv"):
        small(source)


def test_nothing_left_is_an_error(tmp_path):
    with pytest.raises(CohortError, match="No visit is left"):
        small(write_source(tmp_path), min_visits=3)


# ---- the open demo


@pytest.fixture(scope="module")
def demo() -> Path:
    shared_data("knowledge", "nc", "drug", "rxcui_atc4_2020.csv.gz")
    return shared_data("mimic-iv-demo")


@pytest.fixture(scope="module")
def cohort(demo) -> Cohort:
    return cohort_of(demo)


def rows_of(demo: Path, name: str) -> list[dict[str, str]]:
    with gzip.open(demo / "hosp" / f"{name}.csv.gz", "rt", newline="") as stream:
        return list(csv.DictReader(stream))


def test_demo_rows_and_mapping(demo):
    records = mimic4.load(demo, Mimic4Options())
    assert (len(records.visits), len(records.patients)) == (275, 100)
    assert set(records.dropped.values()) == {0}
    visits = {kind: rows["visit"].nunique() for kind, rows in records.codes.items()}
    assert visits == {
        "diagnoses": len({r["hadm_id"] for r in rows_of(demo, "diagnoses_icd")}),
        "procedures": len({r["hadm_id"] for r in rows_of(demo, "procedures_icd")}),
        "medications": 250,
    }
    # independently: 18,087 rows, 2,631 of them '0' or empty; 70.1 % reach a class
    assert records.mapped["prescriptions rows"] == 18_087
    assert records.mapped["prescriptions rows with an NDC"] == 18_087 - 2_631
    assert records.mapped["prescriptions rows whose RXCUI has an ATC class"] == 12_684


def test_demo_visits_with_all_kinds(demo):
    cohort = cohort_of(demo, require=KINDS)
    assert (cohort.patients, int(cohort.visits.sum())) == (92, 186)
    assert int((cohort.visits >= 2).sum()) == 38


def test_demo_codes_equal_a_plain_loop(demo, cohort):
    wanted = {}
    for row in rows_of(demo, "diagnoses_icd"):
        wanted.setdefault(row["hadm_id"], set()).add(f"{row['icd_version']}:{row['icd_code']}")
    medicated = {r["hadm_id"] for r in rows_of(demo, "prescriptions")}
    times = {r["hadm_id"]: r for r in rows_of(demo, "admissions")}
    order = sorted(
        (hadm for hadm in wanted if hadm in medicated),
        key=lambda h: (int(times[h]["subject_id"]), times[h]["admittime"], int(h)),
    )
    assert codes_of(cohort, "diagnoses") == [sorted(wanted[hadm]) for hadm in order]
    for patient in range(cohort.patients):
        rows = cohort.visits_of(np.array([patient]))
        moments = [datetime.fromisoformat(times[order[row]]["admittime"]) for row in rows]
        days = [(moment - moments[0]).total_seconds() / 86400 for moment in moments]
        np.testing.assert_allclose(cohort.admitted[rows], days, atol=1e-3)
        assert days == sorted(days)


def test_demo_ages_and_groups_are_plausible(cohort):
    assert cohort.age.min() >= 18
    assert cohort.age.max() <= 100
    assert set(cohort.groups) == {"white", "black", "hispanic", "other", "unknown"}
    assert np.bincount(cohort.group).argmax() == cohort.groups.index("white")


def test_demo_backwards_gives_the_same_cohort(demo, cohort, tmp_path):
    for name in mimic4._COLUMNS:
        with gzip.open(demo / "hosp" / f"{name}.csv.gz", "rt") as stream:
            write_csv(tmp_path / "hosp" / f"{name}.csv", reverse_rows(stream.read()))
    drug = demo.parent / "knowledge" / "nc" / "drug"
    tables = {
        "ndc_rxcui": str(drug / "ndc_rxcui_2020.csv.gz"),
        "rxcui_atc": str(drug / "rxcui_atc4_2020.csv.gz"),
    }
    turned, straight = cohort_of(tmp_path, **tables), cohort_of(demo, **tables)
    assert turned.fingerprint == straight.fingerprint
    assert straight.fingerprint != cohort.fingerprint  # one NDC table fewer


def test_demo_leaves_no_identifier_in_the_saved_cohort(demo, cohort, tmp_path):
    cohort.save(tmp_path)
    admissions = rows_of(demo, "admissions")
    keys = {int(row[name]) for row in admissions for name in ("subject_id", "hadm_id")}
    assert len(keys) == 375
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


def test_a_repeated_identifier_is_not_printed(tmp_path):
    doubled = TABLES["admissions"].replace("20,202", "20,201")
    with pytest.raises(InputError) as refused:
        mimic4.load(write_source(tmp_path, admissions=doubled), Mimic4Options())
    assert "201" not in str(refused.value).split("line 3")[1]
