"""One of the workers that train a trial together is killed."""

import time
from pathlib import Path

from sweeps.store import ResultsStore
from tests.chaos import checks, driver, processes
from tests.chaos.bench import Bench
from tests.chaos.machines import Cluster, cluster
from tests.chaos.outcome import Scenario

SECONDS = 5.0  # until everything is given back
STUDY = {
    "seeds": [0, 1],
    "training": {"epochs": 60},
    "resources": {"workers": 2, "cpus": 1},
    "arms": [{"model": "gamenet", "config": {"dim": 8}}],
}


def rank_killed(bench: Bench) -> None:
    """Trials of two workers on two CPUs; either of the two is killed, in turn at random."""
    study = bench.study(**STUDY)
    with cluster(bench, cpus=2) as made:
        expected = bench.folder / "whole"
        bench.finish(study, expected, "--address", made.address, env=made.env)
        baseline = made.probe().look()["total"]
        for number in range(bench.tries):
            out = bench.folder / f"out{number}"
            _kill_one(bench, made, study, expected, out)
            _given_back(bench, made, baseline)


def _kill_one(bench: Bench, made: Cluster, study: Path, expected: Path, out: Path) -> None:
    outcome, mark = bench.outcome, made.nodes[0].mark
    run = bench.driver(study, out, "--address", made.address, env=made.env)
    keys = ResultsStore(expected).trial_keys()
    epoch = int(bench.rng.integers(0, 50))
    found: dict[str, int] = {}

    def trains() -> bool:
        found.clear()
        for key in keys:
            pid = driver.worker_on(out, key, [mark])
            if pid is not None and len(driver.checkpointed(out, key)) >= epoch:
                found[key] = pid
        return bool(found) or not run.running

    if not processes.until(trains, 180) or not found:
        outcome.broken.append(f"no group came to epoch {epoch}: {run.text()[-900:]}")
        run.kill()
        return
    (key, first) = next(iter(found.items()))
    rank = int(bench.rng.integers(2))
    others = [pid for pid in processes.marked(mark) if _is_rank(pid) and pid != first]
    if rank and not others:
        outcome.broken.append(f"no second worker: {run.text()[-900:]}")
        rank = 0
    processes.kill([others[-1] if rank else first])
    killed, done = time.monotonic(), driver.checkpointed(out, key)

    def anew() -> bool:  # the other worker may have finished an epoch before it noticed
        again = driver.worker_on(out, key, [mark]) not in (None, first)
        return (again and driver.moved_on(out, key, len(done))) or ResultsStore(out).has(key)

    moved = processes.until(anew, 200)
    seconds = time.monotonic() - killed
    outcome.promise(moved, f"{key} did not move on: {run.text()[-900:]}")
    code = run.wait(200)
    if code is None:
        run.give_up()
    outcome.promise(code == 0, f"exit code {code}: {run.text()[-3000:]}")
    checks.went_on(out, key, done, outcome, out.name)
    checks.complete(out, expected, outcome, out.name)
    bench.tried(f"killed rank {rank} after epoch {len(done)}", seconds)


def _is_rank(pid: int) -> bool:
    line = processes.command_of(pid)
    apart = (b"ray::IDLE", b"ray::DashboardAgent", b"ray::RuntimeEnvAgent")
    return line.startswith(b"ray::") and not line.startswith(apart)


def _given_back(bench: Bench, made: Cluster, baseline: dict[str, float]) -> None:
    """All resources are free within five seconds, and no placement group stays."""
    began = time.monotonic()

    def free() -> bool:
        look = made.probe().look()
        held = {state: n for state, n in look["groups"].items() if state != "REMOVED"}
        same = all(look["available"].get(n) == baseline[n] for n in ("CPU", "memory"))
        return same and not held

    if not processes.until(free, SECONDS, 0.2):
        bench.outcome.leaked.append(f"after {SECONDS} s: {made.probe().look()}")
    else:
        bench.outcome.notes.append(f"all given back after {time.monotonic() - began:.1f} s")


SCENARIOS = [
    Scenario(
        "rank-killed",
        "one rank of a multi-worker trial killed",
        "the trial restarts from its checkpoint; all resources are back within 5 s",
        rank_killed,
    )
]
