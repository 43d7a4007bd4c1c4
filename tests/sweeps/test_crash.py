"""A driver killed at any moment: the same command goes on, loses nothing, runs nothing twice."""

import os
import signal
import time

import numpy as np
import pytest

from sweeps.store import ResultsStore
from tests.sweeps import tiny

LONG = {"epochs": 40}


def kill(child) -> None:
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=30)
    assert child.returncode == -signal.SIGKILL


def finish(*arguments) -> None:
    found = tiny.medsweep(*arguments, timeout=300)
    assert found.returncode == 0, found.stdout + found.stderr


def kept(before: dict, after: dict) -> None:
    """Every finished trial is there, and was not touched."""
    whole = {name.split("/")[1] for name in before if name.endswith("manifest.json")}
    whole = {key for key in whole if not key.startswith(".")}
    for name, stamp in before.items():
        if name.split("/")[1] in whole:
            assert after[name] == stamp


def test_a_trial_killed_between_epochs_goes_on_from_its_checkpoint_to_the_same_bits(tmp_path):
    arms = [{"model": "most_popular"}, {"model": "gamenet", "config": {"dim": 8}}]
    study = tiny.write_study(tmp_path, seeds=[0], training=LONG, arms=arms)
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "killed"
    options = ("--executor", "inline", "--out")
    finish("run", study, *options, undisturbed)
    child = tiny.start("inline", "run", study, *options, out)
    tiny.wait_for(lambda: list(out.glob("running/*/checkpoint.safetensors")))
    time.sleep(0.3)
    kill(child)
    store, expected = ResultsStore(out), ResultsStore(undisturbed)
    key = store.study().arms[1].trials["0"]
    assert not store.has(key)
    checkpoint = out / "running" / key / "checkpoint.safetensors"
    from medrec.checkpoint import load_checkpoint

    done, _ = load_checkpoint(checkpoint, key)
    assert 1 <= done.epoch < LONG["epochs"]
    before = tiny.trial_files(out)
    finish("run", study, *options, out)
    kept(before, tiny.trial_files(out))
    tiny.same_result(store, expected, key)
    resumed = store.history(key)["seconds"][: done.epoch]
    assert resumed == [row["seconds"] for row in done.history]  # these epochs did not run again
    assert tiny.table_bytes(out) == tiny.table_bytes(undisturbed)


@pytest.mark.slow
def test_an_inline_search_killed_twice_ends_as_if_undisturbed(tmp_path):
    search = {**tiny.SEARCH, "trials": 6, "training": {"epochs": 8}}
    study = tiny.write_study(tmp_path, seeds=[0], searches=[search])
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "killed"
    options = ("--executor", "inline", "--out")
    finish("run", study, *options, undisturbed)
    for number in (1, 4):
        child = tiny.start("search", "run", study, *options, out)
        tiny.wait_for((out / f"searches/tune/{number:05d}.json").exists)
        kill(child)
    before = tiny.trial_files(out)
    finish("run", study, *options, out)
    kept(before, tiny.trial_files(out))
    assert ResultsStore(out).read_all("searches/tune") == ResultsStore(undisturbed).read_all(
        "searches/tune"
    )
    assert tiny.table_bytes(out) == tiny.table_bytes(undisturbed)


@pytest.mark.skipif(
    signal.getsignal(signal.SIGINT) == signal.SIG_IGN,
    reason="Ctrl-C is ignored here, as in what a shell starts in the background",
)
def test_ctrl_c_says_how_to_go_on_and_records_no_failure(tmp_path):
    study = tiny.write_study(tmp_path, training={"epochs": 2000})
    out = tmp_path / "out"
    child = tiny.start("ctrl-c", "run", study, "--executor", "inline", "--out", out)
    tiny.wait_for(lambda: list(out.glob("running/*/checkpoint.safetensors")))
    child.send_signal(signal.SIGINT)
    try:
        output = child.communicate(timeout=30)[0]
    finally:
        child.kill()
    assert child.returncode == 130
    assert "Run the same command again" in output
    assert "Traceback" not in output
    assert ResultsStore(out).failures() == {}


# ------------------------------------------------------------------ with Ray


SWEEP = {
    "seeds": [0, 1, 2],
    "training": {"epochs": 8},
    "arms": [
        {"model": "most_popular"},
        {"model": "gamenet", "config": {"dim": 8}, "ablations": ["no_memory"]},
    ],
    "searches": [
        {**tiny.SEARCH, "trials": 5, "concurrent": 1, "config": {"dim": 8},
         "space": {"dropout": {}, "training.learning_rate": {}}},
    ],
}  # fmt: skip


@pytest.mark.slow
def test_a_driver_of_ray_killed_at_random_moments_loses_nothing(tmp_path):
    study = tiny.write_study(tmp_path, **SWEEP)
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "killed"
    finish("run", study, "--executor", "inline", "--out", undisturbed)
    rng = np.random.default_rng(5)
    before: dict = {}
    for attempt, stored in enumerate((1, 4, 8)):  # in the plan, late in it, in the search
        tag = f"crash-{os.getpid()}-{attempt}"
        child = tiny.start(tag, "run", study, "--cpus", 2, "--out", out)
        tiny.wait_for(lambda n=stored: len(ResultsStore(out).trial_keys()) >= n, 120)
        time.sleep(rng.uniform(0, 0.3))
        kill(child)
        tiny.wait_until_gone(tag)
        kept(before, tiny.trial_files(out))
        before = tiny.trial_files(out)
    finish("run", study, "--cpus", 2, "--out", out)
    after = tiny.trial_files(out)
    kept(before, after)
    store, expected = ResultsStore(out), ResultsStore(undisturbed)
    assert store.trial_keys() == expected.trial_keys()
    for key in store.trial_keys():
        tiny.same_result(store, expected, key)
    assert store.read_all("searches/tune") == expected.read_all("searches/tune")
    assert tiny.table_bytes(out) == tiny.table_bytes(undisturbed)


@pytest.mark.slow
def test_ctrl_c_ends_ray_records_no_failure_and_leaves_nothing_running(tmp_path):
    study = tiny.write_study(tmp_path, training={"epochs": 100_000})
    out, tag = tmp_path / "out", f"ctrl-c-{os.getpid()}"
    child = tiny.start(tag, "run", study, "--cpus", 2, "--out", out)
    tiny.wait_for(lambda: list(out.glob("running/*/checkpoint.safetensors")), 120)
    child.send_signal(signal.SIGINT)
    output = child.communicate(timeout=90)[0]
    assert child.returncode == 130, output
    assert "Traceback" not in output
    assert ResultsStore(out).failures() == {}
    tiny.wait_until_gone(tag)
