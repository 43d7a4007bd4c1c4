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
    ({"arms": []}, ["arms", "at least 1"]),
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
    ({"model": "most_popular", "space": None}, ["searches.0.model", "search_spaces/most_popular"]),
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


def test_a_study_reads_back_from_its_own_yaml(tmp_path):
    first = tiny.study(tmp_path, searches=[tiny.SEARCH])
    text = yaml.safe_dump(first.model_dump(mode="json"))
    assert Study.model_validate(yaml.safe_load(text)) == first


def test_a_key_given_twice_is_refused_with_its_line(tmp_path):
    path = tmp_path / "twice.yaml"
    path.write_text("name: a\nseeds: [0]\nseeds: [5]\n")
    with pytest.raises(StudyError, match=r"line 3: .*'seeds' is given twice"):
        load_study(str(path))
