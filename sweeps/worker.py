"""One trial in one process, whoever started it: run, watch, store. The same for every executor."""

import errno
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from medrec.errors import Interrupted, LostWorkerError, MedrecError
from medrec.spec import TrialSpec
from sweeps.attempts import Attempt
from sweeps.errors import StoreError
from sweeps.places import LocalPlace
from sweeps.provenance import trial_environment, utc_now
from sweeps.reach import derived_folder, here
from sweeps.store import ResultsStore
from sweeps.suggestions import Row
from sweeps.tensorboard import EventWriter

if TYPE_CHECKING:
    from medrec.distributed import Group

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


def _never() -> bool:
    return False


def run_trial(
    spec: TrialSpec,
    store: ResultsStore,
    report: Callable[[Row], None],
    *,
    group: "Group | None" = None,
    notice: Callable[[], bool] = _never,
) -> str | None:
    """Runs a trial unless it is stored already, and stores it.

    Args:
        spec: the trial.
        store: of the results.
        report: is told of every epoch.
        group: the workers of the trial, of which this is the first; None where it is alone.
        notice: asked at every step whether to write a checkpoint and end.

    Returns:
        None when the trial is stored; otherwise why it failed, which is also in `failed/`.

    Raises:
        StoreError: results cannot be recorded; the study must stop.
        Interrupted: `notice` said so; the trial goes on another time.
        LostWorkerError: another worker of the trial is gone; the trial goes on in a new group.
    """
    key = spec.key
    if store.has(key):
        return None
    store.try_again(key)
    with _checkpoint(key, store) as checkpoint:
        attempt = Attempt(store, key, _kept(spec, checkpoint))

        def told() -> bool:
            attempt.beat()
            return notice()

        try:
            _run_and_store(spec, store, report, checkpoint, attempt.kept, group, told)
        except Interrupted:
            attempt.end(_kept(spec, checkpoint))
            raise
        except (StoreError, LostWorkerError):
            raise
        except Exception as error:  # a defect in one arm must not end the others
            reason = _reason(error, store)
        else:
            return None
        if store.has(key):  # another machine finished it meanwhile, and took the files away
            return None
        # Epochs that the checkpoint holds are not lost: the next attempt goes on from them.
        lost = attempt.end(_kept(spec, checkpoint))
    store.record_failure(key, reason, lost)
    return reason


def assist_trial(
    spec: TrialSpec,
    store: ResultsStore,
    rank: int,
    meeting: str,
    host: str,
    notice: Callable[[], bool] = _never,
) -> None:
    """Takes part in a trial as one of its further workers, until the first one ends it.

    Args:
        spec: the trial.
        store: of the results; nothing is written.
        rank: of this worker, from 1.
        meeting: where the first worker waits, as "host:port".
        host: this worker's own address.
        notice: asked at every step whether the whole trial is to stop.
    """
    from medrec import trial
    from medrec.distributed import joined

    own = here(spec, store.place)
    device = "cuda" if spec.resources.gpus else "cpu"
    with (
        joined(rank, spec.resources.workers, meeting, host, device) as group,
        suppress(Interrupted),  # the first worker tells of it
    ):
        trial.assist(own, _cache(store), group=group, notice=notice)


@contextmanager
def _checkpoint(key: str, store: ResultsStore) -> Iterator[Path]:
    """Gives the file of the trial's checkpoint: in the results directory where that is a folder.

    Elsewhere it is a copy, which `_Sent` sends after each epoch.
    """
    if isinstance(store.place, LocalPlace):
        yield store.place.path(f"running/{key}/checkpoint.safetensors")
        return
    with tempfile.TemporaryDirectory(prefix="medsweep-trial-") as folder:
        path = Path(folder) / "checkpoint.safetensors"
        store.fetch_checkpoint(key, path)
        yield path


