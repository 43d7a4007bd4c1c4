"""A cohort in the Medical Event Data Standard (MEDS), for the tools that read it.

    data/{train,tuning,held_out}/0.parquet   subject_id, time, code, numeric_value
    metadata/dataset.json                    where it comes from, and what is artificial
    metadata/codes.parquet                   code, description, parent_codes
    metadata/subject_splits.parquet          subject_id, split

A cohort has no identifiers and no dates, so none can be told. A subject is a row number of the
cohort. A patient's first admission is set to 2000-01-01 00:00, and the time of birth to as many
years before as the patient was old. Discharges are unknown and left out; all codes of a visit
stand at its admission. The data set `meds` reads an export back (`medrec.datasets.meds`).

    GENDER//F  RACE_GROUP//white                   without a time
    MEDS_BIRTH                                     where an age is known
    HOSPITAL_ADMISSION//MED                        with the service
    AGE                                            numeric_value: whole years, where known
    DIAGNOSIS//ICD9CM//4280  //ICD10CM//I5023      //OTHER//4280 where the version is unknown
    PROCEDURE//ICD9PROC//3961  //ICD10PCS//02100Z9
    MEDICATION//ATC//C03C                          classes of level 3
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int, Int32, Int64
from pyarrow import parquet as pq

from medrec import codes
from medrec.cohort import KINDS, Cohort, Kind
from medrec.errors import CohortError
from medrec.exports._base import Export, Layout, whole
from medrec.knowledge.tables import titles

SPLITS = ("train", "tuning", "held_out")  # in the order of medrec.splits.NAMES
ORIGIN = np.datetime64("2000-01-01T00:00:00", "us")  # of each patient's first admission
ETL = "medsweep data export"
_DAY = 86_400_000_000  # microseconds
_STATIC = np.iinfo(np.int64).min  # stands for no time; sorts first, as MEDS asks
_SLICE = 1 << 18  # events written at once: only their codes are ever text
_NOTES = (
    "Times are artificial: each subject's first admission is 2000-01-01T00:00:00; only "
    "differences within a subject mean anything.",
    "MEDS_BIRTH is artificial too: whole years of age before the first admission of known age.",
    "All codes of a visit stand at its admission. Discharges are not known.",
)
_SYSTEMS: dict[tuple[Kind, str], tuple[str, str]] = {  # ours, and the name of the vocabulary
    ("diagnoses", "9"): ("DIAGNOSIS//ICD9CM//", "ICD9CM"),
    ("diagnoses", "10"): ("DIAGNOSIS//ICD10CM//", "ICD10CM"),
    ("diagnoses", ""): ("DIAGNOSIS//OTHER//", ""),
    ("procedures", "9"): ("PROCEDURE//ICD9PROC//", "ICD9Proc"),
    ("procedures", "10"): ("PROCEDURE//ICD10PCS//", "ICD10PCS"),
    ("procedures", ""): ("PROCEDURE//OTHER//", ""),
    ("medications", ""): ("MEDICATION//ATC//", "ATC"),
}
LAYOUT = Layout(
    files=frozenset(
        {
            *(f"data/{split}/0.parquet" for split in SPLITS),
            "metadata/dataset.json",
            "metadata/codes.parquet",
            "metadata/subject_splits.parquet",
        }
    ),
    sign="metadata/dataset.json",
    signed=lambda content: content.get("etl_name") == ETL,
)


@dataclass(frozen=True)
class Events:
    """The events of some patients, in the order MEDS asks for: by subject, then by time.

    Attributes:
        subject: row number of the patient.
        time: microseconds since 1970, or the least integer for none.
        code: index into the names of the codes.
        value: of ages, in years; else NaN.
    """

    subject: Int64[np.ndarray, " events"]
    time: Int64[np.ndarray, " events"]
    code: Int32[np.ndarray, " events"]
    value: Float32[np.ndarray, " events"]


@dataclass(frozen=True)
class Name:
    """A code of the export: how it is written, in words, and in its own vocabulary."""

    code: str
    description: str | None = None
    parent: str | None = None


def write(cohort: Path, out: Path) -> dict[str, int]:
    """Writes the cohort in folder `cohort` to the folder `out`, and returns what was written.

    Every table and the description are checked against the schemas of the `meds` package.

    Raises:
        CohortError: the cohort is missing or damaged, or a service has "//" in its name.
        InputError: `out` holds something else.
    """
    opened = Cohort.open(cohort)
    names, places = code_names(opened)
    written = 0
    with whole(out, LAYOUT) as fresh:
        for index, split in enumerate(SPLITS):
            events = events_of(opened, opened.members(index), places)
            _write_events(fresh / "data" / split / "0.parquet", events, names)
            written += len(events.subject)
        _write_metadata(fresh / "metadata", opened, names)
    counts = {"patients": opened.patients, "visits": len(opened.admitted)}
    return {**counts, "events": written}


def code_names(cohort: Cohort) -> tuple[tuple[Name, ...], dict[str, int]]:
    """Returns every code of the export, and where each group of them begins.

    Raises:
        CohortError: a service has "//" in its name, which would not be read back.
    """
    wrong = [name for name in cohort.services if "//" in name]
    if wrong:
        raise CohortError(
            f"A service must not have // in its name, which MEDS codes have between their parts, "
            f"but there is {wrong[0]!r}. Prepare the cohort with another name."
        )
    known = titles()
    groups: dict[str, list[Name]] = {
        "MEDS_BIRTH": [Name("MEDS_BIRTH", "birth; the time is artificial")],
        "AGE": [Name("AGE", "age at admission in whole years")],
        "gender": [Name(f"GENDER//{name}", f"gender: {name}") for name in cohort.genders],
        "group": [
            Name(f"RACE_GROUP//{name}", f"group of race or ethnicity: {name}")
            for name in cohort.groups
        ],
        "service": [
            Name(f"HOSPITAL_ADMISSION//{name}", f"admission, first service: {name}")
            for name in cohort.services
        ],
        **{
            kind: [_coded(kind, code, known) for code in cohort.vocabulary[kind]] for kind in KINDS
        },
    }
    places: dict[str, int] = {}
    names: list[Name] = []
    for group, members in groups.items():
        places[group] = len(names)
        names += members
    return tuple(names), places


def _coded(kind: Kind, code: str, known: dict[str, str]) -> Name:
    number, bare = ("", code) if kind == "medications" else codes.split(code)
    prefix, system = _SYSTEMS[kind, number]
    title = known.get(code) if kind == "medications" else None
    parent = f"{system}/{_dotted(kind, number, bare)}" if system else None
    return Name(f"{prefix}{bare}", title, parent)


def _dotted(kind: Kind, number: str, bare: str) -> str:
    """Returns an ICD code as its vocabulary writes it: 428.0, E880.9, 39.61, I50.23."""
    if kind == "medications" or (kind == "procedures" and number == "10"):
        return bare
    stem = 2 if kind == "procedures" else 4 if number == "9" and bare.startswith("E") else 3
    return f"{bare[:stem]}.{bare[stem:]}" if len(bare) > stem else bare


def events_of(
    cohort: Cohort, patients: Int64[np.ndarray, " patients"], places: dict[str, int]
) -> Events:
    """Returns the events of these patients.

    At one time a visit's admission comes first and its codes follow, before the next visit's.

    Args:
        cohort: the cohort.
        patients: rows, ascending.
        places: where each group of codes begins, as from `code_names`.
    """
    visits = cohort.visits_of(patients)
    owner = np.repeat(patients, cohort.visits[patients])
    days = cohort.admitted[visits].astype(np.float64)
    time = ORIGIN.astype(np.int64) + np.rint(days * _DAY).astype(np.int64)
    parts = [*_static(cohort, patients, places), _births(cohort, visits, owner, time, places)]
    first = len(parts)
    parts += list(_of_visits(cohort, visits, owner, time, places))
    joined = [np.concatenate(columns) for columns in zip(*parts, strict=True)]
    subject, moment, code, value, place = joined
    kind = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts])
    order = np.lexsort((kind, place, np.minimum(kind, first), moment, subject))
    return Events(subject[order], moment[order], code[order], value[order])


# Subject, time, code, value, and the visit's row (0 where there is none) of some events.
_Part = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _part(
    subject: np.ndarray,
    time: np.ndarray,
    code: np.ndarray | int,
    place: np.ndarray | int,
    value: np.ndarray | float = np.nan,
) -> _Part:
    shape = subject.shape
    return (
        subject.astype(np.int64),
        time.astype(np.int64),
        np.broadcast_to(code, shape).astype(np.int32),
        np.broadcast_to(value, shape).astype(np.float32),
        np.broadcast_to(place, shape).astype(np.int64),
    )


def _static(cohort: Cohort, patients: np.ndarray, places: dict[str, int]) -> Iterator[_Part]:
    never = np.full(len(patients), _STATIC)
    for name, index in (("gender", cohort.gender), ("group", cohort.group)):
        yield _part(patients, never, places[name] + index[patients].astype(np.int64), 0)


def _births(
    cohort: Cohort,
    visits: np.ndarray,
    owner: np.ndarray,
    time: np.ndarray,
    places: dict[str, int],
) -> _Part:
    """Returns births: years of age before the first visit of known age."""
    known = np.flatnonzero(cohort.age[visits] >= 0)
    subject, first = np.unique(owner[known], return_index=True)
    row = known[first]
    moment = years_before(time[row], cohort.age[visits[row]].astype(np.int64))
    return _part(subject, moment, places["MEDS_BIRTH"], 0)


def years_before(
    time: Int64[np.ndarray, " some"], years: Int[np.ndarray, " some"]
) -> Int64[np.ndarray, " some"]:
    """Returns the same day and hour so many years earlier; 28 February for the 29th.

    Example:
        >>> leap = np.array(["2000-02-29T12"], "M8[us]").astype(np.int64)
        >>> years_before(leap, np.array([1])).astype("M8[us]").astype("M8[h]").tolist()
        [datetime.datetime(1999, 2, 28, 12, 0)]
    """
    moment = time.astype("M8[us]")
    month, day = moment.astype("M8[M]"), moment.astype("M8[D]")
    target = month - 12 * years.astype("m8[M]")
    last = (target + 1).astype("M8[D]") - 1
    date = np.minimum(target.astype("M8[D]") + (day - month.astype("M8[D]")), last)
    return (date.astype("M8[us]") + (moment - day)).astype(np.int64)


def _of_visits(
    cohort: Cohort,
    visits: np.ndarray,
    owner: np.ndarray,
    time: np.ndarray,
    places: dict[str, int],
) -> Iterator[_Part]:
    service = places["service"] + cohort.service[visits].astype(np.int64)
    yield _part(owner, time, service, visits)
    known = cohort.age[visits] >= 0
    yield _part(owner[known], time[known], places["AGE"], visits[known], cohort.age[visits[known]])
    for kind in KINDS:
        found = cohort.codes[kind]
        counts = found.counts[visits]
        start = np.repeat(found.offsets[visits] - (np.cumsum(counts) - counts), counts)
        values = found.values[start + np.arange(counts.sum())]
        of = np.repeat(np.arange(len(visits)), counts)
        yield _part(owner[of], time[of], places[kind] + values.astype(np.int64), visits[of])


def _write_events(path: Path, events: Events, names: tuple[Name, ...]) -> None:
    from meds.schema import DataSchema

    path.parent.mkdir(parents=True)
    text = pa.array([name.code for name in names], pa.string())
    with pq.ParquetWriter(path, DataSchema.align(_table(events, text, 0)).schema) as writer:
        for start in range(0, len(events.subject), _SLICE):
            writer.write_table(_checked(DataSchema, _table(events, text, start)))


def _table(events: Events, text: pa.StringArray, start: int) -> pa.Table:
    part = slice(start, start + _SLICE)
    time = events.time[part]
    return pa.table(
        {
            "subject_id": events.subject[part],
            "time": pa.array(time, mask=time == _STATIC).cast(pa.timestamp("us")),
            "code": text.take(pa.array(events.code[part])),
            "numeric_value": pa.array(
                events.value[part], mask=np.isnan(events.value[part]), type=pa.float32()
            ),
        }
    )


def _checked(schema: type, table: pa.Table) -> pa.Table:
    """Returns the table with the schema's columns and types; a defect of ours raises."""
    aligned = schema.align(table)  # type: ignore[attr-defined]
    schema.validate(aligned)  # type: ignore[attr-defined]
    return aligned


