"""One driver on a results directory, on this machine and on others.

Two things say that somebody is there. A lock of this machine's system, which it frees when its
holder ends in any way. And a lease for all machines, `lease.json`: its holder writes a new random
nonce into it every few seconds. Who finds a lease of another machine watches whether the nonce
changes. No clock is compared, so clocks may differ or jump; what else the file says is only shown.
"""

import fcntl
import hashlib
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sweeps.caches import cache_folder
from sweeps.errors import BusyError, StoreError
from sweeps.places import LocalPlace, Place, place_of

LEASE = "lease.json"
RENEW = 3.0  # seconds between two nonces
WATCH = 15.0  # seconds of one nonce after which its holder counts as dead
_SETTLE = 1.0  # seconds that two who claim at once need to see each other, without a shared lock
_POLL = 0.5
_TELL = 60.0  # seconds between two lines to who waits
_BOOT = Path("/proc/sys/kernel/random/boot_id")
Say = Callable[[str], None]


def _silent(text: str) -> None:
    pass


class Held:
    """A results directory that this process holds."""

    def __init__(self, place: Place, machine: str, lost: Say) -> None:
        self.place = place
        self._me = {
            "holder": uuid.uuid4().hex,
            "machine": machine,
            "process": os.getpid(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self._tell_lost, self._reason = lost, ""
        self._ended = threading.Event()
        self._renewer = threading.Thread(target=self._renew, name="lease", daemon=True)

    def held(self) -> bool:
        """Returns whether no other driver has taken the directory over."""
        return not self._reason

    def check(self) -> None:
        """Raises `BusyError` if another driver has taken the directory over."""
        if self._reason:
            raise BusyError(self._reason)

    def claim(self) -> bool:
        """Writes the lease; returns whether it is ours once everybody else has had his time."""
        self._write()
        if not isinstance(self.place, LocalPlace):
            time.sleep(_SETTLE)
        return self._is_ours(_read(self.place))

    def start(self) -> None:
        """Keeps the lease alive from now on."""
        self._renewer.start()

    def end(self) -> None:
        """Gives the lease back."""
        self._ended.set()
        self._renewer.join()
        with suppress(StoreError):  # it runs out by itself
            if self._is_ours(_read(self.place)):
                self.place.remove(LEASE)

    def _is_ours(self, lease: dict[str, Any] | None) -> bool:
        return lease is not None and lease.get("holder") == self._me["holder"]

    def _write(self) -> None:
        lease = {"nonce": uuid.uuid4().hex, **self._me}
        self.place.write(LEASE, json.dumps(lease, indent=1).encode())

    def _renew(self) -> None:
        wait = _SETTLE  # the first look is early: somebody may have claimed at the same moment
        while not self._ended.wait(wait):
            wait = RENEW
            try:
                lease = _read(self.place)
                if lease is not None and not self._is_ours(lease):
                    self._reason = (
                        f"{_who(self.place, lease)} took it over from this one, which had not "
                        "been heard of. This one stops; its finished trials are kept."
                    )
                    self._tell_lost(self._reason)
                    return
                self._write()
            except StoreError:
                continue  # no room, or nobody answers: what matters will fail by itself


@contextmanager
def exclusive(
    root: Path | str | Place, wait: bool = False, say: Say = _silent, lost: Say = _silent
) -> Iterator[Held]:
    """Holds a results directory; makes it if it is not there.

    Args:
        root: the results directory.
        wait: whether to wait for another driver to end; otherwise it is an error.
        say: told when and why this waits.
        lost: told, from another thread, if another driver takes the directory over because this
            process had stood still; it should make this one stop.

    Raises:
        BusyError: another driver works there; or, at the end, has taken it over.
        StoreError: the directory cannot be written.
    """
    place = place_of(root)
    descriptor = _open(place)
    try:
        patience = _Patience(place, wait, say)
        _lock(descriptor, patience)
        held = Held(place, _machine(descriptor), lost)
        while True:
            _watch(place, _machine(descriptor), patience)
            if held.claim():
                break
            patience.asked(_read(place))
        held.start()
        try:
            yield held
        finally:
            held.end()
        held.check()
    finally:
        os.close(descriptor)


class _Patience:
    """Refuses, or waits and says so now and then."""

    def __init__(self, place: Place, wait: bool, say: Say) -> None:
        self.place, self.wait, self.say = place, wait, say
        self._told = float("-inf")

    def asked(self, lease: dict[str, Any] | None) -> None:
        """Goes on waiting for a live holder.

        Raises:
            BusyError: it is not to wait.
        """
        who = _who(self.place, lease)
        if not self.wait:
            raise BusyError(f"{who}. Wait for it (--wait), or use another --out.")
        if time.monotonic() - self._told >= _TELL:
            self._told = time.monotonic()
            self.say(f"{who}: waiting for it to end.")


def _open(place: Place) -> int:
    """Returns a file to lock: in the directory, or in this user's cache for one elsewhere."""
    if isinstance(place, LocalPlace):
        path = place.local / ".lock"
    else:
        name = hashlib.sha256(str(place).encode()).hexdigest()[:16]
        path = cache_folder() / "locks" / f"driver-{name}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StoreError(
            f"Cannot write to {path.parent}: {error.strerror}. Choose another --out, or mend it."
        ) from error


def _lock(descriptor: int, patience: _Patience) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            patience.asked(_read(patience.place))
            time.sleep(_POLL)
        except OSError:
            return  # a file system without locks: the lease alone counts
        else:
            return


def _watch(place: Place, machine: str, patience: _Patience) -> None:
    """Returns when nobody else holds the lease: none is there, or its nonce stays the same.

    A lease of this machine is of a process that is dead: we hold the lock that it held.
    """
    lease = _read(place)
    since, first = time.monotonic(), True
    while lease is not None and lease.get("machine") != machine:
        if first:
            patience.say(f"{_who(place, lease)}, or died: watching for a sign of life.")
            first = False
        time.sleep(_POLL)
        now = _read(place)
        if now is not None and now.get("nonce") != lease.get("nonce"):
            patience.asked(now)
            since = time.monotonic()
        elif time.monotonic() - since > WATCH:
            return
        lease = now


def _read(place: Place) -> dict[str, Any] | None:
    """Returns the lease; None if there is none. One that is no JSON is told apart by its bytes."""
    try:
        data = place.read(LEASE)
    except FileNotFoundError:
        return None
    try:
        lease = json.loads(data)
    except ValueError:
        lease = None
    return lease if isinstance(lease, dict) else {"nonce": hashlib.sha256(data).hexdigest()}


def _who(place: Place, lease: dict[str, Any] | None) -> str:
    known = lease or {}
    told = [f"{name} {str(known[name])[:40]}" for name in ("process", "since") if name in known]
    return f"Another medsweep run works on {place}" + (f" ({', '.join(told)})" if told else "")


def _machine(descriptor: int) -> str:
    """Returns what tells this machine's lock from others, and nothing about the machine.

    It is a digest of the random number of this start of the system, and of the file locked.
    """
    try:
        boot = _BOOT.read_text().strip()
    except OSError:
        return uuid.uuid4().hex  # no lease is of this machine then: each is watched
    file = os.fstat(descriptor)
    return hashlib.sha256(f"{boot}:{file.st_dev}:{file.st_ino}".encode()).hexdigest()[:16]
