"""`run_study`: whatever of a study is missing, and nothing that is stored."""

import contextlib
import fcntl
import json
import math

import pytest

from cluster.nodes import Node
from medrec import trial
from medrec.cohort import Cohort
from sweeps.engine import EngineOptions
from sweeps.errors import BusyError, StoreError, StudyError, TrialsFailedError
from sweeps.run import run_study
from sweeps.store import ResultsStore
from tests.sweeps import tiny


def run(root, out=None, executor="inline", **changes):
    study = tiny.study(root, **changes)
    return run_study(study, out or root / "out", tiny.quiet(), EngineOptions(executor))


@pytest.fixture
def ran(tmp_path):
    run(tmp_path)
    return ResultsStore(tmp_path / "out")


def keys(record) -> set[str]:
    return {key for arm in record.arms for key in arm.trials.values()}


def test_a_study_runs_from_end_to_end(tmp_path):
    record = run(tmp_path, searches=[{**tiny.SEARCH, "trials": 3}])
    store = ResultsStore(tmp_path / "out")
    assert store.study() == record.without_places()
    assert keys(record) <= set(store.trial_keys())
    assert len(store.trial_keys()) == 3 + 3
    states = [r["state"] for r in store.read_all("searches/tune").values()]
    assert states == ["complete"] * 3
    for key in store.trial_keys():
        store.check(key)
        assert (store.root / "tensorboard" / key).is_dir()


def test_running_it_again_does_nothing(tmp_path, ran, capsys):
    before = tiny.trial_files(ran.root)
    assert run(tmp_path) == ran.study()
    assert tiny.trial_files(ran.root) == before


def test_a_new_arm_is_all_that_runs(tmp_path, ran):
    before = tiny.trial_files(ran.root)
    record = run(tmp_path, arms=[*tiny.STUDY["arms"], {"model": "copy_previous"}])
    after = tiny.trial_files(ran.root)
    assert before.items() <= after.items()
    new = {name.split("/")[1] for name in set(after) - set(before)}
    assert new == set(record.arms[2].trials.values())


def test_a_changed_setting_is_a_new_trial_and_the_old_one_stays(tmp_path, ran):
    old = set(ran.trial_keys())
    run(tmp_path, training={"epochs": 1})
    assert old < set(ran.trial_keys())


def test_another_cohort_in_the_same_directory_is_refused(tmp_path, ran):
    before = (ran.root / "study.json").read_bytes()
    other = {"dataset": "synthetic", "options": {"patients": 60, "seed": 9}}
    with pytest.raises(StoreError, match="results on cohort"):
        run(tmp_path, cohort=other)
    assert (ran.root / "study.json").read_bytes() == before


def test_another_study_in_the_same_directory_is_refused(tmp_path, ran):
    with pytest.raises(StoreError, match="holds the study 'tiny', not 'other'"):
        run(tmp_path, name="other")


def test_a_search_with_another_objective_is_refused(tmp_path):
    search = {**tiny.SEARCH, "trials": 1}
    run(tmp_path, searches=[search])
    with pytest.raises(StoreError, match="another name"):
        run(tmp_path, searches=[{**search, "objective": "f1"}])


