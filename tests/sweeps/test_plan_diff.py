"""Before a run starts it says what is new, stored or stale, and what the rest may cost."""

import json
from dataclasses import replace

import pytest

from sweeps.cli import main
from sweeps.plan import Plan, make_plan
from sweeps.plan_diff import changed_settings, duration, plan_diff, plan_hash, told
from sweeps.provenance import code_digest, trial_seconds
from sweeps.run import run_study
from sweeps.store import ResultsStore
from sweeps.study import Study
from tests.sweeps import tiny


def plan(**changes) -> Plan:
    return make_plan(Study.model_validate({**tiny.STUDY, **changes}), tiny.data())


def save(store: ResultsStore, spec, code: str | None = None, **seconds) -> None:
    summary = {"spec": spec.without_places().model_dump(mode="json"), "seconds": seconds}
    if code:
        summary["environment"] = {"code": code}
    store.save(spec.key, summary, tiny.rows(2, 0.4), tiny.predictions(), b"weights")


def arm(diff, name: str):
    return next(found for found in diff.arms if found.name == name)


@pytest.fixture
def store(tmp_path):
    return ResultsStore(tmp_path / "out")


# ------------------------------------------------------------------ the hash


@pytest.mark.parametrize(
    ("changes", "other"),
    [
        ({}, False),
        ({"question": "Another?"}, False),
        ({"tables": ["baselines"]}, False),
        ({"resamples": 500}, False),
        ({"resources": {"cpus": 2}}, False),
        ({"seeds": [0]}, True),
        ({"training": {"epochs": 3}}, True),
        ({"arms": tiny.STUDY["arms"][1:]}, True),
        ({"protocol": {"threshold": 0.4}}, True),
        ({"searches": [tiny.SEARCH]}, True),
    ],
    ids=str,
)
def test_the_hash_covers_what_decides_results(changes, other):
    found = plan_hash(plan(**changes))
    assert len(found) == 12
    assert int(found, 16) >= 0
    assert (found != plan_hash(plan())) == other


def test_the_hash_covers_the_settings_of_a_search():
    one, two, three = (
        plan_hash(plan(searches=[{**tiny.SEARCH, **changes}]))
        for changes in ({}, {"trials": 9}, {"training": {"epochs": 5}})
    )
    assert len({one, two, three}) == 3


def test_a_re_tuned_arm_has_the_same_hash_before_and_after_its_search():
    made = plan()
    hashes = set()
    for trials in ({}, made.record.arms[1].trials):
        tuned = made.record.arms[1].model_copy(update={"tuned_by": "tune", "trials": trials})
        record = made.record.model_copy(update={"arms": (made.record.arms[0], tuned)})
        hashes.add(plan_hash(replace(made, record=record)))
    assert len(hashes) == 1
    assert hashes != {plan_hash(made)}


def test_of_an_arm_that_waits_for_its_search_the_cost_is_not_known(store):
    made = plan()
    waits = made.record.arms[1].model_copy(update={"tuned_by": "tune", "trials": {}})
    record = made.record.model_copy(update={"arms": (made.record.arms[0], waits)})
    key = made.record.arms[0].trials["0"]
    diff = plan_diff(replace(made, record=record), store, {key: 3.0})
    assert diff.unknown == ("gamenet",)
    assert told(diff)[1].endswith("not known: gamenet")


# ------------------------------------------------------------------ the difference


def test_without_results_everything_is_new(store):
    made = plan()
    diff = plan_diff(made, store, {})
    assert [(a.name, len(a.new), len(a.cached), len(a.changed)) for a in diff.arms] == [
        ("most_popular", 1, 0, 0),
        ("gamenet", 2, 0, 0),
    ]
    assert told(diff)[0] == (
        f"plan {plan_hash(made)}: 2 arms × 2 seeds, 3 trials to run, 0 stored"
    )
    assert len(told(diff)) == 2  # nothing to compare with


