"""What attempts took that died, failed or were interrupted is kept, and counted once."""

import pytest

from sweeps import attempts
from sweeps.attempts import Attempt, Unfinished, unfinished
from sweeps.errors import StoreError
from sweeps.store import ResultsStore

KEY = "a" * 16


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("sweeps.attempts.time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def store(tmp_path):
    return ResultsStore(tmp_path)


def killed(store, clock, kept: float, seconds: float) -> None:
    attempt = Attempt(store, KEY, kept)
    clock[0] += seconds
    attempt.beat()


def test_a_killed_attempt_is_booked_by_the_next_without_what_its_checkpoint_kept(store, clock):
    killed(store, clock, kept=0.0, seconds=60.0)
    assert store.failed_attempts(KEY) == {"attempts": 0, "seconds": 0.0}
    Attempt(store, KEY, kept=45.0)
    assert store.failed_attempts(KEY) == {"attempts": 1, "seconds": 15.0}
    assert store.failures() == {}  # it runs again


def test_every_kill_is_booked_once(store, clock):
    killed(store, clock, 0.0, 60.0)
    killed(store, clock, 45.0, 30.0)
    Attempt(store, KEY, 45.0)
    Attempt(store, KEY, 45.0)  # died before its first note
    assert store.failed_attempts(KEY) == {"attempts": 2, "seconds": 15.0 + 30.0}


def test_an_attempt_that_ended_in_order_is_booked_by_who_ended_it(store, clock):
    attempt = Attempt(store, KEY, 10.0)
    clock[0] += 50.0
    attempt.beat()
    assert attempt.end(40.0) == 20.0  # 50 s, of which 30 s are kept
    Attempt(store, KEY, 40.0)
    assert store.failed_attempts(KEY)["attempts"] == 0


def test_notes_are_written_now_and_then(store, clock, monkeypatch):
    attempt = Attempt(store, KEY, 0.0)
    written = []
    monkeypatch.setattr(store, "write_text", lambda *text: written.append(text))
    for _ in range(1000):
        clock[0] += 0.01
        attempt.beat()
    assert len(written) in (1, 2)


def test_what_unfinished_trials_took_is_told(store, clock):
    killed(store, clock, 0.0, 60.0)
    killed(store, clock, 45.0, 30.0)
    others = ["b" * 16, "c" * 16]
    store.record_failure(others[0], "out of memory", 7.0)
    found = unfinished(store, [KEY, *others])
    assert found == {KEY: Unfinished(1, 15 + 45 + 30, 15), others[0]: Unfinished(1, 7, 7)}


@pytest.mark.parametrize("text", ["{", "[]", '{"seconds": "x"}', '{"seconds": -3, "kept": null}'])
def test_a_note_that_is_none_tells_nothing(store, text):
    store.write_text(f"running/{KEY}/attempt.json", text)
    assert unfinished(store, [KEY]) == {}
    Attempt(store, KEY, 0.0)
    assert store.failed_attempts(KEY)["attempts"] == 0


def test_a_full_disk_ends_no_attempt(store, monkeypatch):
    def full(name, text):
        raise StoreError("no space")

    monkeypatch.setattr(store, "write_text", full)
    assert Attempt(store, KEY, 0.0, every=0.0).beat() is None


def test_the_note_goes_with_the_checkpoint(store):
    Attempt(store, KEY, 0.0)
    store.forget_running(KEY)
    assert not (store.root / "running" / KEY).exists()
    assert attempts.unfinished(store, [KEY]) == {}
