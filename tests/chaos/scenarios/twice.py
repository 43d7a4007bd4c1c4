"""The same trial finished twice: a slow node that wakes up after its trial ran elsewhere."""

import functools
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from medrec.spec import TrialSpec
from sweeps.cohorts import study_data
from sweeps.plan import make_plan
from sweeps.store import ResultsStore
from sweeps.study import load_study
from tests.chaos import checks, driver, processes
from tests.chaos.bench import ENVIRONMENT, Bench
from tests.chaos.outcome import Scenario

_WORKER = """
import sys
from pathlib import Path
from medrec.spec import TrialSpec
from sweeps.store import ResultsStore
from sweeps.worker import run_trial
spec = TrialSpec.model_validate_json(Path(sys.argv[1]).read_text())
print("ended:", run_trial(spec, ResultsStore(Path(sys.argv[2])), lambda row: None))
"""
EPOCHS = 40


def finished_twice(bench: Bench) -> None:
    """Two processes train one trial; one sleeps in the middle and wakes up when it is stored."""
    study = bench.study(
        seeds=list(range(bench.tries)), training={"epochs": EPOCHS},
        arms=[{"model": "gamenet", "config": {"dim": 8}}],
    )  # fmt: skip
    expected = bench.undisturbed(study)
    out = bench.folder / "out"
    out.mkdir(parents=True)
    for spec in _specs(study, expected, out):
        _one(bench, spec, out)
    checks.complete(out, expected, _only_trials(bench, study, out, expected), "after all")


def _specs(study: Path, expected: Path, out: Path) -> list[TrialSpec]:
    """Returns the study's trials, with the places of the undisturbed directory's cohort."""
    loaded = load_study(str(study))
    data = study_data(loaded, expected.resolve())
    return list(make_plan(loaded, data).trials.values())


def _one(bench: Bench, spec: TrialSpec, out: Path) -> None:
    file = bench.folder / f"{spec.key}.json"
    file.write_text(spec.model_dump_json())
    slow, mark, slow_log = _worker(bench, file, out, "slow")
    epoch = int(bench.rng.integers(1, EPOCHS - 8))
    processes.until(
        lambda: len(driver.checkpointed(out, spec.key)) >= epoch or slow.poll() is not None, 60
    )
    if slow.poll() is not None or not driver.checkpointed(out, spec.key):
        bench.outcome.broken.append(f"no epoch {epoch}: {slow_log.read_text()}")
        return
    time.sleep(bench.rng.uniform(0, 0.05))
    sleeps = bench.rng.random() < 0.5
    if sleeps:  # else both train it, and write the same files, at the same time
        processes.kill(processes.marked(mark), signal.SIGSTOP)
    quick, _, quick_log = _worker(bench, file, out, "quick")
    code = quick.wait(120)
    stamps = checks.finished(out)
    began = time.monotonic()
    processes.kill(processes.marked(mark), signal.SIGCONT)
    late = slow.wait(120)
    checks.untouched(stamps, out, bench.outcome, f"slow at epoch {epoch}")
    for name, value, log in (("quick", code, quick_log), ("slow", late, slow_log)):
        text = log.read_text()
        good = value == 0 and "ended: None" in text
        bench.outcome.promise(good, f"the {name} one ended with {value}: {text[-600:]}")
    left = [path for path in (out / "running" / spec.key).glob("*") if path.is_file()]
    bench.outcome.leaked += [f"{path} of a stored trial" for path in left]
    what = "slept" if sleeps else "was followed"
    bench.tried(f"{what} at epoch {epoch}", time.monotonic() - began)


def _worker(bench: Bench, file: Path, out: Path, name: str):
    """Starts a worker, with the process id that it would have on another machine too."""
    log, mark = bench.folder / f"{file.stem}-{name}.log", bench.next_mark()
    apart = ["unshare", "--pid", "--fork"] if _own_ids() else []
    command = [*apart, sys.executable, "-c", _WORKER, file, out]
    return processes.start(command, mark, log, ENVIRONMENT), mark, log


@functools.cache
def _own_ids() -> bool:
    """Returns whether processes may have process ids of their own here."""
    tool = shutil.which("unshare")
    command = [tool or "", "--pid", "--fork", "true"]
    return tool is not None and subprocess.run(command, capture_output=True).returncode == 0


def _only_trials(bench: Bench, study: Path, out: Path, expected: Path):
    """Writes the study's record, so that the directory can be compared as one of `run`."""
    ResultsStore(out).write_study(ResultsStore(expected).study())
    return bench.outcome


SCENARIOS = [
    Scenario(
        "finished-twice",
        "a slow node finishing a trial that was restarted elsewhere",
        "one result for each key, the first one; neither process fails",
        finished_twice,
        short=2,
    )
]
