"""A hand-made MIMIC-IV folder: three patients, four visits and what must be left out.

Patient 20 was admitted twice; the later admission has the smaller hadm_id and comes first in the
file. Admission 102 has no codes, 991 no patient, patient 40 no admission. Admission 201 changed
its service; its first one stands second in the file. 301 has none.

NDC table: 11111111111 -> RXCUI 500 -> {N02B, C03A}; 22222222222 -> 600 -> {A10A};
33333333333 -> 700, which has no class; 44444444444 is in no table. No table of names knows the
drugs written as one letter.
"""

import gzip
from pathlib import Path

TABLES = {
    "patients": """subject_id,gender,anchor_age,anchor_year,dod
20,F,60,2150,
10,M,89,2160,
30,F,40,2150,
40,F,40,2150,
""",
    "admissions": """subject_id,hadm_id,admittime,race
20,201,2152-03-02 12:00:00,UNKNOWN
20,202,2151-03-02 00:00:00,WHITE - RUSSIAN
10,101,2159-12-31 23:00:00,BLACK/CARIBBEAN ISLAND
10,102,2161-01-01 00:00:00,OTHER
30,301,2150-05-05 08:00:00,
99,991,2161-01-01 00:00:00,OTHER
""",
    "services": """subject_id,hadm_id,transfertime,prev_service,curr_service
20,201,2152-03-04 00:00:00,MED,CMED
20,201,2152-03-02 12:30:00,,MED
20,202,2151-03-02 00:30:00,,CMED
10,101,2159-12-31 23:30:00,,MED
10,102,2161-01-01 00:30:00,,PSYCH
""",
    "diagnoses_icd": """subject_id,hadm_id,seq_num,icd_code,icd_version
20,201,1,E871,9
20,201,2,I5023,10
20,201,3,E871,9
20,202,1,V707 ,9
10,101,1,E871,10
10,101,2,,10
10,101,3,0389,10
99,991,1,E871,9
10,,1,E871,9
30,301,1,V707,9
""",
    "procedures_icd": """subject_id,hadm_id,icd_code,icd_version
20,201,0DTJ4ZZ,10
""",
    "prescriptions": """subject_id,hadm_id,starttime,drug,ndc
20,201,2152-03-02 10:00:00,a,11111111111
20,201,2152-03-03 11:59:59,b,22222222222
20,201,2152-03-03 12:00:00,b,22222222222
20,202,2151-03-02 00:00:00,c,2222222222-2
20,202,2151-03-03 00:00:00,c,22222-2222-22
20,202,2151-03-02 01:00:00,d,33333333333
20,202,2151-03-02 01:00:00,e,44444444444
10,101,2160-01-01 00:00:00,f,11111-1111-11
10,101,2160-01-01 00:00:00,g,0
10,101,,h,
99,991,2161-01-01 00:00:00,i,11111111111
30,301,2150-05-05 09:00:00,j,022222222222
30,301,2150-05-06 08:00:00,j,22222222222
""",
    "ndc_rxcui": """ndc11,rxcui
11111111111,500
22222222222,600
33333333333,700
""",
    "rxcui_atc": """rxcui,atc4
500,N02BA
500,C03AA
600,A10AB
""",
}


def write_source(root: Path, inner: str = "hosp", packed: bool = False, **changed: str) -> Path:
    """Writes the folder, with some tables' text changed, and returns it."""
    for name, text in {**TABLES, **changed}.items():
        known = name in ("ndc_rxcui", "rxcui_atc")
        write_csv(root / ("knowledge" if known else inner) / f"{name}.csv", text, packed)
    return root


def write_csv(path: Path, text: str, packed: bool = False) -> Path:
    """Writes `text`, as gzip with another suffix if `packed`; returns the path written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not packed:
        path.write_text(text, encoding="utf-8")
        return path
    path = path.with_name(path.name + ".gz")
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
    return path


def reverse_rows(text: str) -> str:
    """Returns a table with its rows in reversed order, its header first."""
    header, *rows = text.splitlines()
    return "\n".join([header, *reversed(rows)]) + "\n"
