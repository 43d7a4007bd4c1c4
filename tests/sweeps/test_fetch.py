"""`medsweep data fetch`: all files of a demo, as published, and nothing else is touched."""

import fcntl
import hashlib
import io
import os
import shlex
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from rich.console import Console

from medrec.cohort import Cohort
from medrec.raw_files import find_table
from sweeps import fetch as fetching
from sweeps.errors import BusyError, FetchError
from sweeps.fetch import DEMOS, command, fetch, published
from sweeps.prepare import command as prepare_command
from tests.shared_data import shared_data
from tests.sweeps.demo_server import (
    BIG,
    HALF,
    NAME,
    OTHER,
    PLACE,
    RELEASE,
    SMALL,
    Server,
    breaks,
    content,
    get,
    ranged,
    running,
    stalls,
    whole,
    write_list,
)


def test_fetches_every_file_of_the_list_and_nothing_else(server, out):
    paths = get(server, out)
    assert paths == [out / name for name in sorted(RELEASE)]
    assert content(out) == RELEASE
    assert server.requests == [(PLACE + name, None) for name in sorted(RELEASE)]


def test_what_is_there_already_is_left_alone_and_needs_no_server(server, out):
    get(server, out)
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    server.requests.clear()
    get(server, out)
    assert server.requests == []
    (out / SMALL).unlink()
    get(server, out)
    assert server.requests == [(PLACE + SMALL, None)]
    kept = {p: p.stat().st_mtime_ns for p in stamps if p.is_file() and p.name != SMALL}
    assert kept.items() <= stamps.items()
    assert content(out) == RELEASE


@pytest.mark.parametrize("name", DEMOS)
def test_the_lists_shipped_are_physionets(name):
    sums = shared_data(name, "SHA256SUMS.physionet.txt").read_text().split()
    theirs = dict(zip(sums[1::2], sums[::2], strict=True))
    for file in published(Path(fetching.__file__).with_name("demos") / f"{name}.csv"):
        data = shared_data(name, file.name).read_bytes()
        assert theirs[file.name] == file.sha256 == hashlib.sha256(data).hexdigest()
        assert file.bytes == len(data)


NEEDED = {
    "mimic-iii-demo": (".", ".csv", "PATIENTS ADMISSIONS DIAGNOSES_ICD PROCEDURES_ICD "
                       "PRESCRIPTIONS SERVICES ICUSTAYS D_ICD_DIAGNOSES D_ICD_PROCEDURES"),
    "mimic-iv-demo": ("hosp", ".csv.gz", "patients admissions diagnoses_icd procedures_icd "
                      "prescriptions services d_icd_diagnoses d_icd_procedures"),
    "eicu-demo": (".", ".csv.gz", "patient diagnosis medication treatment admissionDx "
                  "admissiondrug infusiondrug hospital"),
}  # fmt: skip


@pytest.mark.parametrize("name", DEMOS)
def test_fetches_a_real_demo_with_the_tables_that_loaders_need(name, out):
    folder, ending, tables = NEEDED[name]
    files = [SMALL, *((Path(folder) / f"{table}{ending}").as_posix() for table in tables.split())]
    with running(Server()) as server:
        data = {file: shared_data(name, file).read_bytes() for file in files}
        server.files = {f"/{DEMOS[name].place}/{file}": data[file] for file in files}
        paths = fetch(name, out, mirror=server.url)
    assert content(out) == data
    assert paths == sorted(out / file for file in files)
    for table in tables.split():
        assert find_table(out / folder, table.lower()).name == f"{table}{ending}"


def test_the_next_command_reads_what_was_fetched(out, tmp_path):
    with running(Server()) as server:
        real = shared_data(NAME)
        server.files = {PLACE + p.relative_to(real).as_posix(): p.read_bytes()
                        for p in [real / SMALL, *real.glob("hosp/*")]}  # fmt: skip
        found = CliRunner().invoke(
            command, [NAME, "--out", str(out), "--mirror", server.url], catch_exceptions=False
        )
    _, _, line = found.output.partition("Next: ")
    words = shlex.split(line)
    assert words[:3] == ["medsweep", "data", "prepare"]
    words[-1] = str(tmp_path / words[-1])
    (out.parent / "knowledge").symlink_to(shared_data("knowledge"))  # maps drugs to classes
    CliRunner().invoke(prepare_command(words[3]), words[4:], catch_exceptions=False)
    assert Cohort.open(tmp_path / "cohort").patients > 0


def make_other(path):
    path.write_bytes(b"mine")


