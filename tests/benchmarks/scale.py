"""How long, and in how much memory, a cohort of MIMIC-IV's size is prepared.

    python -m tests.benchmarks.scale FOLDER [--times 1 4]

Writes files of MIMIC-IV's size (and multiples of it) to FOLDER unless they are there, prepares
each with the command that users run, and prints seconds and peak memory of that whole process.
The folder needs about 0.8 GB for each multiple.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.mimic4_files import sizes, write_mimic4


def measure(source: Path) -> tuple[float, float]:
    """Returns seconds and peak memory in GiB of `medsweep data prepare mimic4`."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "sweeps", "data", "prepare", "mimic4"]
        started = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--source", str(source), "--out", f"{out}/cohort"],
            stdout=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
    if status:
        raise SystemExit(f"prepare failed on {source}")
    return seconds, usage.ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--times", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--keep", action="store_true", help="keep the files written")
    given = parser.parse_args()
    _row("multiple", "prescriptions", "seconds", "peak GiB")
    found = []
    for times in given.times:
        source = given.folder / f"mimic4-{times}"
        if not (source / "hosp").is_dir():
            write_mimic4(source, **sizes(float(times)))
        seconds, memory = measure(source)
        found.append((seconds, memory))
        _row(f"{times}", f"{15_000_000 * times:,}", f"{seconds:.1f}", f"{memory:.2f}")
        if not given.keep:
            shutil.rmtree(source)
    if len(found) > 1:
        time_ratio, memory_ratio = (
            last / first for first, last in zip(*found[:: len(found) - 1], strict=True)
        )
        rows = given.times[-1] / given.times[0]
        _row("ratio", f"{rows:.1f}", f"{time_ratio:.2f}", f"{memory_ratio:.2f}")


def _row(*cells: str) -> None:
    sys.stdout.write("  ".join(cell.rjust(13) for cell in cells) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
