"""The gate: what closes it, and how trials learn of it."""

import os
import signal
import time

import pytest

from sweeps.budgets import Spent
from sweeps.gate import Gate, Told, stop_note, trial_notice
from sweeps.store import ResultsStore
from sweeps.study import RunBudget


@pytest.fixture
def store(tmp_path) -> ResultsStore:
    return ResultsStore(tmp_path)


def test_without_a_budget_there_is_always_room(store):
    gate = Gate(store, "me", RunBudget(), lambda: Spent(trials=10**6, hours=1e6, gpu_hours=1e6))
    assert gate.room(10**6)
    assert not gate.stopping


def test_no_more_trials_start_than_the_budget_has(store):
    gate = Gate(store, "me", RunBudget(max_trials=5), lambda: Spent(trials=2))
    assert gate.room(2)
    assert not gate.room(3)
    assert not gate.stopping  # those that run go on to their end


def test_the_last_trial_of_the_budget_closes_the_gate_at_once(store):
    spent = Spent(trials=0)
    gate = Gate(store, "me", RunBudget(max_trials=1), lambda: spent)
    assert gate.room(0)
    spent = Spent(trials=1)
    assert not gate.room(0)
    assert gate.budget_spent


@pytest.mark.parametrize(
    ("budget", "spent"),
    [
        (RunBudget(max_hours=1.0), Spent(hours=1.0)),
        (RunBudget(max_gpu_hours=0.5), Spent(gpu_hours=0.6)),
    ],
)
def test_spent_hours_stop_what_runs(store, budget, spent):
    gate = Gate(store, "me", budget, lambda: spent)
    assert gate.stopping
    assert gate.budget_spent
    assert not gate.room(0)
    assert trial_notice(store, "me", every=0.0)()
    gate.open_again()
    assert not store.place.exists(stop_note("me"))


def test_a_signal_is_a_notice_and_the_second_one_ends_the_process(store):
    gate = Gate(store, "me")
    with gate.told.heeding_signals():
        os.kill(os.getpid(), signal.SIGUSR1)
        assert gate.stopping
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
        assert "SIGUSR1" in (gate.reason or "")
    assert not gate.budget_spent


def test_handlers_are_put_back(store):
    before = signal.getsignal(signal.SIGTERM)
    with Told().heeding_signals():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_trials_heed_their_own_driver_alone(store):
    other = Gate(store, "killed")
    other.told.notice("told to stop")
    other.look()
    assert trial_notice(store, "killed", every=0.0)()
    assert not trial_notice(store, "next", every=0.0)()


def test_a_notice_is_looked_up_now_and_then_and_holds(store):
    gate = Gate(store, "me")
    notice = trial_notice(store, "me", every=0.2)
    gate.told.notice("told to stop")
    gate.look()
    assert not notice()  # too early to look
    time.sleep(0.25)
    assert notice()
    gate.open_again()
    assert notice()


def test_a_machine_that_is_drained_stops_its_trials(store):
    assert trial_notice(store, "me", every=0.0, drained=lambda: True)()


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_broken_note_stops_nothing(store, content):
    store.write_text(stop_note("me"), content)
    assert not trial_notice(store, "me", every=0.0)()
