"""What must hold of a results directory after a failure."""

from pathlib import Path

from sweeps.errors import StoreError
from sweeps.store import ResultsStore
from tests.chaos.outcome import Outcome
from tests.sweeps import tiny


def finished(out: Path) -> dict[str, tuple[int, str]]:
    """Returns time of last change and sha256 of the files of every finished trial."""
    if not (out / "trials").is_dir():
        return {}
    whole = set(ResultsStore(out).trial_keys())
    return {
        name: stamp for name, stamp in tiny.trial_files(out).items() if name.split("/")[1] in whole
    }


def untouched(before: dict, out: Path, outcome: Outcome, when: str) -> None:
    """Every trial that was finished is there, and was not written again."""
    after = finished(out)
    for name, stamp in before.items():
        if name not in after:
            outcome.lost.append(f"{when}: {name} is gone")
        elif after[name] != stamp:
            outcome.doubled.append(f"{when}: {name} was written again")


def complete(out: Path, expected: Path, outcome: Outcome, when: str) -> None:
    """The directory holds what the undisturbed one holds, to the last bit, and nothing else."""
    try:
        store, reference = ResultsStore(out), ResultsStore(expected)
        keys = reference.trial_keys()
        outcome.lost += [f"{when}: trial {key}" for key in keys if not store.has(key)]
        extra = set(store.trial_folders()) - set(keys)
        outcome.doubled += [f"{when}: trial {key} belongs to nothing" for key in sorted(extra)]
        for key in keys:
            if store.has(key):
                _same(store, reference, key, outcome, when)
        _same_searches(store, reference, outcome, when)
        left = [p.name for p in (out / "running").rglob("*") if p.is_file()]
        outcome.leaked += [f"{when}: running/ keeps {name}" for name in left]
        aside = [p.name for p in (out / "trials").glob(".*")]
        if aside:
            outcome.notes.append(f"{when}: {len(aside)} half-written folders in trials/")
        outcome.promise(store.failures() == {}, f"{when}: failed/ has {store.failures()}")
    except StoreError as error:
        outcome.lost.append(f"{when}: {error}")


def same_tables(out: Path, expected: Path, outcome: Outcome, when: str) -> None:
    """Tables are the undisturbed study's, byte for byte."""
    if not (out / "tables").is_dir():
        outcome.lost.append(f"{when}: no tables were made")
    elif tiny.table_bytes(out) != tiny.table_bytes(expected):
        outcome.lost.append(f"{when}: tables differ from the undisturbed study's")


def went_on(
    out: Path, key: str, done: tuple[dict[str, float], ...], outcome: Outcome, when: str
) -> None:
    """Epochs that a checkpoint held were not trained again: their times are still those."""
    store = ResultsStore(out)
    if not store.has(key):
        outcome.lost.append(f"{when}: trial {key}")
        return
    seconds = store.history(key)["seconds"][: len(done)]
    if seconds != [row["seconds"] for row in done]:
        outcome.lost.append(f"{when}: {len(done)} epochs of {key} were trained again")


def _same(
    store: ResultsStore, reference: ResultsStore, key: str, outcome: Outcome, when: str
) -> None:
    try:
        store.check(key)
        tiny.same_result(store, reference, key)
    except StoreError as error:
        outcome.lost.append(f"{when}: {error}")
    except AssertionError:
        outcome.lost.append(f"{when}: {key} differs from the undisturbed trial")


def _same_searches(
    store: ResultsStore, reference: ResultsStore, outcome: Outcome, when: str
) -> None:
    for search in reference.study().searches:
        folder = f"searches/{search.name}"
        found, wanted = store.read_all(folder), reference.read_all(folder)
        outcome.lost += [f"{when}: {folder}/{n}" for n in sorted(wanted.keys() - found.keys())]
        outcome.doubled += [f"{when}: {folder}/{n}" for n in sorted(found.keys() - wanted.keys())]
        outcome.lost += [
            f"{when}: {folder}/{n} differs: {found[n]} instead of {wanted[n]}"
            for n in sorted(wanted.keys() & found.keys())
            if found[n] != wanted[n]
        ]
