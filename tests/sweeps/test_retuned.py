"""Re-tuned arms: a search for each, then its best settings on every seed, safe to repeat."""

import json

import pytest

from medrec import plugins, trial
from sweeps.cli import medsweep
from sweeps.errors import TrialsFailedError
from sweeps.evaluate import evaluate_arms
from sweeps.plan import make_plan
from sweeps.retuned import follow_ups, settle
from sweeps.run import run_study
from sweeps.status import study_status
from sweeps.store import ResultsStore
from sweeps.study import Study
from tests.sweeps import tiny

ENTRY = {
    "model": "gamenet",
    "config": {"dim": 8},
    "settings": "retuned",
    "tuning": {"trials": 3, "space": {"dropout": {}}},
    "parts": {"dry": {"title": "with little dropout", "changes": {"dropout": 0.2}}},
    "designs": [{"kind": "leave_one_out", "parts": ["no_memory", "dry"]}],
}
ARMS = ("gamenet", "gamenet-no_memory", "gamenet-dry")
STUDY = {"training": {"epochs": 1}, "tables": ["ablation", "search"]}


def run(root, *others, **tuning):
    entry = {**ENTRY, "tuning": {**ENTRY["tuning"], **tuning}}
    made = tiny.study(root, arms=[entry, *others], **STUDY)
    return run_study(made, root / "out", tiny.quiet(), tiny.INLINE, check=False)


def made_plan(**tuning):
    entry = {**ENTRY, "tuning": {**ENTRY["tuning"], **tuning}}
    return make_plan(Study.model_validate({**tiny.STUDY, **STUDY, "arms": [entry]}), tiny.data())


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    root = tmp_path_factory.mktemp("retuned")
    return root, run(root)


def searched(store: ResultsStore, arm) -> list[dict]:
    return list(store.read_all(f"searches/{arm.tuned_by}").values())


def test_every_arm_has_the_best_settings_of_its_own_search_on_every_seed(ran):
    root, record = ran
    store = ResultsStore(root / "out")
    assert tuple(arm.name for arm in record.arms) == ARMS
    for arm in record.arms:
        tried = searched(store, arm)
        assert [r["state"] for r in tried] == ["complete"] * 3
        best = max(tried, key=lambda r: (r["values"][0], -r["number"]))
        assert list(arm.trials) == ["0", "1"]
        assert arm.trials["0"] == best["key"]  # the search trains on the first seed
        for seed, key in arm.trials.items():
            spec = store.summary(key)["spec"]
            assert spec["seed"] == int(seed)
            assert spec["config"]["memory"] == (arm.name != "gamenet-no_memory")
            expected = 0.2 if arm.name == "gamenet-dry" else best["params"]["dropout"]
            assert spec["config"]["dropout"] == expected


def test_an_arm_whose_parts_set_every_dimension_is_trained_as_it_is(ran):
    root, record = ran
    tried = searched(ResultsStore(root / "out"), record.arms[2])
    assert {r["key"] for r in tried} == {record.arms[2].trials["0"]}
    assert all(r["params"] == {} for r in tried)


def test_what_is_written_is_the_settled_record_and_nothing_is_missing(ran):
    root, record = ran
    assert ResultsStore(root / "out").study() == record.without_places()
    assert study_status(root / "out").complete


def test_running_it_again_trains_nothing(ran, monkeypatch):
    root, record = ran

    def never(*arguments, **options):
        raise AssertionError("a trial was started")

    monkeypatch.setattr(trial, "run", never)
    before = tiny.trial_files(root / "out")
    assert run(root) == record
    assert tiny.trial_files(root / "out") == before


def test_a_run_that_is_cut_off_between_search_and_seeds_comes_to_the_same(
    ran, tmp_path, monkeypatch
):
    class CutOffError(BaseException):
        pass

    real = trial.run

    def cut(spec, report, **options):
        if spec.seed == 1:  # the searches train on seed 0
            raise CutOffError
        return real(spec, report, **options)

    monkeypatch.setattr(trial, "run", cut)
    with pytest.raises(CutOffError):
        run(tmp_path)
    assert not study_status(tmp_path / "out").complete
    monkeypatch.undo()
    again = run(tmp_path)
    assert [arm.trials for arm in again.arms] == [arm.trials for arm in ran[1].arms]
    store = ResultsStore(tmp_path / "out")
    for arm in again.arms:
        for key in arm.trials.values():
            tiny.same_result(store, ResultsStore(ran[0] / "out"), key)


@pytest.fixture(scope="module")
def starved(tmp_path_factory):
    """A study whose searches cannot find anything, and what its run said."""
    root = tmp_path_factory.mktemp("starved")
    with pytest.raises(TrialsFailedError) as caught:
        run(root, {"model": "most_popular"}, trials=1, medication_floor=1000.0)
    return root / "out", str(caught.value)