class _Sent:
    """Sends a trial's checkpoint where results are no folder, whenever there is a new one."""

    def __init__(self, key: str, store: ResultsStore, checkpoint: Path) -> None:
        self.key, self.store, self.checkpoint = key, store, checkpoint
        self._last = self._stamp()  # as it was fetched

    def send(self) -> None:
        """Sends it unless it is the one that was sent or fetched last."""
        stamp = self._stamp()
        if self.store.place.local is None and stamp is not None and stamp != self._last:
            self.store.send_checkpoint(self.key, self.checkpoint)
            self._last = stamp

    def _stamp(self) -> int | None:
        try:
            return self.checkpoint.stat().st_mtime_ns
        except OSError:
            return None


def _cache(store: ResultsStore) -> Path:
    """Returns the folder for what trials derive from knowledge."""
    if isinstance(store.place, LocalPlace):
        return store.place.path("cache")
    return derived_folder(store.place)


def _kept(spec: TrialSpec, checkpoint: Path) -> float:
    """Returns the training seconds of earlier attempts that the next one goes on from."""
    from medrec import trial

    return trial.kept_seconds(spec, checkpoint)


def _run_and_store(
    spec: TrialSpec,
    store: ResultsStore,
    report: Callable[[Row], None],
    checkpoint: Path,
    kept: float,
    group: "Group | None",
    notice: Callable[[], bool],
) -> None:
    from medrec import trial  # imports torch, which drivers do without
    from medrec.distributed import ALONE

    held: list[Row] = []
    sent = _Sent(spec.key, store, checkpoint)
    started = utc_now()
    with _events(spec, store) as events:

        def watch(row: Row) -> None:
            events.epoch(row)
            # The last epoch is reported once the trial is stored: a scheduler that stops it then
            # stops nothing.
            if row["epoch"] >= spec.training.epochs:
                held.append(row)
                return
            sent.send()
            report(row)

        try:
            result = trial.run(
                here(spec, store.place),
                watch,
                checkpoint=checkpoint,
                cache=_cache(store),
                group=group or ALONE,
                notice=notice,
            )
        except Interrupted:
            sent.send()
            raise
    summary = {
        "spec": spec.without_places().model_dump(mode="json"),
        "best_epoch": result.best_epoch,
        "validation": result.validation,
        "seconds": {**result.seconds, "resumed": kept},
        "started": started,
        "ended": utc_now(),
        "environment": trial_environment(spec.model, result.environment, spec.resources.gpus),
    }
    lost = store.failed_attempts(spec.key)
    if lost["attempts"]:
        summary["failed_attempts"] = lost
    store.save(spec.key, summary, list(result.history), result.found, result.weights)
    for row in held:
        report(row)


@contextmanager
def _events(spec: TrialSpec, store: ResultsStore) -> Iterator[EventWriter]:
    """Gives the trial's event writer; where results are no folder, its file is sent at the end."""
    name = f"tensorboard/{spec.key}"
    if isinstance(store.place, LocalPlace):
        with EventWriter(store.place.path(name), spec) as events:
            yield events
        return
    with tempfile.TemporaryDirectory(prefix="medsweep-events-") as folder:
        try:
            with EventWriter(Path(folder), spec) as events:
                yield events
        finally:
            store.send_folder(Path(folder), name)


def _reason(error: Exception, store: ResultsStore) -> str:
    """Returns why a trial failed.

    Raises:
        StoreError: results cannot be written, which is not the trial's fault.
    """
    if isinstance(error, MedrecError):
        return str(error)
    if isinstance(error, OSError) and error.errno in _NO_SPACE:
        raise StoreError(
            f"Cannot write below {store.place}: {error.strerror}. Free space or mend the "
            "permissions, then run the same command: finished trials are kept."
        ) from error
    return explained(error)


def explained(error: Exception) -> str:
    """Returns kind, place and message of an error that nobody expected."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    return f"{type(error).__name__} at {place}: {error}"
