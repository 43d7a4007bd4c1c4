"""What published pipelines do unawares, on a few rows: reproduced by an option, not the default.

T1 visits ordered by a random key; T2 patients with a single visit; T3 a mean that is none; T4 an
NDC copied from another patient; T5 structures chosen by the hash seed; T6 codes of two ICD
versions made one; T7 the rarest side effects called the most severe; T8 ICD-10 codes in E taken
for external causes of ICD-9.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from medrec import codes
from medrec.cohort import Cohort
from medrec.datasets._base import prepare
from medrec.datasets.eicu import EicuOptions, icd_versions
from medrec.datasets.mimic3 import Mimic3Options
from medrec.datasets.mimic4 import Mimic4Options
from medrec.knowledge.ddi import load_twosides
from medrec.presets import KNOWLEDGE
from tests.medrec.datasets import eicu_files, mimic3_files
from tests.medrec.datasets.mimic3_files import codes_of
from tests.medrec.datasets.mimic4_files import write_csv
from tests.medrec.datasets.mimic4_files import write_source as write_mimic4

ROOT = Path(__file__).resolve().parents[3]
FUROSEMIDE, WARFARIN, ASPIRIN = "11111111111", "22222222222", "33333333333"
KNOWN = {
    "ndc_rxcui": f"ndc,rxcui\n{FUROSEMIDE},1\n{WARFARIN},2\n{ASPIRIN},3\n",
    "rxcui_atc": "rxcui,atc4\n1,C03CA\n2,B01AA\n3,N02BA\n3,A01AD\n",
}


class Visit(NamedTuple):
    """One admission of MIMIC-III."""

    patient: int
    hadm: int
    day: str
    diagnoses: Sequence[str] = ("4280",)
    procedures: Sequence[str] = ("9604",)
    packages: Sequence[str] = (FUROSEMIDE,)


# So many that each part of the published 4:1:1 split has one.
OTHERS = [
    Visit(patient, 10 * patient + number, f"215{number}-01-01")
    for patient in range(1, 7)
    for number in (0, 1)
]


def cohort_of(root: Path, visits: Sequence[Visit], **options) -> Cohort:
    """Writes the admissions as a MIMIC-III folder, and returns its cohort."""
    every = [*OTHERS, *visits]
    people = sorted({visit.patient for visit in every})
    tables = {
        "PATIENTS": ["SUBJECT_ID,GENDER,DOB", *(f"{p},F,2100-01-01" for p in people)],
        "ADMISSIONS": ["SUBJECT_ID,HADM_ID,ADMITTIME,ETHNICITY"],
        "DIAGNOSES_ICD": ["SUBJECT_ID,HADM_ID,ICD9_CODE"],
        "PROCEDURES_ICD": ["SUBJECT_ID,HADM_ID,ICD9_CODE"],
        "PRESCRIPTIONS": ["SUBJECT_ID,HADM_ID,ICUSTAY_ID,STARTDATE,DRUG,NDC"],
    }
    for visit in every:
        key = f"{visit.patient},{visit.hadm}"
        tables["ADMISSIONS"].append(f"{key},{visit.day},WHITE")
        tables["DIAGNOSES_ICD"] += [f"{key},{code}" for code in visit.diagnoses]
        tables["PROCEDURES_ICD"] += [f"{key},{code}" for code in visit.procedures]
        tables["PRESCRIPTIONS"] += [f"{key},5,{visit.day},drug,{n}" for n in visit.packages]
    for name, lines in tables.items():
        write_csv(root / f"{name}.csv", "\n".join(lines) + "\n")
    for name, text in KNOWN.items():
        write_csv(root / "knowledge" / f"{name}.csv", text)
    return prepare("mimic3", root, Mimic3Options(**options))


def last(cohort: Cohort, kind, visits: int) -> list[list[str]]:
    """Returns the codes of the last visits, those of the patients with the largest keys."""
    return codes_of(cohort, kind)[-visits:]


def patients_with_one_visit(cohort: Cohort) -> int:
    return int((cohort.visits == 1).sum())


# ---- T1


def test_t1_visits_by_a_random_key_or_by_time(tmp_path):
    visits = [
        Visit(9, 900, "2152-05-05", diagnoses=["0389"]),
        Visit(9, 901, "2151-05-05", diagnoses=["4019"]),
    ]
    ours = cohort_of(tmp_path, visits)
    assert last(ours, "diagnoses", 2) == [["9:4019"], ["9:0389"]]
    assert ours.admitted[-2:].tolist() == [0, 366]
    for choice in ({"preset": "safedrug"}, {"visit_order": "hadm_id"}):
        published = cohort_of(tmp_path, visits, **choice)
        assert last(published, "diagnoses", 2) == [["9:0389"], ["9:4019"]]
        assert published.admitted[-2:].tolist() == [366, 0]  # history runs backwards


# ---- T2


def test_t2_patients_with_one_visit_remain(tmp_path):
    """Of patient 9 both visits have prescriptions, of one no diagnosis; 8 was there once."""
    visits = [
        Visit(8, 800, "2150-05-05"),
        Visit(9, 900, "2150-05-05"),
        Visit(9, 901, "2151-05-05", diagnoses=[]),
    ]
    assert patients_with_one_visit(cohort_of(tmp_path, visits)) == 2
    published = cohort_of(tmp_path, visits, preset="safedrug")
    assert published.patients == 7  # without 8
    assert patients_with_one_visit(published) == 1  # 9, although "two visits or more"
    assert patients_with_one_visit(cohort_of(tmp_path, visits, preset="bh3")) == 2
    later = cohort_of(tmp_path, visits, preset="dkinet")
    assert (later.patients, patients_with_one_visit(later)) == (6, 0)
    assert patients_with_one_visit(cohort_of(tmp_path, visits, min_visits=2)) == 0


# ---- T3


def test_t3_the_mean_in_print_counts_a_drug_once_a_patient(tmp_path):
    """Patient 9 takes the same two drugs at four visits: 8 of them, in print 2."""
    both = [FUROSEMIDE, WARFARIN]
    visits = [Visit(9, 900 + i, f"215{i}-05-05", packages=both) for i in range(4)]
    cohort = cohort_of(tmp_path, visits)
    given = last(cohort, "medications", 16)
    assert cohort.counts()["medications_per_visit"] == sum(map(len, given)) / 16 == 20 / 16
    ends = zip(cohort.offsets[:-1], cohort.offsets[1:], strict=True)
    distinct = [len({drug for codes in given[a:b] for drug in codes}) for a, b in ends]
    assert sum(distinct) / 16 == (6 + 2) / 16


# ---- T4


@pytest.mark.parametrize("block", [256, 1 << 20], ids=["blocks", "whole"])
def test_t4_a_missing_package_becomes_that_of_the_patient_above(tmp_path, monkeypatch, block):
    """Patient 9's thirty stays have no NDC; the row above them is patient 8's warfarin."""
    visits = [
        Visit(8, 800, "2150-05-05", packages=[FUROSEMIDE, WARFARIN]),
        *(Visit(9, 900 + i, f"2150-05-{i + 1:02d}", packages=[""]) for i in range(30)),
    ]
    require = ("diagnoses",)
    monkeypatch.setattr("medrec.raw_files._BLOCK", block)  # 256 bytes are some seven rows
    ours = cohort_of(tmp_path, visits, require=require)
    assert last(ours, "medications", 31) == [["B01A", "C03C"], *[[]] * 30]
    assert ours.provenance.mapped["prescriptions rows not classified"] == 30
    filled = cohort_of(tmp_path, visits, require=require, forward_fill=True, drug_names=False)
    assert last(filled, "medications", 31) == [["B01A", "C03C"], *[["B01A"]] * 30]
    published = cohort_of(tmp_path, visits, preset="bh3")
    assert last(published, "medications", 31) == [["B01A", "C03C"], *[["B01A"]] * 30]


def test_t4_rows_with_ndc_0_are_taken_out_before(tmp_path):
    """Else patient 9 would have got no drug, or the 0 itself."""
    visits = [
        Visit(8, 800, "2150-05-05", packages=[WARFARIN, "0"]),
        Visit(9, 900, "2150-05-05", packages=["", "0"]),
    ]
    published = cohort_of(tmp_path, visits, preset="bh3")
    assert last(published, "medications", 2) == [["B01A"], ["B01A"]]
    assert published.provenance.mapped["prescriptions rows"] == 12 + 2


# ---- T5

HASHED = """
import hashlib
from medrec.knowledge.molecules import build_molecules
from medrec.knowledge.tables import fingerprint, read_interactions, read_structures
structures = read_structures("embedded")
print(list(set(structures["C07A"]))[:3])
found = build_molecules([structures[name] for name in sorted(structures)[:25]])
arrays = (found.fingerprint, found.bonds, found.molecule, found.drug, found.contains)
digest = hashlib.sha256(b"".join(array.tobytes() for array in arrays))
digest.update(repr((found.fragments, sorted(structures.items()))).encode())
print(fingerprint(read_interactions("embedded"), structures), digest.hexdigest())
"""


def test_t5_structures_do_not_depend_on_the_hash_seed():
    """Taking three of a set does, as published; so does a set made of a name: of its letters."""
    assert set("aspirin") == {"a", "s", "p", "i", "r", "n"}
    seen = [
        subprocess.run(
            [sys.executable, "-c", HASHED],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        for seed in ("1", "2", "3")
    ]
    assert len({published for published, _ in seen}) > 1
    assert len({ours for _, ours in seen}) == 1


# ---- T6 and T8

HYPONATRAEMIA, LEFT_IN_BODY = "10:E871", "9:E871"  # of E87.1 and E871
GEM = "icd10cm,icd9cm,flags\nE871,2761,00000\nI5023,42823,00000\n"


@pytest.fixture
def mimic4(tmp_path):
    """Patient 10 has low sodium (E87.1), patient 20 had a foreign object left in (E871)."""
    write_csv(tmp_path / "knowledge" / "icd10cmtoicd9gem.csv", GEM)
    text = "icd9cm,icd10pcs,flags\n4701,0DTJ4ZZ,00000\n"
    write_csv(tmp_path / "knowledge" / "icd9toicd10pcsgem.csv", text)
    return write_mimic4(tmp_path)


def diagnoses(source: Path, **options) -> list[list[str]]:
    options = {"fractions": (0.34, 0.33, 0.33), "require": ("medications",), **options}
    return codes_of(prepare("mimic4", source, Mimic4Options(**options)), "diagnoses")


def test_t6_codes_of_two_versions_collide_without_the_version(mimic4):
    ours = diagnoses(mimic4)
    assert (HYPONATRAEMIA in ours[0], LEFT_IN_BODY in ours[2]) == (True, True)
    published = diagnoses(mimic4, code_version="dropped")
    assert (published[0], published[2]) == (["E871"], ["E871", "I5023"])
    assert codes.split(published[0][0]) == ("", "E871")  # nobody can tell them apart any more
    # With the preset's `drugs_with_structure` two patients with insulin alone would be left out.
    preset = {"preset": "bh3", "drugs_with_structure": False}
    assert sorted(diagnoses(mimic4, **preset)) == sorted(published)  # visits in another order
    mapped = diagnoses(mimic4, code_version="dropped", icd="map-to-9")
    assert (mapped[0], mapped[2]) == (["2761"], ["42823", "E871"])


def by_first_letter(code: str) -> str:
    """Returns a code with its dot as DKINet's map does: every E is an external cause."""
    stem = 4 if code.startswith("E") else 3
    return f"{code[:stem]}.{code[stem:]}".removesuffix(".")


