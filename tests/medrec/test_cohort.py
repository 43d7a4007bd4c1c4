"""The cohort on disk: round trip, mapping, fingerprint, and every kind of damage."""

import json
import os
import subprocess
import sys
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from medrec import splits
from medrec.cohort import KINDS, Cohort, describe
from medrec.errors import CohortError
from tests.medrec.small import VISITS, lists_of, small_cohort, to_codes

ROOT = Path(__file__).resolve().parents[2]
ARRAYS = ("visits", "split", "gender", "group", "admitted", "age", "service")


@pytest.fixture
def folder(tmp_path):
    small_cohort().save(tmp_path / "cohort")
    return tmp_path / "cohort"


def test_round_trip(folder):
    cohort, opened = small_cohort(), Cohort.open(folder)
    for name in ARRAYS:
        one, two = getattr(cohort, name), getattr(opened, name)
        assert one.dtype == two.dtype
        assert np.array_equal(one, two)
    for kind in KINDS:
        assert lists_of(opened, kind) == lists_of(cohort, kind)
    for name in ("vocabulary", "genders", "groups", "services", "provenance", "fingerprint"):
        assert getattr(opened, name) == getattr(cohort, name)


def test_saving_an_opened_cohort_gives_the_same_files(folder, tmp_path):
    Cohort.open(folder).save(tmp_path / "again")
    for path in folder.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_arrays_are_mapped_not_copied(folder):
    before = pa.total_allocated_bytes()
    opened = Cohort.open(folder)
    assert pa.total_allocated_bytes() == before
    arrays = [getattr(opened, name) for name in ARRAYS]
    arrays += [
        a for kind in KINDS for a in (opened.codes[kind].offsets, opened.codes[kind].values)
    ]
    for array in arrays:
        assert not array.flags.owndata
        assert not array.flags.writeable


def changed_cohorts():
    cohort = small_cohort()
    for name in ("split", "gender", "group", "admitted", "age", "service"):
        array = getattr(cohort, name).copy()
        array[5] += 1
        yield name, replace(cohort, **{name: array})
    visits = cohort.visits.copy()
    visits[[0, 1]] = visits[[1, 0]]
    yield "visits", replace(cohort, visits=visits)
    for kind in KINDS:
        lists = lists_of(cohort, kind)
        moved = [lists[1], lists[0], *lists[2:]]
        assert moved != lists
        yield f"{kind} moved", replace(cohort, codes={**cohort.codes, kind: to_codes(moved)})
        names = (*cohort.vocabulary[kind][:-1], "Z99Z")
        yield f"{kind} renamed", replace(cohort, vocabulary={**cohort.vocabulary, kind: names})
    yield "genders", replace(cohort, genders=("F", "X"))
    yield "groups", replace(cohort, groups=("other",))
    yield "services", replace(cohort, services=("MED", "PSYCH"))


def test_any_change_changes_the_fingerprint():
    found = {name: cohort.fingerprint for name, cohort in changed_cohorts()}
    assert len({small_cohort().fingerprint, *found.values()}) == len(found) + 1


def test_where_it_comes_from_does_not_change_the_fingerprint():
    cohort = small_cohort()
    other = replace(cohort, provenance=replace(cohort.provenance, dataset="other"))
    assert other.fingerprint == cohort.fingerprint


def test_the_fingerprint_is_the_same_in_another_process():
    code = "from tests.medrec.small import small_cohort; print(small_cohort().fingerprint)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "99"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == small_cohort().fingerprint


@pytest.mark.parametrize(
    "name", ["cohort.json", "vocabulary.json", "patients.arrow", "visits.arrow"]
)
def test_a_missing_file(folder, name):
    (folder / name).unlink()
    with pytest.raises(CohortError, match=f"has no {name}.*medsweep data prepare"):
        Cohort.open(folder)


def test_a_missing_folder(tmp_path):
    with pytest.raises(CohortError, match=r"nowhere is no cohort.*medsweep data prepare"):
        Cohort.open(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["patients.arrow", "visits.arrow"])
@pytest.mark.parametrize("keep", [0, 5, 200, -10])
def test_a_truncated_table(folder, name, keep):
    path = folder / name
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CohortError, match=rf"{name}.*Prepare"):
        Cohort.open(folder)


@pytest.mark.parametrize("name", ["cohort.json", "vocabulary.json"])
@pytest.mark.parametrize("text", ["", "{", "[1, 2]", '"text"', "null", "\x00"])
def test_json_that_is_none(folder, name, text):
    (folder / name).write_text(text)
    with pytest.raises(CohortError, match=rf"{name}.*[Pp]repare"):
        Cohort.open(folder)


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_another_schema(folder):
    edit(folder / "cohort.json", lambda content: content.update(schema=99))
    with pytest.raises(CohortError, match=r"cohort\.json has schema 99.*Prepare the cohort again"):
        Cohort.open(folder)
    with pytest.raises(CohortError, match="schema 99"):
        describe(folder)


@pytest.mark.parametrize(
    "name", ["fingerprint", "genders", "groups", "services", "options", "inputs", "unmapped"]
)
def test_a_missing_field(folder, name):
    edit(folder / "cohort.json", lambda content: content.pop(name))
    with pytest.raises(CohortError, match=rf"{name}.*Prepare the cohort again"):
        Cohort.open(folder)


def test_a_missing_vocabulary(folder):
    edit(folder / "vocabulary.json", lambda content: content.pop("procedures"))
    with pytest.raises(CohortError, match=r"procedures.*Prepare the cohort again"):
        Cohort.open(folder)


