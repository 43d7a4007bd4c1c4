"""Files of finished trials that are cut, altered or missing."""

import time
from pathlib import Path

import numpy as np

from sweeps.store import ResultsStore
from tests.chaos import checks, driver, processes
from tests.chaos.bench import Bench
from tests.chaos.outcome import Scenario

FILES = ("trial.json", "history.parquet", "predictions.parquet", "model.safetensors",
         "manifest.json")  # fmt: skip


def damaged_results(bench: Bench) -> None:
    """Harms one file of each of many trials; sound trials lie between them."""
    study = bench.study(
        seeds=list(range(bench.tries + 2)), training={"epochs": 2},
        arms=[{"model": "gamenet", "config": {"dim": 8}}],
    )  # fmt: skip
    expected = bench.undisturbed(study)
    out = bench.folder / "out"
    bench.finish(study, out, "--cpus", 2)
    keys = [str(key) for key in bench.rng.permutation(ResultsStore(out).trial_keys())]
    harmed = {}
    for key in keys[: bench.tries]:
        harmed[key] = _harm(out / "trials" / key, bench.rng)
        bench.tried(f"{harmed[key]} of {key}")
    sound = {n: s for n, s in checks.finished(out).items() if n.split("/")[1] not in harmed}
    _never_used(bench, out, harmed)
    began = time.monotonic()
    bench.finish(study, out, "--cpus", 2)
    bench.outcome.seconds.append(time.monotonic() - began)
    checks.untouched(sound, out, bench.outcome, "run again")
    checks.complete(out, expected, bench.outcome, "run again")
    checks.same_tables(out, expected, bench.outcome, "run again")
    kept = {path.name.split("-")[0] for path in (out / "damaged").glob("*")}
    bench.outcome.promise(kept == set(harmed), f"set aside: {kept ^ set(harmed)}")


def _harm(folder: Path, rng: np.random.Generator) -> str:
    path = folder / str(rng.choice(FILES))
    data = bytearray(path.read_bytes())
    how = str(rng.choice(["cut", "altered", "emptied", "removed", "lengthened"]))
    if how == "removed":
        path.unlink()
        return f"{path.name} removed"
    if how == "cut":
        data = data[: int(rng.integers(1, len(data)))]
    elif how == "altered":
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    elif how == "emptied":
        data = bytearray()
    else:
        data += b"\n0"
    path.write_bytes(bytes(data))
    return f"{path.name} {how}"


def _never_used(bench: Bench, out: Path, harmed: dict[str, str]) -> None:
    """Tables may leave damaged trials out if they say so, or refuse; they never use them."""
    log = bench.folder / "tables.log"
    before = {p.name: p.read_bytes() for p in (out / "tables").iterdir()}
    process = processes.start(
        [*processes.MAIN, "tables", out], bench.next_mark(), log, {"OMP_NUM_THREADS": "1"}
    )
    code = process.wait(120)
    text = " ".join(log.read_text().split())
    same = before == {p.name: p.read_bytes() for p in (out / "tables").iterdir()}
    told = "damaged" in text or "missing" in text
    bench.outcome.promise(told, f"tables exits with {code} and does not tell of {harmed}: {text}")
    bench.outcome.no_traceback(text, "tables")
    if code == 0 and same:
        bench.outcome.doubled.append(f"tables are made from damaged trials: {text}")
    states = driver.status(out)
    bench.outcome.notes.append(f"tables, while {len(harmed)} trials are damaged: exit {code}")
    bench.outcome.promise("error" not in states, f"status: {states}")


SCENARIOS = [
    Scenario(
        "damaged",
        "a results file truncated or altered",
        "detected by its checksum; that trial alone runs again; never silently used",
        damaged_results,
        short=3,
    )
]
