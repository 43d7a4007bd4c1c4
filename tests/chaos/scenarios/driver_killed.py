"""The driver ends at any moment: from its start, over the plan, to the last trial of a search."""

import time

from tests.chaos import checks, processes
from tests.chaos.bench import Bench
from tests.chaos.outcome import Scenario
from tests.sweeps import tiny

STUDY = {
    "seeds": [0, 1, 2],
    "training": {"epochs": 25},
    "arms": [
        {"model": "most_popular"},
        {"model": "gamenet", "config": {"dim": 8}, "ablations": ["no_memory"]},
    ],
    "searches": [
        {**tiny.SEARCH, "trials": 5, "concurrent": 1, "config": {"dim": 8},
         "space": {"dropout": {}, "training.learning_rate": {}}},
    ],
}  # fmt: skip
LIVES = 5  # of one study; then its command is left to complete it


def driver_killed(bench: Bench) -> None:
    """Kills drivers at moments drawn over the time that an undisturbed one takes."""
    study = bench.study(**STUDY)
    expected = bench.undisturbed(study)
    began = time.monotonic()
    bench.finish(study, bench.folder / "whole", "--cpus", 2)
    horizon = time.monotonic() - began
    bench.outcome.notes.append(f"moments drawn over {horizon:.0f} s")
    rounds = 0
    while bench.outcome.tries < bench.tries and rounds < 2 * bench.tries:
        rounds += 1
        _round(bench, study, expected, bench.folder / f"out{rounds}", horizon)


def _round(bench: Bench, study, expected, out, horizon: float) -> None:
    marks = []
    for _ in range(min(LIVES, bench.tries - bench.outcome.tries)):
        before = checks.finished(out)
        moment = bench.rng.uniform(0, horizon)
        run = bench.driver(study, out, "--cpus", 2)
        marks.append(run.mark)
        if run.wait(moment) is not None:
            bench.outcome.promise(run.process.returncode == 0, f"ended with {run.text()}")
            break
        run.kill()
        checks.untouched(before, out, bench.outcome, f"killed at {moment:.1f} s")
        bench.tried(f"killed at {moment:.1f} s with {len(checks.finished(out)) // 5} stored")
        if bench.rng.random() < 0.5:  # else the next one starts beside orphans of this one
            bench.outcome.leaked += processes.staying(run.mark, 60)
    before = checks.finished(out)
    began = time.monotonic()
    bench.finish(study, out, "--cpus", 2)
    bench.outcome.seconds.append(time.monotonic() - began)
    when = f"completed in {bench.outcome.seconds[-1]:.0f} s"
    checks.untouched(before, out, bench.outcome, when)
    checks.complete(out, expected, bench.outcome, when)
    checks.same_tables(out, expected, bench.outcome, when)
    for mark in marks:
        bench.outcome.leaked += processes.staying(mark, 60)


SCENARIOS = [
    Scenario(
        "driver-killed",
        "the driver killed (SIGKILL), at random moments",
        "the same command completes it; nothing finished runs again; same tables and searches",
        driver_killed,
        short=2,
    )
]