def test_an_edited_vocabulary(folder):
    edit(folder / "vocabulary.json", lambda c: c["medications"].reverse())
    with pytest.raises(CohortError, match=r"A file was changed; prepare it again"):
        Cohort.open(folder)


def test_a_code_out_of_the_vocabulary(folder):
    edit(folder / "vocabulary.json", lambda c: c["diagnoses"].pop())
    lists = lists_of(small_cohort(), "diagnoses")
    row = next(row for row, codes in enumerate(lists) if 11 in codes)
    with pytest.raises(
        CohortError, match=rf"visits\.arrow, row {row}, diagnoses: code 11 .* of 11 codes"
    ):
        Cohort.open(folder)


def test_tables_of_two_cohorts(folder, tmp_path):
    cohort = small_cohort()
    visits = cohort.visits.copy()
    visits[0] += 1
    replace(cohort, visits=visits).save(tmp_path / "other")
    (folder / "patients.arrow").write_bytes((tmp_path / "other" / "patients.arrow").read_bytes())
    with pytest.raises(CohortError, match=r"counts 64 visits, visits\.arrow has 63"):
        Cohort.open(folder)


@pytest.mark.parametrize(
    ("file", "name"), [("patients", "group"), ("visits", "age"), ("visits", "service")]
)
def test_a_missing_column(folder, file, name):
    path = folder / f"{file}.arrow"
    table = pa.ipc.open_file(path).read_all().drop_columns([name])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(CohortError, match=rf"{name}.*Prepare the cohort again"):
        Cohort.open(folder)


def test_an_interrupted_save_is_no_cohort(folder, monkeypatch):
    def fail(path, columns):
        raise OSError("disk full")

    monkeypatch.setattr("medrec.cohort.write_arrow", fail)
    with pytest.raises(OSError, match="disk full"):
        small_cohort().save(folder)
    with pytest.raises(OSError, match="disk full"):
        small_cohort().save(folder.parent / "fresh")
    monkeypatch.undo()
    assert Cohort.open(folder).fingerprint == small_cohort().fingerprint  # the one before
    with pytest.raises(CohortError, match=r"has no cohort\.json"):
        Cohort.open(folder.parent / "fresh")


def test_counts():
    cohort = small_cohort()
    counts = cohort.counts()
    assert counts["patients"] == 24
    assert counts["visits"] == VISITS.sum() == 63
    assert counts["visits_per_patient"] == 63 / 24
    assert counts["most_visits"] == 5
    assert (counts["diagnoses"], counts["procedures"], counts["medications"]) == (12, 6, 10)
    lists = lists_of(cohort, "medications")
    assert counts["medications_per_visit"] == sum(map(len, lists)) / 63
    assert [counts[f"{name}_patients"] for name in splits.NAMES] == [12, 6, 6]


def test_pages_are_saved_with_the_cohort_and_no_part_of_it(folder):
    cohort = small_cohort()
    cohort.save(folder, {"card.md": "# one\n", "card.html": "<p>two</p>"})
    assert (folder / "card.md").read_text() == "# one\n"
    assert (folder / "card.html").read_text() == "<p>two</p>"
    assert Cohort.open(folder).fingerprint == cohort.fingerprint
    cohort.save(folder)
    assert not (folder / "card.md").exists()


def test_who_has_the_older_cohort_open_keeps_reading_it(folder):
    older = Cohort.open(folder)
    newer = small_cohort(1)
    newer.save(folder)
    assert np.array_equal(
        older.codes["diagnoses"].values, small_cohort().codes["diagnoses"].values
    )
    assert Cohort.open(folder).fingerprint == newer.fingerprint


def test_visits_of_patients():
    cohort = small_cohort()
    starts = [int(VISITS[:p].sum()) for p in range(24)]
    for patients in ([0], [3, 1], [23, 0, 3], []):
        expected = [v for p in patients for v in range(starts[p], starts[p] + VISITS[p])]
        assert cohort.visits_of(np.array(patients, dtype=np.int64)).tolist() == expected


def test_a_cohort_holds_no_field_for_identifiers():
    assert {field.name for field in fields(Cohort)} == {
        *ARRAYS,
        *("vocabulary", "codes", "genders", "groups", "services", "provenance"),
    }


def test_carriers_are_patients_not_visits():
    cohort = small_cohort()
    first = cohort.offsets
    for kind in KINDS:
        lists = lists_of(cohort, kind)
        have = [
            {code for codes in lists[first[p] : first[p + 1]] for code in codes}
            for p in range(cohort.patients)
        ]
        expected = [sum(c in codes for codes in have) for c in range(len(cohort.vocabulary[kind]))]
        assert cohort.carriers(kind).tolist() == expected
    services = [set(cohort.service[a:b].tolist()) for a, b in pairwise(first.tolist())]
    assert cohort.served().tolist() == [sum(s in found for found in services) for s in (0, 1)]


@pytest.mark.parametrize("split", [None, 0, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_carriers_are_counted_once_each_in_all_or_one_split(kind, split):
    cohort = small_cohort()
    codes, expected = cohort.codes[kind], [0] * len(cohort.vocabulary[kind])
    for patient in range(cohort.patients):
        if split is None or cohort.split[patient] == split:
            first, last = codes.offsets[cohort.offsets[patient : patient + 2]]
            for code in set(codes.values[first:last].tolist()):
                expected[code] += 1
    assert cohort.carriers(kind, split).tolist() == expected
