"""One trial in one process: stored, or failed with a reason; a full disk stops the study."""

import errno
import getpass
import json
import os
import platform
import time
from datetime import datetime
from pathlib import Path

import pytest

from medrec import trial
from medrec.errors import MedrecError
from medrec.spec import Resources
from sweeps.errors import StoreError
from sweeps.plan import make_plan
from sweeps.provenance import code_digest
from sweeps.store import ResultsStore
from sweeps.worker import run_trial
from tests.sweeps import tiny


@pytest.fixture(scope="module")
def specs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    data = tiny.data()
    data.cohort.save(folder)
    trials = make_plan(tiny.study(folder), data).trials.values()
    here = [s.model_copy(update={"cohort": s.cohort.model_copy(update={"path": str(folder)})})
            for s in trials]  # fmt: skip
    return {f"{s.model} {s.seed}": s for s in here}


def test_a_trial_is_stored_with_its_history_and_reports_every_epoch(specs, tmp_path):
    spec, reported = specs["gamenet 0"], []
    assert run_trial(spec, ResultsStore(tmp_path), reported.append) is None
    store = ResultsStore(tmp_path)
    found = store.load(spec.key)
    assert [row["epoch"] for row in reported] == [1, 2] == found.history["epoch"]
    assert [row["loss"] for row in reported] == found.history["loss"]
    best = max(found.history["jaccard"])
    assert found.summary["validation"]["jaccard"] == best
    assert found.history["jaccard"][found.summary["best_epoch"] - 1] == best
    assert found.summary["spec"]["cohort"]["path"] == ""
    assert not (tmp_path / "running" / spec.key).exists()


def test_the_last_epoch_is_reported_after_the_trial_is_stored(specs, tmp_path):
    spec, stored = specs["gamenet 0"], []
    store = ResultsStore(tmp_path)
    run_trial(spec, store, lambda row: stored.append(store.has(spec.key)))
    assert stored == [False, True]


def test_a_stored_key_is_not_run_again(specs, tmp_path):
    spec = specs["most_popular 0"]
    run_trial(spec, ResultsStore(tmp_path), lambda row: None)
    before = tiny.trial_files(tmp_path)
    assert run_trial(spec, ResultsStore(tmp_path), lambda row: pytest.fail("it ran")) is None
    assert tiny.trial_files(tmp_path) == before


def test_a_loss_that_is_not_finite_fails_with_its_reason(specs, tmp_path, monkeypatch):
    spec = specs["gamenet 0"]
    model = trial.plugins.load("medrec.models", "gamenet", "MODEL")
    built = model.build

    def spoiled(config, knowledge):
        network = built(config, knowledge)
        next(network.parameters()).data.fill_(float("nan"))
        return network

    monkeypatch.setattr(
        trial.plugins, "load", lambda *a: type(model)(**{**vars(model), "build": spoiled})
    )
    reason = run_trial(spec, ResultsStore(tmp_path), lambda row: None)
    assert "loss of epoch 1 is nan" in reason
    assert "training.learning_rate" in reason
    note = json.loads((tmp_path / "failed" / f"{spec.key}.json").read_text())
    assert note == {"reason": reason, "attempts": 1, "seconds": note["seconds"]}
    assert note["seconds"] > 0
    monkeypatch.undo()
    store = ResultsStore(tmp_path)
    assert run_trial(specs["gamenet 1"], store, lambda row: None) is None  # the next goes on


def test_a_setting_that_cannot_work_here_fails_with_its_reason(specs, tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    spec = specs["gamenet 0"].model_copy(update={"resources": Resources(gpus=1)})
    assert "resources.gpus" in run_trial(spec, ResultsStore(tmp_path), lambda row: None)
    assert spec.key in ResultsStore(tmp_path).failures()


def test_another_cohort_than_planned_fails(specs, tmp_path):
    wrong = specs["gamenet 0"].cohort.model_copy(update={"fingerprint": "0" * 64})
    spec = specs["gamenet 0"].model_copy(update={"cohort": wrong})
    assert "fingerprint" in run_trial(spec, ResultsStore(tmp_path), lambda row: None)


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), MedrecError("wrong")])
def test_any_other_error_fails_the_trial_alone(specs, tmp_path, monkeypatch, error):
    def broken(*arguments, **options):
        raise error

    monkeypatch.setattr(trial, "run", broken)
    assert str(error) in run_trial(specs["gamenet 0"], ResultsStore(tmp_path), lambda row: None)
    monkeypatch.undo()
    assert run_trial(specs["gamenet 0"], ResultsStore(tmp_path), lambda row: None) is None
    assert ResultsStore(tmp_path).failures() == {}  # done now