def make_same_size(path):
    path.write_bytes(OTHER)


def make_link(path):
    path.symlink_to("nowhere")


def identity(path):
    found = os.lstat(path)
    return found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns


@pytest.mark.parametrize("make", [make_other, make_same_size, Path.mkdir, make_link])
def test_what_is_there_with_other_content_is_refused_and_kept(server, out, make):
    path = out / BIG
    path.parent.mkdir(parents=True)
    make(path)
    before = identity(path)
    with pytest.raises(FetchError, match=r"is there already and is not the published file.*move"):
        get(server, out)
    assert identity(path) == before
    assert server.requests == []
    assert set(content(out)) <= {BIG}


def test_a_file_that_appears_meanwhile_is_kept(server, out):
    def appears(handler, data):
        (out / BIG).write_bytes(b"mine")
        whole(handler, data)

    server.behave(appears)
    with pytest.raises(FetchError, match="is there already"):
        get(server, out)
    assert (out / BIG).read_bytes() == b"mine"


@pytest.mark.parametrize("place", ["{tmp}/file", "{tmp}/file/below", "/proc/medsweep"])
def test_a_folder_that_cannot_be_written_is_an_error_message(server, tmp_path, place):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FetchError, match=r"Cannot read or write .*choose another --out"):
        get(server, Path(place.format(tmp=tmp_path)))
    assert server.requests == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_an_error_message(server, out):
    out.mkdir(mode=0o500)
    with pytest.raises(FetchError, match="Permission denied"):
        get(server, out)


def test_a_link_that_leads_out_of_the_folder_is_refused(server, out, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    out.mkdir()
    (out / "hosp").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FetchError, match=f"{out}/hosp leads out of {out}"):
        get(server, out)
    assert list((tmp_path / "elsewhere").iterdir()) == []


GOOD = "a.csv", "0" * 64, "1"


@pytest.mark.parametrize(
    "name",
    ["../a.csv", "..", ".", "a/../../b.csv", "hosp/..", "/etc/passwd", "", "a//b.csv", "a/",
     ".hidden", "hosp/.hidden", "a\\b.csv", "C:/a.csv", "~/a.csv", "a b.csv", "a\nb.csv",
     "a\0b.csv", "\uff41.csv", "a.csv?x", "%2e%2e/a.csv", "a.csv.part"],
)  # fmt: skip
def test_a_name_that_leaves_the_folder_is_refused(server, out, name):
    path = write_list(fetching._LISTS / f"{NAME}.csv", [GOOD, (name, *GOOD[1:])])
    with pytest.raises(FetchError, match=r"line 3: `file` must") as raised:
        get(server, out)
    assert str(path) in str(raised.value)
    assert repr(name) in str(raised.value)
    assert not out.exists()
    assert server.requests == []


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("b.csv", "0" * 63, "1"), "`sha256` must be 64"),
        (("b.csv", "A" * 64, "1"), "`sha256` must be 64"),
        (("b.csv", "0" * 64, "0"), "`bytes` must be a positive"),
        (("b.csv", "0" * 64, "-1"), "`bytes` must be a positive"),
        (("b.csv", "0" * 64, "1e9"), "`bytes` must be a positive"),
        (("b.csv", "0" * 64), "must have 3 fields, but it has 2"),
        ((), "must have 3 fields, but it has 0"),
        (("A.csv", "1" * 64, "2"), "'A.csv' is there twice"),
    ],
)
def test_a_malformed_row_is_named(tmp_path, row, message):
    path = write_list(tmp_path / "list.csv", [GOOD, row])
    with pytest.raises(FetchError, match=rf"list\.csv, line 3: {message}"):
        published(path)


@pytest.mark.parametrize("text", ["", "file,sha256,bytes\n", "a.csv,00,1\n"])
def test_a_list_needs_its_columns_and_rows(tmp_path, text):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(FetchError, match=r"list\.csv: the columns must be file,sha256,bytes"):
        published(tmp_path / "list.csv")


def test_a_list_that_is_missing(tmp_path):
    with pytest.raises(FetchError, match=r"Cannot read or write .*list\.csv: No such file"):
        published(tmp_path / "list.csv")


def test_two_fetches_of_one_folder_share_the_work(server, out):
    def slow(handler, data):
        time.sleep(0.05)
        whole(handler, data)

    for name in RELEASE:
        server.behave(slow, name=name)
    barrier, results = threading.Barrier(4), []

    def run():
        barrier.wait()
        results.append(get(server, out))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[out / name for name in sorted(RELEASE)]] * 4
    assert Counter(server.requests) == {(PLACE + name, None): 1 for name in RELEASE}
    assert content(out) == RELEASE


