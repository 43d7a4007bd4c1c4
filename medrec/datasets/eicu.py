"""eICU: intensive-care stays of many hospitals; diagnoses, drugs by name, no procedures.

    patient, diagnosis, medication    .csv or .csv.gz
    treatment                         for `procedures: treatments`

Read from the user's own copy (https://physionet.org/content/eicu-crd/2.0/) or the open demo
(https://doi.org/10.13026/4mxk-na84).

**Order.** The data say in which order the unit stays of one hospital stay came, and the year of
each hospital stay, but not the order of the hospital stays of one year. So by default a patient is
one hospital stay and a visit one of its unit stays. With `patient: uniquepid`, stays whose place
is not known are left out unless `unordered: kept`.

**Codes.** A diagnosis is written as "518.81, J96.00": ICD-9 codes, then the same in ICD-10. A drug
often has no name but a number of its active ingredients (HICL); other rows of the same number tell
the name.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int64
from pydantic import Field, model_validator

from medrec.cohort import Kind
from medrec.datasets._base import Dataset
from medrec.datasets._gathering import RARE, Found, Gatherer, order_by_count
from medrec.datasets._icd import Icd, IcdCodes
from medrec.datasets._options import CodingOptions
from medrec.datasets._stays import OVER_89, Stays, categories, genders
from medrec.demographics import group_of
from medrec.errors import KnowledgeError
from medrec.knowledge.drug_names import load_drug_names
from medrec.knowledge.folders import knowledge_folders
from medrec.raw_files import find_table, read_blocks, read_table, source_folder
from medrec.raw_table import Table, digests, distinct
from medrec.records import Records

_PATIENT = {
    name: (name,)
    for name in (
        "patientunitstayid", "patienthealthsystemstayid", "uniquepid", "gender", "age",
        "ethnicity", "hospitaladmitoffset", "hospitaldischargeyear", "unitvisitnumber", "unittype",
    )
}  # fmt: skip
Headings = Mapping[str, tuple[str, ...]]
_UNIT: Headings = {"unit": ("patientunitstayid",)}
_DIAGNOSIS: Headings = {**_UNIT, "code": ("icd9code",)}
_TREATMENT: Headings = {**_UNIT, "treatment": ("treatmentstring",)}
_MEDICATION: Headings = {
    **_UNIT,
    "name": ("drugname",),
    "hicl": ("drughiclseqno",),
    "gtc": ("gtc",),
    "cancelled": ("drugordercancelled",),
    "start": ("drugstartoffset",),
}
_ICD9 = re.compile(r"\d{3}(\.\d{1,2})?|V\d\d(\.\d{1,2})?|E\d{3}(\.\d)?", re.ASCII)
_ICD10 = re.compile(r"[A-Z]\d[0-9A-Z](\.[0-9A-Z]{1,4})?", re.ASCII)
_HIDDEN = "> 89"
_AGES = re.compile(r"\d{1,2}|1[01]\d|120|> 89|", re.ASCII)
_YEARS = re.compile(r"20[0-9]{2}")
_MINUTES = re.compile(r"-?\d{1,9}", re.ASCII)
_STAYED = re.compile(r"-?\d{1,7}", re.ASCII)  # up to 19 years
_PERSON = re.compile(r"\d{1,3}-\d{1,9}", re.ASCII)
_TURN = re.compile(r"[1-9][0-9]{0,2}")
_PATH = re.compile(r"[\x20-\x7e]+\|[\x20-\x7e]+")
_DAY = 1440  # minutes
_YEAR = 365.25  # days


class EicuOptions(CodingOptions):
    """Options of `eicu`."""

    dataset = "eicu"

    icd: Icd = Field(
        default="9",
        description="ICD version to keep of each pair, or to map to; `both` keeps the same fact "
        "twice",
    )
    diagnosis_cell: Literal["split", "written"] = Field(
        default="split",
        description="what a cell as '518.81, J96.00' becomes: its codes, or one code as it is "
        "written (published)",
    )
    patient: Literal["patienthealthsystemstayid", "uniquepid"] = Field(
        default="patienthealthsystemstayid",
        description="what a patient is: a hospital stay, or a person",
    )
    visit: Literal["unit", "hospital"] = Field(
        default="unit", description="what a visit is: a stay in a unit, or in the hospital"
    )
    unordered: Literal["dropped", "kept"] = Field(
        default="dropped",
        description="a person's hospital stays of one year, whose order is not known",
    )
    split_by: Literal["person", "patient"] = Field(
        default="person",
        description="whose stays stay in one split; patient (published) may put hospital stays of "
        "one person into training and test",
    )
    over_89: Literal["kept", "dropped"] = Field(
        default="kept", description="patients whose age is hidden as '> 89'; they count as 90"
    )
    drug_code: Literal["atc", "gtc"] = Field(
        default="atc",
        description="what a drug becomes: its ATC class by name, or its GTC number (published)",
    )
    cancelled: Literal["dropped", "kept"] = Field(
        default="dropped", description="drug orders that were cancelled"
    )
    medication_window: Literal["stay", "first_24_hours"] = Field(
        default="stay",
        description="orders that count: all, or those that start less than 24 hours after "
        "admission to the unit",
    )
    procedures: Literal["none", "treatments"] = Field(
        default="none",
        description="third stream: eICU has no procedure codes; its treatments may stand for them",
    )

    @model_validator(mode="after")
    def _agree(self) -> "EicuOptions":
        if self.diagnosis_cell == "written" and self.icd.startswith("map-to-"):
            raise ValueError(f"icd {self.icd} maps codes, but diagnosis_cell is written: split it")
        return self


def load(source: Path | None, options: EicuOptions) -> Records:
    """Returns the records of an eICU folder.

    Raises:
        InputError: a file is missing or malformed.
        KnowledgeError: a mapping table is, or no drug could be classified.
    """
    root = source_folder("eicu", source)
    folders = knowledge_folders(root, options.knowledge)
    dropped: dict[str, int] = {}
    table = read_table(find_table(root, "patient"), _PATIENT)
    people, stays = _stays(table, options, dropped)
    reader = _Reader(root, stays, dropped)
    diagnoses, drugs = _Diagnoses(options, folders), _Drugs(root, options, folders)
    medications, prescribed = reader.medications(drugs, options)
    found: dict[Kind, pd.DataFrame] = {
        "diagnoses": reader.gather("diagnosis", _DIAGNOSIS, ("code",), diagnoses.find),
        "procedures": pd.DataFrame({"visit": np.empty(0, np.int64), "code": []}),
        "medications": medications,
    }
    if options.procedures == "treatments":
        found["procedures"] = reader.gather("treatment", _TREATMENT, ("treatment",), _treatment)
    return Records(
        patients=people,
        visits=stays.visits,
        codes=found,
        prescribed=prescribed,
        dropped=dropped,
        mapped=reader.mapped,
        unmapped=reader.unmapped,
        inputs={**digests([table.path, *reader.paths]), **diagnoses.inputs, **drugs.inputs},
    )


def _stays(
    table: Table, options: EicuOptions, dropped: dict[str, int]
) -> tuple[pd.DataFrame, Stays]:
    """Returns patients and visits; every unit stay's key leads to its visit."""
    units = _units(table)
    if options.over_89 == "dropped":
        units = _kept(units, ~units["hidden"], "unit stays of patients over 89", dropped)
    hospital = "patienthealthsystemstayid"
    if options.patient == "uniquepid" and options.unordered == "dropped":
        each = units.drop_duplicates(hospital)
        same = each.groupby(["patient", "year"])[hospital].transform("size") > 1
        lost = units[hospital].isin(each.loc[same, hospital])
        _kept(each, ~same, "hospital stays of one year, in unknown order", dropped)
        units = units[~lost]
    key = "unit" if options.visit == "unit" else hospital
    units = units.assign(person=units["patient"])
    if options.patient == hospital:
        units = units.assign(patient=units[hospital])
    if options.split_by == "patient":
        units = units.assign(person=units["patient"])
    first = units.drop_duplicates(key)
    visits = first.assign(visit=first[key]).reset_index(drop=True)
    if options.visit == "hospital":
        visits["admitted"] = visits["year"] * _YEAR  # no more than the year is known
        visits["order"] = visits["year"]
    row = pd.Series(np.arange(len(visits)), index=visits["visit"])
    stays = Stays.under(
        visits[["visit", "patient", "admitted", "order", "age", "service"]],
        units["unit"].to_numpy(np.int64),
        row.loc[units[key]].to_numpy(np.int64),
    )
    people = visits.sort_values("order", kind="stable").drop_duplicates("patient")
    return people[["patient", "person", "gender", "group"]], stays


