"""One driver on a results directory: refused, waiting, killed, on another machine, taken over."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sweeps import locks
from sweeps.errors import BusyError, StoreError
from sweeps.locks import LEASE, exclusive
from sweeps.places import place_of
from tests.sweeps import tiny

REPOSITORY = Path(__file__).parents[2]
_DRIVER = """
import sys, time
from sweeps import locks
from sweeps.errors import BusyError
locks.RENEW, locks.WATCH, locks._POLL, locks._SETTLE = 0.2, 2.0, 0.05, 0.2
try:
    say = lambda text: print("said", text, flush=True)
    with locks.exclusive(sys.argv[1], sys.argv[2] == "wait", say):
        print("held", flush=True)
        sys.stdin.readline()
except BusyError as error:
    print("busy", error, flush=True)
"""


def driver(root, wait: str = "") -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", _DRIVER, str(root), wait],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY, text=True,
    )  # fmt: skip


def end(*drivers: subprocess.Popen) -> None:
    for child in drivers:
        child.kill()
        child.communicate()


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.slow)])
def root(request, tmp_path) -> str:
    return request.getfixturevalue("s3") if request.param == "s3" else str(tmp_path / "results")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    for name, value in (("RENEW", 0.2), ("WATCH", 2.0), ("_POLL", 0.05), ("_SETTLE", 0.2)):
        monkeypatch.setattr(locks, name, value)


def lease(root) -> dict:
    return json.loads(place_of(root).read(LEASE))


def elsewhere(root, **changes) -> None:
    """Leaves the lease of a driver on another machine."""
    told = {"nonce": "n", "holder": "h", "machine": "m", "process": 7, "since": "then", **changes}
    place_of(root).write(LEASE, json.dumps(told).encode())


class Elsewhere:
    """A driver on a machine that this one shares no lock with."""

    def __init__(self, root) -> None:
        self.root, self.ended, self.count = root, threading.Event(), 0
        elsewhere(root, nonce="0")
        self.thread = threading.Thread(target=self._live)

    def _live(self) -> None:
        while not self.ended.wait(0.2):
            self.count += 1
            elsewhere(self.root, nonce=str(self.count), since=f"{9999 - self.count}-99-99T99")

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error) -> None:
        self.ended.set()
        self.thread.join()


def test_a_second_driver_is_refused_and_a_third_one_waits(root):
    first = driver(root)
    assert first.stdout.readline() == "held\n"
    second = driver(root).communicate(timeout=60)[0]
    assert second.startswith("busy Another medsweep run works on"), second
    assert f"process {first.pid}, since 20" in second
    third = driver(root, "wait")
    assert "waiting for it to end" in third.stdout.readline()
    first.communicate("\n", timeout=60)
    assert third.stdout.readline() == "held\n"
    third.communicate("\n", timeout=60)
    assert third.returncode == 0
    assert not place_of(root).exists(LEASE)


def test_a_killed_drivers_place_is_free_at_once_on_its_machine(root):
    first = driver(root)
    assert first.stdout.readline() == "held\n"
    end(first)
    assert place_of(root).exists(LEASE)
    said = []
    with exclusive(root, say=said.append) as held:
        assert held.held()
    assert said == []


def test_the_lease_changes_and_names_no_machine(root):
    with exclusive(root):
        before = lease(root)
        tiny.wait_for(lambda: lease(root)["nonce"] != before["nonce"])
        assert set(before) == {"nonce", "holder", "machine", "process", "since"}
    assert not place_of(root).exists(LEASE)


def test_a_live_driver_elsewhere_is_noticed_whatever_its_clock_says(root):
    with Elsewhere(root):
        says = r"process 7, since 99\d\d-99-99T99\)\. Wait for it"
        with pytest.raises(BusyError, match=says), exclusive(root):
            pytest.fail("there are two")
        assert lease(root)["machine"] == "m"  # its lease was left alone


def test_who_waits_for_a_driver_elsewhere_goes_on_when_it_ends(root):
    said = []
    with Elsewhere(root) as other:
        timer = threading.Timer(1.0, other.ended.set)
        timer.start()
        with exclusive(root, wait=True, say=said.append):
            assert other.ended.is_set()
            assert lease(root)["machine"] != "m"
    assert "watching for a sign of life" in said[0]
    assert "waiting for it to end" in said[1]
    assert len(said) == 2


@pytest.mark.parametrize("left", [{}, {"since": "9999"}, {"nonce": 3, "process": None}, "rubbish"])
def test_a_dead_drivers_lease_of_another_machine_is_taken_over_after_a_while(tmp_path, left):
    if left == "rubbish":
        place_of(tmp_path).write(LEASE, b"\x00\xff")
    else:
        elsewhere(tmp_path, **left)
    start = time.monotonic()
    with exclusive(tmp_path):
        assert time.monotonic() - start >= locks.WATCH
        assert lease(tmp_path)["machine"] != "m"
    assert not place_of(tmp_path).exists(LEASE)


def test_who_was_taken_over_is_told_and_stops(root):
    told = []

    def overtaken() -> None:
        with exclusive(root, lost=told.append) as held:
            elsewhere(root)
            tiny.wait_for(lambda: not held.held())
            with pytest.raises(BusyError):
                held.check()

    with pytest.raises(BusyError, match="took it over"):
        overtaken()
    assert len(told) == 1
    assert lease(root)["holder"] == "h"  # the other's lease stays


def test_an_error_inside_frees_the_directory(root):
    with pytest.raises(ZeroDivisionError), exclusive(root):
        _ = 1 / 0
    with exclusive(root):
        pass


def test_a_directory_that_cannot_be_made_is_a_store_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="Cannot write to"), exclusive(tmp_path / "file" / "x"):
        pass
