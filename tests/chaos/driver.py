"""`medsweep run` as a process that can be watched, killed and started again."""

import json
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from medrec.checkpoint import load_checkpoint
from medrec.errors import CheckpointError
from sweeps.store import ResultsStore
from tests.chaos import processes


class Driver:
    """One start of the command; its children carry its mark.

    Attributes:
        out: results directory.
        began: when it was started (monotonic).
    """

    def __init__(
        self,
        study: Path,
        out: Path,
        options: Sequence[object],
        mark: str,
        *,
        env: Mapping[str, str] | None = None,
        within: Sequence[str] = (),
    ) -> None:
        self.out, self.mark = out, mark
        self.log = out.parent / f"{out.name}-{mark}.log"
        command = [*within, *processes.MAIN, "run", study, "--out", out, *options]
        self.began = time.monotonic()
        self.process = processes.start(command, mark, self.log, env)

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def text(self) -> str:
        """Returns what it has printed so far."""
        return self.log.read_text(errors="replace")

    def wait(self, seconds: float = 300) -> int | None:
        """Returns its exit code; None when it does not end in time."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def give_up(self) -> None:
        """Ends a driver that does not end by itself; where it stood is in its log."""
        self.process.send_signal(signal.SIGABRT)  # see PYTHONFAULTHANDLER
        if self.wait(10) is None:
            self.kill()

    def kill(self) -> None:
        """Ends the driver's own process at once; what it started is left alone."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)

    def signal(self, number: int) -> None:
        """Sends the driver's own process a signal."""
        self.process.send_signal(number)


def worker_on(out: Path, key: str, marks: Sequence[str]) -> int | None:
    """Returns the living process that trains a trial, which the name of its event file says.

    Args:
        out: results directory.
        key: of the trial.
        marks: of the driver or nodes whose processes count.
    """
    files = sorted((out / "tensorboard" / key).glob("events.out.tfevents.*.*.*.*"))
    if not files or ResultsStore(out).has(key):
        return None
    pid = int(files[-1].name.rsplit(".", 2)[1])
    return pid if any(pid in processes.marked(mark) for mark in marks) else None


def moved_on(out: Path, key: str, epochs: int) -> bool:
    """Returns whether a trial has come further than so many epochs."""
    return ResultsStore(out).has(key) or len(checkpointed(out, key)) > epochs


def checkpointed(out: Path, key: str) -> tuple[dict[str, float], ...]:
    """Returns the history that a trial's epoch checkpoint holds; empty without one."""
    try:
        found, _ = load_checkpoint(out / "running" / key / "checkpoint.safetensors", key)
    except CheckpointError:
        return ()
    return found.history


def status(out: Path) -> dict:
    """Returns what `medsweep status --json` says."""
    found = subprocess.run(
        [*processes.MAIN, "status", str(out), "--json"], capture_output=True, text=True, timeout=60
    )
    return json.loads(found.stdout) if found.returncode == 0 else {"error": found.stderr}