def test_a_changed_setting_is_told_with_its_old_and_its_new_value(store):
    before = plan()
    store.write_study(before.record)
    save(store, before.trials[before.record.arms[1].trials["0"]])  # seed 1 was never run
    after = plan(
        training={"epochs": 5, "clip_norm": 2.0},
        arms=[{"model": "gamenet", "config": {"dim": 16}}, {"model": "copy_previous"}],
    )
    found = arm(plan_diff(after, store, {}), "gamenet")
    assert found.settings == (
        "config.dim: 8 → 16",
        "training.epochs: 2 → 5",
        "training.clip_norm: null → 2.0",
    )
    keys = after.record.arms[0].trials
    assert (found.changed, found.new, found.cached) == ((keys["0"],), (keys["1"],), ())
    text = "\n".join(told(plan_diff(after, store, {})))
    assert "stale   gamenet: 1 trials with other settings (config.dim: 8 → 16" in text
    assert "new     copy_previous: 1 trials" in text


def test_settings_that_one_version_lacks_are_told_as_absent():
    new = tiny.spec()
    old = json.loads(new.model_dump_json())
    old["config"] = {"gone": [1]}
    del old["training"]["clip_norm"]
    old["knowledge"]["fingerprint"] = "abc"
    old["cohort"]["path"] = "elsewhere"
    old["resources"]["cpus"] = 7.0
    assert sorted(changed_settings(old, new)) == [
        "config.dim: absent → 8",
        "config.gone: [1] → absent",
        "knowledge: abc → ",
        "training.clip_norm: absent → null",
    ]


def test_a_study_of_another_name_is_no_earlier_version(store):
    other = plan(name="other")
    store.write_study(other.record)
    save(store, other.trials[other.record.arms[1].trials["0"]])
    assert arm(plan_diff(plan(training={"epochs": 5}), store, {}), "gamenet").changed == ()


def test_trials_of_other_code_are_stale_and_used_and_those_that_do_not_say_are_believed(store):
    made = plan()
    keys = made.record.arms[1].trials
    save(store, made.trials[keys["0"]], code="0" * 16)
    save(store, made.trials[keys["1"]], code=code_digest("gamenet"))
    save(store, made.trials[made.record.arms[0].trials["0"]])
    diff = plan_diff(made, store, {})
    assert arm(diff, "gamenet").cached == (keys["0"], keys["1"])
    assert arm(diff, "gamenet").other_code == (keys["0"],)
    assert arm(diff, "most_popular").other_code == ()
    lines = told(diff)
    assert lines[1:] == [
        "  cached  most_popular: 1 trials",
        "  stale   gamenet: 1 trials made by other code; they are used (--rerun-stale computes "
        "them again)",
        "  cached  gamenet: 1 trials",
    ]


def test_a_damaged_trial_is_to_be_run(store):
    made = plan()
    key = made.record.arms[0].trials["0"]
    save(store, made.trials[key])
    (store.root / "trials" / key / "trial.json").write_text("{}")
    assert arm(plan_diff(made, store, {}), "most_popular").new == (key,)


# ------------------------------------------------------------------ the cost


def test_stored_trials_say_what_the_others_cost_and_rehearsals_where_there_are_none(store):
    search = {**tiny.SEARCH, "config": {"dim": 8}, "space": {"dropout": {}}}
    made = plan(seeds=[0, 1, 2], searches=[search])
    keys = made.record.arms[1].trials
    rehearsed = {keys["0"]: 100.0}
    diff = plan_diff(made, store, rehearsed)
    assert (arm(diff, "gamenet").seconds, arm(diff, "gamenet").source) == (100.0, "rehearsed")
    # Three trials of the arm, and eight of a search that starts from the settings of seed 0.
    assert diff.seconds == 3 * 100 + 8 * 100
    assert diff.unknown == ("most_popular",)
    assert "about 18 min, one trial after another; arms without a stored trial by" in told(diff)[1]
    assert told(diff)[1].endswith("not known: most_popular")
    save(store, made.trials[keys["0"]], wall=20.0, training=15.0, resumed=10.0)
    save(store, made.trials[keys["1"]], wall=40.0, training=35.0, resumed=0.0)
    diff = plan_diff(made, store, rehearsed)
    assert (arm(diff, "gamenet").seconds, arm(diff, "gamenet").source) == (35.0, "stored")
    assert diff.seconds == 1 * 35 + 8 * 30
    assert "rehearsed" not in {found.source for found in diff.arms}


