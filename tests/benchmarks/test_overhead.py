"""What Ray and the driver cost beside the training itself: time, and the driver's memory."""

import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from cluster.connection import connected
from medrec.datasets._base import prepare
from medrec.datasets.synthetic import SyntheticOptions
from medrec.light import model_facts
from medrec.spec import CohortRef, Training, TrialSpec
from sweeps.executors import inline, ray_tune
from sweeps.gate import Gate
from sweeps.job import Job
from sweeps.progress import Progress
from sweeps.store import ResultsStore
from tests.sweeps import tiny

TRIALS = 64
SCRIPTED = 2000


def _trials(folder: Path, count: int, epochs: int, patients: int = 300) -> list[TrialSpec]:
    cohort = prepare("synthetic", None, SyntheticOptions(patients=patients))
    cohort.save(folder)
    return [
        TrialSpec(
            model="gamenet",
            config=model_facts("gamenet").config().model_dump(mode="json"),
            training=Training(epochs=epochs),
            cohort=CohortRef(path=str(folder), fingerprint=cohort.fingerprint),
            seed=seed,
        )
        for seed in range(count)
    ]


class _Clock(Progress):
    """Notes when each trial starts and ends."""

    def __init__(self) -> None:
        super().__init__(0, 0, {}, tiny.quiet())
        self.starts: list[float] = []
        self.ends: list[float] = []

    def start(self, key: str, spec: TrialSpec | None = None) -> None:
        super().start(key, spec)
        self.starts.append(time.perf_counter())

    def finish(self, key: str, state: str, reason: str | None) -> None:
        assert state == "complete", reason
        super().finish(key, "complete", reason)
        self.ends.append(time.perf_counter())


def _job(folder: Path, clock: Progress, most: int) -> Job:
    store = ResultsStore(folder)
    return Job(store, clock, Gate(store, "bench"), lambda wants: min(wants, most))


def _training(folder: Path) -> dict[str, float]:
    store = ResultsStore(folder)
    return {key: store.summary(key)["seconds"]["training"] for key in store.trial_keys()}


def test_trials_of_two_seconds_take_little_more_than_their_training(benchmark, tmp_path):
    """Ceiling: 1.10 times the training time over two cores, with warm actors.

    The epochs are chosen so that a trial trains for about two seconds here. The first trials of
    the two actors, in which these start and import torch, are not counted.
    """
    (probe,) = _trials(tmp_path / "probe", 1, 5)
    inline.run_plan([probe], _job(tmp_path / "one", _Clock(), 1))
    (seconds,) = _training(tmp_path / "one").values()
    epochs = max(1, round(2.0 / (seconds / 5)))
    trials = _trials(tmp_path / "cohort", TRIALS + 2, epochs)
    clock, out = _Clock(), tmp_path / "ray"
    with connected(cpus=2):
        benchmark.pedantic(ray_tune.run_plan, args=(trials, _job(out, clock, 2)), rounds=1)
    taken = _training(out)
    counted = sum(taken.values()) - sum(taken[spec.key] for spec in trials[:2])
    ratio = (clock.ends[-1] - clock.starts[2]) / (counted / 2)
    benchmark.extra_info["seconds_a_trial"] = counted / TRIALS
    benchmark.extra_info["ratio"] = ratio
    print(f"\n{TRIALS} trials of {counted / TRIALS:.2f} s training: ratio {ratio:.3f}")  # noqa: T201
    assert ratio <= 1.10


def _scripted(config: dict) -> None:
    """Stands for a trial: reports three epochs and leaves a result."""
    from ray import tune

    spec = TrialSpec.model_validate_json(config["spec"])
    for epoch in (1, 2, 3):
        tune.report({**tiny.rows(3, 0.4)[epoch - 1], "epoch": float(epoch)})
    tiny.save(ResultsStore(config["root"]), spec)


_DRIVER = """
import json, sys
from pathlib import Path
from tests.benchmarks import test_overhead
print(json.dumps(test_overhead.driver_memory(Path(sys.argv[1]), int(sys.argv[2]))))
"""


def driver_memory(folder: Path, trials: int) -> list[int]:
    """Bytes of this process after each hundredth of scripted trials through Ray."""
    ray_tune._trainable = _scripted
    seen: list[int] = []

    class Watching(_Clock):
        def finish(self, key: str, state: str, reason: str | None) -> None:
            super().finish(key, state, reason)
            if len(self.ends) % 100 == 0:
                seen.append(psutil.Process().memory_info().rss)

    with connected(cpus=2):
        specs = (tiny.spec(seed=seed) for seed in range(trials))
        ray_tune.run_plan(specs, _job(folder, Watching(), 2))
    return seen


def test_the_driver_does_not_grow_with_trials(benchmark, tmp_path):
    """Ceiling: 5 KB a trial, from the second hundred of 2,000 on."""
    command = [sys.executable, "-c", _DRIVER, str(tmp_path / "out"), str(SCRIPTED)]

    def run() -> list[int]:
        found = subprocess.run(command, capture_output=True, text=True, timeout=900)
        assert found.returncode == 0, found.stderr
        return json.loads(found.stdout.splitlines()[-1])

    seen = benchmark.pedantic(run, rounds=1)
    growth = (seen[-1] - seen[1]) / (SCRIPTED - 200)
    benchmark.extra_info["bytes_a_trial"] = growth
    print(f"\nthe driver grows by {growth:.0f} bytes a trial")  # noqa: T201
    assert growth <= 5000


if __name__ == "__main__":
    pytest.main([__file__, "-q", "--benchmark-only", "-s"])
