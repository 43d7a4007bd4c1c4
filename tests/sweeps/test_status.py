"""`medsweep status` counts what is there and what is missing."""

import pytest

from sweeps.errors import StoreError
from sweeps.status import study_status
from sweeps.store import ResultsStore
from tests.sweeps import tiny
from tests.sweeps.fabricate import fabricate


@pytest.fixture
def root(tmp_path):
    fabricate(tmp_path)
    return tmp_path


def counts(root, arm: str) -> tuple[int, int, int, int]:
    found = next(a for a in study_status(root).arms if a.name == arm)
    return found.stored, found.running, found.failed, found.missing


def test_every_trial_of_an_arm_is_in_one_state(root):
    store = ResultsStore(root)
    trials = store.study().arms[1].trials
    store.set_aside(trials["0"])
    assert counts(root, "gamenet") == (2, 0, 0, 1)
    checkpoint = root / "running" / trials["0"] / "checkpoint.safetensors"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    assert counts(root, "gamenet") == (2, 1, 0, 0)
    store.record_failure(trials["0"], "The loss became NaN.")
    assert counts(root, "gamenet") == (2, 0, 1, 0)
    assert study_status(root).failures == {trials["0"]: "The loss became NaN."}
    assert not study_status(root).complete


def test_searches_are_counted_by_state(root):
    found = {s.name: (s.asked, s.states) for s in study_status(root).searches}
    states = {"complete": 3, "failed": 1, "pruned": 1, "running": 1}
    assert found == {"tune": (6, states), "pareto": (6, states)}


def test_a_study_is_complete_when_its_arms_and_searches_ended(tmp_path):
    record = fabricate(tmp_path)
    assert not study_status(tmp_path).complete  # one suggestion of each search still runs
    store = ResultsStore(tmp_path)
    alone = record.model_copy(update={"searches": ()})
    store.write_study(alone)
    assert study_status(tmp_path).complete
    asked = record.searches[0].model_copy(update={"trials": 5})
    for name in ("tune", "pareto"):
        (tmp_path / f"searches/{name}/00005.json").unlink()
    store.write_study(record.model_copy(update={"searches": (asked,)}))
    assert study_status(tmp_path).complete


def test_a_search_that_has_not_asked_for_all_its_trials_is_incomplete(tmp_path):
    record = fabricate(tmp_path)
    for path in (tmp_path / "searches/tune").glob("*.json"):
        path.unlink()
    ResultsStore(tmp_path).write_study(record.model_copy(update={"searches": record.searches[:1]}))
    assert not study_status(tmp_path).complete


def test_a_directory_without_study_is_refused(tmp_path):
    with pytest.raises(StoreError, match="holds no study"):
        study_status(tmp_path / "none")


def test_reading_the_status_writes_nothing(root):
    before = tiny.trial_files(root)
    study_status(root)
    assert tiny.trial_files(root) == before