def test_the_seconds_of_a_trial_cover_all_its_attempts():
    assert trial_seconds({"seconds": {"wall": 5.0, "training": 4.0}}) == 5
    assert trial_seconds({"seconds": {"wall": 5.0, "training": 9.0}}) == 9  # of an older version
    assert trial_seconds({"seconds": {"wall": 5.0, "training": 9.0, "resumed": 5.5}}) == 10.5
    assert trial_seconds({"seconds": {"train": 5.0}}) is None
    assert trial_seconds({}) is None


def test_searches_count_what_is_left(store):
    made = plan(searches=[tiny.SEARCH])
    note = {"key": "0" * 16, "params": {}, "values": None}
    for number, state in enumerate(("complete", "pruned", "failed", "running")):
        store.write_text(
            f"searches/tune/{number:05d}.json",
            json.dumps({**note, "number": number, "state": state}),
        )
    assert plan_diff(made, store, {}).searches == (("tune", 5, None),)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.01, "1 s"), (89, "89 s"), (90, "2 min"), (5400, "1.5 h")]
)
def test_times_are_told_as_people_say_them(seconds, text):
    assert duration(seconds) == text


# ------------------------------------------------------------------ on the command line


def age(store: ResultsStore, key: str) -> None:
    """Stores a trial as other code would have made it."""
    made, weights = store.load(key), store.weights(key)
    columns = made.history
    history = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    summary = {**made.summary, "environment": {**made.summary["environment"], "code": "0" * 16}}
    store.supersede(key)
    store.save(key, summary, history, made.predictions, weights)


def test_stale_trials_are_used_until_they_are_asked_to_be_run_again(capsys, tmp_path):
    path = tiny.write_study(tmp_path, seeds=[0], training={"epochs": 1})
    out = tmp_path / "out"
    store = ResultsStore(out)
    record = run_study(tiny.study(tmp_path, seeds=[0], training={"epochs": 1}), out,
                       tiny.quiet(), tiny.INLINE)  # fmt: skip
    key = record.arms[1].trials["0"]
    good = store.load(key).predictions.scores
    age(store, key)
    before = tiny.trial_files(out)
    options = ["--out", str(out), "--executor", "inline", "--no-tables"]
    main(["run", str(path), *options])
    text = capsys.readouterr().out
    assert "stale   gamenet: 1 trials made by other code; they are used" in text
    assert tiny.trial_files(out) == before
    main(["run", str(path), *options, "--rerun-stale"])
    assert "new     gamenet: 1 trials" in capsys.readouterr().out
    assert store.summary(key)["environment"]["code"] == code_digest("gamenet")
    assert (store.load(key).predictions.scores == good).all()
    aside = sorted((out / "superseded").iterdir())
    assert [folder.name.split("-")[0] for folder in aside] == [key, key]  # one by `age`
    codes = {json.loads((a / "trial.json").read_text())["environment"]["code"] for a in aside}
    assert "0" * 16 in codes
    main(["plan", str(path), "--out", str(out), "--json"])
    diff = json.loads(capsys.readouterr().out)["diff"]
    assert diff["hash"]
    assert [(a["name"], len(a["cached"]), a["new"]) for a in diff["arms"]] == [
        ("most_popular", 1, []),
        ("gamenet", 1, []),
    ]
