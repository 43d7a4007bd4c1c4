"""Reading MEDS: visits as spans, codes by patterns, what is dropped, and bad data of each kind."""

import shutil
from datetime import datetime, timedelta
from itertools import groupby

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet as pq
from pydantic import ValidationError

from medrec.cohort import KINDS
from medrec.datasets import _meds_events
from medrec.datasets._base import prepare
from medrec.datasets.meds import MedsOptions, interpreter, load
from medrec.errors import CohortError, InputError
from tests.medrec.datasets.meds_files import write_shard, write_small_meds, write_table
from tests.medrec.small import lists_of

START = datetime(2150, 3, 1, 8)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_small_meds(tmp_path_factory.mktemp("meds") / "small")


def at(days):
    return None if days is None else START + timedelta(days=days)


def events(subject, *rows):
    """Rows of (days or None, code[, value])."""
    return [(subject, at(days), code, *(value or [None])) for days, code, *value in rows]


FULL = (
    (0, "HOSPITAL_ADMISSION//MED"),
    (1, "DIAGNOSIS//ICD9CM//4280"),
    (1, "MEDICATION//ATC//C03C"),
)


def read(tmp_path, *rows, **options):
    """Records of one subject, 7, with these events."""
    write_shard(tmp_path, events(7, *rows))
    return load(tmp_path, MedsOptions(require=(), **options))


def pairs(records, kind):
    table = records.codes[kind]
    return sorted(zip(table["visit"].tolist(), table["code"].astype(str).tolist(), strict=True))


def plainly(folder):
    """Visits of each subject, by loops over the rows: an independent reading of `small`."""
    found = {}
    rows = []
    for path in sorted((folder / "data").rglob("*.parquet")):
        rows += pq.read_table(path).to_pylist()
    rows.sort(key=lambda row: row["subject_id"])
    for subject, mine in groupby(rows, key=lambda row: row["subject_id"]):
        person = {"visits": []}
        for row in mine:
            family, *rest = row["code"].split("//")
            if family == "GENDER":
                person["gender"] = rest[0]
            elif family == "MEDS_BIRTH":
                person["born"] = row["time"].year
            elif family == "RACE":
                person["group"] = rest[0].split("/")[0].split(" ")[0].lower()
            elif family == "HOSPITAL_ADMISSION":
                person["visits"].append({"time": row["time"], **{kind: set() for kind in KINDS}})
            elif family in ("DIAGNOSIS", "PROCEDURE"):
                kind = {"DIAGNOSIS": "diagnoses", "PROCEDURE": "procedures"}[family]
                person["visits"][-1][kind].add(f"{rest[1]}:{rest[2]}")
            elif family == "MEDICATION" and rest[0] == "ATC":
                person["visits"][-1]["medications"].add(rest[1][:4])
        found[subject] = person
    return found


def test_the_cohort_is_what_a_plain_reading_finds(small):
    cohort = prepare("meds", small, MedsOptions())
    people = [plainly(small)[subject] for subject in sorted(plainly(small))]
    visits = [visit for person in people for visit in person["visits"]]
    assert cohort.visits.tolist() == [len(person["visits"]) for person in people]
    assert [cohort.genders[i] for i in cohort.gender] == [p["gender"] for p in people]
    assert [cohort.groups[i] for i in cohort.group] == [p["group"] for p in people]
    assert set(cohort.services) == {"unknown"}
    days = [
        (visit["time"] - person["visits"][0]["time"]) / timedelta(days=1)
        for person in people
        for visit in person["visits"]
    ]
    np.testing.assert_array_equal(cohort.admitted, np.array(days, np.float32))
    ages = [v["time"].year - person["born"] for person in people for v in person["visits"]]
    assert cohort.age.tolist() == ages
    for kind in KINDS:
        names = cohort.vocabulary[kind]
        assert [{names[i] for i in row} for row in lists_of(cohort, kind)] == [
            visit[kind] for visit in visits
        ]
        assert list(names) == sorted(set().union(*(visit[kind] for visit in visits)))


def test_what_is_counted(small):
    rows = [
        code
        for path in (small / "data").rglob("*.parquet")
        for code in pq.read_table(path)["code"].to_pylist()
    ]
    provenance = prepare("meds", small, MedsOptions()).provenance
    for kind, family in zip(KINDS, ("DIAGNOSIS", "PROCEDURE", "MEDICATION"), strict=True):
        everything = sum(code.startswith(f"{family}//") for code in rows)
        assert provenance.mapped[f"{kind} events"] == everything
    known = sum(code.startswith("MEDICATION//ATC//") for code in rows)
    assert provenance.mapped["medications events with a code of the cohort"] == known
    furosemide = "MEDICATION//START//Furosemide//00409610204"
    assert provenance.unmapped["medications"][furosemide] == rows.count(furosemide)
    assert not sum(provenance.dropped.values())
    assert set(provenance.inputs) == {
        "metadata/subject_splits.parquet",
        "data/train/0.parquet", "data/train/1.parquet", "data/tuning/0.parquet",
        "data/held_out/0.parquet",
    }  # fmt: skip


