"""No row of a patient leaves the cohort: not on the screen, in no log, in no file of a study.

Every key of the raw files (patients, hospital stays, unit stays) is looked for in all that the
commands print and write: as a number or word of text, as an integer of 32 or 64 bits, in the
columns of tables, and in what TensorBoard reads.
"""

import contextlib
import csv
import io
import json
import logging
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet as pq
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from medrec.cohort import Cohort
from sweeps.cli import main
from sweeps.tensorboard import EventWriter
from tests.fuzz.corruptions import Folder
from tests.fuzz.test_fuzz import DEMOS, KEYS, names_read_once, write_slice
from tests.shared_data import shared_data
from tests.sweeps import tiny

LEAST = 10_000  # smaller numbers are counts as well
TEXTS = {".json", ".jsonl", ".csv", ".md", ".html", ".tex", ".yaml", ".log", ".txt", ".svg"}
# A number of text: no part of a hash or of a decimal, and no code as 9:42731.
NUMBER = re.compile(rb"(?<![0-9a-zA-Z.+-])(?<!\b9:)(?<!\b10:)[0-9]{5,}(?![0-9a-zA-Z]|\.0*[1-9])")
PERSON = re.compile(rb"(?<![0-9a-z.-])[0-9]{3}-[0-9]{2,}(?![0-9a-z.-])")
RARE = 10
EICU_ROW = {"drughiclseqno": "0", "drugordercancelled": "No"}


def keys_of(root: Path) -> set[str]:
    """Returns every key of the raw files that is no small number."""
    found: set[str] = set()
    for path in sorted(root.rglob("*.csv")):
        with path.open(newline="", encoding="utf-8") as stream:
            rows = csv.DictReader(stream)
            names = [name for name in rows.fieldnames or () if name in KEYS]
            for row in rows:
                found.update(row[name] for name in names)
    return {key for key in found if "-" in key or (key.isdigit() and int(key) >= LEAST)}


def words(content: bytes) -> set[str]:
    """Returns the numbers and person-like words of a text."""
    return {word.decode() for word in [*NUMBER.findall(content), *PERSON.findall(content)]}


