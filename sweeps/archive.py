"""`medsweep export results`: a slim copy of a results directory, made to be shared.

It holds what tables, figures and the report are made from: `study.json`, `visits.parquet`, what
searches suggested, failures, and the trials that arms and searches name, without weights. Left out
are the cohort, checkpoints, event files, caches, and names of machines and places.

Scores are stored again without loss in the tightest encoding (byte planes apart, zstd), or in half
precision. In half precision scores that nearly agree become equal, which metrics of rank (PRAUC)
notice in the last digits; chosen sets, and so all other metrics, stay exactly what they were.
"""

import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.parquet as pq

from medrec.storage import replacing
from sweeps.arguments import ResultsDirectory
from sweeps.errors import StoreError
from sweeps.record import StudyRecord
from sweeps.store import ResultsStore
from sweeps.trial_folders import PREDICTIONS
from sweeps.visits import FILE

SIGN = "copy.json"
_SCHEMA = 1
_OURS = {SIGN, "study.json", FILE, "trials", "searches", "failed", "tables", "figures", "trees",
         "report.html", "cases.html"}  # fmt: skip
_HOSTS = {"host", "hostname", "node", "address", "ip"}
_PLACE = re.compile(r"(?<![\w./~\\])(?:~|[A-Za-z]:)?[/\\](?:[^\s'\",:;()<>/\\]+[/\\])+")
_ADDRESS = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b")


@dataclass(frozen=True)
class Copied:
    """What a copy holds.

    Attributes:
        trials: how many.
        before: bytes of the same trials in the results directory, weights included.
        after: bytes of the copy.
    """

    trials: int
    before: int
    after: int


def export_results(root: Path, out: Path, half: bool = False) -> Copied:
    """Writes the copy, whole or not at all; an earlier copy in `out` is replaced.

    Args:
        root: a results directory.
        out: folder to write.
        half: whether scores are stored in half precision.

    Raises:
        StoreError: there is no study, or `out` holds something that is no such copy.
        DamagedTrialError: a stored trial does not match its manifest.
    """
    source = ResultsStore(root)
    record = source.study()
    _refuse_other(root.resolve(), out.resolve())
    keys = [key for key in sorted(_named(source, record)) if source.has(key)]
    with replacing(out) as fresh:
        copy = ResultsStore(fresh)
        copy.write_study(record)
        for key in keys:
            source.load(key)  # what cannot be read is not passed on
            copy.save_files(key, _slim(source.content(key), half))
        _copy_notes(source, copy, record)
        found = {"schema": _SCHEMA, "study": record.name, "half": half, "weights": False}
        copy.write_text(SIGN, json.dumps(found, indent=2) + "\n")
    before = sum(_size(root / "trials" / key) for key in keys)
    return Copied(len(keys), before, _size(out))


def without_places(value: Any) -> Any:
    """Returns JSON content without names of machines; of a path its last part stays.

    Example:
        >>> without_places({"reason": "No space below /home/ann/study.", "host": "n7"})
        {'reason': 'No space below study.'}
    """
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if key not in _HOSTS}
        return {key: without_places(item) for key, item in kept.items()}
    if isinstance(value, list):
        return [without_places(item) for item in value]
    if isinstance(value, str):
        return _ADDRESS.sub("(address)", _PLACE.sub("", value))
    return value


def _named(store: ResultsStore, record: StudyRecord) -> set[str]:
    """Returns the keys that arms and searches name."""
    arms = {key for arm in record.arms for key in arm.trials.values()}
    suggested = {
        str(entry.get("key"))
        for search in record.searches
        for entry in store.search_records(search.name)
    }
    return arms | suggested


def _slim(files: dict[str, bytes], half: bool) -> dict[str, bytes]:
    summary = without_places(json.loads(files["trial.json"]))
    history = pq.read_table(io.BytesIO(files["history.parquet"]))
    slim = {
        "trial.json": json.dumps(summary, indent=2, sort_keys=True).encode(),
        "history.parquet": _parquet(history, {}),
    }
    if PREDICTIONS not in files:
        return {**files, **slim}
    predictions = pq.read_table(io.BytesIO(files[PREDICTIONS]))
    return {**slim, PREDICTIONS: _predictions(predictions, half)}


def _predictions(table: pa.Table, half: bool) -> bytes:
    place = table.schema.get_field_index("scores")
    if half:
        width = table.schema.field(place).type.list_size
        kind = pa.list_(pa.float16(), width)
        table = table.set_column(place, "scores", table["scores"].cast(kind))
    encodings = {"scores.list.element": "BYTE_STREAM_SPLIT", "patient": "DELTA_BINARY_PACKED"}
    encodings |= {f"{name}.list.element": "DELTA_BINARY_PACKED" for name in ("truth", "chosen")}
    return _parquet(table, encodings)


def _parquet(table: pa.Table, encodings: dict[str, str]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(
        table,
        sink,
        compression="zstd",
        compression_level=19,
        use_dictionary=False,
        column_encoding=encodings or None,
        write_statistics=False,
    )
    return sink.getvalue()


def _copy_notes(source: ResultsStore, copy: ResultsStore, record: StudyRecord) -> None:
    facts = source.visits()
    if facts is not None:
        copy.write_visits(facts)
    for folder in ("failed", *(f"searches/{search.name}" for search in record.searches)):
        for name, note in source.read_all(folder).items():
            text = json.dumps(without_places(note), indent=2, sort_keys=True)
            copy.write_text(f"{folder}/{name}.json", text)


def _refuse_other(root: Path, out: Path) -> None:
    """Raises an error if `out` holds what is no earlier copy, or is part of the directory."""
    if out.is_relative_to(root):
        raise StoreError(
            f"{out} lies in the results directory itself. Choose another --out, outside of {root}."
        )
    if not out.exists():
        return
    if not out.is_dir():
        raise StoreError(f"The copy is a folder, but {out} is a file. Choose another --out.")
    found = {path.name for path in out.iterdir()}
    earlier = SIGN in found and found <= _OURS and not list(out.rglob("*.safetensors"))
    if found and not earlier:
        raise StoreError(
            f"{out} is not empty and holds no earlier copy of results, or more than that. Choose "
            "another --out, so that nothing there is overwritten."
        )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@click.command("results")
@click.argument("directory", type=ResultsDirectory())
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option(
    "--half",
    is_flag=True,
    help="Scores in half precision: smaller; PRAUC may change in the last digits.",
)
def command(directory: Path, out: Path, half: bool) -> None:
    """Writes a slim copy of a results directory, for sharing: no weights, no cohort, no places.

    Tables, figures and the report can be made from it. Whoever has the results of hospital data
    shares predictions of single visits: check that the data's terms allow it.

    Example: medsweep export results results/demo --out demo-results --half
    """
    done = export_results(directory, out, half)
    click.echo(
        f"{out}: {done.trials} trials, {done.after / 1e6:,.2f} MB "
        f"(with weights {done.before / 1e6:,.2f} MB)"
    )
