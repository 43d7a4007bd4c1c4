"""MIMIC-III: admissions as visits, ICD-9 codes, prescriptions as ATC level 3 classes.

    PATIENTS, ADMISSIONS, DIAGNOSES_ICD, PROCEDURES_ICD, PRESCRIPTIONS   .csv or .csv.gz
    SERVICES                                                            if it is there

Read from the user's own copy (https://physionet.org/content/mimiciii/1.4/) or the open demo
(https://doi.org/10.13026/C2HM2Q). Names of files and columns may have any case. Patients older
than 89 have a date of birth some 300 years back; they count as 90.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from medrec.datasets._base import Dataset
from medrec.datasets._mimic import MimicFiles, admissions, patients_of, records_of
from medrec.datasets._options import HospitalOptions
from medrec.datasets._stays import OVER_89, seconds
from medrec.raw_files import find_table, read_table, source_folder
from medrec.raw_table import Table
from medrec.records import Records

_PATIENTS = {name: (name,) for name in ("subject_id", "gender", "dob")}
_ADMISSIONS = {
    "subject_id": ("subject_id",),
    "hadm_id": ("hadm_id",),
    "admittime": ("admittime",),
    "race": ("ethnicity",),
}
_ICD = {"hadm_id": ("hadm_id",), "code": ("icd9_code",)}
_PRESCRIPTIONS = {
    "hadm_id": ("hadm_id",),
    "ndc": ("ndc",),
    "drug": ("drug",),
    "start": ("startdate",),
    "icu_stay": ("icustay_id",),
}
_HIDDEN = 89  # years above which ages are hidden
_SHIFT = (290, 340)  # apparent years of such patients
_OLDEST = 120


class Mimic3Options(HospitalOptions):
    """Options of `mimic3`."""

    dataset = "mimic3"


def load(source: Path | None, options: Mimic3Options) -> Records:
    """Returns the records of a MIMIC-III folder.

    Raises:
        InputError: a file is missing or malformed.
        KnowledgeError: a mapping table is, or no prescription can be classified.
    """
    root = source_folder("mimic3", source)
    patients = read_table(find_table(root, "patients"), _PATIENTS)
    stays = read_table(find_table(root, "admissions"), _ADMISSIONS)
    dropped: dict[str, int] = {}
    frame = _with_age(admissions(stays, patients, dropped), patients, dropped)
    files = MimicFiles(root, root, {"icd": _ICD, "prescriptions": _PRESCRIPTIONS})
    people = patients_of(patients, frame, dropped)
    return records_of(files, [patients, stays], people, frame, options, dropped)


def _with_age(stays: pd.DataFrame, patients: Table, dropped: dict[str, int]) -> pd.DataFrame:
    """Returns the admissions with the age at each.

    Raises:
        InputError: a patient stands twice.
    """
    patients.require_unique("subject_id")
    born = pd.Series(
        seconds(patients, "dob")[patients["dob"].index].astype("datetime64[s]"),
        index=patients.integers("subject_id")[patients["subject_id"].index],
    )
    birth = pd.to_datetime(born.loc[stays["patient"]]).reset_index(drop=True)
    admitted = pd.Series(stays["order"].to_numpy().astype("datetime64[s]"))
    before = (admitted.dt.month * 100 + admitted.dt.day) < (birth.dt.month * 100 + birth.dt.day)
    age = (admitted.dt.year - birth.dt.year - before).to_numpy()
    hidden = (age >= _SHIFT[0]) & (age <= _SHIFT[1])
    impossible = (age < 0) | (age > _OLDEST) & ~hidden
    dropped["ages below 0 or above 120 years, taken as unknown"] = int(impossible.sum())
    return stays.assign(age=np.where(impossible, -1, np.where(age > _HIDDEN, OVER_89, age)))


DATASET = Dataset(
    title="MIMIC-III: hospital admissions, ICD-9, prescriptions as ATC level 3",
    options=Mimic3Options,
    load=load,
    needs_source=True,
)