class _Said(logging.Handler):
    """Gathers what is printed and logged while it is entered."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.stream = io.StringIO()

    def emit(self, record: logging.LogRecord) -> None:
        self.stream.write(record.getMessage() + "\n")

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        ours = [logging.getLogger(name) for name in ("", "medrec", "sweeps")]
        levels = [logger.level for logger in ours]
        ours[0].addHandler(self)
        for logger in ours[1:]:
            logger.setLevel(logging.DEBUG)
        try:
            with contextlib.redirect_stdout(self.stream), contextlib.redirect_stderr(self.stream):
                yield
        finally:
            ours[0].removeHandler(self)
            for logger, level in zip(ours, levels, strict=True):
                logger.setLevel(level)


def command(*arguments: object) -> None:
    """Runs a command in this process; one that is refused exits, and fails the test."""
    with names_read_once():
        main([str(each) for each in arguments])


@dataclass(frozen=True)
class Studied:
    """The keys of the raw files, the folder of all that was written, and all that was said."""

    keys: set[str]
    out: Path
    said: str


@pytest.fixture(
    scope="module",
    params=["mimic4", *(pytest.param(n, marks=pytest.mark.slow) for n in ("mimic3", "eicu"))],
)
def studied(request, tmp_path_factory):
    """Prepares a part of a demo and runs a study on it, by the commands that a user gives."""
    dataset = request.param
    root = tmp_path_factory.mktemp("privacy")
    source, out = root / "data", root / "out"
    write_slice(dataset, shared_data(DEMOS[dataset]), source)
    cohort, results = out / "cohort", out / "results"
    study = tiny.write_study(
        out,
        cohort=str(cohort),
        seeds=[0],
        arms=[{"model": "most_popular"}, {"model": "gamenet", "config": {"dim": 8}}],
        searches=[{**tiny.SEARCH, "trials": 2, "space": {"dropout": {}}, "config": {"dim": 8}}],
    )
    knowledge = ("--knowledge", source / "knowledge")
    said = _Said()
    with said.listening():
        command("data", "prepare", dataset, "--source", source, "--out", cohort, *knowledge)
        command("plan", study)
        command("plan", study, "--json")
        command("run", study, "--out", results, "--executor", "inline")
        command("report", results)
        command("status", results)
        command("status", results, "--json")
        for form in ("parquet", "meds"):
            command("data", "export", "--cohort", cohort, "--format", form, "--out", out / form)
        command("data", "knowledge", "--cohort", cohort, "--out", out / "knowledge")
    return Studied(keys_of(source), out, said.stream.getvalue().replace(str(root), ""))


# ------------------------------------------------------------------ looking for keys


def leaks(path: Path, keys: set[str]) -> set[str]:
    """Returns the keys that a file holds, in whatever form its kind of file may."""
    content = path.read_bytes()
    found = words(content) & keys
    if path.suffix == ".arrow":
        with pa.OSFile(str(path)) as file:
            found |= of_table(pa.ipc.open_file(file).read_all(), keys)
    elif path.suffix == ".parquet":
        found |= of_table(pq.read_table(path), keys)
    elif "tfevents" in path.name:
        found |= of_events(path, keys)
    if path.suffix not in TEXTS and "tfevents" not in path.name:
        numbers = {int(key) for key in keys if key.isdigit()}
        for width in ("<i8", "<i4"):
            whole = content[: len(content) // 8 * 8]
            inside = numbers.intersection(np.frombuffer(whole, width).tolist())
            if len(inside) > 2:  # offsets and counts may coincide by chance
                found |= {str(number) for number in inside}
    return found


def of_table(table: pa.Table, keys: set[str]) -> set[str]:
    """Returns the keys among the cells of a table's columns, lists laid flat."""
    found: set[str] = set()
    for name in table.column_names:
        cells = table[name].combine_chunks()
        while pa.types.is_nested(cells.type) and not pa.types.is_struct(cells.type):
            cells = cells.flatten()
        texts = {str(cell) for cell in cells.unique().to_pylist()}
        found |= texts & keys | words("\n".join(sorted(texts)).encode()) & keys
    return found


def of_events(path: Path, keys: set[str]) -> set[str]:
    """Returns the keys among what TensorBoard reads: names, steps and values."""
    events = EventAccumulator(str(path))
    events.Reload()
    said = [json.dumps(events.Tags(), default=str)]
    for tag in events.Tags()["scalars"]:
        said += [f"{each.step} {each.value:.10g}" for each in events.Scalars(tag)]
    contents = events.PluginTagToContent("hparams")
    if metadata.SESSION_START_INFO_TAG in contents:
        start = contents[metadata.SESSION_START_INFO_TAG]
        said.append(str(metadata.parse_session_start_info_plugin_data(start)))
    return words("\n".join(said).encode()) & keys


def test_nothing_that_is_printed_or_logged_has_a_key(studied):
    assert len(studied.keys) > 50
    assert "patients" in studied.said
    assert "jaccard" in studied.said
    assert not words(studied.said.encode()) & studied.keys


def test_no_file_has_a_key(studied):
    files = [path for path in sorted(studied.out.rglob("*")) if path.is_file()]
    kinds = {path.suffix for path in files}
    expected = {".json", ".arrow", ".parquet", ".safetensors", ".md", ".html", ".csv", ".tex"}
    assert expected <= kinds
    assert any("tfevents" in path.name for path in files)
    assert any(path.parent.name == "sessions" for path in files)
    assert any(path.name == "journal.log" for path in files)
    found = {str(path.relative_to(studied.out)): leaks(path, studied.keys) for path in files}
    assert not {name: keys for name, keys in found.items() if keys}


