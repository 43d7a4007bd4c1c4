"""Data in the Medical Event Data Standard (MEDS): a hospital's own, or an export of a cohort.

MEDS has events, not visits. A visit begins with an admission event; whatever follows belongs to it
until the subject's next admission, so that diagnoses coded at discharge count. Events at the very
time of an admission belong to it, whichever of them the file has first. What comes before the
first admission, or has no time, is left out and counted; gender and group need no time.

What a code means is said by patterns, which must match it whole:

    HOSPITAL_ADMISSION//MED     our export; without a service: HOSPITAL_ADMISSION//EW EMER.//ER …
    DIAGNOSIS//ICD9CM//4280     our export; MIMIC-IV-MEDS writes DIAGNOSIS//ICD//9//4280
    PROCEDURE//ICD10PCS//0210…  our export; MIMIC-IV-MEDS writes PROCEDURE//ICD//10//0210…
    MEDICATION//ATC//C03C       our export; deeper ATC codes count as their class of level 3
    RACE_GROUP//white           our export; RACE//WHITE - RUSSIAN is put into its broad group

A code that a pattern matches without its group `code` is counted as unmapped: so are medications
that are drug names or NDC, as in MIMIC-IV-MEDS 0.2, which therefore has to be given ATC codes
before. Of `metadata` subject_splits.parquet alone is read, for `splits: given`. Files and rows
may be in any order, but a subject must be in one file. There is no admission number, so
`visit_order: hadm_id` is the order of time too.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64
from pydantic import AfterValidator, Field

from medrec import codes
from medrec.cohort import KINDS, Kind
from medrec.datasets._base import Dataset
from medrec.datasets._meds_events import NEVER, Events, Meaning, read_events, shards
from medrec.demographics import group_of
from medrec.errors import InputError
from medrec.raw_files import source_folder
from medrec.raw_table import digests
from medrec.records import CohortOptions, Records
from medrec.splits import TEST, TRAIN, VALIDATION

_DAY = 86_400_000_000  # microseconds
_OLDEST = 120  # years
_MOST_NAMES = 127  # of genders, groups, services: a cohort keeps them in eight bits
_SPLITS = {"train": TRAIN, "tuning": VALIDATION, "held_out": TEST}
_ATC = re.compile(r"[A-Z][0-9]{2}[A-Z](?:[A-Z](?:[0-9]{2})?)?")
_ROLES: dict[str, str] = {  # option to what its events are, in the order that patterns are tried
    "admission": "admission",
    "diagnosis": "diagnoses",
    "procedure": "procedures",
    "medication": "medications",
    "gender": "gender",
    "group": "group",
    "age": "age",
    "birth": "birth",
}


def _pattern(*groups: str) -> AfterValidator:
    """Returns a check: a regular expression with these named groups."""

    def check(text: str) -> str:
        try:
            found = re.compile(text).groupindex
        except re.error as error:
            raise ValueError(f"must be a regular expression: {error}") from error
        for group in groups:
            if group not in found:
                raise ValueError(f"must have the named group (?P<{group}>…)")
        return text

    return AfterValidator(check)


_Pattern = Annotated[str, _pattern()]
_Coded = Annotated[str, _pattern("code")]


class MedsOptions(CohortOptions):
    """Patterns (regular expressions) for what the codes mean; the first that fits counts."""

    dataset: ClassVar[str] = "meds"

    admission: _Pattern = Field(
        default=r"HOSPITAL_ADMISSION(?://(?P<service>(?:(?!//).)*)|//.*)?",
        description="codes of an admission, with which a visit begins; group `service` if any",
    )
    diagnosis: _Coded = Field(
        default=r"DIAGNOSIS//(?:OTHER//(?P<other>.+)|ICD(?://)?(?P<version>9|10)?(?:CM)?//(?P<code>[^/]+)|.*)",
        description="codes of a diagnosis; groups `code` and, if any, `version` (9 or 10), or "
        "`other` for a code to take as it is; unmapped where none has a part in the match",
    )
    procedure: _Coded = Field(
        default=r"PROCEDURE//(?:OTHER//(?P<other>.+)|ICD(?://)?(?P<version>9|10)?(?:PROC|PCS|CM)?//(?P<code>[^/]+)|.*)",
        description="codes of a procedure; groups as for a diagnosis",
    )
    medication: _Coded = Field(
        default=r"MEDICATION//(?:ATC//(?P<code>[^/]+)|.*)",
        description="codes of a medication; group `code` is an ATC code of level 3 or deeper, "
        "anything else is unmapped",
    )
    gender: Annotated[str, _pattern("gender")] = Field(
        default=r"GENDER//(?P<gender>.*)", description="codes of the gender; group `gender`"
    )
    group: _Pattern = Field(
        default=r"RACE_GROUP//(?P<group>.*)|RACE//(?P<race>.*)",
        description="codes of a group of patients: group `group` as it is, group `race` put into "
        "a broad one (asian, black, hispanic, native, other, unknown, white)",
    )
    age: _Pattern = Field(
        default=r"AGE", description="codes whose numeric_value is the age at an admission, years"
    )
    birth: _Pattern = Field(
        default=r"MEDS_BIRTH",
        description="codes at the time of birth, for subjects without any age event",
    )
    splits: Literal["given", "drawn"] = Field(
        default="given",
        description="take train, tuning and held_out from metadata/subject_splits.parquet if it "
        "is there, or draw a split by the options",
    )


def load(source: Path | None, options: MedsOptions) -> Records:
    """Returns the records of a MEDS data set: visits, their codes, ages and groups.

    Raises:
        InputError: a shard is damaged or no MEDS data, no event is an admission, or there are
            more than 127 genders, groups or services.
    """
    folder = source_folder("meds", source)
    paths = shards(folder)
    events = read_events(paths, interpreter(options))
    dropped: dict[str, int] = {}
    visits, of = _visits(events, options, dropped)
    ages = _ages(events, visits, of, dropped)
    kinds = {kind: _codes(events, kind, of, dropped) for kind in KINDS}
    _refuse_nothing(events, kinds, options)
    patients = _patients(events, visits, dropped)
    given = folder / "metadata" / "subject_splits.parquet"
    if options.splits == "given" and given.is_file():
        patients = patients.assign(split=given_splits(given, patients["patient"]))
        paths = [*paths, given]
    return Records(
        patients=patients,
        visits=visits.assign(age=ages),
        codes=kinds,
        dropped=dropped,
        mapped=_mapped(events),
        unmapped=events.unmapped,
        inputs={
            path.relative_to(folder).as_posix(): digest
            for path in paths
            for digest in digests([path]).values()
        },
    )


def interpreter(options: MedsOptions) -> Callable[[str], Meaning]:
    """Returns what tells the meaning of an event code.

    Example:
        >>> meaning = interpreter(MedsOptions())
        >>> meaning("DIAGNOSIS//ICD//10//I50.23").text, meaning("MEDICATION//ATC//C03CA01").text
        ('10:I5023', 'C03C')
        >>> meaning("MEDICATION//START//Furosemide//00409610204")
        Meaning(role='medications', text=None)
    """
    patterns = {name: re.compile(getattr(options, name)) for name in _ROLES}

    def meaning_of(code: str) -> Meaning:
        for name, pattern in patterns.items():
            match = pattern.fullmatch(code)
            if match:
                return Meaning(_ROLES[name], _text(name, match.groupdict()))
        return Meaning("", None)

    return meaning_of


def _text(name: str, found: dict[str, str | None]) -> str | None:
    code = (found.get("code") or "").strip()
    if name == "admission":
        return found.get("service") or "unknown"
    if name in ("age", "birth"):
        return ""
    if name == "gender":
        return found["gender"] or "unknown"
    if name == "group":
        race = found.get("race")
        return group_of(race) if race is not None else found.get("group") or "unknown"
    if name == "medication":
        return code[:4].upper() if _ATC.fullmatch(code.upper()) else None
    if found.get("other"):
        return found["other"]
    version = found.get("version") or ""
    if not code.replace(".", "") or version not in ("", *codes.VERSIONS):
        return None
    return codes.join(version, code)


def given_splits(path: Path, patients: pd.Series) -> Int64[np.ndarray, " patients"]:
    """Returns the split of each subject: train, tuning and held_out are train, validation, test.

    Raises:
        InputError: the file is no table of subject_id and split, or lacks a subject.
    """
    try:
        table = pq.read_table(path, columns=["subject_id", "split"]).to_pandas()
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError, KeyError) as error:
        raise InputError(
            f"{path} must be a table with subject_id and split ({error}). Export it again, or let "
            "a split be drawn with `splits: drawn`."
        ) from error
    of = pd.Series(table["split"].map(_SPLITS).to_numpy(), index=table["subject_id"])
    of = of[~of.index.duplicated()].dropna().astype(np.int64)
    if not patients.isin(of.index).all():
        missing = int((~patients.isin(of.index)).sum())
        raise InputError(
            f"{path} must give {sorted(_SPLITS)} for every subject, but {missing} have none of "
            "them. Mend it, or let a split be drawn with `splits: drawn`."
        )
    return of.loc[patients].to_numpy(np.int64)


def _visits(
    events: Events, options: MedsOptions, dropped: dict[str, int]
) -> tuple[pd.DataFrame, Int64[np.ndarray, " events"]]:
    """Returns the visits, and the visit of each event: -1 where it has none."""
    timed = events.time != NEVER
    begins = events.of("admission")
    dropped["admissions without a time"] = int((begins & ~timed).sum())
    begins &= timed
    first = np.flatnonzero(begins)
    if not len(first):
        raise InputError(
            f"No event is an admission with a time: no code matches {options.admission!r}. "
            "Say with `--admission` how the data set writes admissions."
        )
    service = events.texts()[events.meaning[first]]
    subject, time = events.subject[first], events.time[first]
    opening = _first_of(subject)
    frame = pd.DataFrame(
        {
            "visit": np.arange(len(first)),
            "patient": subject,
            "admitted": (time - time[opening]) / _DAY,
            "order": time,
            "service": service,
        }
    )
    _refuse_many("services", "admission", frame["service"])
    return frame, _assigned(events, begins, subject)


def _first_of(keys: np.ndarray) -> Int64[np.ndarray, " rows"]:
    """Returns, for each row of sorted keys, the first row with the same key."""
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    return np.repeat(starts, np.diff(np.concatenate([starts, [len(keys)]])))


def _assigned(
    events: Events, begins: np.ndarray, subject: np.ndarray
) -> Int64[np.ndarray, " events"]:
    """Returns the visit of each event: the last one begun, or the first begun at its time."""
    running = np.cumsum(begins) - 1
    moved = (events.subject[1:] != events.subject[:-1]) | (events.time[1:] != events.time[:-1])
    moment = np.concatenate([[0], np.cumsum(moved)])
    at = np.flatnonzero(begins)[::-1]
    earliest = np.full(moment[-1] + 1, -1)
    earliest[moment[at]] = running[at]  # of several at one time the first is written last
    visit = np.maximum(running, earliest[moment])
    own = (visit >= 0) & (subject[np.maximum(visit, 0)] == events.subject)
    return np.where(own & (events.time != NEVER), visit, -1)


def _codes(
    events: Events, kind: Kind, of: Int64[np.ndarray, " events"], dropped: dict[str, int]
) -> pd.DataFrame:
    """Returns visit and code, and counts the events that have no visit."""
    mine = events.of(kind)
    timed = events.time != NEVER
    admitted = np.isin(events.subject, np.unique(events.subject[of >= 0]))
    for reason, missed in (
        ("without a time", ~timed),
        ("of subjects without an admission", timed & ~admitted),
        ("before the first admission", timed & admitted & (of < 0)),
    ):
        dropped[f"{kind} events {reason}"] = int((mine & missed).sum())
    keep = mine & (of >= 0)
    label, names = pd.factorize(events.texts())
    code = pd.Categorical.from_codes(label[events.meaning[keep]], categories=pd.Index(names))
    return pd.DataFrame({"visit": of[keep], "code": code.remove_unused_categories()})


def _ages(
    events: Events,
    visits: pd.DataFrame,
    of: Int64[np.ndarray, " events"],
    dropped: dict[str, int],
) -> Int64[np.ndarray, " visits"]:
    """Returns the age at each visit: its first age event, or else from the birth, or -1."""
    age = np.full(len(visits), np.nan)
    told = np.flatnonzero(events.of("age") & (of >= 0) & np.isfinite(events.value))[::-1]
    age[of[told]] = np.floor(events.value[told])
    subject = visits["patient"].to_numpy(np.int64)
    born = np.flatnonzero(events.of("birth") & (events.time != NEVER))
    owner, place = np.unique(events.subject[born], return_index=True)
    birth = pd.Series(events.time[born[place]], index=owner, dtype="Int64")
    found = birth.reindex(subject)
    alone = ~np.isin(subject, np.unique(events.subject[told])) & found.notna().to_numpy()
    time = visits["order"].to_numpy(np.int64)
    age[alone] = whole_years(found.to_numpy(np.int64, na_value=0)[alone], time[alone])
    wrong = (age < 0) | (age > _OLDEST)
    dropped["ages out of 0 to 120"] = int(wrong.sum())
    return np.where(wrong | np.isnan(age), -1, age).astype(np.int64)


def whole_years(
    birth: Int64[np.ndarray, " some"], time: Int64[np.ndarray, " some"]
) -> Int64[np.ndarray, " some"]:
    """Returns the birthdays between two times (microseconds), as ages are counted.

    Example:
        >>> days = np.array(["1960-03-15", "2000-03-14", "2000-03-15"], "M8[us]").astype(np.int64)
        >>> whole_years(days[[0, 0]], days[1:]).tolist()
        [39, 40]
    """
    one, two = birth.astype("M8[us]"), time.astype("M8[us]")
    months = (two.astype("M8[M]") - one.astype("M8[M]")).astype(np.int64)
    early = (two - two.astype("M8[M]")) < (one - one.astype("M8[M]"))
    return (months - early) // 12


def _patients(events: Events, visits: pd.DataFrame, dropped: dict[str, int]) -> pd.DataFrame:
    """Returns patient, gender and group of the subjects with a visit; the first event counts."""
    patients = np.unique(visits["patient"].to_numpy(np.int64))
    dropped["subjects without an admission"] = events.subjects - len(patients)
    frame = pd.DataFrame({"patient": patients})
    for name in ("gender", "group"):
        rows = np.flatnonzero(events.of(name))
        text = pd.Series(events.texts()[events.meaning[rows]], index=events.subject[rows])
        first = text[~text.index.duplicated()]
        differ = text.to_numpy() != first.reindex(text.index).to_numpy()
        dropped[f"{name} events that differ from the subject's first"] = int(differ.sum())
        frame[name] = first.reindex(patients).fillna("unknown").to_numpy()
        _refuse_many(f"{name}s", name, frame[name])
    return frame


def _refuse_many(what: str, option: str, names: pd.Series) -> None:
    count = names.nunique()
    if count > _MOST_NAMES:
        raise InputError(
            f"A cohort can have {_MOST_NAMES} {what}, but the pattern `{option}` finds {count}. "
            f"Give another with `--{option}` that keeps less of the code."
        )


def _refuse_nothing(events: Events, kinds: dict[Kind, pd.DataFrame], options: MedsOptions) -> None:
    option_of = {role: option for option, role in _ROLES.items()}
    for kind in options.require:
        if kinds[kind].empty:
            known, unknown = (events.rows.get((kind, known), 0) for known in (True, False))
            option, sort = option_of[kind], "ATC code" if kind == "medications" else "code"
            raise InputError(
                f"No visit has {kind}, which `require` asks for: of the events that match "
                f"`{option}` {known} have an {sort} and {unknown} have something else. Give "
                f"another pattern with `--{option}`, or map the codes when extracting."
            )


def _mapped(events: Events) -> dict[str, int]:
    found = {}
    for kind in KINDS:
        known, unknown = (events.rows.get((kind, is_known), 0) for is_known in (True, False))
        found[f"{kind} events"] = known + unknown
        found[f"{kind} events with a code of the cohort"] = known
    return found


DATASET = Dataset(
    title="MEDS: event data of any hospital in the Medical Event Data Standard, with ATC codes",
    options=MedsOptions,
    load=load,
    needs_source=True,
)
