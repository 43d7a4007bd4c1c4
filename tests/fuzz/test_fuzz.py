"""No corruption of the raw files passes in silence, and none ends in anything but a message.

A case ends in a refusal that names the file, in the very same cohort, or in another cohort whose
card accounts for the change. No message shows a patient's key.
"""

import csv
import functools
import gzip
import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medrec import plugins
from medrec.cohort import Cohort
from medrec.datasets import _prescribing, eicu
from medrec.datasets._base import prepare
from medrec.errors import MedrecError
from sweeps.cli import main
from tests.fuzz.corruptions import (
    COLUMNS,
    CORRUPTIONS,
    DATASETS,
    Change,
    Folder,
    chosen,
    write_rows,
)
from tests.shared_data import shared_data

DEMOS = {"mimic3": "mimic-iii-demo", "mimic4": "mimic-iv-demo/hosp", "eicu": "eicu-demo"}
PERSON = {"mimic3": "subject_id", "mimic4": "subject_id", "eicu": "uniquepid"}
KEYS = ("subject_id", "hadm_id", "icustay_id", "patientunitstayid", "patienthealthsystemstayid",
        "uniquepid")  # fmt: skip
PATIENTS = 25
CASES = 500
SECONDS = 20  # that a case may take
VARIANTS: dict[str, tuple[dict[str, Any], ...]] = {
    "mimic3": ({}, {"medication_window": "first_24_hours"}),
    "mimic4": ({}, {"medication_window": "first_24_hours"}),
    "eicu": ({}, {"medication_window": "first_24_hours", "procedures": "treatments"}),
}


# ------------------------------------------------------------------ a small part of each demo


