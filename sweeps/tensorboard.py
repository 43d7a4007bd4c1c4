"""TensorBoard event files, written as a trial runs: a scalar per metric and epoch, and HParams.

The HParams session starts with the trial, so that running and failed trials show too.
"""

import shutil
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2, summary_v2
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from medrec.spec import TrialSpec

METRICS = ("best_jaccard", "best_f1", "best_prauc", "best_ddi_rate", "best_medications")


class EventWriter:
    """Writes one trial's events; a resumed trial reports all its epochs again, into a new file."""

    def __init__(self, folder: Path, spec: TrialSpec) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self._writer = EventFileWriter(str(folder), flush_secs=5)
        metrics = [summary_v2.Metric(f"validation/{name}") for name in METRICS]
        dimensions = [summary_v2.HParam(name) for name in hparams(spec)]
        self._add(summary_v2.hparams_config_pb(hparams=dimensions, metrics=metrics))
        self._add(summary_v2.hparams_pb(hparams(spec), trial_id=spec.key))

    def epoch(self, row: dict[str, float]) -> None:
        """Writes an epoch's loss and validation metrics."""
        for name, value in row.items():
            if name != "epoch":
                tag = name if name in ("loss", "seconds") else f"validation/{name}"
                scalar = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
                self._add(scalar, int(row["epoch"]))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends the session: success, or failure (also when it was stopped early)."""
        status = api_pb2.STATUS_SUCCESS if kind is None else api_pb2.STATUS_FAILURE
        content = plugin_data_pb2.HParamsPluginData(
            session_end_info=plugin_data_pb2.SessionEndInfo(
                status=status, end_time_secs=time.time()
            )
        )
        value = Summary.Value(
            tag=metadata.SESSION_END_INFO_TAG,
            metadata=metadata.create_summary_metadata(content),
            tensor=metadata.NULL_TENSOR,
        )
        self._add(Summary(value=[value]))
        self._writer.close()

    def _add(self, summary: Summary, step: int = 0) -> None:
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))


def hparams(spec: TrialSpec) -> dict[str, Any]:
    """Returns a trial's settings as HParams shows them: flat, and of one type each."""
    flat: dict[str, Any] = {"model": spec.model, "seed": spec.seed}
    flat.update(spec.config)
    flat.update({f"training.{name}": value for name, value in spec.training.model_dump().items()})
    return {name: "none" if value is None else value for name, value in flat.items()}
