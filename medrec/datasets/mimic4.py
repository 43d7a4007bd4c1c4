"""MIMIC-IV: admissions as visits, ICD-9 and ICD-10 codes, prescriptions as ATC level 3 classes.

    hosp/patients, admissions, diagnoses_icd, procedures_icd, prescriptions   .csv or .csv.gz

Read from the user's own copy (https://physionet.org/content/mimiciv/) or the open demo
(https://doi.org/10.13026/dp1f-ex47). A code is written with the version it belongs to, "9:4280" or
"10:I5023", because the same characters mean other things in the other version.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field

from medrec.cohort import Kind
from medrec.datasets._base import Dataset
from medrec.errors import KnowledgeError
from medrec.knowledge import ndc as ndc_tables
from medrec.raw_files import find_table, read_table, source_folder
from medrec.raw_table import Table, digests, distinct
from medrec.records import CohortOptions, Records

_COLUMNS = {
    "patients": ("subject_id", "gender", "anchor_age", "anchor_year"),
    "admissions": ("subject_id", "hadm_id", "admittime", "race"),
    "diagnoses_icd": ("hadm_id", "icd_code", "icd_version"),
    "procedures_icd": ("hadm_id", "icd_code", "icd_version"),
    "prescriptions": ("hadm_id", "ndc"),
}
_HEADINGS = {"race": ("race", "ethnicity")}  # named ethnicity up to version 1.0
_TIME = r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d+)?)?)?"
_GROUPS = (
    ("unknown", ("?", "UNKNOWN", "UNABLE TO OBTAIN", "PATIENT DECLINED")),
    ("white", ("WHITE", "PORTUGUESE")),
    ("black", ("BLACK",)),
    ("asian", ("ASIAN",)),
    ("hispanic", ("HISPANIC", "SOUTH AMERICAN")),
)


class Mimic4Options(CohortOptions):
    """Options of `mimic4`."""

    ndc_rxcui: str | None = Field(
        default=None,
        description="csv table NDC to RXCUI; by default all found in or beside the source",
    )
    rxcui_atc: str | None = Field(
        default=None,
        description="csv table RXCUI to ATC; by default all found in or beside the source",
    )
    atc_rule: ndc_tables.Rule = Field(
        default="first",
        description="classes of a drug that has several: the alphabetically first, or all",
    )


def load(source: Path | None, options: Mimic4Options) -> Records:
    """Returns the records of a MIMIC-IV folder.

    Raises:
        InputError: a file is missing or malformed.
        KnowledgeError: a mapping table is, or it knows none of the packages prescribed.
    """
    root = source_folder("mimic4", source)
    folder = root / "hosp" if (root / "hosp").is_dir() else root
    paths = {name: find_table(folder, name) for name in _COLUMNS}
    mapping = ndc_tables.load_mapping(root, options.ndc_rxcui, options.rxcui_atc, options.atc_rule)
    tables = {
        name: read_table(path, {column: _HEADINGS.get(column, (column,)) for column in columns})
        for (name, path), columns in zip(paths.items(), _COLUMNS.values(), strict=True)
    }
    dropped: dict[str, int] = {}
    admissions = _admissions(tables["admissions"], tables["patients"], dropped)
    kinds: dict[Kind, pd.DataFrame] = {
        "diagnoses": _icd(tables["diagnoses_icd"], admissions["visit"], dropped),
        "procedures": _icd(tables["procedures_icd"], admissions["visit"], dropped),
    }
    medications, mapped = _medications(
        tables["prescriptions"], admissions["visit"], mapping, dropped
    )
    return Records(
        patients=_patients(tables["patients"], admissions, dropped),
        visits=admissions[["visit", "patient", "admitted"]],
        codes={**kinds, "medications": medications},
        dropped=dropped,
        mapped=mapped,
        inputs={**digests(tables.values()), **mapping.inputs},
    )


def group_of(race: str) -> str:
    """Returns the broad group of a `race` as MIMIC writes it, e.g. "WHITE - RUSSIAN".

    Example:
        >>> group_of("HISPANIC/LATINO - CUBAN"), group_of("PATIENT DECLINED TO ANSWER")
        ('hispanic', 'unknown')
    """
    text = race.upper()
    starts = (group for group, words in _GROUPS if text.startswith(words))
    return next(starts, "other") if text else "unknown"


def _admissions(table: Table, patients: Table, dropped: dict[str, int]) -> pd.DataFrame:
    """Returns visit, patient, admitted (days since 1970), year and group, in order of time."""
    table.require_unique("hadm_id")
    moments = _moments(table, "admittime")
    groups = np.array([group_of(race) for race in table["race"].names], dtype=object)
    frame = pd.DataFrame(
        {
            "visit": table.integers("hadm_id")[table["hadm_id"].index],
            "patient": table.integers("subject_id")[table["subject_id"].index],
            "admitted": moments.astype(np.int64)[table["admittime"].index] / 86400,
            "year": moments.astype("datetime64[Y]").astype(np.int64)[table["admittime"].index]
            + 1970,
            "group": groups[table["race"].index],
        }
    )
    known = frame["patient"].isin(patients.integers("subject_id"))
    dropped["admissions of unknown patients"] = int((~known).sum())
    return frame[known].sort_values(["patient", "admitted", "visit"], ignore_index=True)


def _moments(table: Table, name: str) -> np.ndarray:
    """Returns the time behind each of a column's names, as datetime64[s]."""
    names = pd.Series(table[name].names, dtype=object)
    iso = names.where(names.str.fullmatch(_TIME))
    moments = pd.to_datetime(iso, format="ISO8601", errors="coerce")
    row = table[name].first(moments.isna())
    if row is not None:
        raise table.wrong(name, row, "must be a date and time as 2150-01-31 14:05:00")
    return moments.to_numpy().astype("datetime64[s]")


