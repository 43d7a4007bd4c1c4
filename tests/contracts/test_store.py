"""What the results store promises, sentence by sentence of `ResultsStore`'s docstring."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sweeps.errors import DamagedTrialError, StoreError
from sweeps.store import ResultsStore
from tests.sweeps import tiny
from tests.sweeps.fabricate import fabricate

FILES = ("trial.json", "history.parquet", "predictions.parquet", "model.safetensors")
HEAD = """
import os, signal, sys
from pathlib import Path
import sweeps.places, sweeps.remote
from sweeps.errors import StoreError
from sweeps.store import ResultsStore
from tests.sweeps import tiny
store = ResultsStore(sys.argv[1])
"""
REPOSITORY = Path(__file__).parents[2]


def process(code: str, *arguments, **options) -> subprocess.Popen:
    command = [sys.executable, "-c", HEAD + code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, **options)


def ends(child: subprocess.Popen) -> tuple[int, str]:
    errors = child.communicate(timeout=60)[1]
    return child.returncode, errors


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.slow)])
def store(request, tmp_path) -> ResultsStore:
    """A store in a folder, or on an object store."""
    if request.param == "s3":
        return ResultsStore(request.getfixturevalue("s3"))
    return ResultsStore(tmp_path / "results")


@pytest.fixture
def folder(tmp_path) -> ResultsStore:
    return ResultsStore(tmp_path / "results")


def visible(store: ResultsStore) -> list[str]:
    """Keys that a reader who knows nothing of attempts and leftovers would see."""
    if store.place.local is None:
        names = store.place.files("trials")
        return sorted({n.split("/")[0] for n in names if n.endswith("/manifest.json")})
    return [name for name in store.place.names("trials") if not name.startswith(".")]


def content(store: ResultsStore) -> dict[str, bytes]:
    return store.place.read_some(store.place.files())


def name_of(store: ResultsStore, key: str, file: str) -> str:
    """The name of a trial's file within the results directory."""
    entry = json.loads(store.place.read(f"trials/{key}/manifest.json"))[file]
    return f"trials/{key}/{entry.get('at', file)}"


# ------------------------------------------------------------------ it holds what it was given


def test_a_stored_trial_reads_back_exactly(store):
    history = tiny.rows(4, 1 / 3)
    given = tiny.predictions(5)
    store.save("a", {"best_epoch": 3}, history, given, b"\x00weights")
    found = store.load("a")
    assert found.summary["best_epoch"] == 3
    assert found.history == {name: [row[name] for row in history] for name in history[0]}
    for name in ("patient", "visit", "truth", "chosen", "scores"):
        np.testing.assert_array_equal(getattr(found.predictions, name), getattr(given, name))
    assert store.weights("a") == b"\x00weights"
    assert store.trial_keys() == ["a"]
    assert store.has("a")
    assert not store.has("b")


def test_visits_without_a_drug_read_back(store):
    given = tiny.predictions(5)
    given.truth[[0, 3, -1]] = False
    given.chosen[:] = False
    store.save("a", {}, tiny.rows(1, 0.1), given, b"")
    np.testing.assert_array_equal(store.load("a").predictions.truth, given.truth)
    assert not store.load("a").predictions.chosen.any()


# ------------------------------------------------------------------ whole or absent

_DIE_AT = """
write, put, count = sweeps.places._write_synced, sweeps.remote.RemotePlace.write, 0
def is_the_end():
    global count
    count += 1
    return count == int(sys.argv[2])
def dying(path, data):
    if is_the_end():
        path.write_bytes(data[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, data)
def dying_before(place, name, data):  # a put is whole or not at all
    if is_the_end():
        os.kill(os.getpid(), signal.SIGKILL)
    put(place, name, data)
sweeps.places._write_synced = dying
sweeps.remote.RemotePlace.write = dying_before
tiny.save(store, tiny.spec())
"""


@pytest.mark.parametrize("at", [1, 3, 5])
def test_a_writer_killed_in_the_middle_leaves_nothing_visible(store, at):
    code, _ = ends(process(_DIE_AT, store.place, at))
    assert code == -signal.SIGKILL
    begun = bool(store.place.files("trials"))
    assert begun == (store.place.local is not None or at > 1)
    assert visible(store) == []
    assert store.trial_keys() == []
    assert not store.has(tiny.spec().key)
    tiny.save(store, tiny.spec())  # what it left behind hinders nobody
    store.check(tiny.spec().key)


