"""Where a scenario works: its folder, its processes, its undisturbed studies."""

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from tests.chaos import processes
from tests.chaos.driver import Driver
from tests.chaos.outcome import Outcome
from tests.sweeps import tiny

PLANTED = os.pathsep.join((str(Path(__file__).parent / "planted"), str(processes.ROOT)))
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "PYTHONFAULTHANDLER": "1",
}


class Bench:
    """Everything that one run of a scenario uses; at its end no process of it lives.

    Attributes:
        folder: for its files.
        tries: how often to bring the failure about.
        rng: moments and choices are drawn from it.
        outcome: what comes of it.
    """

    def __init__(
        self,
        folder: Path,
        tries: int,
        seed: int = 0,
        tell: Callable[[str], None] = lambda line: None,
        undisturbed: Path | None = None,
    ) -> None:
        self.folder, self.tries = folder, tries
        self.rng = np.random.default_rng(seed)
        self.outcome = Outcome()
        self.mark = f"m{uuid.uuid4().hex[:8]}"
        self._tell = tell
        self._undisturbed = undisturbed or folder / "undisturbed"
        self._starts = 0
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        processes.end(self.mark)

    def tell(self, line: str) -> None:
        """Says how far the scenario is."""
        self._tell(f"{line}  (faults so far: {len(self.outcome.faults)})")

    def tried(self, line: str, seconds: float | None = None) -> None:
        """Counts a try, and how long the study took to move on after it."""
        self.outcome.tries += 1
        if seconds is not None:
            self.outcome.seconds.append(seconds)
            line += f", moved on after {seconds:.1f} s"
        self.tell(f"try {self.outcome.tries}/{self.tries}: {line}")

    def study(self, name: str = "study", **changes) -> Path:
        """Writes a study file like `tests.sweeps.tiny`'s."""
        return tiny.write_study(self.folder / name, **changes)

    def next_mark(self) -> str:
        """Returns a mark for a further process, which the bench ends in the end."""
        self._starts += 1
        return f"{self.mark}-{self._starts}"

    def driver(
        self,
        study: Path,
        out: Path,
        *options: object,
        env: Mapping[str, str] | None = None,
        within: Sequence[str] = (),
    ) -> Driver:
        """Starts `medsweep run`."""
        merged = {**ENVIRONMENT, **(env or {})}
        return Driver(study, out, options, self.next_mark(), env=merged, within=within)

    def finish(
        self, study: Path, out: Path, *options: object, seconds: float = 400, **how
    ) -> bool:
        """Runs the command to its end; a code other than 0 is a loss."""
        driver = self.driver(study, out, *options, **how)
        code = driver.wait(seconds)
        if code is None:
            driver.give_up()
        if code != 0:
            end = driver.text()[-3000:] if code is None else driver.text()[-800:]
            self.outcome.lost.append(f"the same command ended with {code}: {end}")
        return code == 0

    def undisturbed(self, study: Path, env: Mapping[str, str] | None = None) -> Path:
        """Returns the results of the same study that nothing disturbs; made once."""
        name = hashlib.sha256(study.read_bytes()).hexdigest()[:12]
        out = self._undisturbed / name
        done = out.with_suffix(".done")
        if not done.exists():
            shutil.rmtree(out, ignore_errors=True)
            began = time.monotonic()
            driver = self.driver(study, out, "--executor", "inline", env=env)
            if driver.wait(900) != 0:
                raise RuntimeError(f"the undisturbed study failed: {driver.text()[-2000:]}")
            done.write_text(json.dumps({"seconds": time.monotonic() - began}))
        return out
