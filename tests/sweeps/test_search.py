"""A search: what it asks next follows from what it was told, and the store remembers all of it.

No model is trained: results are written through the store from a formula of the settings.
"""

import json
import math

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from medrec import splits
from sweeps.errors import StoreError
from sweeps.search import Search
from sweeps.store import ResultsStore
from tests.sweeps import tiny


@pytest.fixture
def store(tmp_path) -> ResultsStore:
    return ResultsStore(tmp_path / "results")


def curve(params: dict, epochs: int = 3) -> list[dict[str, float]]:
    """A made-up result: best at a learning rate of 2e-3 and little dropout."""
    rate = params.get("training.learning_rate", 1e-3)
    jaccard = 0.5 / (1 + abs(math.log10(rate) + 2.7)) - 0.2 * params.get("dropout", 0)
    ddi = 0.02 + 0.2 * params.get("dropout", 0)
    return tiny.rows(epochs, jaccard, ddi, medications=params.get("dim", 64) / 8)


def answer(search: Search, number: int, spec) -> None:
    """What an executor does with a suggestion: every fourth is stopped early, one fails."""
    params = search.records[number]["params"]
    if number % 4 == 3:
        search.finish(number, curve(params)[:1])
    elif number == 5:
        search.store.record_failure(spec.key, "The loss became NaN.")
        search.finish(number, [])
    else:
        tiny.save(search.store, spec, curve(params))
        search.finish(number, [])


def play(search: Search, upto: int | None = None) -> list[dict]:
    while (upto is None or len(search.records) < upto) and (made := search.suggest()) is not None:
        answer(search, *made)
    return records(search.store, search.plan.name)


def records(store: ResultsStore, name: str = "tune") -> list[dict]:
    return [r for _, r in sorted(store.read_all(f"searches/{name}").items())]


def journal(store: ResultsStore, name: str = "tune") -> optuna.Study:
    """The journal as `optuna-dashboard` opens it."""
    path = store.root / "searches" / name / "journal.log"
    storage = JournalStorage(JournalFileBackend(str(path)))
    return optuna.load_study(study_name=name, storage=storage)


# ------------------------------------------------------------------ suggestions


def test_a_dimension_is_searched_only_where_it_matters(store):
    space = {"controller": {"choices": ["none", "gamenet", "molerec"]}, "ddi_gain": {},
             "ddi_decay": {}, "dropout": {}}  # fmt: skip
    search = Search(tiny.search_plan(trials=12, space=space), store)
    found = play(search)
    seen = set()
    for record in found:
        params, controller = record["params"], record["params"]["controller"]
        seen.add(controller)
        assert ("ddi_gain" in params) == (controller != "none")
        assert ("ddi_decay" in params) == (controller == "gamenet")
        assert "dropout" in params
        assert search.spec(params).config["ddi_decay"] == params.get("ddi_decay", 0.85)
    assert seen == {"none", "gamenet", "molerec"}
    assert records(store) == found
    again = Search(tiny.search_plan(trials=14, space=space), store)  # rebuilt from the records
    assert len(play(again)) == 14
    assert [t.params for t in journal(store).trials][:12] == [r["params"] for r in found]


def test_what_the_study_fixes_decides_which_dimensions_matter(store):
    plan = tiny.search_plan(config={"controller": "none"}, space={"ddi_gain": {}, "dropout": {}})
    Search(plan, store).suggest()
    assert records(store)[0]["params"].keys() == {"dropout"}


def test_the_first_suggestion_is_the_setting_the_search_starts_from(store):
    plan = tiny.search_plan(config={"dim": 32}, training={"learning_rate": 0.003})
    number, spec = Search(plan, store).suggest()
    assert number == 0
    assert spec.key == plan.base.key
    assert (spec.config["dim"], spec.training.learning_rate) == (32, 0.003)


def test_a_search_ends_after_its_budget_and_stays_in_its_space(store):
    plan = tiny.search_plan(trials=14)
    found = play(Search(plan, store))
    assert [r["number"] for r in found] == list(range(14))
    assert Search(plan, store).suggest() is None
    assert Search(plan, store).remaining() == 0
    for record in found:
        assert 0.2 <= record["params"]["dropout"] <= 0.7
        assert 1e-4 <= record["params"]["training.learning_rate"] <= 1e-2
        assert record["params"]["dim"] in (32, 64, 128)
    assert len({r["key"] for r in found}) == 14


