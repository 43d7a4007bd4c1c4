"""Notice that the machine will be taken away: to the driver, or for one node."""

import signal
import time
from pathlib import Path

from sweeps.store import ResultsStore
from tests.chaos import checks, driver, processes
from tests.chaos.bench import Bench
from tests.chaos.machines import cluster
from tests.chaos.outcome import Scenario

PREEMPTED = 75  # exit code: try the same command again
GRACE = 60  # seconds that a scheduler leaves between notice and end
STUDY = {
    "seeds": list(range(4)),
    "training": {"epochs": 120},
    "arms": [{"model": "gamenet", "config": {"dim": 8}}],
}


def driver_noticed(bench: Bench) -> None:
    """Sends the driver SIGUSR1 or SIGTERM at random moments, several times in one study."""
    study = bench.study(**STUDY)
    expected = bench.undisturbed(study)
    keys = ResultsStore(expected).trial_keys()
    number = 0
    while bench.outcome.tries < bench.tries and number < 2 * bench.tries:
        number += 1
        out = bench.folder / f"out{number}"
        for _ in range(min(3, bench.tries - bench.outcome.tries)):
            before = checks.finished(out)
            run = bench.driver(study, out, "--cpus", 2)
            trains = [lambda k=key: driver.worker_on(out, k, [run.mark]) for key in keys]  # noqa: B023
            processes.until(lambda: any(t() for t in trains) or not run.running)  # noqa: B023
            if run.wait(bench.rng.uniform(0, 5)) is not None:
                break
            _notice(bench, run, keys, before)
        bench.finish(study, out, "--cpus", 2)
        checks.complete(out, expected, bench.outcome, out.name)
        checks.same_tables(out, expected, bench.outcome, out.name)
        _counted_nothing(bench, out)


def _notice(bench: Bench, run: driver.Driver, keys: list[str], before: dict) -> None:
    outcome, out = bench.outcome, run.out
    number = signal.SIGUSR1 if bench.rng.random() < 0.5 else signal.SIGTERM
    running = {
        k: driver.checkpointed(out, k) for k in keys if driver.worker_on(out, k, [run.mark])
    }
    run.signal(number)
    sent = time.monotonic()
    code = run.wait(GRACE)
    seconds = time.monotonic() - sent
    text = run.text()
    if code is None:
        run.give_up()
    outcome.promise(code == PREEMPTED, f"{number.name}: exit code {code}: {text[-900:]}")
    outcome.no_traceback(text, number.name)
    outcome.leaked += processes.staying(run.mark, 30)
    checks.untouched(before, out, outcome, number.name)
    failed = ResultsStore(out).read_all("failed")
    outcome.promise(not failed, f"{number.name} counted as a failure: {failed}")
    for key, done in running.items():
        kept = ResultsStore(out).has(key) or len(driver.checkpointed(out, key)) >= len(done)
        outcome.promise(kept, f"{number.name}: no checkpoint of {key}, which ran")
        there = ResultsStore(out).has(key) or any((out / "running" / key).glob("[!.]*"))
        outcome.promise(there, f"{number.name}: {key} ran and left no checkpoint")
    bench.tried(f"{number.name} with {len(running)} trials running", seconds)


def node_drained(bench: Bench) -> None:
    """A node that trains gets a pre-emption notice through Ray, and goes."""
    study = bench.study(**STUDY)
    expected = bench.undisturbed(study)
    with cluster(bench) as made:
        for number in range(bench.tries):
            out = bench.folder / f"out{number}"
            worker = made.join()
            run = bench.driver(study, out, "--address", made.address, env=made.env)
            found = _trained_on(bench, run, worker.mark, ResultsStore(expected).trial_keys())
            if found is None:
                continue
            key, epochs = found
            made.drain(worker, GRACE)
            sent = time.monotonic()
            left = processes.until(
                lambda o=out, k=key, w=worker: driver.worker_on(o, k, [w.mark]) is None, GRACE, 0.1
            )
            bench.outcome.promise(left, f"{key} did not leave the node: {run.text()[-900:]}")
            done = driver.checkpointed(out, key)
            bench.outcome.promise(len(done) >= epochs, f"{len(done)} epochs of {epochs} kept")
            moved = processes.until(
                lambda o=out, k=key, d=done: driver.moved_on(o, k, len(d)), GRACE, 0.1
            )
            bench.outcome.promise(moved, f"{key} does not go on: {run.text()[-900:]}")
            seconds = time.monotonic() - sent
            worker.kill()
            code = run.wait(300)
            if code is None:
                run.give_up()
            bench.outcome.promise(code == 0, f"exit code {code}: {run.text()[-3000:]}")
            checks.went_on(out, key, done, bench.outcome, out.name)
            checks.complete(out, expected, bench.outcome, out.name)
            _counted_nothing(bench, out)
            bench.tried(f"drained after epoch {epochs}", seconds)


def _trained_on(
    bench: Bench, run: driver.Driver, mark: str, keys: list[str]
) -> tuple[str, int] | None:
    """Waits for a trial on a node to come to a random epoch; returns its key and epochs."""
    epoch = int(bench.rng.integers(1, 60))
    found: list[str] = []

    def trains() -> bool:
        found[:] = [k for k in keys if driver.worker_on(run.out, k, [mark])]
        reached = found and len(driver.checkpointed(run.out, found[0])) >= epoch
        return bool(reached) or not run.running

    if not processes.until(trains, 180) or not found:
        bench.outcome.broken.append(f"the node got no trial: {run.text()[-900:]}")
        run.kill()
        return None
    return found[0], len(driver.checkpointed(run.out, found[0]))


def _counted_nothing(bench: Bench, out: Path) -> None:
    store = ResultsStore(out)
    for key in store.trial_keys():
        attempts = store.summary(key).get("failed_attempts")
        bench.outcome.promise(not attempts, f"{key} counts failed attempts: {attempts}")


SCENARIOS = [
    Scenario(
        "notice",
        "pre-emption notice to the driver (SIGUSR1, SIGTERM)",
        "checkpoint, exit code 75, not counted as failure; the same command goes on",
        driver_noticed,
    ),
    Scenario(
        "node-drained",
        "pre-emption notice for a node (Ray's drain)",
        "its trials write a checkpoint and move; not counted as failure",
        node_drained,
        long=5,
    ),
]