def test_waits_for_another_fetch_but_not_for_ever(server, out, monkeypatch):
    monkeypatch.setattr(fetching, "_PATIENCE", 0.3)
    out.mkdir()
    with (out / ".fetch.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match=f"Another fetch works on {out}"):
            get(server, out)
        assert server.requests == []
    get(server, out)
    assert content(out) == RELEASE


def test_a_lock_on_a_file_that_its_last_holder_deleted_counts_for_nothing(tmp_path, monkeypatch):
    path, lock = tmp_path / "lock", fcntl.flock
    deleting = SimpleNamespace(**vars(fcntl))
    deleting.flock = lambda descriptor, how: (path.unlink(), lock(descriptor, how))
    monkeypatch.setattr(fetching, "fcntl", deleting)
    assert fetching._locked(path) is None
    monkeypatch.undo()
    descriptor = fetching._locked(path)
    assert descriptor is not None
    assert fetching._locked(path) is None
    os.close(descriptor)


KILLED = """
import sys
from pathlib import Path
from sweeps import fetch
fetch._LISTS = Path(sys.argv[1])
fetch.fetch(sys.argv[2], Path(sys.argv[3]), mirror=sys.argv[4])
"""


def test_after_a_kill_the_next_fetch_goes_on(server, out):
    server.behave(stalls, ranged)
    arguments = [str(fetching._LISTS), NAME, str(out), server.url]
    process = subprocess.Popen([sys.executable, "-c", KILLED, *arguments])
    part = out / f"{BIG}.part"
    until = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size) and time.monotonic() < until:
        time.sleep(0.02)
    process.kill()
    process.wait()
    kept = part.stat().st_size
    assert 0 < kept <= HALF
    assert (out / ".fetch.lock").exists()
    get(server, out)
    assert content(out) == RELEASE
    assert server.ranges() == [None, f"bytes={kept}-"]


@pytest.mark.parametrize("name", ["out", "my data [bold]"])
def test_says_one_line_where_there_is_no_terminal(server, tmp_path, name, capsys):
    out, file = tmp_path / name, io.StringIO()
    server.behave(breaks(HALF), ranged)
    get(server, out, console=Console(file=file, width=40))
    line = file.getvalue()
    assert line.count("\n") == 1
    assert line.startswith(f"{out}: 3 files of MIMIC-IV Demo 2.2 (153.0 kB), as published.")
    assert "ODbL 1.0" in line
    assert "attribution" in line
    assert "https://doi.org/10.13026/dp1f-ex47" in line
    words = shlex.split(line.partition("Next: ")[2])
    expected = ["medsweep", "data", "prepare", "mimic4", "--source", str(out), "--out", "cohort"]
    assert words == expected
    assert capsys.readouterr() == ("", "")


def test_draws_progress_on_a_terminal(server, out):
    file = io.StringIO()
    server.behave(stalls, ranged)
    console = Console(file=file, force_terminal=True, width=160, legacy_windows=False)
    get(server, out, timeout=0.5, console=console)
    drawn = file.getvalue()
    assert BIG in drawn
    assert "153.0/153.0 kB" in drawn
    assert "/s" in drawn
    assert "Licence ODbL 1.0" in drawn


def test_says_nothing_without_a_console(server, out, capsys):
    get(server, out)
    assert capsys.readouterr() == ("", "")


def test_the_command_line(server, out):
    arguments = [NAME, "--out", str(out), "--mirror", server.url, "--timeout", "5"]
    found = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert found.exit_code == 0
    assert found.output.count("\n") == 1
    assert content(out) == RELEASE


def test_the_help_names_the_demos_and_an_example():
    text = " ".join(CliRunner().invoke(command, ["--help"], terminal_width=200).output.split())
    for name in DEMOS:
        assert name in text
    assert "medsweep data fetch mimic-iv-demo --out mimic-iv-demo" in text
    assert "http on this machine" in text


@pytest.mark.parametrize(
    "arguments", [["mimic-v-demo", "--out", "x"], [NAME], [NAME, "--out", "x", "--timeout", "0"]]
)
def test_wrong_usage(arguments):
    assert CliRunner().invoke(command, arguments).exit_code == 2


def test_another_name_gets_the_nearest():
    with pytest.raises(FetchError, match=r"no demo 'mimic-4-demo'\. Did you mean 'mimic-iv-demo'"):
        fetch("mimic-4-demo", Path("x"))