def test_a_spec_is_the_base_with_the_suggested_settings_and_nothing_else(store):
    plan = tiny.search_plan()
    params = {"dropout": 0.25, "training.learning_rate": 0.002, "dim": 128}
    spec = Search(plan, store).spec(params)
    assert spec.config == plan.base.config | {"dropout": 0.25, "dim": 128}
    assert spec.training == plan.base.training.model_copy(update={"learning_rate": 0.002})
    assert (spec.seed, spec.protocol, spec.cohort) == (
        plan.base.seed,
        plan.base.protocol,
        plan.base.cohort,
    )


def test_another_sampler_seed_asks_for_other_settings(store, tmp_path):
    one = play(Search(tiny.search_plan(), store))
    other = play(Search(tiny.search_plan(sampler_seed=1), ResultsStore(tmp_path / "other")))
    assert one[0]["params"] == other[0]["params"]
    assert all(a["params"] != b["params"] for a, b in zip(one[1:], other[1:], strict=True))


# ------------------------------------------------------------------ interrupted is the same


@pytest.mark.parametrize(
    "changes",
    [{}, {"objective": ["jaccard", "ddi_rate"]}, {"ddi_ceiling": 0.1, "medication_floor": 6.0}],
    ids=["one objective", "two objectives", "constraints"],
)
def test_a_search_rebuilt_after_every_step_asks_for_the_same(store, tmp_path, changes):
    plan = tiny.search_plan(trials=16, **changes)
    undisturbed = play(Search(plan, ResultsStore(tmp_path / "undisturbed")))
    for _ in range(16):
        Search(plan, store).suggest()  # killed before its trial ended
        search = Search(plan, store)
        answer(search, *search.suggest())
    assert Search(plan, store).suggest() is None
    assert records(store) == undisturbed


def test_running_records_are_tried_first_and_with_the_same_settings(store):
    plan = tiny.search_plan(concurrent=3)
    first = Search(plan, store)
    asked = [first.suggest() for _ in range(3)]
    answer(first, *asked[1])
    again = Search(plan, store)
    assert again.remaining() == 7
    assert [again.suggest() for _ in range(2)] == [asked[0], asked[2]]
    assert again.suggest()[0] == 3


def test_a_result_stored_just_before_the_kill_is_not_computed_again(store):
    plan = tiny.search_plan()
    number, spec = Search(plan, store).suggest()
    tiny.save(store, spec, curve({}))
    search = Search(plan, store)
    assert search.records[number]["state"] == "complete"
    assert search.records[number]["values"] == [curve({})[-1]["best_jaccard"]]
    assert search.suggest()[0] == 1


def test_more_trials_continue_a_finished_search(store, tmp_path):
    play(Search(tiny.search_plan(trials=9), store))
    longer = play(Search(tiny.search_plan(trials=12), store))
    assert longer == play(Search(tiny.search_plan(trials=12), ResultsStore(tmp_path / "o")))


def test_a_trial_whose_result_was_lost_is_run_again(store):
    plan = tiny.search_plan(trials=3)
    before = play(Search(plan, store))
    store.set_aside(before[1]["key"])
    search = Search(plan, store)
    assert search.remaining() == 1
    number, spec = search.suggest()
    assert (number, spec.key) == (1, before[1]["key"])
    answer(search, number, spec)
    assert records(store) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"space": {"dropout": {}}},
        {"space": {**tiny.SEARCH["space"], "dropout": {"low": 0.39, "high": 0.41}}},
        {"training": {"epochs": 5}},
        {"objective": ["jaccard", "ddi_rate"]},
    ],
    ids=["dimensions", "range", "base", "objectives"],
)
def test_a_search_that_became_another_is_refused_and_nothing_is_mixed(store, changes):
    play(Search(tiny.search_plan(), store))
    before = records(store)
    with pytest.raises(StoreError, match="another name"):
        Search(tiny.search_plan(**changes), store)
    assert records(store) == before


def test_a_lock_left_by_a_killed_driver_does_not_hold_up_the_next(store):
    play(Search(tiny.search_plan(), store), upto=3)
    (store.root / "searches/tune/journal.log.lock").symlink_to("journal.log")
    assert Search(tiny.search_plan(), store).suggest()[0] == 3


# ------------------------------------------------------------------ nothing twice


