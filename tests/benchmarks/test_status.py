"""`medsweep status` on 10,000 stored trials answers in 2 s, from the start of its process on."""

import subprocess
import time

from tests.benchmarks.many_trials import many_trials
from tests.sweeps import tiny

TRIALS = 10_000
CEILING = 2.0


def test_status_of_many_trials(benchmark, tmp_path):
    many_trials(tmp_path, TRIALS)
    seconds = []

    def status() -> None:
        began = time.perf_counter()
        found = subprocess.run(
            [*tiny.MAIN, "status", str(tmp_path)], capture_output=True, text=True, check=True
        )
        seconds.append(time.perf_counter() - began)
        assert f"{TRIALS:,} trials stored in all" in found.stdout
        assert found.stdout.splitlines()[-1] == "complete"

    benchmark.pedantic(status, rounds=5)
    assert min(seconds) <= CEILING, f"{min(seconds):.2f} s"
