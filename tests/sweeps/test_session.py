"""What a driver leaves of itself: beats while it lives, an end when it ends, no word of where."""

import io
import json
import os
import socket
import threading
import time

import pytest
from rich.console import Console

from cluster.nodes import Node
from medrec.spec import Resources
from sweeps.errors import StoreError, TrialsFailedError
from sweeps.progress import Progress
from sweeps.session import Session
from sweeps.session_notes import live, sessions
from sweeps.store import ResultsStore
from sweeps.study import RunBudget
from tests.sweeps import tiny


@pytest.fixture
def store(tmp_path):
    return ResultsStore(tmp_path)


def progress(total: int = 4) -> Progress:
    return Progress(total, 0, {}, Console(file=io.StringIO()))


def row(epoch: float, value: float) -> dict[str, float]:
    return {"epoch": epoch, "best_jaccard": value}


def last(store):
    return sessions(store)[-1]


def test_a_session_tells_of_its_trials_while_it_lives_and_how_it_ended(store):
    shown, spec = progress(), tiny.spec(resources=Resources(gpus=1, workers=2))
    with Session(store, shown, "ray", RunBudget(max_trials=9), every=0.02) as session:
        first = last(store)
        assert (first.id, first.end, first.running_trials) == (session.id, None, 0)
        assert live(first)
        shown.start(spec.key, spec)
        shown.epoch(spec.key, row(2, 0.25))
        tiny.wait_for(lambda: last(store).running_trials == 1)
        found = last(store)
        (trial,) = found.running
        assert (trial.key, trial.epoch, trial.epochs, trial.best) == (spec.key, 2, 3, 0.25)
        assert trial.gpus == 2
        assert found.beat > first.beat
        assert live(found, first)
        shown.finish(spec.key, "complete", None)
    ended = last(store)
    assert ended.end.reason == "complete"
    assert not live(ended)
    assert (ended.counts, ended.left, ended.running) == ({"complete": 1}, 3, ())
    assert ended.budget.max_trials == 9
    assert ended.best.value == 0.25


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyboardInterrupt(), "interrupted"),
        (SystemExit(143), "interrupted"),
        (TrialsFailedError("2 trials failed"), "failed"),
        (StoreError("Cannot write: no space"), "error"),
        (RuntimeError("a path of /home/somebody"), "error"),
    ],
)
def test_an_exception_is_an_end_of_its_own(store, error, reason):
    with pytest.raises(type(error)), Session(store, progress(), "inline"):
        raise error
    end = last(store).end
    assert end.reason == reason
    assert "/home" not in end.text


def test_a_session_with_failed_trials_ends_as_failed_and_names_the_newest(store):
    shown = progress(20)
    with Session(store, shown, "inline"):
        for number in range(12):
            shown.suggested("tune", number, f"k{number}", False)
            shown.start(f"k{number}")
            shown.finish(f"k{number}", "failed", f"reason {number}" + "x" * 5000)
    note = last(store)
    assert (note.end.reason, note.end.text) == ("failed", "12 trials failed")
    assert [error.label for error in note.errors] == [f"tune {n}" for n in range(2, 12)]
    assert note.errors[-1].reason.startswith("reason 11")
    assert (store.root / "sessions" / f"{note.id}.json").stat().st_size < 20_000


def test_the_first_word_about_the_end_holds(store):
    with Session(store, progress(), "inline") as session:
        session.end("budget", "budget.max_trials: 3 of 3 trials are spent")
        session.end("interrupted")
    assert last(store).end.reason == "budget"


def test_a_note_stays_small_whatever_runs(store):
    shown = progress(5000)
    with Session(store, shown, "ray"):
        for number in range(3000):
            shown.start(f"{number:016x}")
    note = last(store)
    assert note.running_trials == 3000
    assert len(note.running) == 200
    assert (store.root / "sessions" / f"{note.id}.json").stat().st_size < 100_000