def _units(table: Table) -> pd.DataFrame:
    """Returns the unit stays, each hospital stay's in its order."""
    table.require_unique("patientunitstayid")
    table.require("age", lambda v: bool(_AGES.fullmatch(v)), "must be 0 to 120, '> 89' or empty")
    table.require("hospitaldischargeyear", lambda v: bool(_YEARS.fullmatch(v)), "must be a year")
    table.require("hospitaladmitoffset", lambda v: bool(_STAYED.fullmatch(v)), "must be minutes")
    table.require("uniquepid", lambda v: bool(_PERSON.fullmatch(v)), "must be as 002-1039")
    table.require("unitvisitnumber", lambda v: bool(_TURN.fullmatch(v)), "must be 1, 2, 3, …")
    ages = {"": -1, _HIDDEN: OVER_89}
    keys = ("patientunitstayid", "patienthealthsystemstayid", "unitvisitnumber")
    unit, hospital, number = (table.integers(key)[table[key].index] for key in keys)
    year = table.integers("hospitaldischargeyear")[table["hospitaldischargeyear"].index]
    age = [ages.get(name) if name in ages else int(name) for name in table["age"].names]
    minutes = np.array([int(name) for name in table["hospitaladmitoffset"].names])
    groups = np.array([group_of(name) for name in table["ethnicity"].names], dtype=object)
    frame = pd.DataFrame(
        {
            "unit": unit,
            "patienthealthsystemstayid": hospital,
            "patient": _persons(table),
            "gender": genders(table, "gender"),
            "group": groups[table["ethnicity"].index],
            "service": categories(table, "unittype"),
            "age": np.array(age)[table["age"].index],
            "hidden": np.array([name == _HIDDEN for name in table["age"].names])[
                table["age"].index
            ],
            "year": year,
            "admitted": year * _YEAR - minutes[table["hospitaladmitoffset"].index] / _DAY,
            "number": number,
        }
    )
    place = ["year", "patienthealthsystemstayid", "number", "unit"]
    frame = frame.sort_values(place, ignore_index=True)
    return frame.assign(order=np.arange(len(frame)))  # no two hospital stays interleaved


