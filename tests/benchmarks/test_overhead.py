"""What a trial of one epoch costs under Ray beyond what it costs inline, with warm actors.

Ceiling: 0.5 s a trial. Both sides run the same trials, one at a time, in this run.
"""

import time
from pathlib import Path

from rich.console import Console

from cluster.connection import local_ray
from medrec.datasets._base import prepare
from medrec.datasets.synthetic import SyntheticOptions
from medrec.light import model_facts
from medrec.spec import CohortRef, Training, TrialSpec
from sweeps.executors import inline, ray_tune
from sweeps.progress import Progress

TRIALS = 12


def _trials(folder: Path) -> list[TrialSpec]:
    cohort = prepare("synthetic", None, SyntheticOptions(patients=300))
    cohort.save(folder)
    return [
        TrialSpec(
            model="gamenet",
            config=model_facts("gamenet").config().model_dump(mode="json"),
            training=Training(epochs=1),
            cohort=CohortRef(path=str(folder), fingerprint=cohort.fingerprint),
            seed=seed,
        )
        for seed in range(TRIALS + 1)
    ]


class _Clock(Progress):
    """Notes when each trial ends."""

    def __init__(self) -> None:
        super().__init__(0, 0, {}, Console(quiet=True))
        self.ends: list[float] = []

    def finish(self, key: str, state: str, reason: str | None) -> None:
        assert state == "complete", reason
        self.ends.append(time.perf_counter())

    @property
    def seconds_a_trial(self) -> float:
        return (self.ends[-1] - self.ends[0]) / (len(self.ends) - 1)


def test_overhead_of_ray(benchmark, tmp_path):
    trials = _trials(tmp_path / "cohort")
    plain, under_ray = _Clock(), _Clock()
    inline.run_plan(trials, tmp_path / "inline", plain)
    with local_ray(1):
        benchmark.pedantic(ray_tune.run_plan, args=(trials, tmp_path / "ray", under_ray), rounds=1)
    benchmark.extra_info["inline_seconds"] = plain.seconds_a_trial
    benchmark.extra_info["ray_seconds"] = under_ray.seconds_a_trial
    overhead = under_ray.seconds_a_trial - plain.seconds_a_trial
    benchmark.extra_info["overhead_seconds"] = overhead
    assert overhead <= 0.5, f"{overhead:.2f} s a trial"
