"""Places: whole files, names that stay inside, errors that say what to do; on S3 too."""

import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sweeps.errors import StoreError
from sweeps.places import LocalPlace, place_of
from sweeps.remote import RemotePlace
from sweeps.store import ResultsStore
from tests.s3_server import serving
from tests.sweeps import tiny


@pytest.fixture(params=["folder", "s3"])
def place(request, tmp_path):
    root = request.getfixturevalue("s3") if request.param == "s3" else tmp_path / "results"
    return place_of(root)


def test_files_come_back_and_folders_are_listed(place):
    assert place.names() == []
    assert place.files() == {}
    place.write("a.json", b"{}")
    place.write("deep/er/b", b"x" * 10)
    place.write("a.json", b"[1]")
    assert place.read("a.json") == b"[1]"
    assert place.names() == ["a.json", "deep"]
    assert place.files() == {"a.json": 3, "deep/er/b": 10}
    assert place.files("deep") == {"er/b": 10}
    assert place.child("deep").files() == {"er/b": 10}
    assert place.size("a.json") == 3
    assert not place.exists("deep")  # a folder
    assert not place.exists("nothing")
    assert place.read_some(["a.json", "nothing", "deep"]) == {"a.json": b"[1]"}
    with pytest.raises(FileNotFoundError):
        place.read("nothing")
    place.move_folder("deep", "moved/there")
    assert place.files() == {"a.json": 3, "moved/there/er/b": 10}
    place.remove("a.json")
    place.remove("a.json")
    place.remove_folder("moved")
    place.remove_folder("moved")
    assert place.files() == {}


def test_its_text_names_the_same_place_in_another_process(place):
    place.write("a", b"1")
    again = place_of(str(place))
    assert type(again) is type(place)
    assert again.read("a") == b"1"
    assert place_of(str(place.child("b"))).read_some(["a"]) == {}
    assert place_of(place) is place


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", "a/..", "x\0y"])
def test_no_name_leads_out(place, name):
    for call in (place.read, place.size, place.names, place.files, place.remove, place.child):
        with pytest.raises(StoreError, match="outside"):
            call(name)
    with pytest.raises(StoreError, match="outside"):
        place.write(name, b"")
    with pytest.raises(StoreError, match="outside"):
        place.move_folder("a", name)


def test_no_link_leads_out(tmp_path):
    (tmp_path / "secret").write_text("s")
    place = LocalPlace(tmp_path / "results")
    place.write("a", b"1")
    (tmp_path / "results/link").symlink_to(tmp_path)
    (tmp_path / "results/file").symlink_to(tmp_path / "secret")
    for name in ("link/secret", "file"):
        with pytest.raises(StoreError, match="outside"):
            place.read(name)
        with pytest.raises(StoreError, match="outside"):
            place.write(name, b"2")
    assert list(place.files()) == ["a"]
    assert (tmp_path / "secret").read_text() == "s"


def test_a_results_directory_may_itself_be_reached_through_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "results").symlink_to(tmp_path / "disk")
    place_of(tmp_path / "results").write("a/b", b"1")
    assert (tmp_path / "disk/a/b").read_bytes() == b"1"


def test_a_path_is_named_absolutely(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = place_of("results/demo")
    assert place.local == Path("results/demo")
    assert str(place) == str(tmp_path / "results/demo")
    assert place_of(f"file://{tmp_path}/a%20b").local == tmp_path / "a b"


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("s3://name:hidden@bucket/x", "must not hold credentials"),
        ("s3://bucket/x?secret_key=hidden", "option 'secret_key'"),
        ("s3:///x", "names no folder"),
        ("s3://bucket/../x", "names no folder"),
        ("s4://bucket/x", "Cannot open s4://bucket/x"),
    ],
)
def test_a_wrong_uri_is_refused_and_no_secret_shown(uri, says):
    with pytest.raises(StoreError) as caught:
        place_of(uri)
    assert says in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_a_bucket_that_is_not_there_is_named(s3_server):
    place = place_of(s3_server.uri("nowhere/x"))
    assert place.files() == {}
    with pytest.raises(
        StoreError, match=r"Cannot write s3://nowhere/x/a: there is no such bucket"
    ):
        place.write("a", b"")
    with pytest.raises(StoreError, match=r"holds no study.*medsweep run"):
        ResultsStore(place).study()


def test_wrong_credentials_are_an_error_that_names_no_secret(s3_server):
    with serving(INITIAL_NO_AUTH_ACTION_COUNT="1") as strict:
        place = place_of(strict.uri(f"{strict.bucket()}/x"))
        with pytest.raises(StoreError, match="access is denied") as caught:
            place.write("a", b"1")
        with pytest.raises(StoreError, match="access is denied"):
            place.read("a")
    assert "AWS_ACCESS_KEY_ID" in str(caught.value)
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in str(caught.value)


