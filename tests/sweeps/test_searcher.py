"""What Tune is told and tells: trials given back, ends told twice, limits kept."""

import pytest

from medrec.spec import TrialSpec
from sweeps.gate import Gate
from sweeps.job import Job
from sweeps.progress import Progress
from sweeps.store import ResultsStore
from sweeps.study import RunBudget
from sweeps.suggestions import PlanQueue
from tests.sweeps import tiny

ray = pytest.importorskip("ray")
from sweeps.searcher import INTERRUPTED, LOSSES, StoreSearcher  # noqa: E402

FINISHED = StoreSearcher.FINISHED


@pytest.fixture
def store(tmp_path) -> ResultsStore:
    return ResultsStore(tmp_path)


def specs(count: int) -> list[TrialSpec]:
    return [tiny.spec(seed=seed) for seed in range(count)]


def searcher(store, trials=2, allowed=10, budget=None, **options) -> StoreSearcher:
    job = Job(
        store,
        Progress(trials, 0, {}, tiny.quiet()),
        Gate(store, "me", budget or RunBudget()),
        lambda wants: min(wants, allowed),
    )
    queue = PlanQueue(specs(trials), store)
    return StoreSearcher(queue, job, "best_jaccard", None, options.get("why", lambda name: ""))


def key(config: dict) -> str:
    return TrialSpec.model_validate_json(config["spec"]).key


def row(epoch: int) -> dict[str, float]:
    return {"epoch": float(epoch), "best_jaccard": 0.1 * epoch, "seconds": 1.0, "loss": 2.0}


def complete(found: StoreSearcher, store: ResultsStore, name: str, seed: int) -> None:
    tiny.save(store, tiny.spec(seed=seed))
    found.on_trial_complete(name, {"done": True})


def test_every_trial_is_suggested_once_and_then_there_is_none_left(store):
    found = searcher(store)
    assert [key(found.suggest("a")), key(found.suggest("b"))] == [s.key for s in specs(2)]
    assert found.suggest("c") is None  # one that runs may come back
    complete(found, store, "a", 0)
    assert found.suggest("c") is None
    complete(found, store, "b", 1)
    assert found.suggest("c") == FINISHED
    assert found.job.progress.counts == {"complete": 2}


def test_an_end_that_is_told_twice_counts_once(store):
    found = searcher(store)
    found.suggest("a")
    complete(found, store, "a", 0)
    found.on_trial_complete("a", {"done": True})
    found.on_trial_complete("a", error=True)
    assert found.job.progress.counts == {"complete": 1}
    assert store.failures() == {}


def test_an_interrupted_trial_is_suggested_again_and_is_no_failure(store):
    found = searcher(store, trials=1)
    first = found.suggest("a")
    found.started("a")
    found.on_trial_result("a", row(1))
    found.on_trial_complete("a", {INTERRUPTED: True})
    again = found.suggest("b")
    assert key(again) == key(first)
    assert (first["told"], again["told"]) == (0, 1)  # the first epoch is not told again
    found.started("b")
    complete(found, store, "b", 0)
    assert store.failures() == {}
    assert found.job.progress.counts["complete"] == 1


def test_a_lost_process_is_no_failure_while_epochs_are_finished_in_between(store):
    found = searcher(store, trials=1)
    for number in range(1, 3 * LOSSES):
        name = f"t{number}"
        found.suggest(name)
        found.started(name)
        found.on_trial_result(name, row(number))
        found.on_trial_complete(name, error=True)
    assert store.failures() == {}
    assert found.suggest("last") not in (None, FINISHED)


def test_a_process_lost_again_and_again_is_a_failure_with_its_reason(store):
    found = searcher(store, trials=1, why=lambda name: f": {name} had no memory")
    for number in range(LOSSES):
        assert store.failures() == {}
        config = found.suggest(f"t{number}")
        found.started(f"t{number}")
        found.on_trial_complete(f"t{number}", error=True)
    reason = f"its process was lost {LOSSES} times: t{LOSSES - 1} had no memory"
    assert store.failures()[key(config)]["reason"] == reason
    assert found.suggest("x") == FINISHED
    assert found.job.progress.counts["failed"] == 1


def test_a_trial_that_was_stored_before_its_process_died_is_complete(store):
    found = searcher(store, trials=1)
    found.suggest("a")
    found.started("a")
    tiny.save(store, tiny.spec(seed=0))
    found.on_trial_complete("a", error=True)
    assert found.job.progress.counts == {"complete": 1}


def test_no_more_run_than_are_allowed(store):
    found = searcher(store, trials=3, allowed=1)
    assert found.suggest("a") is not None
    assert found.suggest("b") is None
    complete(found, store, "a", 0)
    assert found.suggest("b") is not None


def test_a_closed_gate_ends_the_run_once_nothing_runs(store):
    found = searcher(store, trials=3, budget=RunBudget(max_trials=1))
    found.suggest("a")
    assert found.suggest("b") is None
    found.job.gate.told.notice("told to stop")
    found.on_trial_complete("a", {INTERRUPTED: True})
    assert found.suggest("b") == FINISHED


def test_rows_that_are_told_again_are_kept_once(store):
    found = searcher(store, trials=1)
    found.suggest("a")
    for epoch in (1, 2, 1, 2, 3):
        found.on_trial_result("a", row(epoch))
    assert [r["epoch"] for r in found._running["a"].rows] == [1, 2, 3]