def test_sessions_come_in_the_order_of_their_start_whatever_clocks_say(store, monkeypatch):
    times = iter(["2031-01-01T00:00:00Z"] * 2 + ["2020-01-01T00:00:00Z"] * 2)
    monkeypatch.setattr("sweeps.session.utc_now", lambda: next(times, "2020-01-01T00:00:00Z"))
    names = []
    for _ in range(2):
        with Session(store, progress(), "inline") as session:
            names.append(session.id)
    assert [note.id for note in sessions(store)] == names


def test_a_driver_that_was_killed_counts_as_gone_and_a_jumped_clock_kills_none(store):
    with Session(store, progress(), "inline"):
        alive = last(store)
    assert live(alive)
    old = alive.model_copy(update={"seen": "2020-01-01T00:00:00Z"})
    assert not live(old)
    earlier = old.model_copy(update={"beat": old.beat - 1})
    assert live(old, earlier)  # it beat since: its clock is wrong, not its life
    assert not live(old, old)


def test_what_is_no_note_is_left_out(store):
    with Session(store, progress(), "inline"):
        pass
    good = json.loads((store.root / "sessions" / f"{last(store).id}.json").read_text())
    for name, content in {
        "00009-20260301T000000Z-abcdef01": {**good, "seconds": "long"},
        "00008-20260301T000000Z-abcdef01": good,  # of another id
        "00007-20260301T000000Z-abcdef01": {},
        "x": good,
        "00006-20260301T000000Z-abcdef01": {
            **good,
            "id": "00006-20260301T000000Z-abcdef01",
            "dashboard": "http://evil.example:80/",
        },
    }.items():
        store.write_text(f"sessions/{name}.json", json.dumps(content))
    store.write_text("sessions/00005-20260301T000000Z-abcdef01.json", "{")
    assert [note.id for note in sessions(store)] == [good["id"]]


def test_a_note_that_cannot_be_written_ends_nothing(store, monkeypatch):
    def full(name, text):
        raise StoreError("Cannot write: no space left on device")

    monkeypatch.setattr(store, "write_text", full)
    with Session(store, progress(), "inline", every=0.01):
        time.sleep(0.05)
    assert sessions(store) == []


def test_no_thread_stays_behind_and_the_end_is_not_written_over(store):
    before = threading.active_count()
    for _ in range(5):
        with Session(store, progress(), "inline", every=0.001) as session:
            session.joined(nodes=lambda: ())
            time.sleep(0.01)
        assert last(store).end is not None
    tiny.wait_for(lambda: threading.active_count() == before, 5)
    assert all(note.end is not None for note in sessions(store))


def test_the_cluster_is_told_without_names_and_addresses(store):
    nodes = (Node("0a1b2c3d", True, 8, 3, 2, 0.5), Node("ffffffff", False, 0, 0, 0, 0))
    with Session(store, progress(), "ray", every=0.02) as session:
        session.joined(lambda: nodes, "10.1.2.3:8265", concurrency=4)
        tiny.wait_for(lambda: len(last(store).nodes) == 2)
        note = last(store)
        assert (note.nodes[0].id, note.nodes[0].gpus_used) == ("0a1b2c3d", 0.5)
        assert (note.dashboard, note.concurrency) == (None, 4)
        session.joined(dashboard="127.0.0.1:8265")
        tiny.wait_for(lambda: last(store).dashboard == "http://127.0.0.1:8265")
    text = (store.root / "sessions" / f"{note.id}.json").read_text()
    for word in (socket.gethostname(), "10.1.2.3", os.environ.get("USER") or "nobody's"):
        assert word not in text


def test_a_cluster_that_does_not_answer_stops_no_beat(store):
    def gone():
        raise ConnectionError

    with Session(store, progress(), "ray", every=0.01) as session:
        session.joined(gone)
        before = last(store).beat
        tiny.wait_for(lambda: last(store).beat > before + 2)


def test_a_process_that_is_about_to_be_ended_leaves_its_last_word(store):
    with Session(store, progress(), "ray") as session:
        session.end("error", "The head of the Ray cluster is gone.")
        session.flush()
        assert last(store).end.reason == "error"
    assert last(store).end.text.startswith("The head")