def test_a_directory_that_cannot_be_written_stops_the_study(specs, tmp_path):
    (tmp_path / "trials").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match="Cannot write"):
        run_trial(specs["most_popular 0"], ResultsStore(tmp_path), lambda row: None)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_disk_that_fills_up_during_training_stops_the_study(specs, tmp_path, monkeypatch, code):
    def full(*arguments, **options):
        raise OSError(code, "no room")

    monkeypatch.setattr(trial, "run", full)
    with pytest.raises(StoreError, match="no room"):
        run_trial(specs["gamenet 0"], ResultsStore(tmp_path), lambda row: None)
    assert ResultsStore(tmp_path).failures() == {}


def test_a_stored_trial_says_what_made_it_and_when(specs, tmp_path):
    run_trial(specs["gamenet 0"], ResultsStore(tmp_path), lambda row: None)
    found = ResultsStore(tmp_path).summary(specs["gamenet 0"].key)
    assert found["environment"]["code"] == code_digest("gamenet")
    assert int(found["environment"]["cores"]) == os.cpu_count()
    times = [datetime.strptime(found[name], "%Y-%m-%dT%H:%M:%SZ") for name in ("started", "ended")]
    assert times[0] <= times[1]
    assert found["seconds"]["resumed"] == 0
    assert "failed_attempts" not in found
    private = {platform.node(), getpass.getuser(), str(Path.home()), str(tmp_path)}
    texts = {value for value in found["environment"].values() if len(value) > 1}
    assert not [(a, b) for a in private for b in texts if len(a) > 2 and a in b]


def test_failed_attempts_stay_with_the_trial_that_succeeds_and_saved_epochs_count_once(
    specs, tmp_path
):
    spec, store, rows = specs["gamenet 1"], ResultsStore(tmp_path), []

    def fail(row):
        rows.append(row)
        raise RuntimeError("the first epoch was saved already")

    began = time.perf_counter()
    assert "the first epoch was saved" in run_trial(spec, ResultsStore(tmp_path), fail)
    first = time.perf_counter() - began
    note = store.failures()[spec.key]
    assert note["attempts"] == 1
    saved = rows[0]["seconds"]  # of the epoch that the second attempt goes on from
    assert 0 <= note["seconds"] <= first - saved

    wrong = spec.model_copy(
        update={"cohort": spec.cohort.model_copy(update={"path": str(tmp_path / "none")})}
    )
    assert wrong.key == spec.key
    assert "no cohort.json" in run_trial(wrong, ResultsStore(tmp_path), lambda row: None)
    twice = store.failures()[spec.key]
    assert twice["attempts"] == 2
    assert twice["seconds"] >= note["seconds"]

    assert run_trial(spec, ResultsStore(tmp_path), lambda row: None) is None
    found = store.summary(spec.key)
    assert found["failed_attempts"] == {"attempts": 2, "seconds": twice["seconds"]}
    assert found["seconds"]["resumed"] == saved
    assert found["seconds"]["training"] == pytest.approx(sum(store.history(spec.key)["seconds"]))
    assert store.failures() == {}
    assert not (tmp_path / "failed" / f"{spec.key}.json").exists()


def test_a_note_of_a_failure_by_an_older_version_is_added_to(tmp_path):
    store = ResultsStore(tmp_path)
    store.write_text("failed/" + "a" * 16 + ".json", '{"reason": "old", "attempts": 3}')
    store.record_failure("a" * 16, "new", 2.5)
    assert store.failures() == {"a" * 16: {"reason": "new", "attempts": 4, "seconds": 2.5}}
