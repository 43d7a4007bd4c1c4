"""What a study cost, against sums written out by hand."""

import json

import pytest

from medrec.spec import Resources
from sweeps.attempts import Attempt, Unfinished
from sweeps.record import SearchPlan
from sweeps.statistics.results import gather
from sweeps.store import ResultsStore
from sweeps.tables.cost import TABLE, stopped_trial, stored_trial, unfinished_trial
from tests.sweeps.fabricate import ARMS, fabricate, spec

HELD = Resources(cpus=2, gpus=0.5)


def summary(seed: int = 0, attempts: int = 0, lost: float = 0.0, **seconds) -> dict:
    trial = spec("gamenet", seed).model_copy(update={"resources": HELD})
    made = {"spec": trial.model_dump(mode="json"), "best_epoch": 1, "validation": {}}
    made["seconds"] = seconds
    if attempts:
        made["failed_attempts"] = {"attempts": attempts, "seconds": lost}
    return made


def epochs(*seconds: float) -> list[dict[str, float]]:
    return [{"epoch": i + 1.0, "jaccard": 0.4, "seconds": s} for i, s in enumerate(seconds)]


def cells(results, name: str) -> list:
    (table,) = TABLE.build(results)
    row = next(row for row in table.rows if row.cells[0] == name)
    return [getattr(cell, "estimate", cell) for cell in row.cells[1:]]


def note(number: int, key: str, state: str, done: int | None = None) -> dict:
    return {"number": number, "key": key, "params": {}, "state": state, "values": None,
            "epochs": done, "reason": None, "curve": [], "held": {}}  # fmt: skip


@pytest.fixture
def store(tmp_path):
    """Two arms that share trials; a search with a trial of each kind; every time made up."""
    record = fabricate(tmp_path, resamples=100, arms=ARMS[1:3])
    store = ResultsStore(tmp_path)
    keys = list(record.arms[0].trials.values())
    predictions = store.load(keys[0]).predictions
    for path in [*(tmp_path / "searches").rglob("*.json"), *(tmp_path / "failed").iterdir()]:
        path.unlink()
    for key in [*keys, *record.arms[1].trials.values()]:
        store.supersede(key)

    def save(key, made, history):
        store.save(key, made, history, predictions, b"weights")

    save(keys[0], summary(training=10.0, wall=12.0, resumed=0.0), epochs(4, 6))
    save(keys[1], summary(1, 2, 30.0, training=9.0, wall=7.0, resumed=4.0), epochs(4, 5))
    store.record_failure(keys[2], "The loss became NaN.", 50.0)
    shared = record.arms[1].model_copy(update={"trials": {"0": keys[0]}})
    search: SearchPlan = record.searches[0]
    base = search.base.model_copy(update={"resources": HELD})
    search = search.model_copy(update={"base": base})
    store.write_study(
        record.model_copy(update={"arms": (record.arms[0], shared), "searches": (search,)})
    )
    save("a" * 16, summary(training=20.0, wall=25.0, resumed=0.0), epochs(10, 10))
    store.record_failure("b" * 16, "out of memory", 8.0)
    store.record_failure("b" * 16, "out of memory", 2.0)
    notes = [
        note(0, keys[0], "complete", 2),
        note(1, "a" * 16, "complete", 2),
        note(2, "b" * 16, "failed"),
        note(3, "c" * 16, "pruned", 3),
        note(4, "a" * 16, "complete", 2),  # the same settings again
        note(5, "d" * 16, "running"),
    ]
    for found in notes:
        store.write_text(f"searches/tune/{found['number']:05d}.json", json.dumps(found))
    return store


def test_an_arms_hours_count_every_attempt(store):
    seconds = 12 + (7 + 4 + 30) + 50
    hours = seconds / 3600
    found = cells(gather(store), "GAMENet")
    assert found == [2, 4, *map(pytest.approx, [2 * hours, 0.5 * hours]), 3,
                     pytest.approx((30 + 50) / seconds), pytest.approx((5 + 4.5) / 2)]  # fmt: skip


