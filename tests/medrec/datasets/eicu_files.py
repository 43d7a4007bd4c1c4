"""A hand-made eICU folder: three people, five hospital stays, eight unit stays.

    person 002-1   stay 900 (2014): unit 12, then 11 (the smaller key came later)
                   stay 800 (2015): unit 13
    person 002-2   stays 700 (units 21, 22) and 701 (units 23, 24) of one year
    person 003-3   stay 600 (2014): unit 31, over 89

HICL 5 is furosemide in two rows and a name that nobody knows in one; HICL 6 never has a name.
"""

from pathlib import Path

from tests.medrec.datasets.mimic4_files import write_csv

TABLES = {
    "patient": """patientunitstayid,patienthealthsystemstayid,gender,age,ethnicity,\
hospitaladmitoffset,hospitaldischargeyear,unittype,unitvisitnumber,uniquepid
11,900,Female,70,Caucasian,-2880,2014,MICU,2,002-1
12,900,Female,70,Caucasian,-60,2014,Med-Surg ICU,1,002-1
13,800,Female,71,Caucasian,-30,2015,CTICU,1,002-1
21,700,Male,50,Hispanic,-10,2014,MICU,1,002-2
22,700,Male,50,Hispanic,-1450,2014,SICU,2,002-2
23,701,Male,50,Hispanic,-20,2014,MICU,1,002-2
24,701,Male,50,Hispanic,-3000,2014,SICU,2,002-2
31,600,,> 89,,5,2014,MICU,1,003-3
""",
    "diagnosis": """diagnosisid,patientunitstayid,icd9code
1,11,"518.81, J96.00"
2,11,"518.81, J96.00"
3,12,"V62.84, R45.851"
4,13,"E87.1"
5,13,428.0
6,21,"276.1, E87.1"
7,22,"038.9, 995.91, A41.9"
8,23,31.1
9,23,401.9
10,24,""
11,24,"E870.0"
12,31,"J96.00, 518.81"
13,99,401.9
""",
    "medication": """medicationid,patientunitstayid,drugstartoffset,drugordercancelled,drugname,\
drughiclseqno,gtc
1,11,100,No,FUROSEMIDE 40 MG PO TABS,5,37
2,11,1440,No,WARFARIN SODIUM 5 MG PO TABS,2812,0
3,12,-30,No,,5,37
4,13,1439,No,Xyzzyx 20 mg,5,37
5,13,0,No,,6,38
6,21,0,Yes,HEPARIN SODIUM,7,38
7,21,0,No,,0,0
8,22,0,No,Furosemide,5,37
9,23,0,No,SODIUM CHLORIDE 0.9 %,8,59
10,24,0,No,Heparin,7,38
11,31,0,No,Warfarin,2812,38
12,99,0,No,Warfarin,2812,38
""",
    "treatment": """treatmentid,patientunitstayid,treatmentstring
1,11,pulmonary|ventilation|mechanical ventilation
2,11,pulmonary|ventilation|mechanical ventilation
3,13,renal|dialysis|hemodialysis
4,21,
5,99,renal|dialysis|hemodialysis
""",
}


def write_source(root: Path, packed: bool = False, **changed: str) -> Path:
    """Writes the folder, with some tables' text changed, and returns it."""
    for name, text in {**TABLES, **changed}.items():
        write_csv(root / f"{name}.csv", text, packed)
    return root