def rows_of(path: Path) -> tuple[list[str], list[list[str]]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", newline="", encoding="utf-8") as stream:
        header, *rows = csv.reader(stream)
    return header, rows


def write_slice(dataset: str, source: Path, root: Path) -> None:
    """Writes the rows of the first patients, and small tables of knowledge."""
    tables = [*COLUMNS[dataset], *(["treatment"] if dataset == "eicu" else [])]
    found = {
        path.name.lower().split(".")[0]: rows_of(path)
        for path in sorted(source.iterdir())
        if ".csv" in path.name
    }
    key = "patientunitstayid" if dataset == "eicu" else "subject_id"
    people, cells = found["patient" if dataset == "eicu" else "patients"]
    rich = set.intersection(
        *(
            {row[found[table][0].index(key)] for row in found[table][1]}
            for table in tables
            if table not in ("procedures_icd", "services")
        )
    )
    kept: dict[str, set[str]] = {}
    for row in cells:
        person = row[people.index(PERSON[dataset])]
        if row[people.index(key)] in rich and (person in kept or len(kept) < PATIENTS):
            kept.setdefault(person, set()).add(row[people.index(key)])
    keys = {each for stays in kept.values() for each in stays}
    folder = root / "hosp" if dataset == "mimic4" else root
    folder.mkdir(parents=True)
    for table in tables:
        header, rows = found[table]
        at = header.index(key)
        write_rows(folder / f"{table}.csv", header, [row for row in rows if row[at] in keys])
    write_knowledge(dataset, folder, root / "knowledge")


def write_knowledge(dataset: str, folder: Path, knowledge: Path) -> None:
    """Writes a table that knows the first packages of the slice, and one with their classes."""
    knowledge.mkdir()
    packages: list[str] = []
    if dataset != "eicu":
        header, rows = rows_of(folder / "prescriptions.csv")
        found = dict.fromkeys(row[header.index("ndc")] for row in rows)
        packages = [ndc for ndc in found if len(ndc) == 11][:40]
    classes = ("N02B", "C03A", "A10A", "B01A")
    numbers = [str(100 + i) for i in range(max(len(packages), 1))]
    pairs = [[ndc, number] for ndc, number in zip(packages or ["1" * 11], numbers, strict=True)]
    write_rows(knowledge / "ndc_rxcui.csv", ["ndc", "rxcui"], pairs)
    rows = [[number, classes[i % len(classes)]] for i, number in enumerate(numbers)]
    write_rows(knowledge / "rxcui_atc.csv", ["rxcui", "atc4"], rows)


@dataclass(frozen=True)
class Slice:
    """A small folder, its patients' keys, and what it gives under each variant of options."""

    root: Path
    keys: frozenset[str]
    clean: tuple[Cohort, ...]


@pytest.fixture(scope="session")
def slices(tmp_path_factory):
    roots: dict[str, Slice] = {}

    def get(dataset: str) -> Slice:
        if dataset not in roots:
            root = tmp_path_factory.mktemp("slice") / "data"
            write_slice(dataset, shared_data(DEMOS[dataset]), root)
            keys = {
                row[header.index(column)]
                for header, rows in map(rows_of, sorted(root.rglob("*.csv")))
                for column in KEYS
                if column in header
                for row in rows
            }
            clean = tuple(run(dataset, root, variant) for variant in VARIANTS[dataset])
            roots[dataset] = Slice(root, frozenset(keys - {""}), clean)
        return roots[dataset]

    return get


def run(dataset: str, root: Path, variant: dict[str, Any]) -> Cohort:
    options = plugins.load("medrec.datasets", dataset, "DATASET").options
    folder = str(root / "knowledge")
    with names_read_once():
        return prepare(dataset, root, options(knowledge=folder, **variant))


@functools.cache
def _names(rule: str) -> Any:
    return _prescribing.load_drug_names((), rule)


@contextmanager
def names_read_once() -> Iterator[None]:
    """The embedded names of drugs are the same in every case: the slice has no table of names."""
    _names("systemic")
    with pytest.MonkeyPatch.context() as patch:
        for module in (_prescribing, eicu):
            patch.setattr(module, "load_drug_names", lambda folders, rule: _names(rule))
        yield


# ------------------------------------------------------------------ outcomes


class TooLongError(BaseException):
    """A case did not end in time."""


@contextmanager
def in_time(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TooLongError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def accounts(cohort: Cohort) -> tuple[Any, ...]:
    """Returns what the card says was left out or not understood."""
    source = cohort.provenance
    return source.dropped, source.mapped, source.unmapped


def check_message(message: str, root: Path, change: Change, keys: frozenset[str]) -> None:
    """The message names the file, is of readable length, and shows no patient."""
    emptied = message.startswith("No visit is left")
    assert emptied or change.file.lower() in message.lower(), message
    assert "Traceback" not in message
    assert "\n" not in message
    text = message.replace(str(root), "")
    assert len(text) < 700, text[:2000]
    text = re.sub(r"line \d+", "", text)
    assert not set(re.findall(r"[0-9]+(?:-[0-9]+)*", text)) & keys, text


def outcome(seed: int, get, folder: Path) -> tuple[str, Change]:
    """Returns how the case ended, having checked that it may end so."""
    dataset, corruption = chosen(seed)
    rng = np.random.default_rng(seed)
    which = int(rng.integers(2))
    original = get(dataset)
    shutil.copytree(original.root, folder)
    change = corruption.edit(rng, Folder(dataset, folder))
    if change.text.endswith("must not be read") and os.geteuid() == 0:
        pytest.skip("root may read every file")
    try:
        with in_time(SECONDS):
            cohort = run(dataset, folder, VARIANTS[dataset][which])
    except MedrecError as error:
        check_message(str(error), folder, change, original.keys)
        how = "refused"
    else:
        clean = original.clean[which]
        how = "same"
        if cohort.fingerprint != clean.fingerprint:
            assert accounts(cohort) != accounts(clean), f"silently different: {change.text}"
            how = "counted"
    assert how in corruption.outcomes, f"{how}: {change.text}"
    return how, change


def quick() -> list[int]:
    """Returns a seed for every corruption, the data sets in turn."""
    seeds: dict[str, int] = {}
    for seed in range(2 * len(CORRUPTIONS) * len(DATASETS)):
        dataset, corruption = chosen(seed)
        turn = CORRUPTIONS.index(corruption)
        fits = corruption.datasets[turn % len(corruption.datasets)]
        if dataset == fits:
            seeds.setdefault(corruption.name, seed)
    return sorted(seeds.values())


def label(seed: int) -> str:
    dataset, corruption = chosen(seed)
    return f"{seed}-{dataset}-{corruption.name.replace(' ', '_')}"


@pytest.mark.parametrize("seed", quick(), ids=label)
def test_each_corruption_is_refused_counted_or_harmless(seed, slices, tmp_path):
    outcome(seed, slices, tmp_path / "data")


@pytest.mark.slow
@pytest.mark.parametrize("seed", sorted(set(range(CASES)) - set(quick())), ids=label)
def test_all_corruptions_are_refused_counted_or_harmless(seed, slices, tmp_path):
    outcome(seed, slices, tmp_path / "data")


def listing(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


REFUSALS = [seed for seed in range(CASES) if chosen(seed)[1].outcomes == frozenset({"refused"})]


@pytest.fixture(scope="module")
def older(slices, tmp_path_factory):
    """A cohort that was there before, for each data set."""
    made = {}
    for dataset in DATASETS:
        made[dataset] = tmp_path_factory.mktemp("older") / "cohort"
        slices(dataset).clean[0].save(made[dataset])
    return made


@pytest.mark.parametrize(
    "number",
    [pytest.param(n, marks=[pytest.mark.slow] if n % 4 else []) for n in range(40)],
)
def test_the_command_line_refuses_with_one_message_and_leaves_the_cohort(
    number, slices, older, tmp_path, capsys
):
    """Exit code 1, one message, no traceback; an older cohort stays, and no other is begun."""
    seed = REFUSALS[number * len(REFUSALS) // 40]
    dataset, corruption = chosen(seed)
    source = tmp_path / "data"
    shutil.copytree(slices(dataset).root, source)
    change = corruption.edit(np.random.default_rng(seed), Folder(dataset, source))
    if corruption.name == "file unreadable" and os.geteuid() == 0:
        pytest.skip("root may read every file")
    out = older[dataset] if number % 2 else tmp_path / "new" / "cohort"
    before = listing(out)
    arguments = ["data", "prepare", dataset, "--source", str(source), "--out", str(out)]
    with names_read_once(), pytest.raises(SystemExit) as ended:
        main([*arguments, "--knowledge", str(source / "knowledge")])
    said = capsys.readouterr()
    assert ended.value.code == 1
    assert said.err.startswith("medsweep: ")
    assert said.err.count("\n") == 1
    assert "Traceback" not in said.out + said.err
    assert not said.out.strip()
    message = said.err.strip().removeprefix("medsweep: ")
    check_message(message, source, change, slices(dataset).keys)
    assert listing(out) == before
    assert out.exists() == bool(before)
    assert not (tmp_path / "new").exists()
