"""A driver's beats: a small note on what it does, written every few seconds while it lives.

`medsweep status` reads them, and what they say was spent is the account of the study's budget.
A note that cannot be written ends nothing: the trials' results are what matters.
"""

import os
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from cluster.nodes import Node
from sweeps.budgets import Spent, spent
from sweeps.errors import SweepError, TrialsFailedError
from sweeps.provenance import utc_now
from sweeps.session_notes import (
    EVERY,
    FOLDER,
    BestNote,
    End,
    ErrorNote,
    NodeNote,
    Reason,
    RunningNote,
    SessionNote,
    next_number,
)
from sweeps.store import ResultsStore
from sweeps.study import RunBudget
from sweeps.tally import Tally

_HOUR = 3600.0
_MOST = 200  # running trials, and nodes, that a note lists
_LONGEST = 1000  # characters of why a driver ended
_PATIENCE = 30.0  # seconds that the last note waits for one that is being written


class Session:
    """Writes `sessions/<id>.json` from entering until leaving.

    The end is told as `complete`, or `failed` where trials failed, unless `end` was called before
    or an exception ends it.
    """

    def __init__(
        self,
        store: ResultsStore,
        tally: Tally,
        executor: str,
        budget: RunBudget | None = None,
        every: float = EVERY,
    ) -> None:
        self.store, self.tally, self.executor = store, tally, executor
        self.budget = budget or RunBudget()
        self.every = every
        self.id = ""
        self._began = time.monotonic()
        self._started = utc_now()
        self._before = Spent()
        self._beats = 0
        self._end: End | None = None
        self._nodes: Callable[[], Sequence[Node]] | None = None
        self._seen_nodes: tuple[NodeNote, ...] = ()
        self._dashboard: str | None = None
        self._concurrency: int | None = None
        self._stop = threading.Event()
        self._writing = threading.Lock()

    # ------------------------------------------------------------------ what the driver tells

    def joined(
        self,
        nodes: Callable[[], Sequence[Node]] | None = None,
        dashboard: str | None = None,
        concurrency: int | None = None,
    ) -> None:
        """Tells of the cluster that trials run on.

        Args:
            nodes: tells the machines and their use, as `cluster.nodes.nodes`; asked now and then.
            dashboard: address of Ray's dashboard; left out of notes unless on loopback.
            concurrency: trials that can run at a time.
        """
        self._dashboard = _loopback(dashboard)
        self._concurrency = concurrency
        if nodes is not None and self._nodes is None:
            self._nodes = nodes
            # Apart from the beats: a cluster that is gone answers late.
            threading.Thread(target=self._look, name="medsweep-nodes", daemon=True).start()

    def left(self) -> None:
        """Tells that the cluster is about to be left; its machines are asked for no more."""
        self._nodes = None

    def end(self, reason: Reason, text: str = "") -> None:
        """Tells how the driver is about to end; the first word holds."""
        if self._end is None:
            self._end = End(reason=reason, text=text[:_LONGEST])

    def flush(self) -> None:
        """Writes the last note now, for a process that is about to be ended without leaving."""
        self._stop.set()
        self._write(self._end or End(reason="error"))

    def spent(self) -> Spent:
        """Returns what was spent on the study until now, running trials included."""
        own = self._own()
        return Spent(
            trials=self._before.trials + own.trials,
            hours=self._before.hours + own.hours,
            gpu_hours=self._before.gpu_hours + own.gpu_hours,
        )

    # ------------------------------------------------------------------ from start to end

    def __enter__(self) -> Self:
        self._before = spent(self.store)
        self._began, self._started = time.monotonic(), utc_now()
        stamp = self._started.replace("-", "").replace(":", "")
        self.id = f"{next_number(self.store):05d}-{stamp}-{uuid.uuid4().hex[:8]}"
        self._write(None)
        self._thread = threading.Thread(target=self._beat, name="medsweep-session", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._nodes = None
        if error is not None:
            self.end(*_why(error))
        if failed := self.tally.counts["failed"]:
            self.end("failed", f"{failed} trials failed")
        self.end("complete")
        self._thread.join(timeout=_PATIENCE)
        self._write(self._end)

    def _beat(self) -> None:
        while not self._stop.wait(self.every):
            self._write(None)

    def _look(self) -> None:
        while (ask := self._nodes) is not None and not self._stop.is_set():
            try:
                found = ask()
            except Exception:  # the cluster may be gone; trials' own errors tell of that
                found = ()
            self._seen_nodes = tuple(
                NodeNote(
                    id=n.id, alive=n.alive, cpus=n.cpus, cpus_used=n.cpus_used,
                    gpus=n.gpus, gpus_used=n.gpus_used,
                )
                for n in found[:_MOST]
            )  # fmt: skip
            self._stop.wait(2 * self.every)

    def _write(self, end: End | None) -> None:
        if not self._writing.acquire(timeout=_PATIENCE):
            return
        try:
            if self._stop.is_set() and end is None:
                return  # the last word is not written over
            note = self._note(end)
            self.store.write_text(f"{FOLDER}/{self.id}.json", note.model_dump_json(indent=1))
        except Exception:  # a full disk, a lost network: the trials' results tell of it
            return
        finally:
            self._writing.release()

    def _own(self) -> Spent:
        seconds = time.monotonic() - self._began
        return Spent(
            trials=self.tally.spent,
            hours=seconds / _HOUR,
            gpu_hours=self.tally.gpu_seconds() / _HOUR,
        )

    def _note(self, end: End | None) -> SessionNote:
        tally, now = self.tally, self.tally.clock()
        self._beats += 1
        running = list(tally.running.items())
        return SessionNote(
            id=self.id,
            started=self._started,
            seen=utc_now(),
            beat=self._beats,
            seconds=time.monotonic() - self._began,
            pid=os.getpid(),
            executor=self.executor,
            dashboard=self._dashboard,
            end=end,
            budget=self.budget,
            before=self._before,
            own=self._own(),
            metric=tally.metric,
            concurrency=self._concurrency,
            total=tally.total,
            stored_before=tally.cached,
            left=tally.left(),
            counts=dict(tally.counts),
            eta_seconds=tally.seconds_left(),
            best=BestNote(value=tally.best[0], label=tally.best[1]) if tally.best else None,
            running=tuple(
                RunningNote(
                    key=key,
                    label=trial.label,
                    epoch=trial.epoch,
                    epochs=trial.epochs,
                    best=trial.best,
                    seconds=max(0.0, now - trial.began),
                    gpus=trial.gpus,
                    restarts=trial.restarts,
                )
                for key, trial in running[:_MOST]
            ),
            running_trials=len(running),
            errors=tuple(ErrorNote(label=n, reason=why) for n, why in list(tally.errors)),
            nodes=self._seen_nodes,
        )


def _why(error: BaseException) -> tuple[Reason, str]:
    """Returns how a driver ends that an exception ends."""
    if isinstance(error, TrialsFailedError):
        return "failed", str(error)
    if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
        return "interrupted", "it was told to stop"
    text = str(error) if isinstance(error, SweepError) else type(error).__name__
    return "error", text


def _loopback(address: str | None) -> str | None:
    """Returns the address as a link if it is of this machine alone."""
    if not address:
        return None
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        here = parts.hostname in ("127.0.0.1", "localhost") and parts.port is not None
        return f"http://127.0.0.1:{parts.port}" if here else None
    except ValueError:
        return None