def _patients(table: Table, admissions: pd.DataFrame, dropped: dict[str, int]) -> pd.DataFrame:
    """Returns patient, gender, age and group at the first admission."""
    table.require_unique("subject_id")
    table.require("anchor_age", _is_age, "must be years of age, 0 to 120, or empty")
    spread = {name: table[name].index for name in _COLUMNS["patients"]}
    frame = pd.DataFrame(
        {
            "patient": table.integers("subject_id")[spread["subject_id"]],
            "gender": np.array(table["gender"].names, dtype=object)[spread["gender"]],
            "anchor_age": table.integers("anchor_age", empty=-1)[spread["anchor_age"]],
            "anchor_year": table.integers("anchor_year")[spread["anchor_year"]],
        }
    )
    first = admissions.drop_duplicates("patient")
    joined = frame.merge(first[["patient", "year", "group"]], on="patient")
    dropped["patients without admissions"] = len(frame) - len(joined)
    age = (joined["anchor_age"] + joined["year"] - joined["anchor_year"]).clip(lower=0)
    joined["age"] = age.where(joined["anchor_age"] >= 0, -1)
    joined["gender"] = joined["gender"].replace("", "unknown")
    return joined[["patient", "gender", "age", "group"]]


def _is_age(value: str) -> bool:
    return not value or (value.isascii() and value.isdecimal() and int(value) <= 120)


def _icd(table: Table, visits: pd.Series, dropped: dict[str, int]) -> pd.DataFrame:
    """Returns visit and code; the version leads the code."""
    table.require("icd_version", lambda version: version in ("9", "10"), "must be 9 or 10")
    versions, codes = table["icd_version"].names, table["icd_code"].names
    (hadm, version, code), counts = distinct(
        table["hadm_id"], table["icd_version"], table["icd_code"]
    )
    visit, known = _known(table, hadm, counts, visits, dropped)
    filled = np.array([bool(name) for name in codes])[code]
    what = _stem(table)
    dropped[f"{what} rows without a code"] = int(counts[known & ~filled].sum())
    names = [f"{version}:{code}" for version in versions for code in codes]
    keep = known & filled
    return _coded(visit[keep], names, (version * len(codes) + code)[keep])


def _medications(
    table: Table,
    visits: pd.Series,
    mapping: ndc_tables.NdcMapping,
    dropped: dict[str, int],
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Returns visit and ATC class, and how many rows each step of the mapping found."""
    (hadm, package), counts = distinct(table["hadm_id"], table["ndc"])
    visit, known = _known(table, hadm, counts, visits, dropped)
    visit, package, counts = visit[known], package[known], counts[known]
    ndcs = [ndc_tables.normalise(name) for name in table["ndc"].names]
    classes = [mapping.of(ndc) for ndc in ndcs]
    mapped = {"prescriptions rows": int(counts.sum())}
    steps = {
        "with an NDC": [ndc is not None for ndc in ndcs],
        "whose NDC has an RXCUI": [ndc in mapping.rxcui for ndc in ndcs],
        "whose RXCUI has an ATC class": [bool(found) for found in classes],
    }
    for step, reached in steps.items():
        mapped[f"prescriptions rows {step}"] = int(counts[np.array(reached)[package]].sum())
    if not mapped["prescriptions rows whose RXCUI has an ATC class"]:
        raise KnowledgeError(
            f"{table.path}: no NDC could be mapped to an ATC class ({mapped}) with the tables "
            f"{sorted(mapping.inputs)}. Name others with `ndc_rxcui` and `rxcui_atc`."
        )
    row, name, names = _exploded(package, classes)
    mapped["distinct ATC classes"] = len({names[i] for i in np.unique(name)})
    return _coded(visit[row], names, name), mapped


def _known(
    table: Table,
    hadm: np.ndarray,
    counts: np.ndarray,
    visits: pd.Series,
    dropped: dict[str, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the visit key of each distinct row, and whether there is such a visit."""
    keys = table.integers("hadm_id", empty=-1)
    known = np.isin(keys, visits.to_numpy())[hadm]
    dropped[f"{_stem(table)} rows of unknown admissions"] = int(counts[~known].sum())
    return keys[hadm], known


def _exploded(
    package: np.ndarray, classes: list[tuple[str, ...]]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Returns (row, index of a name) for each class of each row's package, and the names."""
    sizes = np.array([len(found) for found in classes])
    starts = np.cumsum(sizes) - sizes
    repeats = sizes[package]
    row = np.repeat(np.arange(len(package)), repeats)
    within = np.arange(len(row)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    return row, starts[package][row] + within, [name for found in classes for name in found]


def _coded(visit: np.ndarray, names: list[str], index: np.ndarray) -> pd.DataFrame:
    """Returns visit and code as a categorical: millions of rows share a few thousand strings."""
    label, categories = pd.factorize(np.array(names, dtype=object))
    code = pd.Categorical.from_codes(label[index], categories=pd.Index(categories))
    return pd.DataFrame({"visit": visit, "code": code.remove_unused_categories()})


def _stem(table: Table) -> str:
    return table.path.name.lower().split(".")[0]


DATASET = Dataset(
    title="MIMIC-IV: hospital admissions, ICD-9 and ICD-10, prescriptions as ATC level 3",
    options=Mimic4Options,
    load=load,
    needs_source=True,
)
