"""A trial's process ends in mid-training, as by the kernel or an operator."""

import time

from sweeps.store import ResultsStore
from tests.chaos import checks, driver, processes
from tests.chaos.bench import Bench
from tests.chaos.outcome import Scenario

EPOCHS = 60
GAMENET = {"model": "gamenet", "config": {"dim": 8}}


def trial_killed(bench: Bench) -> None:
    """Every trial of a study is killed once, each at a random epoch and a random moment of it."""
    study = bench.study(
        seeds=list(range(bench.tries)), training={"epochs": EPOCHS}, arms=[GAMENET]
    )
    expected = bench.undisturbed(study)
    out = bench.folder / "out"
    run = bench.driver(study, out, "--cpus", 2)
    store = ResultsStore(expected)
    waiting = {
        key: (int(bench.rng.integers(0, EPOCHS - 10)), bench.rng.uniform(0, 0.1))
        for key in store.trial_keys()
    }
    held: dict[str, tuple[dict[str, float], ...]] = {}
    recovering: dict[str, float] = {}
    while run.running and time.monotonic() - run.began < 60 + 30 * bench.tries:
        for key in list(waiting):
            if _kill_one(run, key, *waiting[key], held):
                del waiting[key]
                recovering[key] = time.monotonic()
        for key, since in list(recovering.items()):
            if driver.moved_on(out, key, len(held[key])):
                bench.tried(f"killed after epoch {len(held[key])}", time.monotonic() - since)
                del recovering[key]
        time.sleep(0.03)
    code = run.wait(60)
    if code is None:
        run.give_up()
    bench.outcome.promise(code == 0, f"exit code {code}: {run.text()[-4000:]}")
    bench.outcome.no_traceback(run.text(), "trials killed")
    for key in recovering:
        bench.tried(f"killed after epoch {len(held[key])}, and {key} did not move on")
    if waiting:
        bench.outcome.notes.append(f"{len(waiting)} trials ended before their moment came")
    checks.complete(out, expected, bench.outcome, "after all")
    checks.same_tables(out, expected, bench.outcome, "after all")
    for key, done in held.items():
        checks.went_on(out, key, done, bench.outcome, "after all")
    arms = driver.status(out).get("arms", [])
    counted = sum(arm["stored"] for arm in arms)
    bench.outcome.promise(
        counted == bench.tries and len(arms) == 1, f"status counts {counted} trials: {arms}"
    )
    bench.outcome.leaked += processes.staying(run.mark, 30)


def _kill_one(
    run: driver.Driver, key: str, epoch: int, delay: float, held: dict[str, tuple]
) -> bool:
    """Kills the process that trains the trial if it has come to the epoch; returns whether."""
    if not (run.out / "tensorboard" / key).is_dir():
        return False
    if epoch and len(driver.checkpointed(run.out, key)) < epoch:
        return False
    time.sleep(delay)
    pid = driver.worker_on(run.out, key, [run.mark])
    if pid is None:
        return False
    processes.kill([pid])
    time.sleep(0.02)  # until it is gone
    if ResultsStore(run.out).has(key):
        return False
    held[key] = driver.checkpointed(run.out, key)
    return True


SCENARIOS = [
    Scenario(
        "trial-killed",
        "a trial process killed (SIGKILL), at random moments",
        "resumes from its last epoch checkpoint; same bits; one trial",
        trial_killed,
        short=3,
    )
]