def test_an_arm_whose_search_finds_nothing_is_named_and_stays_without_trials(starved):
    out, told = starved
    for arm in ARMS:
        assert f"{arm} (every seed): its search retune-{arm} found no complete trial" in told
    assert [arm.trials for arm in ResultsStore(out).study().arms[:3]] == [{}, {}, {}]
    found = study_status(out)
    assert not found.complete
    assert [arm.missing for arm in found.arms] == [2, 2, 2, 0]


def test_scores_know_the_seeds_that_a_waiting_arm_is_asked_for(starved):
    store = ResultsStore(starved[0])
    scores = evaluate_arms(store, store.study(), "all")
    assert scores.seeds == (0, 1)
    assert scores.expected.tolist() == [*[[True, True]] * 3, [True, False]]
    assert scores.present.tolist() == [*[[False, False]] * 3, [True, False]]


def test_tables_are_made_of_a_study_whose_arms_wait(starved):
    from sweeps.regenerate import regenerate

    regenerate(starved[0])
    table = (starved[0] / "tables/ablation_gamenet.md").read_text()
    assert "no trial is stored" in table


# ------------------------------------------------------------------ settling, without training


def note(store: ResultsStore, plan, number: int, value: float | None, **changes) -> None:
    """Writes what became of a suggestion of the full model's search."""
    params = {"dropout": 0.3 + number / 10}
    spec = plan.record.searches[0].base
    config = {**spec.config, **params}
    record = {
        "number": number, "key": spec.model_copy(update={"config": config}).key, "params": params,
        "state": "complete", "values": [value], "held": {}, **changes,
    }  # fmt: skip
    store.write_text(f"searches/retune-gamenet/{number:05d}.json", json.dumps(record))


def settled(store: ResultsStore, plan) -> float | None:
    """The dropout that the full model gets; None if its search has not said."""
    found = settle(plan, store)
    trials = found.record.arms[0].trials
    assert [arm.trials for arm in found.record.arms[1:]] == [{}, {}]
    assert set(found.trials) == set(trials.values())
    assert follow_ups(found) == (4 if trials else 6)
    return found.trials[trials["0"]].config["dropout"] if trials else None


def test_an_arm_waits_for_the_end_of_its_search(tmp_path):
    store, plan = ResultsStore(tmp_path), made_plan()
    assert settled(store, plan) is None
    note(store, plan, 0, 0.5)
    note(store, plan, 1, 0.6)
    note(store, plan, 2, None, state="running", values=None)
    assert settled(store, plan) is None
    note(store, plan, 2, None, state="failed", values=None)
    assert settled(store, plan) == 0.4


def test_of_equal_trials_the_first_is_the_best_and_one_stopped_early_is_none(tmp_path):
    store, plan = ResultsStore(tmp_path), made_plan()
    note(store, plan, 0, 0.9, state="pruned")
    note(store, plan, 1, 0.6)
    note(store, plan, 2, 0.6)
    assert settled(store, plan) == 0.4


def test_a_trial_beyond_a_bound_is_not_chosen(tmp_path):
    store, plan = ResultsStore(tmp_path), made_plan(ddi_ceiling=0.1)
    note(store, plan, 0, 0.9, held={"ddi_ceiling": 0.01})
    note(store, plan, 1, 0.8)  # nothing is known of its rate
    note(store, plan, 2, 0.7, held={"ddi_ceiling": -0.01})
    assert settled(store, plan) == 0.5


def test_settling_twice_changes_nothing_more(tmp_path):
    store, plan = ResultsStore(tmp_path), made_plan()
    for number in range(3):
        note(store, plan, number, 0.5)
    once = settle(plan, store)
    assert settle(once, store) == once == settle(plan, store)


def test_notes_of_a_search_with_other_settings_settle_nothing(tmp_path):
    store, plan = ResultsStore(tmp_path), made_plan()
    for number in range(3):
        note(store, plan, number, 0.5, params={"dropout": 0.31})
    assert settled(store, plan) is None
    for number in range(3):
        note(store, plan, number, 0.5, params={"no_such_setting": 1})
    assert settled(store, plan) is None


# ------------------------------------------------------------------ the command line


def test_a_plan_says_how_many_trials_follow_and_what_the_designs_note(tmp_path, capsys):
    path = tiny.write_study(tmp_path, arms=[ENTRY], **STUDY)
    medsweep(["plan", str(path), "--out", str(tmp_path / "out")], standalone_mode=False)
    told = capsys.readouterr().out
    assert told.count("later") == 3
    assert "9 trials, each" in told
    assert "6 more when the searches have ended" in told
    assert "search retune-gamenet-dry: 3 trials of gamenet, jaccard over nothing" in told
    assert "design gamenet-leave_one_out: Leave one out: GAMENet, re-tuned, 3 arms" in told
    assert "  Not searched for gamenet-dry: dropout." in told
    assert not (tmp_path / "out").exists()


def test_kinds_of_designs_are_listed(capsys):
    medsweep(["list", "designs"], standalone_mode=False)
    assert capsys.readouterr().out.split() == plugins.names("sweeps.designs")