@pytest.mark.slow  # it waits for time-outs
@pytest.mark.parametrize("kind", ["closed", "silent"])
def test_a_server_that_does_not_answer_is_an_error_in_bounded_time(s3_server, kind, monkeypatch):
    monkeypatch.setattr("sweeps.remote.REQUEST", 3.0)
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        if kind == "silent":
            port.listen()
        address = f"127.0.0.1:{port.getsockname()[1]}"
        place = place_of(f"s3://bucket/x?endpoint_override={address}&scheme=http")
        for call in (lambda: place.write("a", b"1"), lambda: place.read("a"), place.files):
            start = time.monotonic()
            with pytest.raises(StoreError, match="the server does not answer"):
                call()
            assert time.monotonic() - start < 60


def test_a_trial_on_s3_is_whole_and_read_back(s3):
    """The short form of tests/contracts/test_store.py over S3, which is slow."""
    store, key = ResultsStore(s3), tiny.spec().key
    store.record_failure(key, "lost")
    tiny.save(store, tiny.spec())
    tiny.save(store, tiny.spec())
    again = ResultsStore(s3)
    assert again.trial_keys() == again.trial_folders() == [key]
    assert again.failures() == {}
    again.check(key)
    assert again.weights(key) == b"weights"
    assert isinstance(again.place, RemotePlace)
    with pytest.raises(StoreError, match="no folder of this machine"):
        again.root  # noqa: B018
    again.place.write("trials/half/00000000-11111111/trial.json", b"{}")  # of a dead writer
    assert again.trial_folders() == [key]
    assert again.scan() == {key: True}
    assert again.supersede(key).startswith("s3://")
    assert not again.has(key)


def test_one_listing_answers_for_all(s3, monkeypatch):
    store = ResultsStore(s3)
    for seed in range(3):
        tiny.save(store, tiny.spec(seed))
    asked = []
    listed = RemotePlace._listed
    monkeypatch.setattr(RemotePlace, "_listed", lambda *a, **k: asked.append(a) or listed(*a, **k))
    for name in ("read", "size"):
        monkeypatch.delattr(RemotePlace, name)
    with store.at_a_glance():
        assert [store.has(tiny.spec(seed).key) for seed in range(4)] == [True] * 3 + [False]
    assert len(asked) == 1
    assert store.scan() == {tiny.spec(seed).key: True for seed in range(3)}
    assert len(asked) == 2


def test_an_older_layout_is_read_on_s3_too(s3, tmp_path):
    """A results directory of this machine that somebody copied there."""
    local, remote, key = ResultsStore(tmp_path / "one"), ResultsStore(s3), tiny.spec().key
    tiny.save(local, tiny.spec())
    for name in local.place.files():
        remote.place.write(name, local.place.read(name))
    remote.check(key)
    assert remote.scan() == {key: True}
    remote.place.write(f"trials/{key}/history.parquet", b"short")
    assert remote.scan() == {key: False}


def test_checkpoints_and_folders_travel(place, tmp_path):
    store = ResultsStore(place)
    here = tmp_path / "node" / "checkpoint.safetensors"
    assert not store.fetch_checkpoint("k", here)
    store.send_checkpoint("k", here)  # there is none yet
    here.parent.mkdir(exist_ok=True)
    here.write_bytes(b"epoch 1")
    store.send_checkpoint("k", here)
    assert store.begun() == {"k"}
    there = tmp_path / "other" / "checkpoint.safetensors"
    assert store.fetch_checkpoint("k", there)
    assert there.read_bytes() == b"epoch 1"
    store.forget_running("k")
    assert store.begun() == set()
    assert place.files() == {}
    store.send_folder(here.parent, "tensorboard/k")
    assert list(place.files()) == ["tensorboard/k/checkpoint.safetensors"]


def _many(store: ResultsStore, trials: int) -> None:
    """Made as the store makes them, but without waiting for the disk."""
    tiny.save(store, tiny.spec())
    whole = store.root / "trials" / tiny.spec().key
    for n in range(trials - 1):
        folder = store.root / "trials" / f"{n:016x}"
        folder.mkdir()
        for path in whole.iterdir():
            (folder / path.name).hardlink_to(path)


@pytest.mark.slow
def test_ten_thousand_trials_are_told_in_about_a_second(tmp_path):
    store = ResultsStore(tmp_path / "results")
    _many(store, 10_000)
    for call, most in ((store.trial_keys, 1.0), (store.scan, 1.2)):
        seconds = []
        for _ in range(3):
            start = time.process_time()  # other processes of a busy machine do not count
            assert len(call()) == 10_000
            seconds.append(time.process_time() - start)
        assert min(seconds) < most, seconds


@pytest.mark.slow
def test_two_thousand_trials_on_s3_are_one_listing(s3):
    store = ResultsStore(s3)
    tiny.save(store, tiny.spec())
    manifest = store.place.read(f"trials/{tiny.spec().key}/manifest.json")
    names = [f"trials/{n:016x}/manifest.json" for n in range(1999)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: store.place.write(name, manifest), names))
    start = time.perf_counter()
    assert len(store.trial_keys()) == 2000
    assert time.perf_counter() - start < 5
