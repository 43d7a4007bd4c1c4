"""Study files: every wrong field is named, with its value and what to do."""

import pytest
import yaml

from sweeps.cohorts import study_data
from sweeps.errors import StudyError
from sweeps.plan import make_plan
from sweeps.study import Study, load_study
from tests.sweeps import tiny


def refused(tmp_path, text: str | None = None, settings: tuple[str, ...] = (), **changes) -> str:
    path = tiny.write_study(tmp_path, **changes)
    if text is not None:
        path.write_text(text)
    with pytest.raises(StudyError) as caught:
        make_plan(load_study(str(path), settings), tiny.data())
    return str(caught.value)


# Each: the change, what the message must name (field, value, remedy).
WRONG = [
    ({"arms": [{"model": "gamnet"}]}, ["arms.0.model", "'gamnet'", "Did you mean 'gamenet'?"]),
    ({"arms": [{"modle": "gamenet"}]}, ["arms.0.model", "arms.0.modle"]),
    ({"question_": "?"}, ["question_", "Did you mean 'question'?"]),
    (
        {"arms": [{"model": "gamenet", "config": {"dimm": 3}}]},
        ["arms.0.config.dimm", "3", "Did you mean 'dim'?"],
    ),
    (
        {"arms": [{"model": "gamenet", "config": {"dim": "wide"}}]},
        ["arms.0.config.dim", "'wide'", "integer"],
    ),
    (
        {"arms": [{"model": "gamenet", "ablations": ["no_memry"]}]},
        ["arms.0.ablations", "'no_memry'", "Did you mean 'no_memory'?"],
    ),
    (
        {"arms": [{"model": "most_popular", "ablations": ["no_memory"]}]},
        ["arms.0.ablations", "'no_memory'"],
    ),
    (
        {"arms": [{"model": "gamenet", "grid": {"dim": [8, "wide"]}}]},
        ["arms.0.grid.dim", "'wide'", "integer"],
    ),
    (
        {"arms": [{"model": "gamenet", "grid": {"dimm": [8]}}]},
        ["arms.0.grid.dimm", "8", "Did you mean 'dim'?"],
    ),
    (
        {"arms": [{"model": "gamenet", "config": {"dimm": 8}, "grid": {"dim": [8]}}]},
        ["arms.0.config.dimm", "Did you mean 'dim'?"],
    ),
    (
        {"arms": [{"model": "gamenet", "grid": {"training.epochs": [0]}}]},
        ["arms.0.grid.training.epochs", "0", "greater than or equal to 1"],
    ),
    (
        {"arms": [{"model": "gamenet", "grid": {"training.epoch": [1]}}]},
        ["arms.0.grid.training.epoch", "Did you mean 'epochs'?"],
    ),
    (
        {"arms": [{"model": "gamenet", "grid": {"dim": []}}]},
        ["arms.0.grid.dim", "at least one value"],
    ),
    (
        {"arms": [{"model": "gamenet", "grid": {"dim": [8, 8]}}]},
        ["arms.0.grid.dim", "distinct", "[8, 8]"],
    ),
    (
        {"arms": [{"model": "gamenet", "grid": {"dropout": [0.1, 0.1000]}}]},
        ["arms.0.grid.dropout", "distinct"],
    ),
    ({"arms": [{"model": "gamenet", "grid": {"dim": 8}}]}, ["arms.0.grid.dim", "8"]),
    (
        {"arms": [{"model": "gamenet", "grid": {"dim": [8]}, "ablations": ["no_memory"]}]},
        ["arms.0.grid", "ablations", "not both"],
    ),
    (
        {"arms": [{"model": "gamenet", "grid": {"dim": [8]}, "config": {"dim": 4}}]},
        ["arms.0.grid.dim", "4", "as well"],
    ),
    (
        {"arms": [{"model": "gamenet", "name": "n" * 78, "grid": {"dim": [8]}}]},
        ["arms.0", "80 characters", "`name`"],
    ),
    (
        {"arms": [{"model": "gamenet", "grid": {"dim": [8]}}]},
        ["reference", "'gamenet'", "Did you mean 'gamenet-dim-8'?"],
    ),
    ({"scale": "small"}, ["scale", "'small'", "no scales"]),
    ({"scale": 3, "scales": {"small": {}}}, ["scale", "3", "string"]),
    (
        {"scale": "smal", "scales": {"small": {}, "full": {}}},
        ["scale", "'smal'", "Did you mean 'small'?", "['small', 'full']"],
    ),
    ({"scales": {"small": 3}}, ["scales.small", "3"]),
    ({"scales": []}, ["scales", "[]"]),
    (
        {"scale": "small", "scales": {"small": {"sedes": [1]}}},
        ["sedes", "Did you mean 'seeds'?"],
    ),
    (
        {"scale": "small", "scales": {"small": {"arms.9.config.dim": 8}}},
        ["scales.small.arms.9.config.dim", "no such field"],
    ),
    ({"arms": []}, ["arms", "at least 1"]),
    ({"seeds": 3}, ["field seeds: must be a list, but got 3."]),
    (
        {"arms": [{"model": "gamenet", "ablations": "none"}]},
        ["field arms.0.ablations: must be 'all' or must be a list, but got 'none'."],
    ),
    (
        {"arms": [{"model": "gamenet"}, {"model": "gamenet", "config": {"dim": 8}}]},
        ["arms", "'gamenet'", "`name`"],
    ),
    ({"arms": [{"model": "gamenet", "name": "../up"}]}, ["arms.0.name", "'../up'"]),
    ({"tables": ["baseline"]}, ["tables.0", "'baseline'", "Did you mean 'baselines'?"]),
    ({"reference": "gamnet"}, ["reference", "'gamnet'", "Did you mean 'gamenet'?"]),
    ({"seeds": [0, 0]}, ["seeds", "distinct"]),
    ({"seeds": []}, ["seeds"]),
    ({"seeds": [-1]}, ["seeds.0", "-1"]),
    ({"training": {"epochs": -3}}, ["training.epochs", "-3", "greater than or equal to 1"]),
    ({"training": {"epoch": 3}}, ["training.epoch", "Did you mean 'epochs'?"]),
    (
        {"arms": [{"model": "gamenet", "training": {"learning_rate": 0}}]},
        ["arms.0.training.learning_rate", "0"],
    ),
    ({"protocol": {"threshold": 1.5}}, ["protocol.threshold", "1.5"]),
    ({"resources": {"gpus": 2}}, ["resources.gpus", "2"]),
    ({"knowledge": {"interactions": "none.csv"}}, ["knowledge.interactions", "none.csv"]),
    ({"resamples": 5}, ["resamples", "5"]),
    ({"name": "a b"}, ["name", "'a b'"]),
    ({"cohort": {"dataset": "synthetc"}}, ["cohort", "Did you mean 'synthetic'?"]),
    ({"cohort": {"dataset": "mimic4"}}, ["cohort", "medsweep data prepare mimic4"]),
    ({"cohort": "no/such/folder"}, ["cohort", "'no/such/folder'", "medsweep data prepare"]),
    (
        {"cohort": {"dataset": "synthetic", "options": {"patients": 2}}},
        ["options.patients", "2"],
    ),
]


