"""Trials that fail by their own fault: their reason is told, and the others are not concerned."""

import time
from pathlib import Path

from sweeps.store import ResultsStore
from tests.chaos import checks, driver
from tests.chaos.bench import PLANTED, Bench
from tests.chaos.outcome import Scenario, Unavailable
from tests.sweeps import tiny

WORDS = {"bug": "RuntimeError", "nan": "loss", "memory": "memory", "crash": "process was lost"}


def bad_trials(bench: Bench) -> None:
    """One arm each with a bug, a NaN loss, no memory, and a process that the kernel ends."""
    planted = {"PYTHONPATH": PLANTED}
    healthy = {"model": "gamenet", "config": {"dim": 8}}
    bad = [{"model": "faulty", "name": name, "config": {"fault": name}} for name in WORDS]
    good = bench.study("good", arms=[healthy], seeds=[0], training={"epochs": 8})
    expected = bench.undisturbed(good)
    for number in range(bench.tries):
        study = bench.study("bad", arms=[healthy, *bad], seeds=[0], training={"epochs": 8})
        out = bench.folder / f"out{number}"
        began = time.monotonic()
        run = bench.driver(study, out, "--cpus", 2, env=planted)
        code = run.wait(300)
        _told(bench, run, code)
        before = checks.finished(out)
        again = bench.driver(study, out, "--cpus", 2, env=planted)
        bench.outcome.promise(again.wait(300) == 1, f"again: exit {again.process.returncode}")
        checks.untouched(before, out, bench.outcome, "again")
        # Without the bad arms, what is stored completes the study.
        bench.finish(good, out, "--cpus", 2)
        checks.untouched(before, out, bench.outcome, "mended")
        store, reference = ResultsStore(out), ResultsStore(expected)
        for key in reference.trial_keys():
            if not store.has(key):
                bench.outcome.lost.append(f"healthy trial {key}")
            else:
                tiny.same_result(store, reference, key)
        bench.tried(f"{len(bad)} arms failed, 1 completed", time.monotonic() - began)


def _told(bench: Bench, run: driver.Driver, code: int | None) -> None:
    promise, text = bench.outcome.promise, run.text()
    promise(code == 1, f"exit code {code}: {text[-800:]}")
    bench.outcome.no_traceback(text, "at the end")
    found = driver.status(run.out)
    reasons = " | ".join(found.get("failures", {}).values())
    page = run.out / "report.html"
    report = page.read_text() if page.is_file() else ""
    final = text.rsplit("medsweep:", 1)[-1]
    for name, word in WORDS.items():
        arm = next((a for a in found.get("arms", []) if a["name"] == name), {})
        promise(arm.get("failed") == 1, f"status of {name}: {arm}")
        promise(word in reasons, f"status gives no reason for {name}: {reasons}")
        promise(word in final and f"{name} seed 0" in final, f"{name} is not named: {final}")
        reason = ResultsStore(run.out).failures()
        promise(any(word in note["reason"] for note in reason.values()), f"failed/ lacks {name}")
        promise(name in report and word in report, f"the report does not say why {name} failed")
    states = [a["stored"] for a in found.get("arms", [])]
    promise(sum(states) == 1, f"stored: {states}")


def out_of_memory(bench: Bench) -> None:
    """A trial takes so much that Ray ends its process, to save the machine."""
    memory = _memory()
    taken, room = 4.0, 2.0  # GiB
    if memory["MemAvailable"] < 2 * taken:
        raise Unavailable(f"needs {2 * taken:.0f} GiB of free memory")
    used = memory["MemTotal"] - memory["MemAvailable"]
    env = {
        "PYTHONPATH": PLANTED,
        "CHAOS_HOG_HALF_GIB": str(int(2 * taken)),
        "RAY_memory_usage_threshold": f"{(used + room) / memory['MemTotal']:.3f}",
    }
    healthy = {"model": "gamenet", "config": {"dim": 8}}
    hog = {"model": "faulty", "name": "hog", "config": {"fault": "hog"}}
    good = bench.study("good", arms=[healthy], seeds=[0], training={"epochs": 8})
    study = bench.study("hog", arms=[healthy, hog], seeds=[0], training={"epochs": 8})
    expected = bench.undisturbed(good)
    for number in range(bench.tries):
        out = bench.folder / f"out{number}"
        began = time.monotonic()
        run = bench.driver(study, out, "--cpus", 1, env=env)
        code = run.wait(300)
        text = run.text()
        bench.outcome.promise(code == 1, f"exit code {code}: {text[-800:]}")
        bench.outcome.no_traceback(text, "out of memory")
        reasons = " | ".join(driver.status(out).get("failures", {}).values())
        bench.outcome.promise("memory" in reasons, f"status does not speak of memory: {reasons}")
        bench.finish(good, out, "--cpus", 1)
        for key in ResultsStore(expected).trial_keys():
            if not ResultsStore(out).has(key):
                bench.outcome.lost.append(f"healthy trial {key}")
        bench.tried("Ray ended the trial's process", time.monotonic() - began)


def _memory() -> dict[str, float]:
    """Returns the system's memory in GiB, by the names of /proc/meminfo."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) / 2**20 for line in lines}


SCENARIOS = [
    Scenario(
        "bad-trials",
        "a trial out of memory, a NaN loss, a bug raising in one arm",
        "that trial fails with its reason; the study ends, names it, and exits with 1",
        bad_trials,
        long=3,
    ),
    Scenario(
        "out-of-memory",
        "a trial takes its machine's memory",
        "its process is ended, its reason told; the machine and the others live",
        out_of_memory,
        long=3,
    ),
]