def test_one_configuration_is_never_run_twice_and_the_budget_still_ends(store):
    plan = tiny.search_plan(trials=12, space={"dim": {"choices": [64, 128]}})
    search = Search(plan, store)
    told: list[tuple[int, str, bool]] = []
    search.on_suggested = lambda *suggestion: told.append(suggestion)
    ran = []
    while (made := search.suggest()) is not None:
        ran.append(made[1].key)
        tiny.save(store, made[1], curve(search.records[made[0]]["params"]))
        search.finish(made[0], [])
    assert len(ran) == len(set(ran)) == 2
    assert [number for number, _, _ in told] == list(range(12))
    assert [key for _, key, known in told if not known] == ran
    values = {(r["key"], r["state"], tuple(r["values"])) for r in records(store)}
    assert len(records(store)) == 12
    assert len(values) == 2  # a repeated one is told the same result


def test_repeated_pruned_and_failed_configurations_are_not_run_again_either(store):
    plan = tiny.search_plan(trials=10, space={"dim": {"choices": [64, 128]}})
    search = Search(plan, store)
    number, _ = search.suggest()
    search.finish(number, curve({})[:1])
    number, spec = search.suggest()
    store.record_failure(spec.key, "The loss became NaN.")
    search.finish(number, [])
    assert search.suggest() is None
    found = records(store)
    assert {(r["params"]["dim"], r["state"]) for r in found} == {(64, "pruned"), (128, "failed")}
    assert {r["reason"] for r in found if r["state"] == "failed"} == {"The loss became NaN."}
    assert {tuple(r["curve"]) for r in found if r["state"] == "pruned"} == {
        (curve({})[0]["best_jaccard"],)
    }


def test_a_configuration_already_run_as_an_arm_is_told_without_running(store):
    plan = tiny.search_plan()
    tiny.save(store, plan.base, curve({}))
    search = Search(plan, store)
    assert search.suggest()[0] == 1
    assert records(store)[0]["state"] == "complete"


# ------------------------------------------------------------------ what Optuna is told


def test_the_journal_opens_as_a_study_with_every_trial(store):
    play(Search(tiny.search_plan(trials=12), store))
    found = records(store)
    for _ in range(2):  # as it grew, and as it is rebuilt
        trials = journal(store).trials
        assert [t.params for t in trials] == [r["params"] for r in found]
        states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}
        assert [t.state for t in trials] == [
            states.get(r["state"], TrialState.FAIL) for r in found
        ]
        for trial, record in zip(trials, found, strict=True):
            if record["state"] == "complete":
                assert trial.values == record["values"]
        Search(tiny.search_plan(trials=12), store)


def test_a_trial_stopped_early_is_told_as_pruned_with_its_curve_and_never_as_complete(store):
    search = Search(tiny.search_plan(), store)
    number, _ = search.suggest()
    rows = curve({})[:2]
    record = search.finish(number, rows)
    assert (record["state"], record["epochs"]) == ("pruned", 2)
    expected = {1: rows[0]["best_jaccard"], 2: rows[1]["best_jaccard"]}
    Search(tiny.search_plan(), store)
    for trial in (journal(store).trials[0],):
        assert trial.state == TrialState.PRUNED
        assert trial.intermediate_values == expected


def test_stopping_early_deletes_the_epoch_checkpoint(store):
    search = Search(tiny.search_plan(), store)
    number, spec = search.suggest()
    folder = store.root / "running" / spec.key
    folder.mkdir(parents=True)
    search.finish(number, curve({})[:1])
    assert not folder.exists()


def test_truncated_trials_never_enter_the_pareto_front(store):
    plan = tiny.search_plan(objective=["jaccard", "ddi_rate"], trials=12)
    search = Search(plan, store)
    while (made := search.suggest()) is not None:
        if made[0] % 2:  # stopped early while it looks better than any finished trial
            search.finish(made[0], tiny.rows(1, 0.99, ddi=0.0))
        else:
            tiny.save(store, made[1], curve(search.records[made[0]]["params"]))
            search.finish(made[0], [])
    complete = [r["params"] for r in records(store) if r["state"] == "complete"]
    for _ in range(2):
        study = journal(store)
        assert [d.name for d in study.directions] == ["MAXIMIZE", "MINIMIZE"]
        assert study.best_trials
        assert all(trial.params in complete for trial in study.best_trials)
        Search(plan, store)


