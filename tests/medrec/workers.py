"""Real processes that train one trial together, for tests."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load
from torch import Tensor

from medrec.spec import TrialSpec

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Outcome:
    """What a trial left, as far as tests compare it."""

    history: list[dict[str, float]]
    weights: dict[str, Tensor]
    scores: np.ndarray
    chosen: np.ndarray


class Workers:
    """Some worker processes; they live until the end of the `with`."""

    def __init__(self, count: int) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.medrec.worker_process", str(rank)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                cwd=ROOT,
                env=environment,
            )
            for rank in range(count)
        ]

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()

    def start(
        self,
        spec: TrialSpec,
        out: Path,
        checkpoint: Path | None = None,
        stop_after: int | None = None,
        workers: int | None = None,
    ) -> None:
        """Gives the job to the first `workers`, all by default."""
        count = workers or len(self.processes)
        job: dict[str, Any] = {
            "workers": count,
            "spec": spec.model_dump(mode="json"),
            "checkpoint": str(checkpoint) if checkpoint else None,
            "stop_after": stop_after,
            "out": str(out),
            "meeting": None,
        }
        self.tell(0, job)
        job["meeting"] = self.hear(0)["meeting"]
        for rank in range(1, count):
            self.tell(rank, job)

    def tell(self, rank: int, job: dict[str, Any]) -> None:
        """Writes a line to a worker."""
        pipe = self.processes[rank].stdin
        assert pipe is not None
        pipe.write(json.dumps(job) + "\n")
        pipe.flush()

    def hear(self, rank: int) -> dict[str, Any]:
        """Returns the next line of a worker."""
        pipe = self.processes[rank].stdout
        assert pipe is not None
        return json.loads(pipe.readline())

    def end(self, rank: int) -> tuple[str | None, str]:
        """Returns kind and message of the error that a worker ended with, or None."""
        while True:
            said = self.hear(rank)
            if "done" in said:
                return said["error"], said["message"]

    def run(self, spec: TrialSpec, out: Path, **job: Any) -> list[str | None]:
        """Returns what each worker's trial ended with; see `start`."""
        self.start(spec, out, **job)
        return [self.end(rank)[0] for rank in range(job.get("workers") or len(self.processes))]


def outcome(folder: Path) -> Outcome:
    """Returns what the worker of rank 0 stored."""
    history = json.loads((folder / "history.json").read_text())
    with np.load(folder / "predictions.npz") as found:
        scores, chosen = found["scores"], found["chosen"]
    weights = load((folder / "weights").read_bytes())
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in history]
    return Outcome(rows, weights, scores, chosen)
