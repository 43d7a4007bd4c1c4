"""Reading the events of a MEDS data set that matter here, shard by shard, never a shard whole.

What a code means is decided once for each distinct code. Of a shard only the subjects, times and
meanings of the events that matter stay in memory.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int32, Int64
from pyarrow import parquet as pq

from medrec.errors import InputError

NEVER = np.iinfo(np.int64).min  # stands for no time
_BATCH = 1 << 18  # events read at once
_FEW = 10  # subjects below which a code is not listed: its text may be one patient's
_LISTED = 200  # codes listed at most, of each kind
_COLUMNS = ("subject_id", "time", "code", "numeric_value")
_TYPES: dict[str, tuple[str, Callable[[pa.DataType], bool]]] = {
    "subject_id": ("int64", pa.types.is_integer),
    "time": ("timestamp[us]", lambda t: pa.types.is_timestamp(t) or pa.types.is_null(t)),
    "code": ("string", lambda t: _is_text(t.value_type if pa.types.is_dictionary(t) else t)),
    "numeric_value": (
        "float32",
        lambda t: pa.types.is_floating(t) or pa.types.is_integer(t) or pa.types.is_null(t),
    ),
}


@dataclass(frozen=True)
class Meaning:
    """What an event code stands for.

    Attributes:
        role: what kind of thing, say "diagnoses"; "" for what does not matter.
        text: which one, say "9:4280"; None where it is of that kind, but not known.
    """

    role: str
    text: str | None


@dataclass(frozen=True)
class Events:
    """The events that matter, by subject, then by time, then as in the files.

    Attributes:
        subject: key of the subject.
        time: microseconds since 1970; `NEVER` for none.
        meaning: index into `meanings`.
        value: numeric value, or NaN.
        meanings: of all codes.
        rows: events of each role and whether their text is known; known or not.
        unmapped: codes of each role whose text is not known, with their events; not rare ones.
        subjects: how many the data set has, with or without events that matter.
    """

    subject: Int64[np.ndarray, " events"]
    time: Int64[np.ndarray, " events"]
    meaning: Int32[np.ndarray, " events"]
    value: Float32[np.ndarray, " events"]
    meanings: tuple[Meaning, ...]
    rows: Mapping[tuple[str, bool], int]
    unmapped: dict[str, dict[str, int]]
    subjects: int

    def of(self, role: str) -> np.ndarray:
        """Returns which events have this role, as bool."""
        return np.array([m.role == role for m in self.meanings], dtype=bool)[self.meaning]

    def texts(self) -> np.ndarray:
        """Returns the text of each meaning, "" for none; index it with `meaning`."""
        return np.array([m.text or "" for m in self.meanings], dtype=object)


def shards(source: Path) -> list[Path]:
    """Returns the parquet files below `source`/data, in the order of their paths.

    Raises:
        InputError: there is no such folder, or no such file.
    """
    folder = source / "data"
    if not folder.is_dir():
        raise InputError(
            f"A MEDS data set has its shards in a folder `data`, but {source} has none. "
            "Give the folder that holds `data` and `metadata`."
        )
    found = [
        path
        for path in folder.rglob("*.parquet")
        if path.is_file() and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    ]
    if not found:
        raise InputError(f"{folder} holds no .parquet file. Give the folder of a MEDS data set.")
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def read_events(paths: Sequence[Path], meaning_of: Callable[[str], Meaning]) -> Events:
    """Returns the events that matter of all shards.

    Args:
        paths: the shards, as from `shards`.
        meaning_of: what a code stands for; asked once a code.

    Raises:
        InputError: a file is damaged, lacks a column or has one of another type, a subject or
            code is null, or one subject stands in two files; or no file has any event.
    """
    reader = _Reader(meaning_of)
    subjects: list[np.ndarray] = []
    for path in paths:
        found = [reader.add(table) for table in _batches(path)]
        subjects.append(np.unique(np.concatenate([*found, np.empty(0, np.int64)])))
    _refuse_shared(paths, subjects)
    total = sum(len(some) for some in subjects)
    if not total:
        raise InputError(
            f"The shards hold no events ({len(paths)} files, the first is {paths[0]}). "
            "Extract the data again."
        )
    return reader.events(total)


class _Reader:
    """Keeps the events that matter, batch by batch."""

    def __init__(self, meaning_of: Callable[[str], Meaning]) -> None:
        self._meaning_of = meaning_of
        self._known: dict[str, int] = {}
        self._meanings: list[Meaning] = []
        self._rows: Counter[tuple[str, bool]] = Counter()
        self._unknown: dict[str, tuple[int, int]] = {}  # code to its events and its subjects
        self._kept: list[tuple[np.ndarray, ...]] = []
        self._last = NEVER  # last subject of the batch before

    def add(self, table: pa.Table) -> Int64[np.ndarray, " subjects"]:
        """Keeps what matters of a batch, and returns its subjects, ascending."""
        subject = table["subject_id"].to_numpy()
        subjects, place = np.unique(subject, return_inverse=True)
        encoded = table["code"].combine_chunks().dictionary_encode()
        names = encoded.dictionary.to_pylist()
        local = np.array([self._look_up(name) for name in names], dtype=np.int32)
        index = encoded.indices.to_numpy().astype(np.int64)
        known = np.array([self._meanings[i].text is not None for i in local], dtype=bool)
        counts = np.bincount(index, minlength=len(names))
        for i, count in zip(local.tolist(), counts.tolist(), strict=True):
            meaning = self._meanings[i]
            if meaning.role:
                self._rows[meaning.role, meaning.text is not None] += count
        self._note(names, local, index, place, subjects == self._last)
        keep = known[index]
        time = table["time"].cast(pa.int64()).fill_null(NEVER).to_numpy()
        value = np.full(len(subject), np.nan, np.float32)
        if "numeric_value" in table.column_names:
            value = table["numeric_value"].fill_null(np.nan).to_numpy()
        self._kept.append((subject[keep], time[keep], local[index[keep]], value[keep]))
        self._last = int(subject[-1])
        return subjects

    def events(self, subjects: int) -> Events:
        """Returns what was kept, sorted; `subjects` is the number of all."""
        subject, time, meaning, value = (
            np.concatenate(columns) for columns in zip(*self._kept, strict=True)
        )
        order = np.lexsort((time, subject))
        return Events(
            subject=subject[order],
            time=time[order],
            meaning=meaning[order],
            value=value[order],
            meanings=tuple(self._meanings),
            rows=dict(sorted(self._rows.items())),
            unmapped=self._listed(),
            subjects=subjects,
        )

    def _look_up(self, name: str) -> int:
        place = self._known.get(name)
        if place is None:
            self._meanings.append(self._meaning_of(name))
            place = self._known[name] = len(self._meanings) - 1
        return place

    def _note(
        self,
        names: list[str],
        local: np.ndarray,
        index: np.ndarray,
        subject: np.ndarray,
        counted: np.ndarray,
    ) -> None:
        """Counts events and subjects of the codes not known.

        Args:
            names: of the codes of this batch.
            local: their meanings.
            index: of each event, the place of its code in `names`.
            subject: of each event, the place of its subject among those of the batch.
            counted: of each subject of the batch, whether the batch before ended with it. It is
                not counted again, so that the number of subjects is never too large where, as
                MEDS asks, a subject's events are adjacent.
        """
        unknown = [m.role != "" and m.text is None for m in (self._meanings[i] for i in local)]
        rows = np.flatnonzero(np.array(unknown, dtype=bool)[index])
        width = len(counted)
        pairs = np.unique(index[rows] * width + subject[rows])
        fresh = np.bincount(pairs[~counted[pairs % width]] // width, minlength=len(names))
        events = np.bincount(index[rows], minlength=len(names))
        for place in np.flatnonzero(events).tolist():
            before = self._unknown.get(names[place], (0, 0))
            self._unknown[names[place]] = (
                before[0] + int(events[place]),
                before[1] + int(fresh[place]),
            )

    def _listed(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        for name, (events, subjects) in sorted(
            self._unknown.items(), key=lambda item: (-item[1][0], item[0])
        ):
            role = self._meanings[self._known[name]].role
            listed = found.setdefault(role, {})
            if subjects >= _FEW and len(listed) < _LISTED:
                listed[name] = events
        return {role: found[role] for role in sorted(found) if found[role]}


def _batches(path: Path) -> Iterator[pa.Table]:
    """Yields the needed columns of a shard as the MEDS schema has them; no batch is empty."""
    from flexible_schema.exceptions import (  # type: ignore[import-untyped,unused-ignore]
        SchemaValidationError,
        TableValidationError,
    )
    from meds.schema import DataSchema

    with _readable(path), pq.ParquetFile(path) as file:
        columns = _columns(path, file.schema_arrow)
        for batch in file.iter_batches(batch_size=_BATCH, columns=columns):
            if not batch.num_rows:
                continue
            schema: Any = DataSchema
            try:
                table = schema.align(pa.Table.from_batches([batch]))
                schema.validate(table)
            except (SchemaValidationError, TableValidationError) as error:
                raise InputError(
                    f"{path} does not keep to the MEDS schema: {_in_one_line(error)}. "
                    "Extract the data again, or check it with the package `meds`."
                ) from error
            yield table


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} cannot be read as Parquet: {_in_one_line(error)}. Copy or extract it again."
        ) from error


def _columns(path: Path, schema: pa.Schema) -> list[str]:
    for name, (wanted, fits) in _TYPES.items():
        count = schema.names.count(name)
        if name == "numeric_value" and not count:
            continue
        if count != 1:
            raise InputError(
                f"{path} must have one column `{name}` ({wanted}), as MEDS data has, but its "
                f"columns are {schema.names}. Give a folder of MEDS data."
            )
        found = schema.field(name).type
        if not fits(found):
            raise InputError(
                f"{path}: the column `{name}` must be {wanted}, as in MEDS data, but it is "
                f"{found}. Extract the data again with that type."
            )
    return [name for name in _COLUMNS if name in schema.names]


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _in_one_line(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error)).strip().rstrip(".")


def _refuse_shared(paths: Sequence[Path], subjects: Sequence[np.ndarray]) -> None:
    """Raises an error that names two files, but no subject."""
    every = np.concatenate(subjects)
    file = np.repeat(np.arange(len(paths)), [len(some) for some in subjects])
    order = np.argsort(every, kind="stable")
    twice = np.flatnonzero(every[order][1:] == every[order][:-1])
    if len(twice):
        first, second = file[order[twice[0]]], file[order[twice[0] + 1]]
        raise InputError(
            f"A subject's events must all be in one file, but {paths[first]} and "
            f"{paths[second]} share subjects ({len(twice)} in all files). Extract the data again, "
            "or remove the copy."
        )
