"""A hand-made MIMIC-III folder, and what tests of real and hand-made folders share.

Patient 20 was admitted twice; the later admission has the smaller HADM_ID. Patient 10 is over 89:
the date of birth is 300 years back. Patient 20's first stay begins on the eve of the 61st
birthday. 201 has two ICU stays and a prescription of the ward.

NDC table: 11111111111 -> RXCUI 500 -> {N02B, C03A}; 22222222222 -> 600 -> {A10A}.
"""

import csv
import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from medrec.cohort import Cohort, Kind
from medrec.datasets import _prescribing, eicu
from tests.medrec.datasets.mimic4_files import TABLES as MIMIC4
from tests.medrec.datasets.mimic4_files import write_csv
from tests.shared_data import ROOT

TABLES = {
    "PATIENTS": """ROW_ID,SUBJECT_ID,GENDER,DOB,DOD
1,20,F,2090-03-02 00:00:00,
2,10,M,1860-01-01 00:00:00,
3,30,F,2110-05-05 00:00:00,
""",
    "ADMISSIONS": """ROW_ID,SUBJECT_ID,HADM_ID,ADMITTIME,ETHNICITY
1,20,201,2152-03-02 12:00:00,UNKNOWN/NOT SPECIFIED
2,20,202,2151-03-01 23:59:00,WHITE - RUSSIAN
3,10,101,2160-06-01 10:00:00,ASIAN - CHINESE
4,30,301,2150-05-05 08:00:00,PATIENT DECLINED TO ANSWER
""",
    "SERVICES": """ROW_ID,SUBJECT_ID,HADM_ID,TRANSFERTIME,PREV_SERVICE,CURR_SERVICE
1,20,201,2152-03-04 00:00:00,MED,CSURG
2,20,201,2152-03-02 12:30:00,,MED
3,20,202,2151-03-02 00:30:00,,CMED
4,10,101,2160-06-01 10:30:00,,MED
5,30,301,2150-05-05 08:30:00,,MED
""",
    "DIAGNOSES_ICD": """ROW_ID,SUBJECT_ID,HADM_ID,SEQ_NUM,ICD9_CODE
1,20,201,1,0389
2,20,201,2,4280
3,20,202,1,4280
4,10,101,1,V5861
5,30,301,1,E8788
6,30,301,2,
""",
    "PROCEDURES_ICD": """ROW_ID,SUBJECT_ID,HADM_ID,SEQ_NUM,ICD9_CODE
1,20,201,1,0331
2,10,101,1,9604
""",
    "PRESCRIPTIONS": """ROW_ID,SUBJECT_ID,HADM_ID,ICUSTAY_ID,STARTDATE,DRUG,NDC
1,20,201,7,2152-03-03 00:00:00,a,11111111111
2,20,201,7,2152-03-04 00:00:00,Furosemide,0
3,20,201,8,2152-03-05 00:00:00,b,22222222222
4,20,201,8,2152-03-06 00:00:00,Warfarin,
5,20,201,,2152-03-02 00:00:00,Aspirin,
6,20,202,,2151-03-02 00:00:00,b,22222222222
7,10,101,,2160-06-01 00:00:00,b,22222222222
8,30,301,9,2150-05-05 00:00:00,a,11111111111
9,30,301,9,2150-05-05 00:00:00,D5W,0
""",
    "ndc_rxcui": MIMIC4["ndc_rxcui"],
    "rxcui_atc": MIMIC4["rxcui_atc"],
}


def write_source(root: Path, packed: bool = False, **changed: str) -> Path:
    """Writes the folder, with some tables' text changed, and returns it."""
    for name, text in {**TABLES, **changed}.items():
        folder = root / "knowledge" if name in ("ndc_rxcui", "rxcui_atc") else root
        write_csv(folder / f"{name}.csv", text, packed)
    return root


def codes_of(cohort: Cohort, kind: Kind) -> list[list[str]]:
    """Returns the codes of each visit by name."""
    codes, names = cohort.codes[kind], cohort.vocabulary[kind]
    ends = zip(codes.offsets[:-1], codes.offsets[1:], strict=True)
    return [[names[i] for i in codes.values[a:b]] for a, b in ends]


def named(values: Any, names: tuple[str, ...]) -> list[str]:
    """Returns the name of each value."""
    return [names[value] for value in values]


def rows_of(path: Path) -> list[dict[str, str]]:
    """Returns the rows of a csv file, plain or gzip, headings in lower case."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as stream:
        reader = csv.reader(stream)
        header = [name.lower() for name in next(reader)]
        return [dict(zip(header, row, strict=True)) for row in reader]


@contextmanager
def shared_tables_read_once() -> Iterator[None]:
    """Reads the mapping tables of the shared data once, not at every cohort."""
    names, mapping = cache(_prescribing.load_drug_names), cache(_prescribing.load_mapping)

    def among_shared(folders: tuple[Path, ...]) -> bool:
        return all(folder.is_relative_to(ROOT) for folder in folders)

    def load_names(folders: tuple[Path, ...], *rest: Any) -> Any:
        found = names if among_shared(folders) else names.__wrapped__
        return found(folders, *rest)

    def load_mapping(folders: tuple[Path, ...], *rest: Any, **options: Any) -> Any:
        found = mapping if among_shared(folders) else mapping.__wrapped__
        return found(folders, *rest, **options)

    with (
        mock.patch.object(_prescribing, "load_drug_names", load_names),
        mock.patch.object(_prescribing, "load_mapping", load_mapping),
        mock.patch.object(eicu, "load_drug_names", load_names),
    ):
        yield
