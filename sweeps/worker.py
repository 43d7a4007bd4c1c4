"""One trial in one process, whoever started it: run, watch, store. The same for every executor."""

import errno
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from medrec.errors import MedrecError
from medrec.spec import TrialSpec
from sweeps.errors import StoreError
from sweeps.provenance import trial_environment, utc_now
from sweeps.store import ResultsStore
from sweeps.tensorboard import EventWriter

Row = dict[str, float]
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


def run_trial(spec: TrialSpec, root: Path, report: Callable[[Row], None]) -> str | None:
    """Runs a trial unless it is stored already, and stores it.

    Returns:
        None when the trial is stored; otherwise why it failed, which is also in `failed/`.

    Raises:
        StoreError: results cannot be recorded; the study must stop.
    """
    store = ResultsStore(root)
    key = spec.key
    if store.has(key):
        return None
    store.try_again(key)
    began, kept = time.perf_counter(), _kept(spec, store)
    try:
        _run_and_store(spec, store, report, kept)
    except StoreError:
        raise
    except MedrecError as error:
        reason = str(error)
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise StoreError(
                f"Cannot write below {root}: {error.strerror}. Free space or mend the "
                "permissions, then run the same command: finished trials are kept."
            ) from error
        reason = explained(error)
    except Exception as error:  # a defect in one arm must not end the others
        reason = explained(error)
    else:
        return None
    # Epochs that the checkpoint holds are not lost: the next attempt goes on from them.
    saved = max(0.0, _kept(spec, store) - kept)
    store.record_failure(key, reason, max(0.0, time.perf_counter() - began - saved))
    return reason


def _checkpoint(spec: TrialSpec, store: ResultsStore) -> Path:
    return store.root / "running" / spec.key / "checkpoint.safetensors"


def _kept(spec: TrialSpec, store: ResultsStore) -> float:
    """Returns the training seconds of earlier attempts that the next one goes on from."""
    from medrec import trial  # imports torch, which drivers do without

    return trial.kept_seconds(spec, _checkpoint(spec, store))


def _run_and_store(
    spec: TrialSpec, store: ResultsStore, report: Callable[[Row], None], kept: float
) -> None:
    from medrec import trial

    held: list[Row] = []
    started = utc_now()
    with EventWriter(store.root / "tensorboard" / spec.key, spec) as events:

        def watch(row: Row) -> None:
            events.epoch(row)
            # The last epoch is reported once the trial is stored: a scheduler that stops it then
            # stops nothing.
            if row["epoch"] >= spec.training.epochs:
                held.append(row)
            else:
                report(row)

        result = trial.run(
            spec,
            watch,
            checkpoint=_checkpoint(spec, store),
            cache=store.root / "cache",
        )
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
    store.save(spec.key, summary, list(result.history), result.predictions, result.weights)
    for row in held:
        report(row)


def explained(error: Exception) -> str:
    """Returns kind, place and message of an error that nobody expected."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    return f"{type(error).__name__} at {place}: {error}"
