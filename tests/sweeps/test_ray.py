"""Trials through Ray: the same results as inline, and nothing left running. One Ray for all."""

import os

import pytest

from sweeps.run import run_study
from sweeps.status import study_status
from sweeps.store import ResultsStore
from tests.sweeps import tiny

pytestmark = pytest.mark.slow
EPOCHS = 6
ASHA = {
    **tiny.SEARCH,
    "name": "stopped",
    "trials": 9,
    "concurrent": 1,
    "space": {"training.learning_rate": {"low": 1.0e-4, "high": 1.0e-1}},
    "early_stopping": {"grace_epochs": 1, "reduction": 2},
    "config": {"dim": 8},
    "training": {"epochs": EPOCHS},
}
WHOLE = {**tiny.SEARCH, "name": "whole", "trials": 4, "concurrent": 1}
STUDY = {
    "seeds": [0, 1],
    "arms": [*tiny.STUDY["arms"], {"model": "logistic_regression"}, {"model": "safedrug"}],
    "searches": [WHOLE, ASHA],
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ray")
    study = tiny.write_study(folder, **STUDY)
    tag = f"ray-{os.getpid()}"
    child = tiny.start(tag, "run", study, "--out", folder / "ray", "--cpus", 2)
    output = child.communicate(timeout=300)[0]
    assert child.returncode == 0, output
    return ResultsStore(folder / "ray"), tag, output


@pytest.fixture(scope="module")
def inline(ran, tmp_path_factory):
    folder = tmp_path_factory.mktemp("inline")
    changes = {**STUDY, "searches": [WHOLE]}
    run_study(tiny.study(folder, **changes), folder / "out", tiny.quiet(), tiny.INLINE)
    return ResultsStore(folder / "out")


def test_nothing_is_left_running(ran):
    tiny.wait_until_gone(ran[1], 30)


def test_a_plan_gives_the_same_through_ray_as_inline_to_the_last_bit(ran, inline):
    arms = inline.study().arms
    assert arms == ran[0].study().arms
    for arm in arms:
        for key in arm.trials.values():
            tiny.same_result(ran[0], inline, key)


def test_a_sequential_search_asks_and_finds_the_same_as_inline(ran, inline):
    assert ran[0].read_all("searches/whole") == inline.read_all("searches/whole")


def test_a_search_with_early_stopping_ends_and_its_best_trial_was_trained_in_full(ran):
    found = list(ran[0].read_all("searches/stopped").values())
    states = [r["state"] for r in found]
    assert len(found) == ASHA["trials"]
    assert set(states) == {"complete", "pruned"}, states
    for record in found:
        whole = record["state"] == "complete"
        assert whole == (record["epochs"] == EPOCHS) == ran[0].has(record["key"])
        assert len(record["curve"]) == record["epochs"]
        assert record["curve"] == sorted(record["curve"])  # the best so far
        assert not (ran[0].root / "running" / record["key"]).exists()
    assert study_status(ran[0].root).complete


def test_a_stopped_trials_curve_is_lower_at_its_last_rung_than_some_other(ran):
    found = list(ran[0].read_all("searches/stopped").values())
    for record in (r for r in found if r["state"] == "pruned"):
        epoch = record["epochs"]
        others = [r["curve"][epoch - 1] for r in found if len(r["curve"]) >= epoch]
        assert record["curve"][-1] <= max(others)


def test_progress_names_arms_searches_and_totals(ran):
    output = ran[2]
    assert "gamenet seed 0" in output
    assert "stopped 0" in output
    assert "Traceback" not in output