def test_neither_batches_nor_files_nor_the_order_of_rows_change_the_cohort(
    small, tmp_path, monkeypatch
):
    drawn = MedsOptions(splits="drawn")  # the copies have no metadata
    expected = prepare("meds", small, drawn)
    monkeypatch.setattr(_meds_events, "_BATCH", 7)
    in_batches = prepare("meds", small, drawn)
    assert in_batches.fingerprint == expected.fingerprint
    assert in_batches.provenance.mapped == expected.provenance.mapped
    monkeypatch.undo()
    paths = sorted((small / "data").rglob("*.parquet"))
    table = pa.concat_tables([pq.read_table(path) for path in paths])
    shuffled = table.take(np.random.default_rng(0).permutation(len(table)))
    write_table(tmp_path / "one", shuffled, "deep/er/all", row_group_size=50)
    assert prepare("meds", tmp_path / "one", drawn).fingerprint == expected.fingerprint


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("subject_id", pa.int32()),
        ("time", pa.timestamp("ms")),
        ("time", pa.timestamp("us", "UTC")),
        ("code", pa.large_string()),
        ("code", pa.dictionary(pa.int32(), pa.string())),
        ("numeric_value", pa.float64()),
    ],
    ids=str,
)
def test_types_that_lose_nothing_are_taken(small, tmp_path, column, kind):
    for path in (small / "data").rglob("*.parquet"):
        table = pq.read_table(path)
        place = table.column_names.index(column)
        table = table.set_column(place, column, table[column].cast(kind))
        shard = path.relative_to(small / "data").with_suffix("").as_posix()
        write_table(tmp_path, table, shard)
    drawn = MedsOptions(splits="drawn")  # the copy has no metadata
    expected = prepare("meds", small, drawn)
    assert prepare("meds", tmp_path, drawn).fingerprint == expected.fingerprint


def test_the_given_split_is_taken(small):
    given = pq.read_table(small / "metadata" / "subject_splits.parquet").to_pydict()
    of = dict(zip(given["subject_id"], given["split"], strict=True))
    cohort = prepare("meds", small, MedsOptions())
    names = [("train", "tuning", "held_out")[part] for part in cohort.split]
    assert names == [of[subject] for subject in sorted(of)][: len(names)]
    drawn = prepare("meds", small, MedsOptions(splits="drawn"))
    assert drawn.split.tolist() != cohort.split.tolist()


def test_a_subject_without_a_given_split_is_an_error(small, tmp_path):
    shutil.copytree(small, tmp_path / "copy")
    path = tmp_path / "copy" / "metadata" / "subject_splits.parquet"
    table = pq.read_table(path)
    path.unlink()
    pq.write_table(table.slice(1), path)
    with pytest.raises(InputError, match=r"for every subject, but 1 have none.*splits: drawn"):
        prepare("meds", tmp_path / "copy", MedsOptions())
    path.write_bytes(b"no parquet")
    with pytest.raises(InputError, match=r"subject_splits\.parquet must be a table"):
        prepare("meds", tmp_path / "copy", MedsOptions())


def test_a_visit_lasts_to_the_next_admission(tmp_path):
    records = read(
        tmp_path,
        (-3, "DIAGNOSIS//ICD9CM//0389"),
        (None, "DIAGNOSIS//ICD9CM//2724"),
        *FULL,
        (99, "PROCEDURE//ICD10PCS//02100Z9"),
        (100, "HOSPITAL_ADMISSION//SURG"),
        (100, "DIAGNOSIS//ICD10CM//I50.23"),
        (400, "MEDICATION//ATC//B01AC06"),
    )
    assert records.visits["service"].tolist() == ["MED", "SURG"]
    assert records.visits["admitted"].tolist() == [0, 100]
    assert pairs(records, "diagnoses") == [(0, "9:4280"), (1, "10:I5023")]
    assert pairs(records, "procedures") == [(0, "10:02100Z9")]
    assert pairs(records, "medications") == [(0, "C03C"), (1, "B01A")]
    assert records.dropped["diagnoses events before the first admission"] == 1
    assert records.dropped["diagnoses events without a time"] == 1
    assert sum(records.dropped.values()) == 2