def test_t8_the_first_letter_does_not_tell_the_version(mimic4):
    """The published map asks UMLS for E871 where the patient has E87.1: another concept."""
    assert [by_first_letter(code) for code in ("E871", "E119", "4280")] == [
        "E871",
        "E119",
        "428.0",
    ]
    ours = diagnoses(mimic4)
    assert [codes.split(code) for code in ours[0]] == [("10", "E871")]
    assert diagnoses(mimic4, icd="9")[0] == []
    assert diagnoses(mimic4, icd="9")[2] == [LEFT_IN_BODY]
    assert diagnoses(mimic4, icd="10")[2] == ["10:I5023"]
    mapped = diagnoses(mimic4, icd="map-to-9")
    assert mapped[0] == ["9:2761"]  # hyponatraemia
    assert mapped[2] == ["9:42823", LEFT_IN_BODY]


def test_t8_in_pairs_of_eicu(tmp_path):
    assert icd_versions("276.1, E87.1") == {"276.1": "9", "E87.1": "10"}
    assert icd_versions("E871.0") == {"E871.0": "9"}
    source = eicu_files.write_source(tmp_path)
    options = {"fractions": (0.34, 0.33, 0.33), "require": (), "icd": "both"}
    names = prepare("eicu", source, EicuOptions(**options)).vocabulary["diagnoses"]
    assert {"9:E8700", HYPONATRAEMIA, "9:2761"} <= set(names)
    assert "9:E871" not in names


