"""The tables of a stored trial as Parquet bytes, and back."""

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from medrec.measures import Measured
from medrec.predictions import Predictions

_ABOVE, _BELOW = "_numerator", "_denominator"


def history_to_bytes(rows: list[dict[str, float]]) -> bytes:
    """Returns `history.parquet`: a row an epoch."""
    return _parquet(pa.Table.from_pylist(rows))


def history_from_bytes(data: bytes) -> dict[str, list[float]]:
    """Returns the columns of `history.parquet`, each with one value an epoch."""
    columns: dict[str, list[Any]] = _table(data).to_pydict()
    return columns


def predictions_to_bytes(predictions: Predictions) -> bytes:
    """Returns `predictions.parquet`: a row a test visit."""
    drugs = predictions.scores.shape[1]
    scores = pa.FixedSizeListArray.from_arrays(pa.array(predictions.scores.ravel()), drugs)
    return _parquet(
        pa.table(
            {
                "patient": predictions.patient,
                "visit": predictions.visit,
                "truth": _lists(predictions.truth),
                "chosen": _lists(predictions.chosen),
                "scores": scores,
            }
        )
    )


def predictions_from_bytes(data: bytes) -> Predictions:
    """Returns the predictions that `predictions_to_bytes` wrote, now or earlier."""
    table = _table(data).combine_chunks()
    scores = table["scores"].combine_chunks()
    drugs = scores.type.list_size
    matrix = scores.flatten().to_numpy().reshape(-1, drugs).astype(np.float32, copy=False)
    sets = {}
    for name in ("truth", "chosen"):
        column = table[name].combine_chunks()
        hot = np.zeros(matrix.shape, dtype=bool)
        counts = np.diff(column.offsets.to_numpy())
        hot[np.repeat(np.arange(len(hot)), counts), column.flatten().to_numpy()] = True
        sets[name] = hot
    return Predictions(
        patient=table["patient"].to_numpy(),
        visit=table["visit"].to_numpy(),
        truth=sets["truth"],
        chosen=sets["chosen"],
        scores=matrix,
    )


def measures_to_bytes(measured: Measured) -> bytes:
    """Returns `measures.parquet`: a row a unit, numerator and denominator of each measure."""
    columns: dict[str, np.ndarray] = {"unit": measured.units}
    for name, (above, below) in measured.terms.items():
        columns |= {f"{name}{_ABOVE}": above, f"{name}{_BELOW}": below}
    return _parquet(pa.table(columns))


def measures_from_bytes(data: bytes, facts: dict[str, float]) -> Measured:
    """Returns what `measures_to_bytes` wrote; the facts stand in `trial.json`."""
    table = _table(data)
    names = [name.removesuffix(_ABOVE) for name in table.column_names if name.endswith(_ABOVE)]
    terms = {
        name: (table[name + _ABOVE].to_numpy(), table[name + _BELOW].to_numpy()) for name in names
    }
    return Measured(table["unit"].to_numpy(), terms, facts)


def _table(data: bytes) -> pa.Table:
    # One thread: the files are small, and a pool may outlive a process that ends early.
    return pq.read_table(io.BytesIO(data), use_threads=False)


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _lists(rows: np.ndarray) -> pa.Array:
    offsets = np.concatenate([[0], np.cumsum(rows.sum(axis=1))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.nonzero(rows)[1], pa.int16()))
