"""The head of the cluster is lost, and the cluster with it."""

import time
from pathlib import Path

from tests.chaos import checks, driver, processes
from tests.chaos.bench import Bench
from tests.chaos.machines import cluster
from tests.chaos.outcome import Scenario

STUDY = {
    "seeds": list(range(5)),
    "training": {"epochs": 90},
    "arms": [{"model": "gamenet", "config": {"dim": 8}}],
}
PATIENCE = 120  # seconds until the driver has ended by itself


def head_killed(bench: Bench) -> None:
    """Kills the head and its node at a random moment; a new cluster completes the study."""
    study = bench.study(**STUDY)
    expected = bench.undisturbed(study)
    for number in range(bench.tries):
        out = bench.folder / f"out{number}"
        with cluster(bench, cpus=2) as made:
            run = bench.driver(study, out, "--address", made.address, env=made.env)
            moment = 5 * int(bench.rng.integers(0, 4))
            _wait(run, moment)
            time.sleep(bench.rng.uniform(0, 1))
            made.nodes[0].kill()
            killed = time.monotonic()
            code = run.wait(PATIENCE)
            seconds = time.monotonic() - killed
            _clear_exit(bench, code, run.text())
            if code is None:
                run.give_up()
        bench.outcome.leaked += processes.staying(run.mark, 20)
        _new_cluster(bench, study, out, expected)
        bench.tried(f"the driver had ended after {seconds:.1f} s", seconds)


def _wait(run: driver.Driver, stamps: int) -> None:
    """Waits until so many files are stored and a trial runs."""

    def trains() -> bool:
        return len(checks.finished(run.out)) >= stamps and any(run.out.glob("running/*/*"))

    processes.until(lambda: trains() or not run.running, 180)


def _clear_exit(bench: Bench, code: int | None, text: str) -> None:
    promise = bench.outcome.promise
    promise(code is not None, f"the driver had not ended after {PATIENCE} s: {text[-900:]}")
    promise(code != 0, "exit code 0 though the head was lost")
    bench.outcome.no_traceback(text, "at the end")
    told = "head" in text and "same command" in text
    promise(told, f"no message of what happened and what to do: {text[-900:]}")


def _new_cluster(bench: Bench, study: Path, out: Path, expected: Path) -> None:
    before = checks.finished(out)
    with cluster(bench, cpus=2) as made:
        bench.finish(study, out, "--address", made.address, env=made.env)
    checks.untouched(before, out, bench.outcome, "new cluster")
    checks.complete(out, expected, bench.outcome, "new cluster")
    checks.same_tables(out, expected, bench.outcome, "new cluster")


SCENARIOS = [
    Scenario(
        "head-killed",
        "the head node killed",
        "clear exit; a new cluster and the same command complete it",
        head_killed,
        long=5,
    )
]