# ---- T7


def test_t7_the_rarest_side_effects_are_not_the_most_frequent(tmp_path):
    """Forty-one side effects: of 1 with 2 the only frequent one, of 1 with 3 the rarest."""
    header = "STITCH 1,STITCH 2,Polypharmacy Side Effect,Side Effect Name\n"
    often = [("CID000000001", "CID000000002", "nausea")] * 3
    other = [("CID000000004", "CID000000005", f"effect {i:02d}") for i in range(39) for _ in "ab"]
    rare = [("CID000000001", "CID000000003", "torsade de pointes")]
    rows = [f"{a},{b},C0,{effect}\n" for a, b, effect in [*often, *other, *rare]]
    path = write_csv(tmp_path / "combo.csv", header + "".join(rows))
    drugs = tmp_path / "drug-atc.csv"
    drugs.write_text(
        "CID000000001,C03CA01\nCID000000002,B01AA03\nCID000000003,J01MA02\n"
        "CID000000004,A10BA02\nCID000000005,N02BA01\n"
    )
    always, frequent, rarest = ("A10B", "N02B"), ("B01A", "C03C"), ("C03C", "J01M")
    assert KNOWLEDGE["side_effects"] == "rarest40"
    assert load_twosides(path, drugs, KNOWLEDGE["side_effects"]).pairs == (always, rarest)
    assert load_twosides(path, drugs, "most_frequent40").pairs == (always, frequent)
    assert load_twosides(path, drugs, "all").pairs == (always, frequent, rarest)


