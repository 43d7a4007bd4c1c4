"""Exports: what is in the files, read without our code; round trip; whole or absent."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path

import meds as standard
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from medrec import plugins, splits
from medrec.cohort import KINDS, Cohort
from medrec.datasets._base import prepare
from medrec.datasets.meds import MedsOptions
from medrec.datasets.synthetic import SyntheticOptions
from medrec.errors import CohortError, InputError
from medrec.exports import meds, parquet
from tests.medrec.small import lists_of, small_cohort, to_codes

ARRAYS = ("visits", "gender", "group", "admitted", "age", "service")
FORMATS = plugins.names("medrec.exports")
SPLITS = {"train": "train", "tuning": "validation", "held_out": "test"}


def odd_cohort():
    """The small cohort with all that is rare: unknown ages, versions, equal times, leap days."""
    cohort = small_cohort()
    names = list(cohort.vocabulary["diagnoses"])
    names[-3:] = ["9:E8788", "10:I5023", "4280"]
    order = np.argsort(names)
    lists = [
        sorted(int(np.flatnonzero(order == i)[0]) for i in row)
        for row in lists_of(cohort, "diagnoses")
    ]
    age, admitted = cohort.age.copy(), cohort.admitted.copy()
    age[:2], age[3], age[5] = -1, -1, 0
    age[8] = 120
    admitted[4:6] = admitted[3]  # equal times
    admitted[7] = 1 / 86400
    admitted[8] = 59.0  # 29 February 2000
    vocabulary = {**cohort.vocabulary, "diagnoses": tuple(sorted(names))}
    codes = {**cohort.codes, "diagnoses": to_codes(lists)}
    return replace(cohort, vocabulary=vocabulary, codes=codes, age=age, admitted=admitted)


def exported(tmp_path, cohort, form="meds") -> Path:
    cohort.save(tmp_path / "cohort")
    export = plugins.load("medrec.exports", form, "EXPORT")
    counts = export.write(tmp_path / "cohort", tmp_path / form)
    assert counts["patients"] == cohort.patients
    assert counts["visits"] == cohort.visits.sum()
    return tmp_path / form


def assert_equal(one: Cohort, two: Cohort) -> None:
    for name in ARRAYS:
        left, right = getattr(one, name), getattr(two, name)
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right, err_msg=name)
    assert one.vocabulary == two.vocabulary
    for kind in KINDS:
        assert lists_of(one, kind) == lists_of(two, kind)
    for name in ("genders", "groups", "services"):
        assert getattr(one, name) == getattr(two, name)


def test_a_synthetic_cohort_comes_back_with_defaults(tmp_path):
    cohort = prepare("synthetic", None, SyntheticOptions(patients=300))
    back = prepare("meds", exported(tmp_path, cohort), MedsOptions())
    assert_equal(cohort, back)
    assert not sum(back.provenance.dropped.values())
    assert not back.provenance.unmapped


@pytest.mark.parametrize("cohort", [small_cohort(), odd_cohort()], ids=["small", "odd"])
def test_a_small_cohort_comes_back(cohort, tmp_path):
    """One of its visits has no medications, which `require` would leave out."""
    assert (cohort.codes["medications"].counts == 0).sum() == 1
    assert_equal(cohort, prepare("meds", exported(tmp_path, cohort), MedsOptions(require=())))


def test_small_slices_give_the_same_tables(tmp_path, monkeypatch):
    whole = {form: exported(tmp_path / "whole", odd_cohort(), form) for form in FORMATS}
    monkeypatch.setattr(meds, "_SLICE", 7)
    monkeypatch.setattr(parquet, "_SLICE", 7)
    for form in FORMATS:
        sliced = exported(tmp_path / "sliced", odd_cohort(), form)
        paths = sorted(whole[form].rglob("*.parquet"))
        assert paths
        for path in paths:
            other = pq.read_table(sliced / path.relative_to(whole[form]))
            assert other.equals(pq.read_table(path))


def rows_of(folder: Path, split: str) -> list[dict]:
    return pq.read_table(folder / "data" / split / "0.parquet").to_pylist()


def test_the_events_are_the_cohort_row_by_row(tmp_path):
    cohort = odd_cohort()
    folder = exported(tmp_path, cohort)
    prefixes = {"9:": "ICD9CM//", "10:": "ICD10CM//"}
    for split, ours in SPLITS.items():
        found = {
            subject: [(row["time"], row["code"], row["numeric_value"]) for row in rows]
            for subject, rows in groupby(rows_of(folder, split), lambda row: row["subject_id"])
        }
        members = cohort.members(splits.NAMES.index(ours)).tolist()
        assert list(found) == members
        for patient in members:
            expected = [
                (None, f"GENDER//{cohort.genders[cohort.gender[patient]]}", None),
                (None, f"RACE_GROUP//{cohort.groups[cohort.group[patient]]}", None),
            ]
            for v in cohort.visits_of(np.array([patient])).tolist():
                days = float(cohort.admitted[v])
                time = datetime(2000, 1, 1) + timedelta(microseconds=round(days * 86400e6))
                service = cohort.services[cohort.service[v]]
                expected.append((time, f"HOSPITAL_ADMISSION//{service}", None))
                if cohort.age[v] >= 0:
                    expected.append((time, "AGE", float(cohort.age[v])))
                for i in lists_of(cohort, "diagnoses")[v]:
                    code = cohort.vocabulary["diagnoses"][i]
                    mark, _, bare = code.rpartition(":")
                    system = prefixes[f"{mark}:"] if mark else "OTHER//"
                    expected.append((time, f"DIAGNOSIS//{system}{bare}", None))
                for i in lists_of(cohort, "procedures")[v]:
                    bare = cohort.vocabulary["procedures"][i][2:]
                    expected.append((time, f"PROCEDURE//ICD9PROC//{bare}", None))
                for i in lists_of(cohort, "medications")[v]:
                    code = cohort.vocabulary["medications"][i]
                    expected.append((time, f"MEDICATION//ATC//{code}", None))
            assert [row for row in found[patient] if row[1] != "MEDS_BIRTH"] == expected


def test_births_are_as_many_years_before_the_first_known_age(tmp_path):
    cohort = odd_cohort()
    folder = exported(tmp_path, cohort)
    births = {
        row["subject_id"]: row["time"]
        for split in SPLITS
        for row in rows_of(folder, split)
        if row["code"] == "MEDS_BIRTH"
    }
    ages = {
        p: cohort.age[cohort.visits_of(np.array([p]))].tolist() for p in range(cohort.patients)
    }
    assert set(births) == {p for p, found in ages.items() if max(found) >= 0}
    assert ages[0] == [-1, -1]
    assert births[1] == datetime(2000 - ages[1][0], 1, 1)
    # Patient 3 has visits 6 to 10: the first is known, and is the origin.
    assert births[3] == datetime(2000 - ages[3][0], 1, 1)


def test_births_on_a_leap_day():
    leap = np.array(["2000-02-29T06:00", "2004-02-29", "2003-12-31"], "M8[us]").astype(np.int64)
    found = meds.years_before(leap, np.array([1, 4, 120])).astype("M8[us]")
    assert found.astype("M8[m]").astype(str).tolist() == [
        "1999-02-28T06:00", "2000-02-29T00:00", "1883-12-31T00:00",
    ]  # fmt: skip


def test_every_file_keeps_to_the_standard(tmp_path):
    cohort = odd_cohort()
    folder = exported(tmp_path, cohort)
    shards = sorted((folder / standard.data_subdirectory).rglob("*.parquet"))
    assert [path.parent.name for path in shards] == ["held_out", "train", "tuning"]
    used = set()
    for path in shards:
        table = pq.read_table(path)
        standard.DataSchema.validate(table)
        assert table.schema.field("time").type == pa.timestamp("us")
        used |= set(table["code"].to_pylist())
        keys = [(r["subject_id"], r["time"] or datetime(1, 1, 1)) for r in table.to_pylist()]
        assert keys == sorted(keys)  # subjects adjacent, each by time, without a time first
    split = pq.read_table(folder / standard.subject_splits_filepath)
    standard.SubjectSplitSchema.validate(split)
    told = {row["subject_id"]: row["split"] for row in split.to_pylist()}
    assert sorted(told) == list(range(cohort.patients))
    assert [SPLITS[told[p]] for p in range(cohort.patients)] == [
        splits.NAMES[i] for i in cohort.split
    ]
    codes = pq.read_table(folder / standard.code_metadata_filepath)
    standard.CodeMetadataSchema.validate(codes)
    named = codes["code"].to_pylist()
    assert len(named) == len(set(named))
    assert used <= set(named)
    described = json.loads((folder / standard.dataset_metadata_filepath).read_text())
    standard.DatasetMetadataSchema.validate(described)
    assert described["meds_version"] == standard.__version__
    assert described["dataset_version"] == cohort.fingerprint


def test_codes_say_what_they_are(tmp_path):
    folder = exported(tmp_path, odd_cohort())
    codes = pq.read_table(folder / standard.code_metadata_filepath).to_pylist()
    found = {row["code"]: (row["description"], row["parent_codes"]) for row in codes}
    assert found["DIAGNOSIS//ICD9CM//25000"] == (None, ["ICD9CM/250.00"])
    assert found["DIAGNOSIS//ICD9CM//E8788"] == (None, ["ICD9CM/E878.8"])
    assert found["DIAGNOSIS//ICD9CM//486"] == (None, ["ICD9CM/486"])
    assert found["DIAGNOSIS//ICD10CM//I5023"] == (None, ["ICD10CM/I50.23"])
    assert found["DIAGNOSIS//OTHER//4280"] == (None, None)
    assert found["PROCEDURE//ICD9PROC//3961"] == (None, ["ICD9Proc/39.61"])
    title, parents = found["MEDICATION//ATC//B01A"]
    assert parents == ["ATC/B01A"]
    assert title


def test_the_same_cohort_gives_the_same_bytes(tmp_path):
    for form in FORMATS:
        one = exported(tmp_path / "one", small_cohort(), form)
        two = exported(tmp_path / "two", small_cohort(), form)
        for path in (p for p in one.rglob("*") if p.is_file()):
            assert (two / path.relative_to(one)).read_bytes() == path.read_bytes()


def test_plain_tables_are_the_cohort(tmp_path):
    cohort = odd_cohort()
    folder = exported(tmp_path, cohort, "parquet")
    patients = pq.read_table(folder / "patients.parquet").to_pydict()
    assert patients == {
        "patient": list(range(cohort.patients)),
        "visits": cohort.visits.tolist(),
        "split": [splits.NAMES[i] for i in cohort.split],
        "gender": [cohort.genders[i] for i in cohort.gender],
        "group": [cohort.groups[i] for i in cohort.group],
    }
    visits = pq.read_table(folder / "visits.parquet").to_pydict()
    places = [(p, n) for p, count in enumerate(cohort.visits.tolist()) for n in range(count)]
    assert list(zip(visits["patient"], visits["visit"], strict=True)) == places
    assert visits["admitted_days"] == cohort.admitted.tolist()
    assert visits["age"] == [age if age >= 0 else None for age in cohort.age.tolist()]
    assert visits["service"] == [cohort.services[i] for i in cohort.service]
    for kind in KINDS:
        names = cohort.vocabulary[kind]
        assert visits[kind] == [[names[i] for i in row] for row in lists_of(cohort, kind)]
    vocabulary = pq.read_table(folder / "vocabulary.parquet").to_pylist()
    for kind in KINDS:
        mine = [row for row in vocabulary if row["kind"] == kind]
        assert [row["index"] for row in mine] == list(range(len(cohort.vocabulary[kind])))
        assert tuple(row["code"] for row in mine) == cohort.vocabulary[kind]
        assert all(bool(row["title"]) == (kind == "medications") for row in mine)
    described = (folder / "cohort.json").read_bytes()
    assert described == (tmp_path / "cohort/cohort.json").read_bytes()


@pytest.mark.parametrize("form", FORMATS)
def test_an_earlier_export_is_replaced(form, tmp_path):
    folder = exported(tmp_path, small_cohort(), form)
    before = {path: path.read_bytes() for path in folder.rglob("*.parquet")}
    assert exported(tmp_path, odd_cohort(), form) == folder
    changed = [path for path in before if path.read_bytes() != before[path]]
    assert changed
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["cohort", form])


@pytest.mark.parametrize("form", FORMATS)
def test_an_empty_folder_is_taken(form, tmp_path):
    (tmp_path / form).mkdir()
    assert list(exported(tmp_path, small_cohort(), form).rglob("*.parquet"))


def test_a_folder_with_something_else_is_refused(tmp_path):
    small_cohort().save(tmp_path / "cohort")
    (tmp_path / "a").mkdir()
    (tmp_path / "a/notes.txt").write_text("mine")
    theirs = exported(tmp_path / "theirs", small_cohort())
    described = theirs / "metadata/dataset.json"
    described.write_text(json.dumps({"etl_name": "a hospital's"}))
    ours = exported(tmp_path / "ours", small_cohort())
    (ours / "metadata/notes.txt").write_text("mine")
    plain = exported(tmp_path / "plain", small_cohort(), "parquet")
    for folder in (tmp_path / "a", theirs, ours, plain, tmp_path / "cohort"):
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        with pytest.raises(InputError, match="is not empty and holds no earlier export"):
            meds.write(tmp_path / "cohort", folder)
        assert before == {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(InputError, match="is not empty"):
        parquet.write(tmp_path / "cohort", tmp_path / "cohort")
    with pytest.raises(InputError, match="is a file"):
        meds.write(tmp_path / "cohort", tmp_path / "a/notes.txt")


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_is_left_after_a_failure(form, tmp_path, monkeypatch):
    folder = exported(tmp_path, small_cohort(), form)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def fail(*_arguments, **_settings):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", fail)
    with pytest.raises(OSError, match="No space left"):
        exported(tmp_path, odd_cohort(), form)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["cohort", form])


@pytest.mark.parametrize("form", FORMATS)
def test_no_cohort(form, tmp_path):
    export = plugins.load("medrec.exports", form, "EXPORT")
    with pytest.raises(CohortError, match="is no cohort"):
        export.write(tmp_path, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_service_that_would_not_come_back(tmp_path):
    cohort = replace(small_cohort(), services=("MED", "SURG//1"))
    with pytest.raises(CohortError, match=r"must not have // in its name.*'SURG//1'"):
        exported(tmp_path, cohort)
    assert not (tmp_path / "meds").exists()
