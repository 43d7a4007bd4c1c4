"""Patients may be shown one by one only where they are made up or published for all to read."""

import csv
from pathlib import Path

import pytest

from medrec.cohort import Provenance
from sweeps.open_data import is_open

LISTS = Path(__file__).parents[2] / "sweeps" / "demos"


def listed(demo: str, *files: str) -> dict[str, str]:
    """sha256 by the file's own name, as a cohort's provenance has it."""
    with (LISTS / f"{demo}.csv").open() as stream:
        digests = {row["file"]: row["sha256"] for row in csv.DictReader(stream)}
    return {Path(file).name: digests[file] for file in files}


MIMIC4 = listed(
    "mimic-iv-demo", "hosp/patients.csv.gz", "hosp/admissions.csv.gz", "hosp/diagnoses_icd.csv.gz"
)
MIMIC3 = listed("mimic-iii-demo", "PATIENTS.csv", "ADMISSIONS.csv")
EICU = listed("eicu-demo", "patient.csv.gz", "medication.csv.gz")
OTHER = "0" * 64


def cohort(dataset: str, inputs: dict[str, str]) -> Provenance:
    return Provenance(dataset=dataset, options={}, inputs=inputs)


@pytest.mark.parametrize(
    ("dataset", "inputs"),
    [
        ("synthetic", {}),
        ("mimic4", MIMIC4),
        ("mimic3", MIMIC3),
        ("eicu", EICU),
        ("mimic4", {**MIMIC4, "drugs.csv": OTHER, "ndc2RXCUI.txt": OTHER}),  # maps of codes
    ],
)
def test_made_up_patients_and_demos_are_open(dataset, inputs):
    assert is_open(cohort(dataset, inputs))


@pytest.mark.parametrize(
    ("dataset", "inputs"),
    [
        ("mimic4", {}),
        ("mimic4", {"drugs.csv": OTHER}),
        ("mimic4", dict.fromkeys(MIMIC4, OTHER)),  # the full data set
        *(("mimic4", {**MIMIC4, name: OTHER}) for name in MIMIC4),  # one table of it
        ("mimic4", {**MIMIC4, "PRESCRIPTIONS.csv": OTHER}),  # in other letters, not compressed
        ("mimic4", {**MIMIC4, "hosp/services.csv": OTHER}),
        ("mimic4", MIMIC3),  # of another data set
        ("meds", {"data/0.parquet": OTHER}),
        ("meds", MIMIC4),
        ("other", {}),
    ],
)
def test_every_other_cohort_is_not(dataset, inputs):
    assert not is_open(cohort(dataset, inputs))