# ---- whole presets


def test_published_window_is_the_first_date_of_each_icu_stay(tmp_path):
    source = mimic3_files.write_source(tmp_path)
    options = {"fractions": (0.34, 0.33, 0.33), "require": ("medications",), "split": "random"}
    options |= {"min_prescribed_visits": 1, "drugs_with_structure": False}
    safedrug = Mimic3Options(preset="safedrug", **options)
    kindmed = Mimic3Options(preset="kindmed", **options)
    drugs = [codes_of(prepare("mimic3", source, o), "medications")[1] for o in (safedrug, kindmed)]
    assert drugs == [["A10A", "N02B"], ["A10A", "N02B"]]


def test_a_class_is_the_first_of_the_table_as_published(tmp_path):
    """Aspirin stands in the table as N02B, then as A01A, which is for local use."""
    turned = KNOWN["rxcui_atc"].replace("3,N02BA\n3,A01AD\n", "3,A01AD\n3,N02BA\n")
    visits = [Visit(9, 900, "2150-05-05", packages=[ASPIRIN])]
    assert last(cohort_of(tmp_path, visits), "medications", 1) == [["N02B"]]
    assert last(cohort_of(tmp_path, visits, preset="bh3"), "medications", 1) == [["N02B"]]
    table = str(write_csv(tmp_path / "turned.csv", turned))
    assert last(cohort_of(tmp_path, visits, rxcui_atc=table), "medications", 1) == [["N02B"]]
    published = cohort_of(tmp_path, visits, preset="bh3", rxcui_atc=table)
    assert last(published, "medications", 1) == [["A01A"]]


def test_the_published_split_is_of_the_file_without_shuffling(tmp_path):
    published = cohort_of(tmp_path, [], preset="safedrug")
    assert published.split.tolist() == [0, 0, 0, 0, 2, 1]  # train, then test, then validation
    assert published.provenance.options["preset"] == "safedrug"
    np.testing.assert_array_equal(cohort_of(tmp_path, [], split="sequential").split[:3], 0)