def test_whatever_moment_a_writer_is_killed_every_visible_trial_is_whole(store):
    code = "for n in range(10**6): tiny.save(store, tiny.spec(n), tiny.rows(200, 0.5))"
    moments = np.random.default_rng(3)
    seen = 0
    for _ in range(3):
        child = process(code, store.place)
        tiny.wait_for(lambda: len(store.trial_keys()) > seen)  # noqa: B023  called at once
        time.sleep(moments.uniform(0, 0.1))
        child.send_signal(signal.SIGKILL)
        ends(child)
        seen = len(store.trial_keys())
        assert visible(store) == store.trial_keys()
        for key in store.trial_keys():
            store.check(key)


def test_a_small_file_is_replaced_whole_or_not_at_all(store):
    store.write_text("study.json", "old")
    code, _ = ends(process(_DIE_AT.replace(
        "tiny.save(store, tiny.spec())", "store.write_text('study.json', 'new' * 100)"
    ), store.place, 1))  # fmt: skip
    assert code == -signal.SIGKILL
    assert store.place.read("study.json") == b"old"


# ------------------------------------------------------------------ one writer per key

_RACE = """
go = Path(sys.argv[2])
while not go.exists(): pass
for n in range(int(sys.argv[4])):
    summary = {"spec": {}, "writer": sys.argv[3]}
    history, given = tiny.rows(2, 0.5), tiny.predictions(0)
    store.save(f"{n:02d}", summary, history, given, sys.argv[3].encode() * 1000)
"""


def test_workers_that_finish_the_same_key_leave_one_trial_and_none_fails(store, tmp_path):
    many = 20 if store.place.local is not None else 5
    children = [process(_RACE, store.place, tmp_path / "go", writer, many) for writer in "abc"]
    time.sleep(1.0)
    (tmp_path / "go").touch()
    assert [ends(child) for child in children] == [(0, "")] * 3
    assert visible(store) == store.trial_keys() == [f"{n:02d}" for n in range(many)]
    assert store.place.names("trials") == visible(store)
    for key in store.trial_keys():
        writer = store.load(key).summary["writer"]
        assert store.weights(key) == writer.encode() * 1000  # nothing of two writers in one trial


# ------------------------------------------------------------------ never rewritten


def test_what_a_key_holds_does_not_change(store):
    tiny.save(store, tiny.spec(), tiny.rows(3, 0.4))
    before = content(store)
    tiny.save(store, tiny.spec(), tiny.rows(3, 0.9))
    assert content(store) == before
    assert len(store.place.names("trials")) == 1


def test_storing_a_trial_clears_its_failure_and_its_epoch_checkpoint(store):
    key = tiny.spec().key
    store.record_failure(key, "lost")
    store.record_failure(key, "lost again")
    lost = {"reason": "lost again", "attempts": 2, "seconds": 0.0}
    assert store.failures() == {key: lost}
    store.place.write(f"running/{key}/checkpoint.safetensors", b"epoch 2")
    assert store.begun() == {key}
    tiny.save(store, tiny.spec())
    assert store.failures() == {}
    assert store.place.files("running") == {}
    assert store.begun() == set()


# ------------------------------------------------------------------ damage is found and named


