"""A study small enough that a trial takes a fraction of a second, and ways to run and watch it."""

import functools
import hashlib
import io
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import yaml
from rich.console import Console

from medrec.predictions import Predictions
from medrec.spec import CohortRef, Training, TrialSpec
from sweeps.cohorts import StudyData, study_data
from sweeps.engine import EngineOptions
from sweeps.plan import make_plan
from sweeps.record import SearchPlan
from sweeps.store import ResultsStore
from sweeps.study import Study, load_study

STUDY = {
    "name": "tiny",
    "question": "Does a tiny study do what a large one does?",
    "cohort": {"dataset": "synthetic", "options": {"patients": 60}},
    "seeds": [0, 1],
    "training": {"epochs": 2},
    "arms": [{"model": "most_popular"}, {"model": "gamenet", "config": {"dim": 8}}],
    "reference": "gamenet",
    "resamples": 100,
}
SEARCH = {
    "name": "tune",
    "model": "gamenet",
    "trials": 8,
    "space": {
        "dropout": {},
        "training.learning_rate": {},
        "dim": {"choices": [32, 64, 128]},
    },
}
INLINE = EngineOptions("inline")
MAIN = [sys.executable, "-c", "from sweeps.cli import main; main()"]


def write_study(folder: Path, file: str = "tiny.yaml", **changes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file
    path.write_text(yaml.safe_dump({**STUDY, **changes}, sort_keys=False))
    return path


def study(folder: Path, **changes) -> Study:
    return load_study(str(write_study(folder, **changes)))


@functools.cache
def data(patients: int = 60) -> StudyData:
    """The tiny cohort's facts; nothing is written."""
    options = {"dataset": "synthetic", "options": {"patients": patients}}
    content = {**STUDY, "cohort": options}
    return study_data(Study.model_validate(content), Path("nowhere"))


def search_plan(**changes) -> SearchPlan:
    content = {**STUDY, "searches": [{**SEARCH, **changes}]}
    return make_plan(Study.model_validate(content), data()).record.searches[0]


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


def medsweep(*arguments, timeout: float = 120, env: dict | None = None):
    """Runs the command line in a process of its own."""
    return subprocess.run(
        [*MAIN, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **(env or {})},
        check=False,
    )


def trial_files(root: Path) -> dict[str, tuple[int, str]]:
    """Time of last change and sha256 of every file of every stored trial."""
    return {
        str(path.relative_to(root)): (path.stat().st_mtime_ns, _sha256(path))
        for path in sorted((root / "trials").rglob("*"))
        if path.is_file()
    }


def table_bytes(root: Path) -> dict[str, bytes]:
    """Every table but the cost, which is about the time that trials took."""
    paths = sorted((root / "tables").iterdir())
    return {path.name: path.read_bytes() for path in paths if path.stem != "cost"}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def same_result(one: ResultsStore, other: ResultsStore, key: str) -> None:
    """Asserts that two stores hold the same trial, times aside, to the last bit."""
    left, right = one.load(key), other.load(key)
    for name in ("patient", "visit", "truth", "chosen", "scores"):
        a, b = getattr(left.predictions, name), getattr(right.predictions, name)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    files = [s.root / "trials" / key / "model.safetensors" for s in (one, other)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert left.summary["best_epoch"] == right.summary["best_epoch"]
    assert left.summary["spec"] | {"resources": 0} == right.summary["spec"] | {"resources": 0}
    assert {k: v for k, v in left.history.items() if k != "seconds"} == {
        k: v for k, v in right.history.items() if k != "seconds"
    }


def wait_for(condition, seconds: float = 60, every: float = 0.02) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s in vain"
        time.sleep(every)


# ------------------------------------------------------------------ trials without training


def spec(seed: int = 0, **changes) -> TrialSpec:
    settings = {
        "model": "gamenet",
        "config": {"dim": 8},
        "training": Training(epochs=3),
        "cohort": CohortRef(path="cohort", fingerprint="f" * 64),
        "seed": seed,
    }
    return TrialSpec(**{**settings, **changes})


def predictions(seed: int = 0, visits: int = 6, drugs: int = 5) -> Predictions:
    rng = np.random.default_rng(seed)
    scores = rng.random((visits, drugs), dtype=np.float32)
    truth = rng.random((visits, drugs)) < 0.5
    patient = np.arange(visits, dtype=np.int32) // 2
    return Predictions(patient, np.arange(visits, dtype=np.int16) % 2, truth, scores > 0.5, scores)


def rows(
    epochs: int, jaccard: float, ddi: float = 0.05, medications: float = 9.0
) -> list[dict[str, float]]:
    """A learning curve that rises to `jaccard`."""
    made = []
    for epoch in range(1, epochs + 1):
        value = jaccard * epoch / epochs
        now = {"jaccard": value, "f1": value, "prauc": value}
        now |= {"ddi_rate": ddi, "medications": medications}
        best = {f"best_{name}": v for name, v in now.items()}
        made.append({"epoch": float(epoch), "loss": 1.0, **now, **best, "seconds": 0.1})
    return made


def save(store: ResultsStore, trial: TrialSpec, history: list[dict[str, float]] | None = None):
    """Stores a made-up result."""
    summary = {"spec": trial.model_dump(mode="json"), "best_epoch": 1, "validation": {}}
    store.save(trial.key, summary, history or rows(3, 0.4), predictions(trial.seed), b"weights")


# ------------------------------------------------------------------ processes that are ours


TAG = "MEDSWEEP_TEST_RUN"


def start(tag: str, *arguments) -> subprocess.Popen:
    """Starts the command line in a session of its own; all its children carry the tag."""
    return subprocess.Popen(
        [*MAIN, *map(str, arguments)],
        env={**os.environ, TAG: tag},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def alive(tag: str) -> list[int]:
    """Processes that carry the tag in their environment, zombies aside."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{TAG}={tag}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def wait_until_gone(tag: str, seconds: float = 60) -> None:
    """Waits for the end of every process that carries the tag, and names those that stay.

    Ray's own agents run no trial; after a SIGKILL they may take minutes to notice.
    """
    agents = (b"ray::DashboardAgent", b"ray::RuntimeEnvAgent")
    end = time.monotonic() + seconds
    while True:
        lines = []
        for pid in alive(tag):
            try:
                line = (Path(f"/proc/{pid}") / "cmdline").read_bytes().replace(b"\0", b" ")
            except OSError:
                continue
            lines += [line[:80]] if not line.startswith(agents) else []
        if not lines:
            return
        assert time.monotonic() < end, f"still running after {seconds} s: {lines}"
        time.sleep(0.2)