def test_a_search_counts_stopped_and_failed_trials(store):
    # 12 s and 25 s in full, at 5 s and 10 s an epoch; 10 s in vain; 3 epochs at the median 7.5 s.
    seconds = 12 + 25 + 10 + 3 * 7.5
    found = cells(gather(store), "Search tune")
    assert found == [2, 7, *map(pytest.approx, [2 * seconds / 3600, 0.5 * seconds / 3600]), 2,
                     pytest.approx(10 / seconds), 7.5]  # fmt: skip
    (table,) = TABLE.build(gather(store))
    assert "The 1 trials that searches stopped early left no time" in table.caption


def test_shared_trials_count_in_each_row_and_once_in_the_total(store):
    assert cells(gather(store), "Full model")[:2] == [1, 2]
    seconds = 12 + 41 + 50 + 25 + 10 + 22.5
    found = cells(gather(store), "Total")
    assert found[:2] == [3, 4 + 2 + 3]
    assert found[2:6] == [pytest.approx(2 * seconds / 3600), pytest.approx(seconds / 7200), 5,
                          pytest.approx((30 + 50 + 10) / seconds)]  # fmt: skip
    assert found[6] is None


def test_trials_of_older_versions_count_the_seconds_of_their_epochs():
    old = {"spec": spec("gamenet", 0).model_dump(mode="json"), "seconds": {"train": 1.5}}
    found = stored_trial(old, 3, 4.5)
    assert (found.seconds, found.lost, found.failed, found.epoch_seconds) == (4.5, 0, 0, 1.5)
    nothing = stored_trial({}, 0, None)
    assert (nothing.seconds, nothing.epoch_seconds, nothing.resources) == (0, None, Resources())
    failed = unfinished_trial(Unfinished(2, 0.0, 0.0), HELD)
    assert (failed.complete, failed.seconds, failed.failed) == (False, 0.0, 2)


def test_every_worker_of_a_trial_counts(store):
    """Two workers with a GPU and two CPUs each, for half an hour, after a quarter that failed."""
    held = Resources(cpus=2, gpus=1, workers=2)
    trial = spec("gamenet", 7).model_copy(update={"resources": held})
    made = summary(7, 1, 900.0, training=1700.0, wall=1800.0, resumed=0.0)
    made["spec"] = trial.model_dump(mode="json")
    key = trial.key
    template = store.load(store.trial_keys()[0])
    store.save(key, made, epochs(1700), template.predictions, b"weights")
    record = store.study()
    arm = record.arms[1].model_copy(update={"trials": {"0": key}})
    store.write_study(record.model_copy(update={"arms": (record.arms[0], arm)}))
    found = cells(gather(store), "Full model")
    assert found[2:4] == [pytest.approx(0.75 * 4), pytest.approx(0.75 * 2)]


def test_the_cost_of_killed_and_interrupted_attempts_is_kept(store):
    """An arm's last trial: killed, then interrupted with a checkpoint; a third attempt runs."""
    record = store.study()
    key = record.arms[0].trials["2"]
    before = cells(gather(store), "GAMENet")
    usual = 0.5 / 3600  # GPUs
    for attempt, kept in (({"kept": 0.0, "seconds": 100.0}, 60.0), (None, 80.0)):
        if attempt:
            store.write_text(f"running/{key}/attempt.json", json.dumps(attempt))
            assert cells(gather(store), "GAMENet")[3] == pytest.approx(before[3] + 100 * usual)
        Attempt(store, key, kept)
    after = cells(gather(store), "GAMENet")
    # 40 s were lost by the kill; 80 s are in the checkpoint.
    assert after[3] == pytest.approx(before[3] + (40 + 80) * usual)
    assert after[4] == before[4] + 1


def test_a_trial_that_a_search_stopped_counts_what_it_took():
    found = stopped_trial({"epochs": 4, "seconds": 10.0}, Unfinished(1, 3.0, 3.0), HELD)
    assert (found.seconds, found.lost, found.failed, found.epoch_seconds) == (13.0, 3.0, 1, 2.5)
    assert not found.complete


def test_a_study_of_which_nothing_ran_has_no_table(store, tmp_path):
    for key in store.trial_keys():
        store.supersede(key)
    for folder in ("failed", "searches/tune"):
        for path in (tmp_path / folder).glob("*.json"):
            path.unlink()
    assert TABLE.build(gather(store)) is None