def _halve(store: ResultsStore, name: str) -> None:
    data = store.place.read(name)
    store.place.write(name, data[: len(data) // 2])


def _alter(store: ResultsStore, name: str) -> None:
    data = bytearray(store.place.read(name))
    data[len(data) // 2] ^= 1
    store.place.write(name, bytes(data))


def _remove(store: ResultsStore, name: str) -> None:
    store.place.remove(name)


@pytest.mark.parametrize("harm", [_halve, _alter, _remove], ids=["cut", "altered", "missing"])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named(store, name, harm):
    tiny.save(store, tiny.spec(0))
    tiny.save(store, tiny.spec(1))
    key = tiny.spec(0).key
    harm(store, name_of(store, key, name))
    with pytest.raises(DamagedTrialError) as caught:
        store.check(key)
    assert store.place.at(name_of(store, key, name)) in str(caught.value)
    assert "medsweep run" in str(caught.value)
    reader = {"trial.json": store.summary, "history.parquet": store.history}.get(name)
    if reader is not None:
        with pytest.raises(DamagedTrialError):
            reader(key)
    store.load(tiny.spec(1).key)  # the other trial is not concerned
    assert store.scan() == {key: harm is _alter, tiny.spec(1).key: True}
    assert store.intact(key) == (harm is _alter)  # by sizes alone


@pytest.mark.parametrize("content", ["", "{", "3", "[]", "{}", '{"trial.json": 3}', "\xff"])
def test_a_damaged_manifest_is_named(store, content):
    tiny.save(store, tiny.spec())
    manifest = f"trials/{tiny.spec().key}/manifest.json"
    store.place.write(manifest, content.encode("latin-1"))
    for read in (store.check, store.load):
        with pytest.raises(DamagedTrialError, match=tiny.spec().key):
            read(tiny.spec().key)


def test_a_damaged_trial_set_aside_is_missing_and_kept(store):
    tiny.save(store, tiny.spec())
    key = tiny.spec().key
    kept = store.set_aside(key)
    assert any(kept == store.place.at(f"damaged/{n}") for n in store.place.names("damaged"))
    assert store.place.files("trials") == {}
    assert not store.has(key)
    tiny.save(store, tiny.spec())
    store.check(key)


# ------------------------------------------------------------------ full disks

_NO_ROOM = """
import resource
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    if sys.argv[2] == "trial":
        store.save("big", {}, tiny.rows(1, 0.5), tiny.predictions(0), bytes(50_000))
    else:
        store.write_text("study.json", "x" * 50_000)
except StoreError as error:
    print(error, file=sys.stderr)
    sys.exit(7)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no RLIMIT_FSIZE here")
@pytest.mark.parametrize("what", ["trial", "file"])
def test_a_write_that_does_not_fit_is_a_store_error_and_leaves_nothing_half_written(folder, what):
    tiny.save(folder, tiny.spec())
    folder.write_text("study.json", "old")
    before = sorted(folder.root.rglob("*"))
    code, message = ends(process(_NO_ROOM, folder.root, what))
    assert (code, message.split(":")[0].split()[:2]) == (7, ["Cannot", "write"]), message
    assert "finished trials are kept" in message
    assert sorted(folder.root.rglob("*")) == before
    assert (folder.root / "study.json").read_text() == "old"
    folder.check(tiny.spec().key)


def test_a_full_file_system_is_a_store_error(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    made = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True
    )
    if not made or made.returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        store = ResultsStore(disk / "results")
        tiny.save(store, tiny.spec(0))
        with pytest.raises(StoreError, match="No space left"):
            store.save("big", {}, tiny.rows(1, 0.5), tiny.predictions(0), bytes(400_000))
        assert sorted(p.name for p in (store.root / "trials").iterdir()) == [tiny.spec(0).key]
        store.check(tiny.spec(0).key)
        tiny.save(store, tiny.spec(1))  # room again
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_directory_without_permission_is_a_store_error(folder):
    if os.geteuid() == 0:
        folder.root.write_text("a file where the directory should be")
    else:
        folder.root.mkdir(mode=0o500)
    with pytest.raises(StoreError, match="Cannot write"):
        tiny.save(folder, tiny.spec())


# ------------------------------------------------------------------ nothing runs


def test_no_file_of_the_store_can_run_code(tmp_path):
    fabricate(tmp_path / "s")
    for path in (p for p in (tmp_path / "s").rglob("*") if p.is_file()):
        assert path.suffix in {".json", ".parquet", ".safetensors"}, path
        if path.suffix == ".json":
            json.loads(path.read_text())
        if path.suffix == ".parquet":
            assert path.read_bytes()[:4] == path.read_bytes()[-4:] == b"PAR1"


def test_reading_a_pickle_in_place_of_a_file_runs_nothing(folder, tmp_path):
    tiny.save(folder, tiny.spec())
    bomb = b"cos\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR."
    for name in (*FILES, "manifest.json"):
        (folder.root / "trials" / tiny.spec().key / name).write_bytes(bomb)
    with pytest.raises(DamagedTrialError):
        folder.load(tiny.spec().key)
    assert not (tmp_path / "ran").exists()


# ------------------------------------------------------------------ study.json


def test_a_study_reads_back(tmp_path):
    record = fabricate(tmp_path)
    assert ResultsStore(tmp_path).study() == record.without_places()


def test_a_directory_without_study_says_how_to_start_one(tmp_path):
    with pytest.raises(StoreError, match=r"holds no study.*medsweep run"):
        ResultsStore(tmp_path).study()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda d: d.update(schema_version=3), "schema_version"),
        (lambda d: d.update(colour="red"), "colour"),
        (lambda d: d.pop("arms"), "arms"),
    ],
)
def test_a_study_of_another_version_is_refused_with_the_field(tmp_path, change, field):
    fabricate(tmp_path)
    path = tmp_path / "study.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(StoreError) as caught:
        ResultsStore(tmp_path).study()
    assert str(path) in str(caught.value)
    assert field in str(caught.value)
    assert "another version" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]"])
def test_a_study_file_that_is_no_json_is_refused(tmp_path, content):
    (tmp_path / "study.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"study\.json"):
        ResultsStore(tmp_path).study()