@pytest.mark.parametrize(("changes", "named"), WRONG, ids=lambda v: str(v)[:40])
def test_a_wrong_field_is_named_with_value_and_remedy(tmp_path, changes, named):
    if "cohort" in changes or "knowledge" in changes:
        with pytest.raises(StudyError) as caught:
            study_data(tiny.study(tmp_path, **changes), tmp_path)
        message = str(caught.value)
    else:
        message = refused(tmp_path, **changes)
    for part in named:
        assert part in message, message


WRONG_SEARCHES = [
    ({"model": "gamnet"}, ["searches.0.model", "Did you mean 'gamenet'?"]),
    (
        {"model": "most_popular", "space": None},
        ["field searches.0:", "search_spaces/most_popular", "Leave out"],
    ),
    ({"trials": 0}, ["searches.0.trials", "0"]),
    ({"objective": "jacard"}, ["searches.0.objective", "'jacard'"]),
    ({"objective": ["jaccard", "ddi_rat"]}, ["searches.0.objective", "'ddi_rat'", "Did you mean"]),
    ({"objective": []}, ["searches.0.objective"]),
    ({"objective": ["jaccard", "jaccard"]}, ["searches.0.objective", "distinct"]),
    ({"space": {}}, ["searches.0.space", "no dimension"]),
    ({"space": {"dropout": {"low": 0.5, "high": 0.7}}}, ["space.dropout", "excludes", "0.4"]),
    ({"space": {"dim": {"choices": [16, 32]}}}, ["space.dim", "excludes", "dim=64"]),
    ({"space": {"dropuot": {"low": 0, "high": 1}}}, ["dropuot", "Did you mean 'dropout'?"]),
    ({"space": {"training.lr": {"low": 0, "high": 1}}}, ["training.lr", "no such setting"]),
    ({"space": {"config.dim": {"choices": [64]}}}, ["config.dim", "no such setting"]),
    ({"space": {"graph_dropout": {}}}, ["space.graph_dropout", "has no range"]),
    ({"space": {"dropout": {"low": 0.7, "high": 0.2}}}, ["space.dropout", "is no range"]),
    ({"space": {"dropout": {"lo": 0.1, "high": 0.5}}}, ["space.dropout", "is no range"]),
    ({"space": {"dropout": {"low": "a", "high": 0.5}}}, ["space.dropout", "is no range"]),
    ({"space": {"dropout": {"low": 0.1, "high": 1.5}}}, ["space.dropout", "1.5"]),
    ({"space": {"dim": {"low": -4, "high": 64}}}, ["space.dim", "-4"]),
    (
        {"space": {"training.learning_rate": {"low": 1.0e-4, "high": 5}}},
        ["training.learning_rate", "5"],
    ),
    ({"space": {"training.clip_norm": {"low": 0.1, "high": 1}}}, ["clip_norm", "excludes"]),
    ({"space": {"variant": {"low": 0.1, "high": 1}}}, ["variant", "excludes", "'paper'"]),
    ({"early_stopping": {"reduction": 1}}, ["early_stopping.reduction", "1"]),
    ({"name": "a/b"}, ["searches.0.name", "'a/b'"]),
]


