"""What a study has spent, over restarts and kills, and when that is all it may spend."""

import io
import json

import pytest
from rich.console import Console

from medrec.spec import Resources
from sweeps import budgets
from sweeps.budgets import Spent, over, spent, told
from sweeps.progress import Progress
from sweeps.session import Session
from sweeps.session_notes import sessions
from sweeps.store import ResultsStore
from sweeps.study import RunBudget
from tests.sweeps import tiny
from tests.sweeps.fabricate import fabricate

HOUR = 3600.0


@pytest.fixture
def store(tmp_path):
    return ResultsStore(tmp_path)


class Driver:
    """A driver whose clock is ours."""

    def __init__(self, store, monkeypatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("sweeps.session.time.monotonic", lambda: self.now)
        self.progress = Progress(99, 0, {}, Console(file=io.StringIO()))
        self.session = Session(store, self.progress, "inline", every=1e6)
        self.session.__enter__()

    def run(self, spec, hours: float, state="complete") -> None:
        self.progress.start(spec.key, spec)
        self.now += hours * HOUR
        self.progress.finish(spec.key, state, "why" if state == "failed" else None)

    def beat(self) -> None:
        self.session._write(None)

    def end(self) -> None:
        self.session.__exit__(None, None, None)


def on_gpus(seed: int, gpus: float, workers: int = 1):
    return tiny.spec(seed, resources=Resources(gpus=gpus, workers=workers))


def test_nothing_was_spent_on_an_empty_directory(store):
    assert spent(store) == Spent(trials=0, hours=0, gpu_hours=0)


def test_hours_and_gpu_hours_add_up_over_drivers_whatever_became_of_their_trials(
    store, monkeypatch
):
    first = Driver(store, monkeypatch)
    first.run(on_gpus(0, 0.5), 2)
    first.run(on_gpus(1, 1, workers=4), 1, "failed")
    first.run(on_gpus(2, 1), 1, "pruned")
    first.end()
    found = spent(store)
    assert (found.hours, found.gpu_hours) == (4, 0.5 * 2 + 4 + 1)
    second = Driver(store, monkeypatch)
    second.run(on_gpus(1, 1, workers=4), 3, "interrupted")
    assert second.session.spent().gpu_hours == 6 + 12
    second.end()
    found = spent(store)
    assert (found.hours, found.gpu_hours) == (7, 18)


def test_a_killed_driver_loses_the_time_since_its_last_beat_and_no_more(store, monkeypatch):
    killed = Driver(store, monkeypatch)
    killed.run(on_gpus(0, 1), 1)
    trial = on_gpus(1, 1)
    killed.progress.start(trial.key, trial)
    killed.now += 2 * HOUR
    killed.beat()  # with the trial still running
    killed.now += 0.5 * HOUR  # never told
    found = spent(store)
    assert (found.hours, found.gpu_hours) == (3, 3)
    after = Driver(store, monkeypatch)
    assert after.session.spent() == found
    after.run(trial, 1)
    after.end()
    assert (spent(store).hours, spent(store).gpu_hours) == (4, 4)


def test_a_lost_note_in_the_middle_loses_nothing(store, monkeypatch):
    for seed in range(3):
        driver = Driver(store, monkeypatch)
        driver.run(on_gpus(seed, 1), 1)
        driver.end()
    before = spent(store)
    middle = sessions(store)[1].id
    (store.root / "sessions" / f"{middle}.json").write_text("{")
    assert spent(store) == before


def test_trials_are_those_stored_and_those_that_searches_ended(tmp_path):
    record = fabricate(tmp_path)
    store = ResultsStore(tmp_path)
    stored = len(store.trial_keys())
    # Five suggestions ended; both searches have the same keys, and none of them is stored.
    assert spent(store).trials == stored + 5
    assert record.searches


def test_results_of_drivers_that_left_no_notes_count_by_what_trials_tell(store):
    trial = on_gpus(0, 1, workers=2)
    summary = {
        "spec": trial.model_dump(mode="json"),
        "seconds": {"wall": 1800.0, "training": 10.0, "resumed": 1800.0},
        "failed_attempts": {"attempts": 1, "seconds": 900.0},
    }
    store.save(trial.key, summary, tiny.rows(3, 0.4), tiny.predictions(), b"weights")
    found = spent(store)
    assert (found.trials, found.hours) == (1, 0)
    assert found.gpu_hours == pytest.approx(2 * 1.25)


def test_a_trial_that_says_nothing_of_workers_had_one():
    old = {"spec": {"resources": {"cpus": 2, "gpus": 0.5}}}
    assert budgets.gpus_of(old) == 0.5
    assert budgets.gpus_of({}) == 0.0


@pytest.mark.parametrize(
    ("limit", "used", "words"),
    [
        ({"max_trials": 3}, {"trials": 3}, "budget.max_trials: 3 of 3 trials are spent"),
        ({"max_hours": 2}, {"hours": 2.5}, "budget.max_hours: 2.5 of 2 hours are spent"),
        (
            {"max_gpu_hours": 1.5},
            {"gpu_hours": 1.5001},
            "budget.max_gpu_hours: 1.5 of 1.5 GPU hours",
        ),
    ],
)
def test_a_limit_that_is_reached_is_told_with_its_remedy(limit, used, words):
    budget = RunBudget(**limit)
    assert over(budget, Spent()) is None
    sentence = over(budget, Spent(**used))
    assert sentence.startswith(words)
    assert "raise the limit and run the same command" in sentence


def test_without_limits_nothing_is_over():
    much = Spent(trials=10**6, hours=1e6, gpu_hours=1e6)
    assert over(RunBudget(), much) is None
    assert told(RunBudget(), much) == ""


def test_only_what_has_a_limit_is_told():
    budget = RunBudget(max_trials=10, max_hours=5)
    assert told(budget, Spent(trials=7, hours=0.25)) == "7 of 10 trials, 0.25 of 5 hours"


def test_the_limits_are_kept_with_the_driver(store, monkeypatch):
    with Session(store, Progress(1, 0, {}, Console(file=io.StringIO())), "inline",
                 RunBudget(max_gpu_hours=2)) as session:  # fmt: skip
        content = json.loads((store.root / "sessions" / f"{session.id}.json").read_text())
    assert content["budget"] == {"max_trials": None, "max_hours": None, "max_gpu_hours": 2.0}