def _persons(table: Table) -> pd.Series:
    names = np.array(table["uniquepid"].names, dtype=object)
    return pd.Series(names[table["uniquepid"].index])


def _kept(
    frame: pd.DataFrame, keep: pd.Series, what: str, dropped: dict[str, int]
) -> pd.DataFrame:
    dropped[what] = int((~keep).sum())
    return frame[keep]


@dataclass
class _Reader:
    """Reads the tables that name a unit stay, and counts rows for the card."""

    root: Path
    stays: Stays
    dropped: dict[str, int]
    paths: list[Path] = field(default_factory=list)
    mapped: dict[str, int] = field(default_factory=dict)
    unmapped: dict[str, dict[str, int]] = field(default_factory=dict)

    def gather(
        self,
        name: str,
        headings: Headings,
        cells: tuple[str, ...],
        find: Callable[[tuple[str, ...]], Found],
    ) -> pd.DataFrame:
        """Returns visit and code of a table."""
        gatherer = Gatherer(find)
        for table, stay in self._blocks(name, headings):
            gatherer.add(stay, *(table[cell] for cell in cells))
        return self._counted(name, gatherer)

    def medications(
        self, drugs: "_Drugs", options: EicuOptions
    ) -> tuple[pd.DataFrame, Int64[np.ndarray, " visits"]]:
        """Returns visit and code of the drug orders that count, and the visits that have any."""
        gatherer = Gatherer(drugs.find)
        seen = np.zeros(len(self.stays.visits), dtype=bool)
        lost = Counter[str]()
        for table, stay in self._blocks("medication", _MEDICATION):
            keep = np.ones(len(stay), dtype=bool)
            if options.cancelled == "dropped":
                marks = np.array([name.lower() == "yes" for name in table["cancelled"].names])
                keep = ~marks[table["cancelled"].index]
                lost["medication rows of cancelled orders"] += int((~keep).sum())
            if options.medication_window == "first_24_hours":
                late = ~_early(table)
                lost["medication rows out of the window"] += int((keep & late).sum())
                keep &= ~late
            seen[stay[keep]] = True
            gatherer.add(stay[keep], *(table[name].rows(keep) for name in drugs.cells))
        self.dropped.update(lost)
        visits = self.stays.visits["visit"].to_numpy(np.int64)[seen]
        medications = self._counted("medication", gatherer)
        if medications.empty and len(visits):
            raise KnowledgeError(
                f"{self.paths[-1]}: no drug could be classified. Give tables of drug names in a "
                "folder with `knowledge`."
            )
        return medications, visits

    def _blocks(
        self, name: str, headings: Headings
    ) -> Iterator[tuple[Table, Int64[np.ndarray, " rows"]]]:
        """Yields the rows of known unit stays, with their visits."""
        path = find_table(self.root, name)
        self.paths.append(path)
        unknown = f"{name} rows of unit stays unknown or left out"
        self.dropped.setdefault(unknown, 0)
        for block in read_blocks(path, headings):
            stay = self.stays.find(block, "unit")
            self.dropped[unknown] += int((stay < 0).sum())
            yield block.only(stay >= 0), stay[stay >= 0]

    def _counted(self, name: str, gatherer: Gatherer) -> pd.DataFrame:
        self.mapped[f"{name} rows"] = sum(gatherer.rows.values())
        self.mapped |= {f"{name} rows {step}": n for step, n in sorted(gatherer.rows.items())}
        self.unmapped |= gatherer.listed(RARE)
        return gatherer.frame(self.stays)