def _write_metadata(folder: Path, cohort: Cohort, names: tuple[Name, ...]) -> None:
    from meds.schema import CodeMetadataSchema, DatasetMetadataSchema, SubjectSplitSchema

    folder.mkdir()
    described = {
        "dataset_name": f"medsweep cohort of {cohort.provenance.dataset}",
        "dataset_version": cohort.fingerprint,
        "etl_name": ETL,
        "etl_version": version("medsweep"),
        "meds_version": version("meds"),
        "notes": list(_NOTES),
    }
    DatasetMetadataSchema.validate(described)
    (folder / "dataset.json").write_text(json.dumps(described, indent=2) + "\n")
    parents = [[name.parent] if name.parent else None for name in names]
    table = pa.table(
        {
            "code": pa.array([name.code for name in names], pa.string()),
            "description": pa.array([name.description for name in names], pa.string()),
            "parent_codes": pa.array(parents, pa.list_(pa.string())),
        }
    )
    pq.write_table(_checked(CodeMetadataSchema, table), folder / "codes.parquet")
    splits = pa.table(
        {
            "subject_id": np.arange(cohort.patients),
            "split": pa.array(SPLITS, pa.string()).take(pa.array(cohort.split, pa.int64())),
        }
    )
    pq.write_table(_checked(SubjectSplitSchema, splits), folder / "subject_splits.parquet")


EXPORT = Export(
    title="Medical Event Data Standard, with artificial times; read back by the data set `meds`",
    write=write,
)
