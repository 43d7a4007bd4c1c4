"""Finding and ending processes that are ours: by a mark in their environment, never by a name."""

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.sweeps import tiny

MARK = "MEDSWEEP_CHAOS"
ROOT = Path(__file__).parents[2]
# Ray's agents run no trial; after a SIGKILL of their parent they may take minutes to notice.
_started: list[tuple[str, subprocess.Popen[bytes]]] = []
_AGENTS = (b"ray::DashboardAgent", b"ray::RuntimeEnvAgent")


def start(
    command: Iterable[object], mark: str, log: Path, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Starts a process in a session of its own; all that it starts carries the mark."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as sink:
        process = subprocess.Popen(
            [str(part) for part in command],
            env={**environment(mark), **(env or {})},
            cwd=ROOT,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    _started.append((mark, process))
    return process


def environment(mark: str) -> dict[str, str]:
    """Returns the environment of a process that carries a mark, and runs this repository."""
    return {**os.environ, "PYTHONPATH": str(ROOT), MARK: mark}


def marked(mark: str) -> list[int]:
    """Returns the living processes that carry a mark, or one that begins with it and a dash."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            entries = (folder / "environ").read_bytes().split(b"\0")
            state = (folder / "stat").read_bytes().rsplit(b")", 1)[1].split()[0]
        except (OSError, IndexError):
            continue
        if state != b"Z" and any(e == wanted or e.startswith(wanted + b"-") for e in entries):
            found.append(int(folder.name))
    return sorted(found)


def command_of(pid: int) -> bytes:
    """Returns a process's command line; empty when it has ended."""
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").strip()
    except OSError:
        return b""


def kill(pids: Iterable[int], number: int = signal.SIGKILL) -> None:
    """Sends a signal to each process that is still there."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def end(mark: str, seconds: float = 20) -> None:
    """Ends every process that carries the mark, and those they started meanwhile."""
    until = time.monotonic() + seconds
    while (left := marked(mark)) and time.monotonic() < until:
        kill(left)
        time.sleep(0.1)
    for known, process in _started[:]:
        if known == mark or known.startswith(f"{mark}-"):
            process.wait(5)
            _started.remove((known, process))


def staying(mark: str, seconds: float) -> list[str]:
    """Waits for processes of the mark to end by themselves; returns those that stay."""
    until = time.monotonic() + seconds
    while True:
        lines = [line for pid in marked(mark) if (line := command_of(pid))]
        lines = [line for line in lines if not line.startswith(_AGENTS)]
        if not lines or time.monotonic() > until:
            return [line[:100].decode(errors="replace") for line in lines]
        time.sleep(0.2)


def until(condition, seconds: float = 120, every: float = 0.02) -> bool:
    """Waits for a condition; returns whether it came true in time."""
    end_ = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end_:
            return False
        time.sleep(every)
    return True


MAIN = tiny.MAIN