def _early(table: Table) -> Bool[np.ndarray, " rows"]:
    """Returns which orders start less than 24 hours after admission to the unit."""
    table.require("start", lambda v: bool(_MINUTES.fullmatch(v)), "must be minutes")
    early = [bool(_MINUTES.fullmatch(v)) and int(v) < _DAY for v in table["start"].names]
    return np.array(early, dtype=bool)[table["start"].index]


class _Diagnoses:
    """Decides what a cell of diagnosis codes becomes."""

    def __init__(self, options: EicuOptions, folders: Sequence[Path]) -> None:
        self._written = options.diagnosis_cell == "written"
        self._mapping = options.icd.startswith("map-to-")
        self._codes = IcdCodes("diagnoses", options.icd, folders)

    @property
    def inputs(self) -> dict[str, str]:
        """sha256 of the mapping table used, by file name."""
        return self._codes.inputs

    def find(self, cells: tuple[str, ...]) -> Found:
        """Returns the codes of a cell as "518.81, J96.00"."""
        if not cells[0]:
            return Found("without a code", ())
        if self._written:
            return Found("as written", (cells[0],))
        versions = icd_versions(cells[0])
        if "" in versions.values():
            return Found("malformed", (), ("diagnosis codes that are malformed", cells[0]))
        found = [(version, self._codes.find(version, code)) for code, version in versions.items()]
        kept = [(version, each) for version, each in found if each.codes]
        if not kept:
            return found[0][1]
        if self._mapping:  # the same fact in the other version is not mapped a second time
            own = [each for version, each in kept if "mapped" not in each.step]
            names = {code for each in own or [each for _, each in kept] for code in each.codes}
        else:
            names = {code for _, each in kept for code in each.codes}
        return Found(kept[0][1].step, tuple(sorted(names)))


