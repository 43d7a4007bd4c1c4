"""One trial in one process: stored, or failed with a reason; a full disk stops the study."""

import errno
import json

import pytest

from medrec import trial
from medrec.errors import MedrecError
from medrec.spec import Resources
from sweeps.errors import StoreError
from sweeps.plan import make_plan
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
    assert run_trial(spec, tmp_path, reported.append) is None
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
    run_trial(spec, tmp_path, lambda row: stored.append(ResultsStore(tmp_path).has(spec.key)))
    assert stored == [False, True]


def test_a_stored_key_is_not_run_again(specs, tmp_path):
    spec = specs["most_popular 0"]
    run_trial(spec, tmp_path, lambda row: None)
    before = tiny.trial_files(tmp_path)
    assert run_trial(spec, tmp_path, lambda row: pytest.fail("it ran")) is None
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
    reason = run_trial(spec, tmp_path, lambda row: None)
    assert "loss of epoch 1 is nan" in reason
    assert "training.learning_rate" in reason
    note = json.loads((tmp_path / "failed" / f"{spec.key}.json").read_text())
    assert note == {"reason": reason, "attempts": 1}
    monkeypatch.undo()
    assert run_trial(specs["gamenet 1"], tmp_path, lambda row: None) is None  # the next goes on


def test_a_setting_that_cannot_work_here_fails_with_its_reason(specs, tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    spec = specs["gamenet 0"].model_copy(update={"resources": Resources(gpus=1)})
    assert "resources.gpus" in run_trial(spec, tmp_path, lambda row: None)
    assert spec.key in ResultsStore(tmp_path).failures()


def test_another_cohort_than_planned_fails(specs, tmp_path):
    wrong = specs["gamenet 0"].cohort.model_copy(update={"fingerprint": "0" * 64})
    spec = specs["gamenet 0"].model_copy(update={"cohort": wrong})
    assert "fingerprint" in run_trial(spec, tmp_path, lambda row: None)


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), MedrecError("wrong")])
def test_any_other_error_fails_the_trial_alone(specs, tmp_path, monkeypatch, error):
    def broken(*arguments, **options):
        raise error

    monkeypatch.setattr(trial, "run", broken)
    assert str(error) in run_trial(specs["gamenet 0"], tmp_path, lambda row: None)
    monkeypatch.undo()
    assert run_trial(specs["gamenet 0"], tmp_path, lambda row: None) is None
    assert ResultsStore(tmp_path).failures() == {}  # done now


def test_a_directory_that_cannot_be_written_stops_the_study(specs, tmp_path):
    (tmp_path / "trials").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match="Cannot write"):
        run_trial(specs["most_popular 0"], tmp_path, lambda row: None)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_disk_that_fills_up_during_training_stops_the_study(specs, tmp_path, monkeypatch, code):
    def full(*arguments, **options):
        raise OSError(code, "no room")

    monkeypatch.setattr(trial, "run", full)
    with pytest.raises(StoreError, match="no room"):
        run_trial(specs["gamenet 0"], tmp_path, lambda row: None)
    assert ResultsStore(tmp_path).failures() == {}