def test_at_one_time_the_admission_comes_first_whatever_the_file_says(tmp_path):
    records = read(
        tmp_path,
        (0, "DIAGNOSIS//ICD9CM//486"),
        (0, "HOSPITAL_ADMISSION//MED"),
        (0, "DIAGNOSIS//ICD9CM//4280"),
        (9, "DIAGNOSIS//ICD9CM//5849"),
        (9, "HOSPITAL_ADMISSION//MED"),
        (9, "DIAGNOSIS//ICD9CM//2724"),
        (9, "HOSPITAL_ADMISSION//SURG"),
        (9, "DIAGNOSIS//ICD9CM//2859"),
    )
    assert pairs(records, "diagnoses") == [
        (0, "9:4280"), (0, "9:486"), (1, "9:2724"), (1, "9:5849"), (2, "9:2859"),
    ]  # fmt: skip


def test_subjects_do_not_run_into_one_another(tmp_path):
    write_shard(
        tmp_path,
        [
            *events(3, *FULL),
            *events(5, (2, "DIAGNOSIS//ICD9CM//486"), (3, "GENDER//F")),
            *events(6, (4, "LAB//1")),
            *events(8, (None, "HOSPITAL_ADMISSION//MED"), (4, "MEDICATION//ATC//B01A")),
            *events(9, (-1, "DIAGNOSIS//ICD9CM//486"), *FULL),
        ],
    )
    records = load(tmp_path, MedsOptions())
    assert records.patients["patient"].tolist() == [3, 9]
    assert pairs(records, "diagnoses") == [(0, "9:4280"), (1, "9:4280")]
    assert pairs(records, "medications") == [(0, "C03C"), (1, "C03C")]
    dropped = {reason: n for reason, n in records.dropped.items() if n}
    assert dropped == {
        "admissions without a time": 1,
        "subjects without an admission": 3,
        "diagnoses events of subjects without an admission": 1,
        "medications events of subjects without an admission": 1,
        "diagnoses events before the first admission": 1,
    }


@pytest.mark.parametrize(
    ("code", "role", "text"),
    [
        ("HOSPITAL_ADMISSION", "admission", "unknown"),
        ("HOSPITAL_ADMISSION//MED", "admission", "MED"),
        ("HOSPITAL_ADMISSION//URGENT//CLINIC REFERRAL", "admission", "unknown"),
        ("HOSPITAL_DISCHARGE//HOME", "", None),
        ("DIAGNOSIS//ICD9CM//4280", "diagnoses", "9:4280"),
        ("DIAGNOSIS//ICD//9//4280", "diagnoses", "9:4280"),
        ("DIAGNOSIS//ICD//10//i50.23", "diagnoses", "10:I5023"),
        ("DIAGNOSIS//ICD//4280", "diagnoses", "4280"),
        ("DIAGNOSIS//ICD//10", "diagnoses", "10"),
        ("DIAGNOSIS//ICD//9// ", "diagnoses", None),
        ("DIAGNOSIS//SNOMED//84114007", "diagnoses", None),
        ("PROCEDURE//ICD9PROC//3961", "procedures", "9:3961"),
        ("PROCEDURE//ICD//10//02100Z9", "procedures", "10:02100Z9"),
        ("PROCEDURE//START//225792", "procedures", None),
        ("MEDICATION//ATC//C03C", "medications", "C03C"),
        ("MEDICATION//ATC//c03ca01", "medications", "C03C"),
        ("MEDICATION//ATC//C03", "medications", None),
        ("MEDICATION//Furosemide//Administered//00409610204", "medications", None),
        ("GENDER//F", "gender", "F"),
        ("GENDER//", "gender", "unknown"),
        ("RACE_GROUP//A", "group", "A"),
        ("RACE//HISPANIC/LATINO - CUBAN", "group", "hispanic"),
        ("MEDS_BIRTH", "birth", ""),
        ("AGE", "age", ""),
        ("AGENT", "", None),
    ],
)
def test_what_codes_mean_by_default(code, role, text):
    meaning = interpreter(MedsOptions())(code)
    assert (meaning.role, meaning.text) == (role, text)


def test_patterns_can_be_changed(tmp_path):
    records = read(
        tmp_path,
        (0, "VISIT:START:icu"),
        (1, "icd10/I50.23"),
        (2, "atc=C03CA01"),
        admission=r"VISIT:START:(?P<service>\w+)",
        diagnosis=r"icd(?P<version>9|10)/(?P<code>.+)",
        medication=r"atc=(?P<code>.*)",
    )
    assert records.visits["service"].tolist() == ["icu"]
    assert pairs(records, "diagnoses") == [(0, "10:I5023")]
    assert pairs(records, "medications") == [(0, "C03C")]