def test_one_driver_at_a_time(tmp_path, ran):
    with (ran.root / ".lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match="Another medsweep run"):
            run(tmp_path)
    run(tmp_path)


def test_a_file_in_place_of_the_directory_is_refused(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(StoreError, match="Choose another --out"):
        run(tmp_path)
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize("file", ["predictions.parquet", "manifest.json", "trial.json"])
@pytest.mark.parametrize("harm", ["cut", "missing"])
def test_a_damaged_trial_is_set_aside_and_computed_again(tmp_path, ran, file, harm):
    key = ran.study().arms[1].trials["0"]
    before = {n: v for n, v in tiny.trial_files(ran.root).items() if key not in n}
    good = ran.load(key).predictions.scores
    path = ran.root / "trials" / key / file
    path.write_bytes(path.read_bytes()[:20]) if harm == "cut" else path.unlink()
    run(tmp_path)
    after = tiny.trial_files(ran.root)
    assert before.items() <= after.items()
    assert (ran.load(key).predictions.scores == good).all()
    assert [p.name.split("-")[0] for p in (ran.root / "damaged").iterdir()] == [key]


def spoil(monkeypatch, seed: int) -> None:
    """Makes the loss of one seed's trials NaN."""
    real = trial.run

    def run_or_fail(spec, report, **options):
        if spec.seed == seed:
            raise trial_error(math.nan)
        return real(spec, report, **options)

    monkeypatch.setattr(trial, "run", run_or_fail)


def trial_error(loss: float) -> Exception:
    from medrec.errors import NonFiniteLossError

    return NonFiniteLossError(f"The loss of epoch 1 is {loss}.")


def test_a_trial_that_fails_ends_in_an_error_that_names_it_and_the_rest_is_stored(
    tmp_path, monkeypatch
):
    spoil(monkeypatch, seed=1)
    with pytest.raises(TrialsFailedError) as caught:
        run(tmp_path)
    assert "1 trials failed" in str(caught.value)
    assert "gamenet seed 1: The loss of epoch 1 is nan." in str(caught.value)
    store = ResultsStore(tmp_path / "out")
    assert len(store.trial_keys()) == 2
    monkeypatch.undo()
    before = tiny.trial_files(store.root)
    run(tmp_path)  # the cause is mended
    assert before.items() <= tiny.trial_files(store.root).items()
    assert len(store.trial_keys()) == 3
    assert store.failures() == {}


def test_a_store_error_ends_the_study_at_once(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "trials").write_text("a file where the folder should be")
    started = []
    real = trial.run
    monkeypatch.setattr(trial, "run", lambda s, *a, **k: started.append(s) or real(s, *a, **k))
    with pytest.raises(StoreError, match="Cannot write"):
        run(tmp_path)
    assert len(started) == 1


def test_study_json_is_there_before_the_first_trial(tmp_path, monkeypatch):
    class StopHere(BaseException):
        pass

    def stop(*arguments, **options):
        raise StopHere

    monkeypatch.setattr(trial, "run", stop)
    with pytest.raises(StopHere):
        run(tmp_path)
    assert json.loads((tmp_path / "out/study.json").read_text())["name"] == "tiny"


def test_more_than_the_machine_has_is_refused_before_anything_starts(tmp_path, monkeypatch):
    there = Node("a", True, cpus=2.0, cpus_used=0.0, gpus=0.0, gpus_used=0.0, memory=4.0)
    monkeypatch.setattr("cluster.connection.connected", lambda *a: contextlib.nullcontext())
    monkeypatch.setattr("cluster.nodes.nodes", lambda: (there,))
    for field, amount in (("cpus", 64), ("gpus", 1), ("memory", 5), ("workers", 3)):
        with pytest.raises(StudyError, match=rf"resources\.{field}.*could never start"):
            run(tmp_path, resources={field: amount}, executor="ray")


def test_an_emptied_study_file_is_written_anew(tmp_path):
    record = run(tmp_path)
    (tmp_path / "out/study.json").write_text("")
    assert run(tmp_path) == record
    assert ResultsStore(tmp_path / "out").study() == record.without_places()


def test_a_folder_of_other_things_is_not_filled_with_results(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.tex").write_text("mine")
    with pytest.raises(StoreError, match=r"other things \(thesis\.tex\)"):
        run(tmp_path)


def test_a_damaged_made_cohort_is_made_again(tmp_path):
    run(tmp_path)
    damaged = tmp_path / "out/cohort/visits.arrow"
    damaged.unlink()  # this process has the old file mapped
    damaged.write_bytes(b"no arrow")
    run(tmp_path, seeds=[0, 1, 2])
    assert Cohort.open(tmp_path / "out/cohort")
