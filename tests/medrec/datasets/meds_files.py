"""A small MEDS data set with real codes and invented people, written without our own export.

It is written as MIMIC-IV-MEDS 0.2 writes: admissions with type and place, race at every admission,
birth on 1 January, diagnoses and procedures at discharge with the ICD version, laboratory values
between, and a column of admission numbers. Medications are ATC codes of levels 3 to 5, some are
drug names, which a cohort cannot use.
"""

import json
import random
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import meds
import pyarrow as pa
from pyarrow import parquet as pq

Row = tuple[int, datetime | None, str, float | None]
PATIENTS = 48
DIAGNOSES = (
    "9//25000", "9//4019", "9//4280", "9//E8788", "9//V4581", "9//0389",
    "10//I5023", "10//E119", "10//I10", "10//N179", "10//Z7901", "10//E871",
)  # fmt: skip
PROCEDURES = ("9//3961", "9//9671", "9//0042", "10//02100Z9", "10//5A1935Z")
MEDICATIONS = ("A10AB05", "B01AC06", "C03C", "C03CA01", "C07AB", "J01DD04", "N02BE01", "C09A")
NAMES = ("START//Furosemide//00409610204", "START//Heparin//00641040012")
RACES = ("WHITE - RUSSIAN", "BLACK/AFRICAN AMERICAN", "ASIAN - CHINESE", "UNKNOWN")
SHARDS = {"train/0": 0.4, "train/1": 0.7, "tuning/0": 0.85, "held_out/0": 1.0}


def write_small_meds(folder: Path) -> Path:
    """Writes a valid MEDS data set of 48 subjects, and returns its folder; always the same."""
    rng = random.Random(5)  # noqa: S311  no secret is drawn
    subjects = sorted(rng.sample(range(10_000_000, 20_000_000), PATIENTS))
    people = {subject: person(subject, rng) for subject in subjects}
    shuffled = rng.sample(subjects, PATIENTS)
    start, splits = 0, {}
    for shard, share in SHARDS.items():
        end = round(share * PATIENTS)
        members = sorted(shuffled[start:end])
        start = end
        splits |= dict.fromkeys(members, shard.partition("/")[0])
        write_shard(folder, [row for subject in members for row in people[subject]], shard)
    write_metadata(folder, splits, {row[2] for rows in people.values() for row in rows})
    return folder


def person(subject: int, rng: random.Random) -> list[Row]:
    """Returns the events of one subject in the order MEDS asks for."""
    gender, race = rng.choice("FM"), rng.choice(RACES)
    admitted = datetime(2110 + rng.randrange(90), 1 + rng.randrange(12), 1, 7, 30)
    born = datetime(admitted.year - rng.randrange(18, 90), 1, 1)
    rows: list[Row] = [
        (subject, None, f"GENDER//{gender}", None),
        (subject, born, "MEDS_BIRTH", None),
    ]
    chronic = rng.sample(DIAGNOSES, 3)
    for _ in range(rng.choice((1, 2, 2, 3, 5))):
        left = admitted + timedelta(days=rng.randrange(1, 15), minutes=rng.randrange(600))
        rows += stay(subject, race, admitted, left, chronic, rng)
        admitted = left + timedelta(days=rng.randrange(3, 400), minutes=rng.randrange(1400))
    if rng.random() < 0.2:
        rows.append((subject, admitted, "MEDS_DEATH", None))
    return sorted(rows, key=lambda row: row[1] or datetime.min)


def stay(
    subject: int,
    race: str,
    admitted: datetime,
    left: datetime,
    chronic: list[str],
    rng: random.Random,
) -> list[Row]:
    """Returns the events of one stay."""
    later = admitted + timedelta(hours=5)
    given = rng.sample(MEDICATIONS, rng.randrange(1, 6))
    named = rng.sample(NAMES, rng.randrange(3))
    coded = {*chronic, *rng.sample(DIAGNOSES, 3)}
    done = rng.sample(PROCEDURES, rng.randrange(4))
    return [
        (subject, admitted - timedelta(hours=2), "ED_REGISTRATION", None),
        (subject, admitted, f"RACE//{race}", None),
        (subject, admitted, "HOSPITAL_ADMISSION//EW EMER.//EMERGENCY ROOM", None),
        (subject, later, "LAB//RESULT//50912//mg/dL", round(rng.uniform(0.5, 4.0), 1)),
        *((subject, later, f"MEDICATION//ATC//{code}", None) for code in given),
        *((subject, later, f"MEDICATION//{name}", None) for name in named),
        (subject, left, "HOSPITAL_DISCHARGE//HOME", None),
        *((subject, left, f"DIAGNOSIS//ICD//{code}", None) for code in sorted(coded)),
        *((subject, left, f"PROCEDURE//ICD//{code}", None) for code in done),
    ]


def write_shard(folder: Path, rows: Iterable[Row], shard: str = "train/0") -> Path:
    """Writes the rows as one valid shard, with an extra column, and returns its path."""
    subject, time, code, value = zip(*rows, strict=True)
    table = pa.table(
        {
            "subject_id": pa.array(subject, pa.int64()),
            "time": pa.array(time, pa.timestamp("us")),
            "code": pa.array(code, pa.string()),
            "numeric_value": pa.array(value, pa.float32()),
            "hadm_id": pa.array([s % 977 for s in subject], pa.int64()),
        }
    )
    meds.DataSchema.validate(table)
    return write_table(folder, table, shard)


def write_table(folder: Path, table: Any, shard: str = "train/0", **options: Any) -> Path:
    """Writes any table as a shard, and returns its path."""
    path = folder / "data" / f"{shard}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)
    return path


def write_metadata(folder: Path, splits: dict[int, str], codes: set[str]) -> None:
    """Writes dataset.json, codes.parquet and subject_splits.parquet."""
    (folder / "metadata").mkdir()
    described = {"dataset_name": "small", "meds_version": meds.__version__}
    meds.DatasetMetadataSchema.validate(described)
    (folder / meds.dataset_metadata_filepath).write_text(json.dumps(described))
    people = sorted(splits)
    table = pa.table({"subject_id": people, "split": [splits[subject] for subject in people]})
    meds.SubjectSplitSchema.validate(table)
    pq.write_table(table, folder / meds.subject_splits_filepath)
    table = meds.CodeMetadataSchema.align(pa.table({"code": sorted(codes)}))
    pq.write_table(table, folder / meds.code_metadata_filepath)