@pytest.mark.parametrize(
    ("option", "pattern", "said"),
    [
        ("admission", "(", "regular expression"),
        ("diagnosis", "DX.*", r"named group \(\?P<code>"),
        ("medication", "RX//(.*)", r"named group \(\?P<code>"),
        ("gender", "SEX//.*", r"named group \(\?P<gender>"),
    ],
)
def test_patterns_that_cannot_work(option, pattern, said):
    with pytest.raises(ValidationError, match=said):
        MedsOptions(**{option: pattern})


def test_ages_are_told_or_counted_from_the_birth(tmp_path):
    born = datetime(2100, 3, 2, 8)
    told = [
        (0, "HOSPITAL_ADMISSION//MED"), (0.5, "AGE", 33.9), (0.6, "AGE", 50.0),
        (9, "HOSPITAL_ADMISSION//MED"),
        (20, "HOSPITAL_ADMISSION//MED"), (20, "AGE", 130.0),
        (30, "HOSPITAL_ADMISSION//MED"), (30, "AGE", float("nan")),
    ]  # fmt: skip
    counted = [(0, "HOSPITAL_ADMISSION//MED"), (1, "HOSPITAL_ADMISSION//MED")]
    write_shard(
        tmp_path,
        [
            (1, born, "MEDS_BIRTH", None), *events(1, *told),
            (2, born, "MEDS_BIRTH", None), *events(2, *counted),
            (3, datetime(2000, 1, 1), "MEDS_BIRTH", None), *events(3, (0, "HOSPITAL_ADMISSION")),
            (4, None, "MEDS_BIRTH", None), *events(4, (0, "HOSPITAL_ADMISSION")),
        ],
    )  # fmt: skip
    records = load(tmp_path, MedsOptions(require=()))
    # Subject 2 is admitted a day before the fiftieth birthday and on it; subject 3 at 150 years.
    assert records.visits["age"].tolist() == [33, -1, -1, -1, 49, 50, -1, -1]
    assert records.dropped["ages out of 0 to 120"] == 2


def test_the_first_gender_and_group_count(tmp_path):
    records = read(
        tmp_path,
        (5, "RACE//BLACK/CAPE VERDEAN"),
        (None, "GENDER//F"),
        (None, "GENDER//M"),
        (None, "GENDER//F"),
        (2, "RACE//WHITE"),
        *FULL,
    )
    assert records.patients.to_numpy().tolist() == [[7, "F", "white"]]
    assert records.dropped["gender events that differ from the subject's first"] == 1
    assert records.dropped["group events that differ from the subject's first"] == 1


def test_what_only_few_subjects_have_is_not_listed(tmp_path, monkeypatch):
    rows = []
    for subject in range(10):
        often = [(1, "MEDICATION//rare text")] * 40 if subject < 9 else []
        rows += events(subject, *FULL, *often, (2, "MEDICATION//common"))
    write_shard(tmp_path, rows)
    records = load(tmp_path, MedsOptions())
    assert records.unmapped == {"medications": {"MEDICATION//common": 10}}
    assert records.mapped["medications events"] == 10 + 10 + 9 * 40
    monkeypatch.setattr(_meds_events, "_BATCH", 13)  # a subject of 44 events spans batches
    in_batches = load(tmp_path, MedsOptions())
    assert "MEDICATION//rare text" not in in_batches.unmapped.get("medications", {})
    assert in_batches.mapped == records.mapped


def without(column):
    return lambda table: table.drop_columns([column])


def cast(column, kind):
    def change(table):
        place = table.column_names.index(column)
        return table.set_column(place, column, table[column].cast(kind))

    return change


def with_null(column):
    def change(table):
        values = [*table[column].to_pylist()[:-1], None]
        place = table.column_names.index(column)
        return table.set_column(place, column, pa.array(values, table[column].type))

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("subject_id"), r"train/0\.parquet must have one column `subject_id` \(int64\)"),
        (without("time"), "must have one column `time`"),
        (without("code"), "must have one column `code`"),
        (cast("subject_id", pa.string()), "`subject_id` must be int64.*it is string"),
        (cast("subject_id", pa.float64()), "`subject_id` must be int64.*it is double"),
        (cast("time", pa.int64()), r"`time` must be timestamp\[us\].*it is int64"),
        (cast("code", pa.binary()), "`code` must be string.*it is binary"),
        (cast("numeric_value", pa.string()), "`numeric_value` must be float32"),
        (with_null("subject_id"), "MEDS schema: .*no nulls but do: subject_id"),
        (with_null("code"), "MEDS schema: .*no nulls but do: code"),
        (lambda table: table.slice(0, 0), "hold no events"),
    ],
)
def test_what_is_no_meds_data(tmp_path, change, said):
    path = write_shard(tmp_path, events(7, *FULL, (2, "AGE", 50.0)))
    write_table(tmp_path, change(pq.read_table(path)))
    with pytest.raises(InputError, match=said):
        load(tmp_path, MedsOptions())