@pytest.mark.parametrize(("changes", "named"), WRONG_SEARCHES, ids=lambda v: str(v)[:40])
def test_a_wrong_search_is_named_with_value_and_remedy(tmp_path, changes, named):
    message = refused(tmp_path, searches=[{**tiny.SEARCH, **changes}])
    for part in named:
        assert part in message, message


def test_two_searches_of_one_name_are_refused(tmp_path):
    assert "searches" in refused(tmp_path, searches=[tiny.SEARCH, tiny.SEARCH])


def test_every_wrong_field_is_told_at_once(tmp_path):
    message = refused(tmp_path, seeds=[-1], resamples=5, name="a b")
    for field in ("name", "seeds.0", "resamples"):
        assert f"field {field}: " in message


# ------------------------------------------------------------------ the file itself


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("name: tiny\narms: [\n", "line"),
        ("name: tiny\n  question: ?\n", "line 2"),
        ("name: !!python/object/apply:os.system ['touch ran']\n", "line 1"),
        ("name: 2026-13-45\n", "not valid YAML"),
        ("- a\n- b\n", "list"),
        ("", "NoneType"),
        ("just text", "str"),
    ],
)
def test_what_is_no_mapping_in_yaml_is_refused_with_its_line(tmp_path, monkeypatch, text, named):
    monkeypatch.chdir(tmp_path)
    message = refused(tmp_path, text=text)
    assert str(tmp_path / "tiny.yaml") in message
    assert named in message
    assert not (tmp_path / "ran").exists()


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "s.yaml").write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(StudyError, match="not valid YAML"):
        load_study(str(tmp_path / "s.yaml"))


def test_a_missing_study_is_refused_with_the_nearest_name(tmp_path):
    with pytest.raises(StudyError, match="Did you mean 'demo'"):
        load_study("demmo")
    with pytest.raises(StudyError, match="There is no file"):
        load_study(str(tmp_path / "none.yaml"))


# ------------------------------------------------------------------ --set


@pytest.mark.parametrize(
    ("setting", "read", "expected"),
    [
        ("seeds=[3,4]", lambda s: s.seeds, (3, 4)),
        ("training.epochs=5", lambda s: s.training["epochs"], 5),
        ("protocol.threshold=0.3", lambda s: s.protocol.threshold, 0.3),
        ("arms.1.config.dim=16", lambda s: s.arms[1].config["dim"], 16),
        ("arms.0={model: copy_previous}", lambda s: s.arms[0].model, "copy_previous"),
        ("cohort=some/folder", lambda s: s.cohort, "some/folder"),
        ("question=a=b", lambda s: s.question, "a=b"),
    ],
)
def test_a_setting_changes_one_field(tmp_path, setting, read, expected):
    path = str(tiny.write_study(tmp_path))
    changed, before = load_study(path, (setting,)), load_study(path)
    assert read(changed) == expected
    field = setting.split("=")[0].split(".")[0]
    rest = {name: value for name, value in changed if name != field}
    assert rest == {name: value for name, value in before if name != field}


