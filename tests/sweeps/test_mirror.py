"""A results directory elsewhere is read through a copy that is brought up to date."""

import stat

import pytest

from sweeps.errors import StoreError
from sweeps.mirror import mirrored
from sweeps.regenerate import regenerate
from sweeps.remote import RemotePlace
from sweeps.store import ResultsStore
from tests.sweeps import tiny
from tests.sweeps.fabricate import fabricate


def upload(local: ResultsStore, uri: str) -> ResultsStore:
    """Stores the same trials and notes remotely, in the layout of an object store."""
    store = ResultsStore(uri)
    for key in local.trial_keys():
        store.save_files(key, {**local.content(key), "model.safetensors": local.weights(key)})
    for name in local.place.files():
        if not name.startswith("trials/"):
            store.place.write(name, local.place.read(name))
    return store


def test_a_folder_is_given_itself(tmp_path):
    with mirrored(tmp_path / "results") as folder:
        assert folder == tmp_path / "results"


@pytest.mark.slow
def test_tables_of_a_remote_directory_are_those_of_a_local_one_and_are_sent_back(s3, tmp_path):
    fabricate(tmp_path / "local", resamples=20)
    local = ResultsStore(tmp_path / "local")
    store = upload(local, s3)
    with mirrored(s3) as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert not list(folder.rglob("*.safetensors"))
        copy = ResultsStore(folder)
        assert copy.trial_keys() == local.trial_keys()
        assert all(copy.scan().values())
        for key in copy.trial_keys():
            copy.check(key)
            assert copy.content(key) == local.content(key)
        regenerate(folder, ("md",))
    regenerate(local.root, ("md",))
    sent = {name: store.place.read(f"tables/{name}") for name in store.place.names("tables")}
    assert sent == {p.name: p.read_bytes() for p in (local.root / "tables").iterdir()}
    with mirrored(s3, weights=True) as folder:
        for key in local.trial_keys():
            assert ResultsStore(folder).weights(key) == local.weights(key)


def test_only_what_is_new_is_fetched_and_what_is_gone_goes(s3, monkeypatch):
    store, keys = ResultsStore(s3), [tiny.spec(seed).key for seed in range(3)]
    tiny.save(store, tiny.spec(0))
    store.record_failure(keys[1], "lost")
    store.place.write("running/abc/checkpoint.safetensors", b"x" * 1000)
    with mirrored(s3) as folder:
        assert ResultsStore(folder).failures()[keys[1]]["reason"] == "lost"
        assert ResultsStore(folder).begun() == {"abc"}
    tiny.save(store, tiny.spec(1))  # which clears its failure
    fetched, read = [], RemotePlace.read
    monkeypatch.setattr(
        RemotePlace, "read", lambda place, name: fetched.append(name) or read(place, name)
    )
    with mirrored(s3) as folder:
        copy = ResultsStore(folder)
        assert copy.trial_keys() == sorted(keys[:2])
        assert copy.failures() == {}
        assert copy.load(keys[1]).predictions.scores.shape == (6, 5)
    assert all(keys[1] in name for name in fetched), fetched
    fetched.clear()
    store.supersede(keys[0])
    with mirrored(s3) as folder:
        assert ResultsStore(folder).trial_keys() == [keys[1]]
    assert fetched == []


def test_a_page_that_was_removed_is_removed_there_and_an_error_sends_nothing(s3):
    store = ResultsStore(s3)
    store.write_text("cases.html", "old")
    with mirrored(s3) as folder:
        (folder / "cases.html").unlink()
    assert not store.place.exists("cases.html")

    def fail() -> None:
        with mirrored(s3) as folder:
            (folder / "report.html").write_text("half")
            raise StoreError("stop")

    with pytest.raises(StoreError):
        fail()
    assert not store.place.exists("report.html")


def test_a_damaged_trial_stays_one_in_the_copy(s3):
    store, key = ResultsStore(s3), tiny.spec().key
    tiny.save(store, tiny.spec())
    (name,) = [n for n in store.place.files() if n.endswith("history.parquet")]
    store.place.write(name, b"short")
    with mirrored(s3) as folder:
        assert ResultsStore(folder).scan() == {key: False}
    store.place.write(f"trials/{key}/manifest.json", b"rubbish")
    with mirrored(s3) as folder, pytest.raises(StoreError, match="damaged"):
        ResultsStore(folder).check(key)


def test_a_manifest_cannot_write_outside_the_copy(s3, tmp_path):
    store = ResultsStore(s3)
    store.place.write(
        "trials/k/manifest.json",
        b'{"../../x": {"bytes": 1}, "trial.json": {"at": "../../study.json"}}',
    )
    store.place.write("study.json", b"{}")
    with mirrored(s3) as folder:
        files = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    assert sorted(files) == [".index.json", "study.json", "trials/k/manifest.json"]