@pytest.mark.slow
def test_rays_files_have_no_key(tmp_path, monkeypatch):
    """What Ray writes of a run on a real instance: logs, its own events, Tune's notes."""
    source, out = tmp_path / "data", tmp_path / "out"
    write_slice("mimic4", shared_data(DEMOS["mimic4"]), source)
    knowledge = ("--knowledge", source / "knowledge")
    command("data", "prepare", "mimic4", "--source", source, "--out", out, *knowledge)
    study = tiny.write_study(tmp_path, cohort=str(out), seeds=[0])
    with tempfile.TemporaryDirectory(prefix="r-", dir="/tmp") as scratch:  # sockets: short paths
        places = {"RAY_TMPDIR": scratch, "TMPDIR": scratch}
        done = tiny.medsweep(
            "run", study, "--out", tmp_path / "results", "--cpus", 1, env=places, timeout=400
        )
        assert done.returncode == 0, done.stderr
        keys = keys_of(source)
        logs = [p for p in Path(scratch).rglob("*") if p.is_file() and not p.is_symlink()]
        assert any(path.name.startswith("gcs_server") for path in logs)
        # Ports and process ids are numbers too: only what is in text beside no such word counts.
        told = {str(path): words(path.read_bytes()) & people(keys) for path in logs}
    assert not {name: found for name, found in told.items() if found}


def people(keys: set[str]) -> set[str]:
    """Returns the keys that no port, process or count of bytes is mistaken for."""
    return {key for key in keys if len(key) >= 8}


def test_no_name_of_a_file_or_folder_has_a_key(studied):
    names = "\n".join(str(p.relative_to(studied.out)) for p in studied.out.rglob("*"))
    assert not words(names.encode()) & studied.keys


def test_a_key_would_be_found(studied, tmp_path):
    """The search is no empty one: a key in any of the places is noticed."""
    number = next(key for key in sorted(studied.keys) if key.isdigit())
    (tmp_path / "a.json").write_text(f'{{"patient": {number}}}')
    (tmp_path / "a.html").write_text(f"<td>{number}</td>")
    table = pa.table({"visit": [1, int(number)]})
    pq.write_table(table, tmp_path / "a.parquet")
    with pa.ipc.new_file(str(tmp_path / "a.arrow"), table.schema) as writer:
        writer.write_table(table)
    with EventWriter(tmp_path / "events", tiny.spec(config={"dim": int(number)})):
        pass
    for path in [each for each in tmp_path.rglob("*") if each.is_file()]:
        assert leaks(path, studied.keys) == {number}, path


@pytest.mark.parametrize("dataset", sorted(DEMOS))
def test_free_text_of_few_rows_is_never_listed(dataset, tmp_path):
    """A name of nine rows may be what only one patient has; of ten rows it is listed."""
    source = tmp_path / "data"
    write_slice(dataset, shared_data(DEMOS[dataset]), source)
    folder = Folder(dataset, source)
    table = "medication" if dataset == "eicu" else "prescriptions"
    header, rows = folder.read(table)
    for name, times in (("Nineqx of Ms Doe", RARE - 1), ("Tenqx", RARE)):
        for _ in range(times):
            row = dict(zip(header, rows[0], strict=True))
            row |= (
                EICU_ROW | {"drugname": name} if dataset == "eicu" else {"drug": name, "ndc": ""}
            )
            rows.append(list(row.values()))
    folder.write(table, header, rows)
    if dataset == "eicu":
        head, cells = folder.read("diagnosis")
        cells[0][head.index("icd9code")] = "Ms Doe, room 12"
        folder.write("diagnosis", head, cells)
    out = tmp_path / "cohort"
    knowledge = ("--knowledge", source / "knowledge")
    command("data", "prepare", dataset, "--source", source, "--out", out, *knowledge)
    listed = Cohort.open(out).provenance.unmapped
    assert listed["drug name"]["Tenqx"] == RARE
    assert all(rows >= RARE for names in listed.values() for rows in names.values())
    for path in out.iterdir():
        assert b"Doe" not in path.read_bytes(), path
    assert "Tenqx" in (out / "card.md").read_text()