def test_of_two_settings_of_one_field_the_last_holds(tmp_path):
    path = str(tiny.write_study(tmp_path))
    assert load_study(path, ("seeds=[1]", "seeds=[2]")).seeds == (2,)


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("seeds", "field=value"),
        ("=3", "field=value"),
        ("seeds=[1", "not valid YAML"),
        ("name=2026-13-45", "not valid YAML"),
        ("arms.9.model=gamenet", "no such field"),
        ("arms.first.model=gamenet", "no such field"),
        ("name.first=x", "no such field"),
        ("sedes=[1]", "Did you mean 'seeds'?"),
        ("training.epochs=-1", "-1"),
        ("name=!!python/name:os.system", "not valid YAML"),
    ],
)
def test_a_wrong_setting_is_refused(tmp_path, setting, named):
    assert named in refused(tmp_path, settings=(setting,))


# ------------------------------------------------------------------ scales

SCALES = {
    "small": {
        "cohort.options.patients": 12,
        "training.epochs": 1,
        "seeds": [5],
        "arms.1.config.dim": 4,
    },
    "full": {},
}


def test_a_scale_sets_its_fields_and_no_other(tmp_path):
    path = str(tiny.write_study(tmp_path, scales=SCALES))
    small, plain = load_study(path, ("scale=small",)), load_study(path)
    assert (small.scale, plain.scale) == ("small", None)
    assert small.cohort.options == {"patients": 12}
    assert small.training == {"epochs": 1}
    assert small.seeds == (5,)
    assert small.arms[1].config == {"dim": 4}
    changed = {"scale", "cohort", "training", "seeds", "arms"}
    assert small.model_dump(exclude=changed) == plain.model_dump(exclude=changed)
    unscaled = {"scale"}
    full = load_study(path, ("scale=full",))
    assert full.model_dump(exclude=unscaled) == plain.model_dump(exclude=unscaled)


def test_other_settings_hold_over_a_scale_wherever_they_stand(tmp_path):
    path = str(tiny.write_study(tmp_path, scales=SCALES))
    own = ("training.epochs=9", "cohort=some/folder", "seeds=[7]")
    orders = [("scale=small", *own), (*own, "scale=small"), (own[0], "scale=small", *own[1:])]
    found = [load_study(path, order) for order in orders]
    assert found[0] == found[1] == found[2]
    assert found[0].cohort == "some/folder"  # a scale's options of the cohort are no obstacle
    assert (found[0].training["epochs"], found[0].seeds) == (9, (7,))
    assert found[0].arms[1].config["dim"] == 4


def test_a_scale_may_stand_in_the_file_and_be_changed(tmp_path):
    path = str(tiny.write_study(tmp_path, scales=SCALES, scale="small"))
    assert load_study(path).seeds == (5,)
    assert load_study(path, ("scale=full",)).seeds == (0, 1)
    assert load_study(path, ("scale=null",)).seeds == (0, 1)
    assert load_study(path, ("scale=full", "scale=small")).seeds == (5,)


def test_a_setting_leaves_the_scale_itself_as_it_is(tmp_path):
    scales = {"small": {"training": {"epochs": 1}}}
    path = str(tiny.write_study(tmp_path, scales=scales))
    found = load_study(path, ("scale=small", "training.epochs=9"))
    assert found.training == {"epochs": 9}
    assert found.scales == scales


def test_a_study_reads_back_from_its_own_yaml(tmp_path):
    first = tiny.study(tmp_path, searches=[tiny.SEARCH])
    text = yaml.safe_dump(first.model_dump(mode="json"))
    assert Study.model_validate(yaml.safe_load(text)) == first


def test_a_key_given_twice_is_refused_with_its_line(tmp_path):
    path = tmp_path / "twice.yaml"
    path.write_text("name: a\nseeds: [0]\nseeds: [5]\n")
    with pytest.raises(StudyError, match=r"line 3: .*'seeds' is given twice"):
        load_study(str(path))
