"""A machine of the cluster is lost with all that runs on it, and another one joins."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sweeps.store import ResultsStore
from tests.chaos import checks, driver, processes
from tests.chaos.bench import Bench
from tests.chaos.machines import HERE, Cluster, Node, Place, cluster, network
from tests.chaos.outcome import Scenario

STUDY = {
    "seeds": list(range(5)),
    "training": {"epochs": 120},
    "arms": [{"model": "gamenet", "config": {"dim": 8}}],
}


def node_lost(bench: Bench) -> None:
    """Two nodes share this machine's address."""
    _lose_nodes(bench, HERE, HERE)


def node_lost_apart(bench: Bench) -> None:
    """Two nodes in network namespaces, each with an address of its own."""
    with network(2) as (first, second):
        _lose_nodes(bench, first, second)


def _lose_nodes(bench: Bench, first: Place, second: Place) -> None:
    study = bench.study(**STUDY)
    expected = bench.undisturbed(study)
    with cluster(bench, first) as made:
        baseline = made.probe().look()["total"]["CPU"]
        worker = made.join(second)
        for number in range(bench.tries):
            worker = _lose_one(bench, made, worker, study, expected, bench.folder / f"out{number}")
            look = made.probe().look()
            held = {state: n for state, n in look["groups"].items() if state != "REMOVED"}
            bench.outcome.leaked += [f"placement groups: {held}"] if held else []
        bench.outcome.promise(baseline == 1, f"{baseline} CPUs at first")


def _lose_one(
    bench: Bench, made: Cluster, worker: Node, study: Path, expected: Path, out: Path
) -> Node:
    """Kills the worker while it trains; returns the node that took its place."""
    outcome, head = bench.outcome, made.nodes[0]
    run = bench.driver(
        study, out, "--address", made.address, env=made.env, within=made.place.within
    )
    keys = ResultsStore(expected).trial_keys()
    epoch = int(bench.rng.integers(1, 90))
    found: list[str] = []

    def trains() -> bool:
        found[:] = [k for k in keys if driver.worker_on(out, k, [worker.mark])]
        reached = found and len(driver.checkpointed(out, found[0])) >= epoch
        return bool(reached) or not run.running

    if not processes.until(trains, 180) or not found:
        outcome.broken.append(f"the second node got no trial: {run.text()[-900:]}")
        run.kill()
        return worker
    key = found[0]
    both = processes.until(lambda: any(driver.worker_on(out, k, [head.mark]) for k in keys), 30)
    outcome.promise(both, "the head's node trained nothing beside it")
    worker.kill()
    lost, done = time.monotonic(), driver.checkpointed(out, key)
    with ThreadPoolExecutor(1) as pool:
        moved = pool.submit(
            processes.until, lambda: driver.moved_on(out, key, len(done)), 200, 0.1
        )
        moment = pool.submit(time.monotonic)
        fresh = made.join(worker.place)
        outcome.promise(moved.result(), f"{key} did not move on: {run.text()[-900:]}")
        seconds = moment.result() - lost
    used = processes.until(
        lambda: any(driver.worker_on(out, k, [fresh.mark]) for k in keys) or not run.running, 120
    )
    code = run.wait(300)
    if code is None:
        run.give_up()
    outcome.promise(code == 0, f"exit code {code}: {run.text()[-3000:]}")
    outcome.no_traceback(run.text(), "node lost")
    outcome.notes.append(f"the node that joined got trials: {used}")
    checks.went_on(out, key, done, outcome, out.name)
    checks.complete(out, expected, outcome, out.name)
    checks.same_tables(out, expected, outcome, out.name)
    bench.tried(f"lost a node after epoch {len(done)} of its trial", seconds)
    return fresh


SCENARIOS = [
    Scenario(
        "node-lost",
        "a worker node lost and another joined",
        "its trials move and resume; the study completes",
        node_lost,
        long=5,
    ),
    Scenario(
        "node-lost-apart",
        "the same with addresses of their own (network namespaces)",
        "its trials move and resume; the study completes",
        node_lost_apart,
        long=3,
    ),
]
