"""Ray's object store full, and no room to spill: another user of the cluster keeps too much."""

import sys
import time

from tests.chaos import checks, driver, processes
from tests.chaos.bench import Bench
from tests.chaos.machines import HERE, Cluster, cluster
from tests.chaos.outcome import Scenario
from tests.chaos.scenarios.full_disks import small_disk

STUDY = {
    "seeds": list(range(4)),
    "training": {"epochs": 60},
    "arms": [{"model": "gamenet", "config": {"dim": 8}}],
}
# Puts objects until neither memory nor the spilling folder takes one more, and holds them.
_HOG = """
import logging, sys, time
import numpy as np
import ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level=logging.ERROR)
held = []
print("begins", flush=True)
while True:
    held.append(ray.put(np.ones(2**20)))
    print(len(held), "objects of 8 MiB", flush=True)
"""


def object_store_full(bench: Bench) -> None:
    """Runs a study while the store is full; then ends what filled it."""
    study = bench.study(**STUDY)
    expected = bench.undisturbed(study)
    for number in range(bench.tries):
        out = bench.folder / f"out{number}"
        with (
            small_disk(bench.folder / f"spill{number}", "32m") as spill,
            cluster(bench, HERE, 2, "--object-spilling-directory", spill) as made,
        ):
            hog = _fill(bench, made)
            began = time.monotonic()
            run = bench.driver(study, out, "--address", made.address, env=made.env)
            code = run.wait(200)
            _completed_or_stopped(bench, run, code)
            before = checks.finished(out)
            processes.end(hog)
            bench.finish(study, out, "--address", made.address, env=made.env)
            checks.untouched(before, out, bench.outcome, "room again")
            checks.complete(out, expected, bench.outcome, "room again")
            checks.same_tables(out, expected, bench.outcome, "room again")
            what = f"exit code {code}, {len(before) // 5} trials stored while full"
            bench.tried(what, time.monotonic() - began)


def _fill(bench: Bench, made: Cluster) -> str:
    """Starts what fills the store; returns its mark once nothing more fits."""
    mark, log = bench.next_mark(), bench.folder / "hog.log"
    processes.start([sys.executable, "-c", _HOG, made.address], mark, log, made.env)
    processes.until(lambda: log.exists() and "objects" in log.read_text(), 60, 0.2)
    size = -1
    while size != log.stat().st_size:
        size = log.stat().st_size
        time.sleep(4)
    bench.outcome.notes.append(f"the store took {log.read_text().splitlines()[-1][:60]}")
    return mark


def _completed_or_stopped(bench: Bench, run: driver.Driver, code: int | None) -> None:
    promise, text = bench.outcome.promise, run.text()
    promise(code is not None, f"neither completes nor stops in 200 s: {text[-900:]}")
    bench.outcome.no_traceback(text, "at the end")
    if code is None:
        run.give_up()
    elif code:
        promise("medsweep:" in text, f"no message: {text[-900:]}")


SCENARIOS = [
    Scenario(
        "object-store",
        "object store full, and no room to spill",
        "the study completes without it, or stops clearly and continues; store intact",
        object_store_full,
        long=3,
    )
]
