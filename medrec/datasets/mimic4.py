"""MIMIC-IV: admissions as visits, ICD-9 and ICD-10 codes, prescriptions as ATC level 3 classes.

    hosp/patients, admissions, diagnoses_icd, procedures_icd, prescriptions   .csv or .csv.gz
    hosp/services                                                              if it is there

Read from the user's own copy (https://physionet.org/content/mimiciv/) or the open demo
(https://doi.org/10.13026/dp1f-ex47). A code is written with the version it belongs to, "9:4280" or
"10:I5023", because the same characters mean other things in the other version. Ages over 89, which
the data hide, count as 90.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from medrec.datasets._base import Dataset
from medrec.datasets._mimic import MimicFiles, admissions, patients_of, records_of
from medrec.datasets._options import HospitalOptions
from medrec.datasets._stays import OVER_89
from medrec.raw_files import find_table, read_table, source_folder
from medrec.raw_table import Table
from medrec.records import Records

_PATIENTS = {name: (name,) for name in ("subject_id", "gender", "anchor_age", "anchor_year")}
_ADMISSIONS = {
    "subject_id": ("subject_id",),
    "hadm_id": ("hadm_id",),
    "admittime": ("admittime",),
    "race": ("race", "ethnicity"),  # named ethnicity up to version 1.0
}
_ICD = {"hadm_id": ("hadm_id",), "code": ("icd_code",), "version": ("icd_version",)}
_PRESCRIPTIONS = {
    "hadm_id": ("hadm_id",),
    "ndc": ("ndc",),
    "drug": ("drug",),
    "start": ("starttime",),
}
_OLDEST = 120


class Mimic4Options(HospitalOptions):
    """Options of `mimic4`."""

    dataset = "mimic4"


def load(source: Path | None, options: Mimic4Options) -> Records:
    """Returns the records of a MIMIC-IV folder.

    Raises:
        InputError: a file is missing or malformed.
        KnowledgeError: a mapping table is, or no prescription can be classified.
    """
    root = source_folder("mimic4", source)
    folder = root / "hosp" if (root / "hosp").is_dir() else root
    patients = read_table(find_table(folder, "patients"), _PATIENTS)
    stays = read_table(find_table(folder, "admissions"), _ADMISSIONS)
    dropped: dict[str, int] = {}
    frame = _with_age(admissions(stays, patients, dropped), patients, dropped)
    files = MimicFiles(root, folder, {"icd": _ICD, "prescriptions": _PRESCRIPTIONS})
    people = patients_of(patients, frame, dropped)
    return records_of(files, [patients, stays], people, frame, options, dropped)


def _with_age(stays: pd.DataFrame, patients: Table, dropped: dict[str, int]) -> pd.DataFrame:
    """Returns the admissions with the age at each: in the anchor year, plus years since."""
    patients.require_unique("subject_id")
    patients.require("anchor_age", _is_age, f"must be years of age, 0 to {_OLDEST}, or empty")
    anchors = pd.DataFrame(
        {
            "age": patients.integers("anchor_age", empty=-1)[patients["anchor_age"].index],
            "year": patients.integers("anchor_year")[patients["anchor_year"].index],
        },
        index=patients.integers("subject_id")[patients["subject_id"].index],
    )
    anchor = anchors.loc[stays["patient"]]
    admitted = stays["order"].to_numpy().astype("datetime64[s]").astype("datetime64[Y]")
    years = admitted.astype(np.int64) + 1970 - anchor["year"].to_numpy()
    age = anchor["age"].to_numpy() + years
    known = anchor["age"].to_numpy() >= 0
    impossible = known & ((age < 0) | (age > _OLDEST))
    dropped[f"ages below 0 or above {_OLDEST} years, taken as unknown"] = int(impossible.sum())
    # Ages over 89 are hidden as 91; with the years since they would look exact.
    return stays.assign(age=np.where(known & ~impossible, np.minimum(age, OVER_89), -1))


def _is_age(value: str) -> bool:
    return not value or (value.isascii() and value.isdecimal() and int(value) <= _OLDEST)


DATASET = Dataset(
    title="MIMIC-IV: hospital admissions, ICD-9 and ICD-10, prescriptions as ATC level 3",
    options=Mimic4Options,
    load=load,
    needs_source=True,
)
