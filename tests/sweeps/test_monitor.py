"""What serves a study listens on loopback alone, shows what there is, and writes nothing."""

import hashlib
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from sweeps import monitor
from sweeps.errors import StoreError
from sweeps.search import Search
from sweeps.search_pages import in_memory, journals
from sweeps.store import ResultsStore
from sweeps.tensorboard import EventWriter
from tests.sweeps import tiny


def play(root: Path, name: str = "tune", trials: int = 5) -> Search:
    """A search whose trials end at once."""
    store = ResultsStore(root)
    plan = tiny.search_plan(trials=trials).model_copy(update={"name": name})
    search = Search(plan, store)
    while (made := search.suggest()) is not None:
        number, spec = made
        tiny.save(store, spec, tiny.rows(3, 0.1 + 0.05 * number))
        search.finish(number, [])
    return search


def files(root: Path) -> dict[str, tuple[str, int]]:
    return {
        str(path.relative_to(root)): (
            hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns,
        )
        for path in sorted(root.rglob("*")) if path.is_file()
    }  # fmt: skip


@contextmanager
def serving(*arguments):
    """Runs `medsweep monitor` in a process of its own, on a free port."""
    process = subprocess.Popen(
        [*tiny.MAIN, "monitor", *map(str, arguments), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        tiny.wait_for(lambda: listening(process.pid) or process.poll() is not None, 90)
        assert process.poll() is None, process.communicate()[1]
        yield process, listening(process.pid)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def listening(pid: int) -> set[tuple[str, int]]:
    """Addresses that a process and its children accept connections on."""
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        found = [c for each in family for c in each.net_connections("tcp")]
    except psutil.Error:
        return set()
    return {tuple(c.laddr) for c in found if c.status == psutil.CONN_LISTEN}


def get(port: int, path: str = "/") -> str:
    """Returns a page, given time to come up."""
    end = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
                return answer.read().decode()
        except urllib.error.URLError:
            assert time.monotonic() < end
            time.sleep(0.2)


def test_optunas_dashboard_shows_the_searches_and_listens_on_loopback_alone(tmp_path):
    play(tmp_path)
    play(tmp_path, "again", 3)
    before = files(tmp_path)
    with serving(tmp_path, "--searches") as (_, addresses):
        assert {host for host, _ in addresses} == {"127.0.0.1"}
        ((_, port),) = addresses
        studies = json.loads(get(port, "/api/studies"))["study_summaries"]
        assert {study["study_name"] for study in studies} == {"again", "tune"}
        tune = next(s["study_id"] for s in studies if s["study_name"] == "tune")
        assert len(json.loads(get(port, f"/api/studies/{tune}"))["trials"]) == 5
        # What a visitor writes or deletes is not the study's.
        for method, path, content in (
            ("PUT", f"/api/studies/{tune}/note", {"body": "x", "version": 1}),
            ("DELETE", f"/api/studies/{tune}", {}),
        ):
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}{path}", json.dumps(content).encode(),
                {"Content-Type": "application/json"}, method=method,
            )  # fmt: skip
            try:
                urllib.request.urlopen(request, timeout=30).close()  # noqa: S310  our own
            except urllib.error.HTTPError as error:
                error.close()
    assert files(tmp_path) == before


def test_the_dashboard_follows_a_search_that_goes_on(tmp_path, monkeypatch):
    from sweeps import search_pages

    monkeypatch.setattr(search_pages, "_EVERY", 0.0)
    seen = []

    def make(storage):
        seen.append({s.study_name: storage.get_n_trials(s._study_id)
                     for s in storage.get_all_studies()})  # fmt: skip
        return lambda environ, start: []

    play(tmp_path, trials=3)
    app = search_pages.Dashboard(tmp_path, make)
    app({}, None)
    app({}, None)
    play(tmp_path, trials=6)  # its journal is begun anew
    app({}, None)
    assert seen == [{"tune": 3}, {"tune": 6}]


def test_damaged_journals_and_links_that_lead_outside_are_left_out(tmp_path):
    play(tmp_path / "other", "secret")
    root = tmp_path / "study"
    play(root, "good")
    for name, text in {
        "empty": "", "cut": '{"op_code": 0, "study', "alien": "[1]\n{}\n",
        "code": '{"op_code": 99}\n',
    }.items():  # fmt: skip
        (root / f"searches/{name}").mkdir()
        (root / f"searches/{name}/journal.log").write_text(text)
    (root / "searches/linked").symlink_to(tmp_path / "other/searches/secret")
    found = in_memory(journals(root))
    assert [study.study_name for study in found.get_all_studies()] == ["good"]


def test_a_study_without_searches_is_refused(tmp_path):
    found = tiny.medsweep("monitor", tmp_path, "--searches")
    assert found.returncode == 1
    assert "holds no searches" in found.stderr


def test_the_dashboard_ends_with_a_message_where_the_port_is_taken(tmp_path):
    play(tmp_path, trials=1)
    with serving(tmp_path, "--searches") as (_, addresses):
        port = next(iter(addresses))[1]
        found = tiny.medsweep("monitor", tmp_path, "--searches", "--port", port)
    assert found.returncode == 1
    assert "Choose another --port" in found.stderr


@pytest.mark.slow
def test_tensorboard_listens_on_loopback_alone(tmp_path):
    with EventWriter(tmp_path / "tensorboard" / "k", tiny.spec()) as events:
        events.epoch(tiny.rows(1, 0.5)[0])
    before = files(tmp_path)
    with serving(tmp_path) as (_, addresses):
        assert {host for host, _ in addresses} == {"127.0.0.1"}
        ports = [port for _, port in addresses]
        assert any("TensorBoard" in get(port) for port in ports)
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("127.8.8.8", True),
     ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("example.org", False), ("", False)],  # noqa: S104
)  # fmt: skip
def test_which_addresses_are_of_this_machine_alone(host, expected):
    assert monitor.is_loopback(host) is expected


def test_another_host_is_warned_of_with_what_becomes_visible(tmp_path):
    found = tiny.medsweep("monitor", tmp_path, "--searches", "--host", "0.0.0.0")  # noqa: S104
    words = " ".join(found.stderr.split())
    assert "Warning: Optuna's dashboard listens on 0.0.0.0" in words
    assert "can read settings and validation metrics of every trial" in words


def test_a_directory_without_events_is_refused(tmp_path):
    with pytest.raises(StoreError, match="no tensorboard folder"):
        monitor.serve(tmp_path, "127.0.0.1", 0, None)