def icd_versions(cell: str) -> dict[str, str]:
    """Returns the version of each code of a cell, "" for what is no code.

    ICD-9 codes stand first. A "V" or "E" code that either version could have is ICD-9 unless an
    ICD-10 code stands before it.

    Example:
        >>> icd_versions("V62.84, R45.851"), icd_versions("E87.1")
        ({'V62.84': '9', 'R45.851': '10'}, {'E87.1': '10'})
    """
    versions: dict[str, str] = {}
    for part in cell.split(","):
        code = part.strip().upper()
        if not code:
            continue
        letter = code[:1].isalpha()
        if _ICD9.fullmatch(code) and not (letter and "10" in versions.values()):
            versions[code] = "9"
        else:
            versions[code] = "10" if _ICD10.fullmatch(code) else ""
    return versions


def _treatment(cells: tuple[str, ...]) -> Found:
    if not cells[0]:
        return Found("without one", ())
    if not _PATH.fullmatch(cells[0]):  # it would stand in the vocabulary, whatever it is
        return Found("malformed", ())
    return Found("with a treatment", (cells[0],))


class _Drugs:
    """Decides what a drug order becomes.

    Attributes:
        cells: columns that decide.
        inputs: sha256 of the tables used, by file name.
    """

    def __init__(self, root: Path, options: EicuOptions, folders: Sequence[Path]) -> None:
        self.inputs: dict[str, str] = {}
        self.cells: tuple[str, ...] = ("gtc",)
        if options.drug_code == "atc":
            self.cells = ("name", "hicl")
            self._names = load_drug_names(folders, options.atc_rule)
            self.inputs = self._names.origin.inputs
            self._of_hicl = names_of_hicl(find_table(root, "medication"))

    def find(self, cells: tuple[str, ...]) -> Found:
        """Returns the classes of a row's (name, HICL), or its GTC number."""
        if self.cells == ("gtc",):
            gtc = cells[0]
            return Found("without a GTC", ()) if gtc in ("", "0") else Found("with one", (gtc,))
        own, hicl = cells
        other = self._of_hicl.get(hicl, "")
        if not own and not other:
            return Found("without a name", ())
        match, how = self._names.find(own or other), "by name"
        if not own or (match.step == "unknown" and other):
            match, how = self._names.find(other), "by the name of another row of its HICL"
        if match.step == "excluded":
            return Found("of diluents and supplies, left out", ())
        if match.step == "unknown":
            return Found("not classified", (), ("drug name", own or other))
        return Found(f"classified {how}", match.classes)


def names_of_hicl(path: Path) -> dict[str, str]:
    """Returns the most frequent drug name of each HICL number but 0; of equal ones the first."""
    counts: dict[str, Counter[str]] = {}
    headings = {name: _MEDICATION[name] for name in ("name", "hicl")}
    for table in read_blocks(path, headings):
        (hicl, name), rows = distinct(table["hicl"], table["name"])
        for h, n, count in zip(hicl.tolist(), name.tolist(), rows.tolist(), strict=True):
            number, text = table["hicl"].names[h], table["name"].names[n]
            if number not in ("", "0") and text:
                counts.setdefault(number, Counter())[text] += count
    return {number: order_by_count(names)[0][0] for number, names in counts.items()}


DATASET = Dataset(
    title="eICU: intensive-care stays, ICD-9 or ICD-10, drugs by name as ATC level 3",
    options=EicuOptions,
    load=load,
    needs_source=True,
)
