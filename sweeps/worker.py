"""One trial in one process, whoever started it: run, watch, store. The same for every executor."""

import errno
import traceback
from collections.abc import Callable
from pathlib import Path

from medrec.errors import MedrecError
from medrec.spec import TrialSpec
from sweeps.errors import StoreError
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
    try:
        _run_and_store(spec, store, report)
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
        reason = _explained(error)
    except Exception as error:  # a defect in one arm must not end the others
        reason = _explained(error)
    else:
        return None
    store.record_failure(key, reason)
    return reason


def _run_and_store(spec: TrialSpec, store: ResultsStore, report: Callable[[Row], None]) -> None:
    from medrec import trial  # imports torch, which drivers do without

    held: list[Row] = []
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
            checkpoint=store.root / "running" / spec.key / "checkpoint.safetensors",
            cache=store.root / "cache",
        )
    summary = {
        "spec": spec.without_places().model_dump(mode="json"),
        "best_epoch": result.best_epoch,
        "validation": result.validation,
        "seconds": result.seconds,
        "environment": result.environment,
    }
    store.save(spec.key, summary, list(result.history), result.predictions, result.weights)
    for row in held:
        report(row)


def _explained(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    return f"{type(error).__name__} at {place}: {error}"
