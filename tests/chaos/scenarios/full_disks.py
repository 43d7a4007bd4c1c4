"""No room, or no permission, where results go."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos import checks, driver, processes
from tests.chaos.bench import Bench
from tests.chaos.outcome import Scenario, Unavailable
from tests.sweeps import tiny

STUDY = {
    "seeds": list(range(4)),
    "training": {"epochs": 30},
    "arms": [{"model": "gamenet", "config": {"dim": 8}}],
    "searches": [
        {**tiny.SEARCH, "trials": 4, "concurrent": 1, "config": {"dim": 8},
         "space": {"dropout": {}, "training.learning_rate": {}}},
    ],
}  # fmt: skip
WORDS = ("free space", "mend", "permission", "no space", "read-only")
_SHORT = {"TMPDIR": "/tmp"}  # noqa: S108  Ray's sockets lie there; their paths are bounded
PATIENCE = 120  # seconds from the failure to the driver's own end


def disk_full(bench: Bench) -> None:
    """A small file system is filled by something else while trials run."""
    study = bench.study(**STUDY)
    expected = bench.undisturbed(study)
    for number in range(bench.tries):
        with small_disk(bench.folder / f"disk{number}", "64m") as disk:
            out = disk / "out"
            run = bench.driver(study, out, "--cpus", 2, env=_SHORT)
            _wait_for_trials(bench, run, out)
            _fill(disk / "filler")
            began = time.monotonic()
            _stopped_clearly(bench, run, "disk full")
            before = checks.finished(out)
            (disk / "filler").unlink()
            _completes(bench, study, out, expected, before, began)


def unwritable(bench: Bench) -> None:
    """The results directory turns read-only while trials run."""
    study = bench.study(**STUDY)
    expected = bench.undisturbed(study)
    for number in range(bench.tries):
        out = bench.folder / f"out{number}"
        run = bench.driver(study, out, "--cpus", 2, env=_SHORT)
        _wait_for_trials(bench, run, out)
        with _read_only(out):
            began = time.monotonic()
            _stopped_clearly(bench, run, "read-only")
        _completes(bench, study, out, expected, checks.finished(out), began)


def _wait_for_trials(bench: Bench, run: driver.Driver, out: Path) -> None:
    wanted = 5 * int(bench.rng.integers(0, 7))
    processes.until(
        lambda: (
            (len(checks.finished(out)) >= wanted and any(out.glob("running/*/*")))
            or not run.running
        )
    )
    time.sleep(bench.rng.uniform(0, 0.5))


def _stopped_clearly(bench: Bench, run: driver.Driver, what: str) -> None:
    promise = bench.outcome.promise
    code = run.wait(PATIENCE)
    text = run.text()
    if code is None:
        run.give_up()
        promise(False, f"{what}: not stopped within {PATIENCE} s: {run.text()[-3000:]}")
    else:
        promise(code not in (0, 75), f"{what}: exit code {code}: {text[-600:]}")
        bench.outcome.no_traceback(text, what)
        told = any(word in text.lower() for word in WORDS)
        promise(told, f"{what}: no clear message: {text[-600:]}")
    bench.outcome.leaked += processes.staying(run.mark, 60)


def _completes(
    bench: Bench, study: Path, out: Path, expected: Path, before: dict, began: float
) -> None:
    bench.finish(study, out, "--cpus", 2)
    checks.untouched(before, out, bench.outcome, "room again")
    checks.complete(out, expected, bench.outcome, "room again")
    checks.same_tables(out, expected, bench.outcome, "room again")
    bench.tried(f"{len(before) // 5} trials were stored", time.monotonic() - began)


def _fill(path: Path) -> None:
    """Takes all the room that is left."""
    try:
        with path.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    except OSError:
        return


@contextmanager
def _read_only(folder: Path) -> Iterator[None]:
    """Lays the folder over itself, read-only: files that are open stay as they are."""
    for options in (["--bind", str(folder)], ["-o", "remount,bind,ro"]):
        command = ["mount", *options, str(folder)]
        if subprocess.run(command, capture_output=True).returncode:
            raise Unavailable("needs the right to mount a folder read-only")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """A file system in memory, of a size of its own."""
    path.mkdir(parents=True)
    mount = shutil.which("mount")
    command = [mount or "", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    if mount is None or subprocess.run(command, capture_output=True).returncode:
        raise Unavailable("needs the right to mount a small tmpfs")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=False)


SCENARIOS = [
    Scenario(
        "disk-full",
        "the results' disk full in mid-run",
        "clear stop, store intact; continues after space is freed",
        disk_full,
        long=5,
    ),
    Scenario(
        "unwritable",
        "the results' path read-only in mid-run",
        "clear stop, store intact; continues when it can be written again",
        unwritable,
        long=5,
    ),
]