def test_times_finer_than_microseconds(tmp_path):
    path = write_shard(tmp_path, events(7, *FULL))
    table = pq.read_table(path)
    fine = table["time"].cast(pa.timestamp("ns")).cast(pa.int64()).to_numpy() + 1
    table = table.set_column(1, "time", pa.array(fine, pa.timestamp("ns")))
    write_table(tmp_path, table)
    with pytest.raises(InputError, match=r"MEDS schema: .*time \(want timestamp"):
        load(tmp_path, MedsOptions())


def test_columns_that_may_be_missing_or_empty(tmp_path):
    path = write_shard(tmp_path, events(7, *FULL))
    expected = load(tmp_path, MedsOptions()).visits
    table = pq.read_table(path)
    write_table(tmp_path, table.drop_columns(["numeric_value", "hadm_id"]))
    assert load(tmp_path, MedsOptions()).visits.equals(expected)
    write_table(tmp_path, pa.table({name: table[name][:0] for name in table.column_names}), "x/1")
    assert load(tmp_path, MedsOptions()).visits.equals(expected)


def damaged(path):
    path.write_bytes(path.read_bytes()[:-40])


def no_parquet(path):
    path.write_text("subject_id,time,code\n")


def flipped(path):
    content = bytearray(path.read_bytes())
    content[4:120] = b"\xff" * 116
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("spoil", [damaged, no_parquet, flipped])
def test_a_shard_that_cannot_be_read(tmp_path, spoil):
    spoil(write_shard(tmp_path, events(7, *FULL)))
    with pytest.raises(InputError, match=r"train/0\.parquet cannot be read as Parquet"):
        load(tmp_path, MedsOptions())


def test_a_subject_in_two_shards(tmp_path):
    write_shard(tmp_path, [*events(12345, *FULL), *events(99, *FULL)], "train/0")
    write_shard(tmp_path, events(1, *FULL), "train/1")
    write_shard(tmp_path, events(12345, (90, "LAB//1")), "tuning/0")
    said = r"train/0\.parquet and .*tuning/0\.parquet share subjects \(1 in all files\)"
    with pytest.raises(InputError, match=said) as caught:
        load(tmp_path, MedsOptions())
    assert "12345" not in str(caught.value)


def test_a_folder_without_shards(tmp_path):
    with pytest.raises(InputError, match="reads files, but no source folder"):
        load(None, MedsOptions())
    with pytest.raises(InputError, match="a folder `data`, but"):
        load(tmp_path, MedsOptions())
    (tmp_path / "data").mkdir()
    (tmp_path / "data/.0.parquet").write_text("hidden")
    with pytest.raises(InputError, match=r"holds no \.parquet file"):
        load(tmp_path, MedsOptions())


def test_no_admission(tmp_path):
    with pytest.raises(InputError, match=r"No event is an admission.*--admission"):
        read(tmp_path, *FULL[1:], (None, "HOSPITAL_ADMISSION//MED"))


def test_medications_that_are_no_atc_codes(tmp_path):
    write_shard(
        tmp_path, events(7, *FULL[:2], (2, "MEDICATION//Furosemide"), (2, "MEDICATION//x"))
    )
    said = "No visit has medications.* 0 have an ATC code and 2 have something else"
    with pytest.raises(InputError, match=said):
        load(tmp_path, MedsOptions())
    assert load(tmp_path, MedsOptions(require=("diagnoses",))).codes["medications"].empty


def test_visits_without_what_is_required(tmp_path):
    write_shard(tmp_path, events(7, *FULL[:2], (3, "HOSPITAL_ADMISSION"), (4, FULL[2][1])))
    with pytest.raises(CohortError, match="No visit is left"):
        prepare("meds", tmp_path, MedsOptions())


def test_more_services_than_a_cohort_can_keep(tmp_path):
    rows = [(day, f"HOSPITAL_ADMISSION//S{day}") for day in range(128)]
    with pytest.raises(InputError, match=r"can have 127 services, but.*finds 128.*--admission"):
        read(tmp_path, *rows)
    write_shard(tmp_path, events(7, *rows[:127]))
    assert len(load(tmp_path, MedsOptions(require=())).visits) == 127
