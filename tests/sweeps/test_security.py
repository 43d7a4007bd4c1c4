"""Nothing that is read runs, no name leads out of its folder, and strangers are kept out."""

import json
import os
import pickle
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import psutil
import pytest
import torch
import yaml

from medrec.errors import MedrecError
from sweeps.cli import main
from sweeps.errors import StoreError, StudyError, SweepError
from sweeps.published import read_document
from sweeps.search_pages import in_memory, journals
from sweeps.session_notes import sessions
from sweeps.statistics.results import gather
from sweeps.status import study_status
from sweeps.store import ResultsStore
from sweeps.study import load_study, read_yaml
from tests.sweeps import tiny
from tests.sweeps.fabricate import fabricate

SEARCH = {**tiny.SEARCH, "trials": 2, "space": {"dropout": {}}, "config": {"dim": 8}}


class Bomb:
    """An object whose loading makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def tags(marker: Path) -> str:
    return f"name: !!python/object/apply:os.system ['touch {marker}']\n"


def command(*arguments: object) -> int:
    """Runs a command in this process; returns its exit code."""
    try:
        main([str(each) for each in arguments])
    except SystemExit as error:
        return int(error.code or 0)
    return 0


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    root = tmp_path_factory.mktemp("ran")
    study = tiny.write_study(root, seeds=[0], searches=[SEARCH])
    assert command("run", study, "--out", root / "out", "--executor", "inline") == 0
    return root


@pytest.fixture
def marker(tmp_path):
    return tmp_path / "marker"


@pytest.fixture
def planted(ran, tmp_path):
    """A copy of results that were really made, to plant things in; and its study."""
    for name in ("out", "other"):
        subprocess.run(["cp", "-a", ran / "out", tmp_path / name], check=True)
    return tmp_path / "out", ran / "tiny.yaml"


def bombs(marker: Path, folder: Path) -> dict[str, bytes]:
    """The same object in every form that something might load."""
    folder.mkdir()
    torch.save({"model": Bomb(marker)}, folder / "torch")
    torch.save({"model": Bomb(marker)}, folder / "legacy", _use_new_zipfile_serialization=False)
    forms = {path.name: path.read_bytes() for path in folder.iterdir()}
    forms["pickle"] = pickle.dumps(Bomb(marker))
    forms["yaml"] = tags(marker).encode()
    return forms


def everything(out: Path, study: Path, tmp_path: Path) -> None:
    """Every command that reads results; each may refuse, none may end in a traceback."""
    for arguments in (
        ("status", out),
        ("status", out, "--json"),
        ("tables", out),
        ("report", out),
        ("plan", study, "--out", out),
        ("compare", tmp_path / "other", out),
        ("export", "results", out, "--out", tmp_path / "slim"),
        ("export", "best", out, "--out", tmp_path / "best"),
        ("run", study, "--out", out, "--executor", "inline"),
        ("tables", out),
        ("export", "best", out, "--out", tmp_path / "best2"),
    ):
        assert command(*arguments) in (0, 1), arguments
    in_memory(journals(out))


def test_the_planted_objects_would_run_if_they_were_loaded(marker, tmp_path):
    forms = bombs(marker, tmp_path / "forms")
    for name in ("torch", "legacy"):
        torch.load(tmp_path / "forms" / name, weights_only=False)
        assert marker.is_file(), name
        marker.unlink()
    pickle.loads(forms["pickle"])  # noqa: S301  that it runs is what is shown
    assert marker.is_file()
    marker.unlink()
    yaml.unsafe_load(forms["yaml"])
    assert marker.is_file()


@pytest.mark.parametrize(
    "form",
    ["torch", *(pytest.param(f, marks=pytest.mark.slow) for f in ("legacy", "pickle", "yaml"))],
)
def test_nothing_planted_beside_results_runs(planted, marker, tmp_path, form):
    """A file under every name that is there, and under names that loaders like, is never run."""
    out, study = planted
    content = bombs(marker, tmp_path / "forms")[form]
    for folder in [path for path in out.rglob("*") if path.is_dir()]:
        for name in ("x.pkl", "x.pt", "x.json", "x.yaml", "x.npy", "conftest.py", "events.out.x"):
            (folder / name).write_bytes(content)
    store = ResultsStore(out)
    record = store.study()
    for key in [key for arm in record.arms for key in arm.trials.values()]:
        (out / f"running/{key}").mkdir(parents=True, exist_ok=True)
        for name in ("checkpoint.safetensors", "attempt.json"):
            (out / f"running/{key}/{name}").write_bytes(content)
    for name in (
        "failed/x.json",
        "sessions/00001-20260301T000000Z-abcdef01.json",
        "rehearsals/x.json",
        "running/stop.json",
        "visits.parquet",
        ".lock",
        "lease.json",
        "searches/tune/00000.json",
        "searches/tune/journal.log",
    ):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_bytes(content)
    for path in (out / "cache").rglob("*") if (out / "cache").is_dir() else ():
        if path.is_file():
            path.write_bytes(content)
    everything(out, study, tmp_path)
    assert not marker.exists()


@pytest.mark.slow
@pytest.mark.parametrize("form", ["torch", "pickle", "yaml"])
def test_nothing_planted_in_a_trial_runs_even_with_a_manifest_to_match(
    planted, marker, tmp_path, form
):
    out, study = planted
    content = bombs(marker, tmp_path / "forms")[form]
    keys = ResultsStore(out).trial_keys()
    names = ["trial.json", "history.parquet", "predictions.parquet", "model.safetensors"]
    for number, key in enumerate(keys):
        name = names[number % len(names)]
        path = out / "trials" / key / name
        path = path if path.is_file() else next((out / "trials" / key).rglob(name))
        path.write_bytes(content)
        for manifest in (out / "trials" / key).rglob("manifest.json"):
            told = json.loads(manifest.read_text())
            own = {"bytes": len(content), "sha256": sha256(content).hexdigest()}
            manifest.write_text(json.dumps({**told, name: own}))
    everything(out, study, tmp_path)
    assert not marker.exists()


@pytest.mark.slow
@pytest.mark.parametrize("form", ["torch", "pickle", "yaml"])
def test_no_study_record_runs(planted, marker, tmp_path, form):
    out, study = planted
    (out / "study.json").write_bytes(bombs(marker, tmp_path / "forms")[form])
    everything(out, study, tmp_path)
    assert not marker.exists()


def test_a_checkpoint_that_is_a_pickle_is_not_gone_on_from(ran, marker, tmp_path):
    """The trial starts anew, or is refused with a reason; nothing of the file is loaded."""
    study, out = ran / "tiny.yaml", tmp_path / "out"
    content = bombs(marker, tmp_path / "forms")["torch"]
    for key in ResultsStore(ran / "out").trial_keys():
        path = out / "running" / key / "checkpoint.safetensors"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    assert command("run", study, "--out", out, "--executor", "inline") in (0, 1)
    assert not marker.exists()
    state = study_status(out)
    assert state.complete or state.failures


# ------------------------------------------------------------------ files that people write


@pytest.mark.parametrize(
    "text",
    [
        "name: !!python/object/apply:os.system ['touch {marker}']",
        "!!python/object/apply:pathlib.Path.touch [{marker}]",
        "name: !!python/name:os.system",
        "name: !!python/module:antigravity",
        "name: !!python/object/new:os.system ['touch {marker}']",
    ],
)
def test_a_yaml_file_with_tags_is_refused_with_its_line(tmp_path, marker, text):
    path = tmp_path / "study.yaml"
    path.write_text(text.format(marker=marker) + "\n")
    with pytest.raises(StudyError, match="line 1: not valid YAML"):
        read_yaml(path)
    with pytest.raises(StudyError):
        load_study(str(tiny.write_study(tmp_path)), (f"name={text.split(' ', 1)[-1]}",))
    assert not marker.exists()


@pytest.mark.parametrize("words", ["render", "check"])
def test_a_cluster_file_with_tags_is_refused(tmp_path, marker, words):
    path = tmp_path / "cluster.yaml"
    path.write_text(f"image: !!python/object/apply:os.system ['touch {marker}']\n")
    arguments = ["cluster", words, *(["slurm"] if words == "render" else []), path]
    assert command(*arguments) != 0
    assert not marker.exists()


ESCAPES = ["../x", "../../x", "/etc/passwd", "a/b", "..", ".", "a\\..\\b", "x\x00y", "", "a\n"]


@pytest.mark.parametrize("name", ESCAPES)
@pytest.mark.parametrize(
    "change",
    [
        lambda name: {"name": name},
        lambda name: {"arms": [{"model": "most_popular", "name": name}], "reference": name},
        lambda name: {"searches": [{**SEARCH, "name": name}]},
        lambda name: {"arms": [{"model": name}]},
        lambda name: {"tables": [name]},
        lambda name: {"published": [{"document": name, "table": "x"}]},
        lambda name: {"cohort": {"dataset": name}},
        lambda name: {
            "arms": [{"model": "gamenet", "parts": {name: {"title": "x", "changes": {"dim": 8}}}}],
            "reference": "gamenet",
        },
    ],
    ids=["study", "arm", "search", "model", "table", "published", "dataset", "part"],
)
def test_no_name_in_a_study_file_leads_out_of_its_folder(tmp_path, name, change):
    before = set(tmp_path.rglob("*"))
    path = tiny.write_study(tmp_path, **change(name))
    found = tiny_plan(path, tmp_path)
    assert found is not None, "it was accepted"
    assert set(tmp_path.rglob("*")) == before | {path}


def tiny_plan(path: Path, out: Path) -> str | None:
    """Returns why a study is refused, if it is."""
    from sweeps.cohorts import study_data
    from sweeps.plan import make_plan

    try:
        study = load_study(str(path))
        make_plan(study, study_data(study, out))
    except (SweepError, MedrecError) as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", ESCAPES)
def test_no_document_of_published_numbers_lies_elsewhere(name):
    with pytest.raises(StudyError):
        read_document(name)


# ------------------------------------------------------------------ names in results directories


@pytest.mark.parametrize("key", ["../../x", "/etc", "A" * 16, "a" * 15, "a" * 17, "a" * 16 + "\n"])
def test_a_key_in_a_study_record_that_is_none_is_refused(tmp_path, key):
    record = fabricate(tmp_path)
    content = json.loads(record.model_dump_json())
    content["arms"][0]["trials"]["0"] = key
    (tmp_path / "study.json").write_text(json.dumps(content))
    for read in (study_status, lambda root: gather(ResultsStore(root))):
        with pytest.raises(StoreError, match=r"arms\.0\.trials\.0"):
            read(tmp_path)


def test_a_search_name_in_a_study_record_that_leads_elsewhere_is_refused(tmp_path):
    record = fabricate(tmp_path)
    content = json.loads(record.model_dump_json())
    content["searches"][0]["name"] = "../../x"
    (tmp_path / "study.json").write_text(json.dumps(content))
    with pytest.raises(StoreError, match=r"searches\.0\.name"):
        study_status(tmp_path)


def test_a_suggestion_whose_key_leads_elsewhere_is_left_out(tmp_path):
    """A whole trial of another study, pointed at, is not read."""
    fabricate(tmp_path / "secret")
    key = ResultsStore(tmp_path / "secret").trial_keys()[0]
    root = tmp_path / "study"
    fabricate(root)
    store = ResultsStore(root)
    pointer = f"../../secret/trials/{key}"
    note = json.loads((root / "searches/tune/00000.json").read_text())
    store.write_text("searches/tune/00000.json", json.dumps({**note, "key": pointer}))
    assert pointer not in {record["key"] for record in store.search_records("tune")}
    found = gather(store)
    assert pointer not in found.searched
    assert study_status(root).searches[0].states["complete"] == 2


@pytest.mark.slow
def test_links_in_a_results_directory_lead_nowhere(planted, tmp_path):
    """What lies outside is neither changed nor deleted, whatever a directory links to."""
    out, study = planted
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept.txt").write_text("kept")
    record = ResultsStore(out).study()
    key = next(iter(record.arms[1].trials.values()))
    subprocess.run(["mv", out / "trials" / key, outside / key], check=True)
    before = {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()}
    for name in (f"trials/{key}", f"running/{key}", f"tensorboard/{key}", "tables", "figures",
                 "failed", "sessions", "rehearsals", "damaged", "superseded",
                 "searches/tune"):  # fmt: skip
        place = out / name
        if place.is_dir():
            subprocess.run(["rm", "-r", place], check=True)
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(outside / key if name.startswith("trials") else outside)
        everything(out, study, tmp_path)
        after = {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()}
        assert after == before, name
        place.unlink()


def test_notes_under_other_names_are_no_sessions(tmp_path):
    store = ResultsStore(tmp_path)
    for name in ("..", "a b", "00001-20260301T000000Z-abcdef0g"):
        store.write_text(f"sessions/{name}.json", "{}")
    assert sessions(store) == []


# ------------------------------------------------------------------ Ray's token

HOLD = """
import sys
import ray
from cluster.connection import connected
with connected(None, 1):
    print(ray.get_runtime_context().gcs_address, flush=True)
    sys.stdin.read()
