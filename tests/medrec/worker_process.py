"""One worker of data-parallel trials, in a process of its own: `python worker_process.py RANK`.

Reads a job a line, as JSON, and answers each with a line. Rank 0 says first where it is met, and
after each epoch which one it was. Groups follow one another in the same process, as in actors.

    workers     of the group
    meeting     address of rank 0; rank 0 has none
    spec        of the trial
    checkpoint  file, or null
    stop_after  steps after which the notice comes; or null
    out         folder for what rank 0 finds
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from medrec import trial
from medrec.distributed import joined, open_meeting
from medrec.spec import TrialSpec

HOST = "127.0.0.1"


def say(**words: Any) -> None:
    """Writes a line."""
    print(json.dumps(words), flush=True)  # noqa: T201


def notice_after(steps: int | None):
    """Returns a notice that comes at that step of this attempt, from 1."""
    asked = 0

    def notice() -> bool:
        nonlocal asked
        asked += 1
        return asked == steps

    return notice


def store(result: trial.TrialResult, out: Path) -> None:
    """Writes what a test compares."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "weights").write_bytes(result.weights)
    (out / "history.json").write_text(json.dumps(result.history))
    found = result.predictions
    np.savez(out / "predictions.npz", scores=found.scores, chosen=found.chosen)


def work(rank: int, job: dict[str, Any], group) -> None:
    """Runs or assists."""
    spec = TrialSpec(**job["spec"])
    if rank:
        trial.assist(spec, group=group)
        return
    checkpoint = Path(job["checkpoint"]) if job["checkpoint"] else None
    notice = notice_after(job["stop_after"])
    result = trial.run(
        spec, lambda row: say(epoch=row["epoch"]), checkpoint, group=group, notice=notice
    )
    store(result, Path(job["out"]))


def main(rank: int) -> None:
    """Works until nobody asks any more."""
    for line in sys.stdin:
        job = json.loads(line)
        meeting = job["meeting"]
        if rank == 0:
            meeting = open_meeting(HOST)
            say(meeting="{}:{}".format(*meeting.getsockname()))
        try:
            with joined(rank, job["workers"], meeting, HOST, "cpu") as group:
                work(rank, job, group)
        except Exception as error:
            say(done=True, error=type(error).__name__, message=str(error))
        else:
            say(done=True, error=None, message="")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(int(sys.argv[1]))
