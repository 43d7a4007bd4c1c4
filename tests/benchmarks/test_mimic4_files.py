import csv
import gzip
import sys
from collections import Counter

import pandas as pd
import pytest

from medrec.datasets.mimic4 import Mimic4Options, load
from tests.benchmarks import mimic4_files
from tests.benchmarks.mimic4_files import HEADERS, write_mimic4
from tests.shared_data import shared_data

ROWS = {
    "patients": 200,
    "admissions": 300,
    "diagnoses": 3000,
    "prescriptions": 9000,
    "procedures": 600,
    "services": 330,
}
FILES = {"diagnoses_icd": "diagnoses", "procedures_icd": "procedures"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    # Chunks smaller than a table: their seams and several threads are tested too.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mimic4_files, "CHUNK", 1000)
        return write_mimic4(tmp_path_factory.mktemp("mimic4"), **ROWS)


@pytest.fixture(scope="module")
def tables(folder):
    return {
        name: pd.read_csv(folder / "hosp" / f"{name}.csv.gz", dtype=str, keep_default_na=False)
        for name in HEADERS
    }


@pytest.mark.parametrize("name", list(HEADERS))
def test_every_row_has_all_fields_and_the_asked_number_is_there(folder, name):
    with gzip.open(folder / "hosp" / f"{name}.csv.gz", "rt", newline="") as lines:
        header, *rows = csv.reader(lines)
    assert ",".join(header) == HEADERS[name]
    assert len(rows) == ROWS[FILES.get(name, name)]
    assert {len(row) for row in rows} == {len(header)}


@pytest.mark.parametrize("name", list(HEADERS))
def test_headings_are_those_of_the_real_files(name):
    real = shared_data("mimic-iv-demo", "hosp", f"{name}.csv.gz")
    with gzip.open(real, "rt") as lines:
        assert lines.readline().strip() == HEADERS[name]


def test_rows_are_as_wide_as_the_real_ones(folder):
    real = shared_data("mimic-iv-demo", "hosp", "prescriptions.csv.gz")
    widths = []
    for path in (real, folder / "hosp" / "prescriptions.csv.gz"):
        with gzip.open(path) as lines:
            found = [len(line) for line in lines]
        widths.append(sum(found) / len(found))
    assert widths[1] == pytest.approx(widths[0], rel=0.1)


def test_keys_have_8_digits_agree_between_files_and_come_in_no_order(tables):
    admissions = tables["admissions"]
    assert admissions.hadm_id.is_unique
    assert not admissions.hadm_id.is_monotonic_increasing
    for name in ("subject_id", "hadm_id"):
        assert admissions[name].str.fullmatch(r"[12]\d{7}").all()
    assert tables["patients"].subject_id.is_unique
    assert set(admissions.subject_id) < set(tables["patients"].subject_id)
    owner = dict(zip(admissions.hadm_id, admissions.subject_id, strict=True))
    for name in set(tables) - {"patients", "admissions"}:
        rows = tables[name]
        assert rows.hadm_id.map(owner).equals(rows.subject_id.rename("hadm_id"))
        changes = (rows.subject_id != rows.subject_id.shift()).sum()
        assert changes == rows.subject_id.nunique()  # grouped by patient
    assert set(tables["diagnoses_icd"].hadm_id) == set(owner)


def test_times_are_times(tables):
    form = "%Y-%m-%d %H:%M:%S"
    admitted = pd.to_datetime(tables["admissions"].admittime, format=form)
    left = pd.to_datetime(tables["admissions"].dischtime, format=form)
    assert (admitted < left).all()
    start = pd.to_datetime(tables["prescriptions"].starttime, format=form)
    stop = tables["prescriptions"].stoptime
    assert (pd.to_datetime(stop[stop != ""], format=form) > start[stop != ""]).all()
    stays = tables["admissions"].set_index("hadm_id").assign(first=admitted.array, last=left.array)
    joined = stays.loc[tables["prescriptions"].hadm_id]
    assert (start.array >= joined["first"].dt.floor("h")).all()
    assert (start.array <= joined["last"]).all()
    charted = tables["procedures_icd"].chartdate
    assert pd.to_datetime(charted, format="%Y-%m-%d").between("2095-01-01", "2225-01-01").all()


def test_codes_look_like_their_version_and_versions_mix_within_patients(tables):
    shapes = {
        ("diagnoses_icd", "9"): r"(\d{3}|V\d\d|E\d\d)\d{0,2}",
        ("diagnoses_icd", "10"): r"[A-Z]\d\d\w{0,4}",
        ("procedures_icd", "9"): r"\d{3,4}",
        ("procedures_icd", "10"): r"[0-9A-HJ-NP-Z]{7}",
    }
    for (name, version), shape in shapes.items():
        rows = tables[name][tables[name].icd_version == version]
        assert len(rows) > 50
        assert rows.icd_code.str.fullmatch(shape).all()
    diagnoses = tables["diagnoses_icd"]
    assert not diagnoses.duplicated(["hadm_id", "icd_code"]).any()
    assert (diagnoses.groupby("hadm_id").icd_version.nunique() == 1).all()
    assert (diagnoses.groupby("subject_id").icd_version.nunique() == 2).any()
    places = diagnoses.groupby("hadm_id").cumcount() + 1
    assert (places.astype(str) == diagnoses.seq_num).all()


def test_prescriptions_follow_zipf_and_some_have_no_ndc(tables):
    ndc = tables["prescriptions"].ndc
    assert ndc.isin(["", "0"]).mean() == pytest.approx(0.15, abs=0.02)
    assert set(ndc[ndc.str.len() != 11]) == {"", "0"}
    most = ndc[ndc.str.len() == 11].value_counts(normalize=True)
    # weights 1 / (rank + 8): the first has 1.9 % and the first hundred 41 % of the rows
    assert most.iloc[0] == pytest.approx(0.019, abs=0.01)
    assert most.iloc[:100].sum() == pytest.approx(0.41, abs=0.07)


def test_the_tables_know_four_fifths_of_the_packages(folder, tables):
    known = pd.read_csv(folder / "knowledge" / "ndc_rxcui.csv", dtype=str)
    classes = pd.read_csv(folder / "knowledge" / "rxcui_atc.csv", dtype=str)
    assert len(known) / mimic4_files.PACKAGES == pytest.approx(0.8, abs=0.02)
    assert known.ndc11.is_unique
    assert set(known.rxcui) <= set(classes.rxcui)
    assert classes.atc4.str.fullmatch(r"[A-Z]\d\d[A-Z]{2}").all()
    assert 1.1 < len(classes) / classes.rxcui.nunique() < 1.3  # some have two
    ndc = tables["prescriptions"].ndc
    assert ndc[ndc.str.len() == 11].isin(known.ndc11).mean() == pytest.approx(0.8, abs=0.08)


def test_the_cohort_code_reads_them(folder):
    records = load(folder, Mimic4Options())
    assert len(records.patients) == 120  # three fifths are admitted
    assert len(records.visits) == ROWS["admissions"]
    for frame in records.codes.values():
        assert len(frame) > 100


def test_same_seed_same_bytes_compressed_or_not(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(mimic4_files, "CHUNK", 1000)
    plain = write_mimic4(tmp_path / "plain", **ROWS, compress=False)
    other = write_mimic4(tmp_path / "other", **ROWS, compress=False, seed=1)
    for name in HEADERS:
        packed = (folder / "hosp" / f"{name}.csv.gz").read_bytes()
        text = (plain / "hosp" / f"{name}.csv").read_bytes()
        assert gzip.decompress(packed) == text
        assert text != (other / "hosp" / f"{name}.csv").read_bytes()
    for name in ("ndc_rxcui.csv", "rxcui_atc.csv"):
        texts = {(path / "knowledge" / name).read_bytes() for path in (folder, plain)}
        assert len(texts) == 1


def test_chunks_do_not_repeat_one_another(tables):
    pharmacy = Counter(tables["prescriptions"].pharmacy_id)
    assert max(pharmacy.values()) <= 2


def test_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["mimic4_files", str(tmp_path), "--scale", "0.0005"])
    mimic4_files.main()
    assert "hosp/prescriptions.csv.gz" in capsys.readouterr().out
    assert len(pd.read_csv(tmp_path / "hosp" / "admissions.csv.gz")) == 215