def test_recommending_nothing_does_not_win_a_search_over_two_objectives(store):
    plan = tiny.search_plan(objective=["jaccard", "ddi_rate"], trials=4)
    cohort = tiny.data().cohort
    rows = cohort.visits_of(cohort.members(splits.TRAIN))
    given = cohort.codes["medications"].counts[rows]
    assert plan.medication_floor == pytest.approx(0.5 * given.mean())
    search = Search(plan, store)
    while (made := search.suggest()) is not None:
        nothing = made[0] == 2
        history = tiny.rows(3, 0.9, 0.0, 0.1) if nothing else tiny.rows(3, 0.4, 0.05, 50.0)
        tiny.save(store, made[1], history)
        search.finish(made[0], [])
    record = records(store)[2]
    assert record["held"]["medication_floor"] == pytest.approx(plan.medication_floor - 0.1)
    assert 2 not in [trial.number for trial in journal(store).best_trials]


def test_a_ddi_ceiling_makes_configurations_above_it_infeasible(store):
    plan = tiny.search_plan(ddi_ceiling=0.08, trials=3)
    search = Search(plan, store)
    for ddi, jaccard in ((0.08, 0.3), (0.081, 0.6), (0.02, 0.2)):
        number, spec = search.suggest()
        tiny.save(store, spec, tiny.rows(3, jaccard, ddi))
        search.finish(number, [])
    held = [r["held"]["ddi_ceiling"] for r in records(store)]
    assert held == pytest.approx([0.0, 0.001, -0.06])
    for _ in range(2):
        assert journal(store).best_trial.number == 0  # not the better one above the ceiling
        Search(plan, store)


def test_a_lower_ddi_rate_is_better(store):
    search = Search(tiny.search_plan(objective="ddi_rate", trials=2), store)
    for ddi in (0.09, 0.03):
        number, spec = search.suggest()
        tiny.save(store, spec, tiny.rows(3, 0.4, ddi))
        search.finish(number, [])
    assert journal(store).best_trial.number == 1


def test_a_failed_trial_keeps_its_reason_and_one_whose_process_was_lost_too(store):
    search = Search(tiny.search_plan(), store)
    number, spec = search.suggest()
    store.record_failure(spec.key, "The loss became NaN.")
    assert search.finish(number, curve({}))["reason"] == "The loss became NaN."
    number, _ = search.suggest()
    record = search.finish(number, [], lost="its process was lost")
    assert (record["state"], record["reason"]) == ("failed", "its process was lost")
    assert [t.state for t in journal(store).trials] == [TrialState.FAIL] * 2


def test_a_trial_that_was_stored_before_its_process_was_lost_is_complete(store):
    search = Search(tiny.search_plan(), store)
    number, spec = search.suggest()
    tiny.save(store, spec, curve({}))
    assert search.finish(number, [], lost="its process was lost")["state"] == "complete"


def test_no_search_record_holds_anything_of_the_test_split(store):
    play(Search(tiny.search_plan(trials=4), store))
    for path in (store.root / "searches/tune").glob("*.json"):
        assert set(json.loads(path.read_text())) - {"seconds"} == {
            "number", "key", "params", "state", "values", "epochs", "curve", "held", "reason",
        }  # fmt: skip


def test_a_configuration_that_runs_already_is_not_run_twice(store):
    plan = tiny.search_plan(space={"dim": {"choices": [32, 64]}}, trials=6)
    search = Search(plan, store)
    running = []
    while (made := search.suggest()) is not None:
        running.append(made)
    keys = [spec.key for _, spec in running]
    assert len(keys) == len(set(keys)) <= 2
    for number, spec in running:
        tiny.save(store, spec, tiny.rows(3, 0.4))
        search.finish(number, [])
    assert [r["state"] for r in records(store)] == ["complete"] * 6
    assert search.remaining() == 0


def test_a_damaged_record_neither_hangs_the_search_nor_is_its_number_taken_twice(store):
    plan = tiny.search_plan(trials=4)
    search = Search(plan, store)
    while (made := search.suggest()) is not None:
        tiny.save(store, made[1], tiny.rows(3, 0.4))
        search.finish(made[0], [])
    (store.root / "searches" / plan.name / "00001.json").write_text("{")
    again = Search(plan, store)
    number, spec = again.suggest()
    assert number == 4
    tiny.save(store, spec, tiny.rows(3, 0.4))
    again.finish(number, [])
    assert again.suggest() is None


def test_a_searched_variant_brings_its_own_settings(store):
    space = {"variant": {"choices": ["paper", "released"]}}
    plan = tiny.search_plan(model="gamenet", space=space, trials=2)
    config = Search(plan, store).spec({"variant": "released"}).config
    assert (config["dropout"], config["margin_weight"], config["ddi_gain"]) == (0.5, 0.1, 2.0)