"""
JOIN = """
import logging, sys
import ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level=logging.ERROR)
print("joined", ray.cluster_resources().get("CPU"))
"""


@pytest.mark.slow
def test_a_client_without_the_token_is_refused(tmp_path):
    """The Ray instance that a study starts asks for its token, and listens on loopback alone."""
    homes = {name: tmp_path / name for name in ("ours", "theirs")}
    for home in homes.values():
        home.mkdir()
    clean = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}

    def python(code: str, home: Path, *arguments: str, **further: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            # Without the variable Ray's clients take a loopback address for the machine's other.
            env={**clean, "HOME": str(home), "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", **further},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    holder = python(HOLD, homes["ours"])
    try:
        address = holder.stdout.readline().strip()
        assert address.startswith("127.0.0.1:"), address
        # A port that is open to others would be one that a token alone has to guard.
        ours = [psutil.Process(holder.pid), *psutil.Process(holder.pid).children(recursive=True)]
        ports = [
            c.laddr.ip for p in ours for c in p.net_connections("tcp") if c.status == "LISTEN"
        ]
        assert len(ports) > 3
        assert {ip.removeprefix("::ffff:") for ip in ports} == {"127.0.0.1"}
        wrong = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "wrong" * 8}
        for further in ({}, wrong, {"RAY_AUTH_MODE": "disabled"}):
            client = python(JOIN, homes["theirs"], address, **further)
            try:
                text, error = client.communicate(timeout=120)
            except subprocess.TimeoutExpired:
                client.kill()
                text, error = client.communicate()
            assert client.returncode != 0, further
            assert "joined" not in text
            assert "oken" in error or "nauthenticated" in error.lower(), error[-2000:]
        friend = python(JOIN, homes["ours"], address, RAY_AUTH_MODE="token")
        text, error = friend.communicate(timeout=120)
        assert "joined 1" in text, error[-2000:]
    finally:
        holder.stdin.close()
        try:
            holder.wait(timeout=60)
        except subprocess.TimeoutExpired:
            holder.kill()
            holder.wait()
        holder.stdout.close()
        holder.stderr.close()
