"""A plan is a pure function, the same in every process; keys name what decides a result."""

import dataclasses
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medrec import splits
from medrec.spec import (
    Augment,
    CohortRef,
    KnowledgeSpec,
    Protocol,
    Resources,
    Training,
    TrialSpec,
)
from sweeps.errors import StudyError
from sweeps.plan import make_plan
from sweeps.record import StudyRecord
from sweeps.study import Study
from tests.sweeps import tiny

REPOSITORY = Path(__file__).parents[2]
FULL = {
    **tiny.STUDY,
    "arms": [
        {"model": "most_popular"},
        {"model": "gamenet", "config": {"dim": 8}, "ablations": ["no_memory", "no_history"]},
        {"model": "safedrug", "config": {"variant": "released"}, "training": {"epochs": 4}},
    ],
    "controls": [],
    "searches": [tiny.SEARCH],
}


def plan(**changes):
    return make_plan(Study.model_validate({**FULL, **changes}), tiny.data())


# ------------------------------------------------------------------ pure

_PRINT = """
import json, sys
from tests.sweeps import tiny
from tests.sweeps.test_plan import plan
made = plan()
trials = [s.model_dump(mode="json") for s in made.trials.values()]
heavy = sorted({"torch", "ray", "sklearn"} & set(sys.modules))
print(json.dumps([hash("x"), list(made.trials), trials, made.record.model_dump_json(), heavy]))
"""
_BLOCK = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "ray", "torch_geometric"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
"""


def in_process(code: str, seed: int):
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONHASHSEED": str(seed)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout.splitlines()[-1])


def test_three_processes_with_other_hash_seeds_make_the_same_plan():
    answers = [in_process(_PRINT, seed) for seed in (1, 2, 3)]
    assert len({answer[0] for answer in answers}) == 3  # the hash seeds did differ
    assert answers[0][1:] == answers[1][1:] == answers[2][1:]
    assert answers[0][4] == []  # neither torch nor Ray was imported


def test_making_a_plan_twice_gives_the_same_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one, two = plan(), plan()
    assert (one.record, one.trials) == (two.record, two.trials)
    assert list(tmp_path.iterdir()) == []


def test_plans_lists_and_searches_work_without_torch_and_ray():
    code = _BLOCK + "\nfrom sweeps.cli import main\nmain(sys.argv[1:])"
    for arguments in (["plan", "demo"], ["list"], ["list", "ablations"], ["--help"]):
        found = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60
        )
        assert (found.returncode, found.stderr) == (0, ""), arguments
        assert found.stdout


# ------------------------------------------------------------------ keys


def spec(**changes) -> TrialSpec:
    settings = {
        "model": "gamenet",
        "config": {"dim": 8},
        "cohort": CohortRef(path="here", fingerprint="f" * 64),
        "seed": 0,
    }
    return TrialSpec(**{**settings, **changes})


SAME = [
    {"cohort": CohortRef(path="elsewhere", fingerprint="f" * 64)},
    {"resources": Resources(cpus=4, gpus=0.5)},
]
OTHER = [
    {"model": "safedrug"},
    {"config": {"dim": 9}},
    {"config": {"dim": 8, "dropout": 0.1}},
    {"seed": 1},
    {"cohort": CohortRef(path="here", fingerprint="e" * 64)},
    {"knowledge": KnowledgeSpec(fingerprint="k")},
    {"augment": Augment(generator="bigram")},
    {"augment": Augment(generator="bigram", real=False)},
    *({"training": Training(**{k: v})} for k, v in (
        ("epochs", 3), ("batch_size", 3), ("learning_rate", 0.5), ("weight_decay", 0.5),
        ("clip_norm", 1.0), ("precision", "bf16"), ("schedule", "linear"),
    )),
    *({"protocol": Protocol(**{k: v})} for k, v in (
        ("threshold", 0.4), ("select", "f1"), ("visits", "transitions"),
    )),
]  # fmt: skip


@pytest.mark.parametrize("changes", SAME, ids=str)
def test_a_key_does_not_depend_on_where_a_trial_runs(changes):
    assert spec(**changes).key == spec().key


def test_a_key_depends_on_everything_that_decides_the_result():
    keys = [spec().key, *(spec(**changes).key for changes in OTHER)]
    assert len(set(keys)) == len(keys)
    changed = {name for changes in OTHER for name in changes}
    assert changed | {"resources"} == set(TrialSpec.model_fields)
    for part, kind in (("training", Training), ("protocol", Protocol)):
        covered = {f for c in OTHER if part in c for f in c[part].model_fields_set}
        assert covered == set(kind.model_fields)


def test_a_key_does_not_depend_on_the_order_of_settings():
    one = spec(config={"dim": 8, "dropout": 0.1}).key
    assert spec(config={"dropout": 0.1, "dim": 8}).key == one


# ------------------------------------------------------------------ arms


def test_arms_are_models_then_their_ablations_on_every_seed():
    made = plan()
    assert [(a.name, a.ablation, list(a.trials)) for a in made.record.arms] == [
        ("most_popular", None, ["0"]),  # training does not depend on the seed
        ("gamenet", None, ["0", "1"]),
        ("gamenet-no_memory", "no_memory", ["0", "1"]),
        ("gamenet-no_history", "no_history", ["0", "1"]),
        ("safedrug", None, ["0", "1"]),
    ]
    assert len(made.trials) == 9


def test_an_ablation_differs_from_the_full_model_in_its_changes_alone():
    made = plan()
    full, ablated = (made.trials[made.record.arms[i].trials["0"]] for i in (1, 2))
    assert ablated.config == full.config | {"memory": False}
    rest = {"config", "key"}
    assert full.model_dump(exclude=rest) == ablated.model_dump(exclude=rest)


def test_an_arms_settings_override_the_studys_and_those_the_models():
    made = plan(training={"epochs": 7})
    by_name = {a.name: made.trials[a.trials["0"]] for a in made.record.arms}
    assert by_name["gamenet"].training.epochs == 7
    assert by_name["safedrug"].training.epochs == 4
    assert by_name["gamenet"].config["dim"] == 8
    assert by_name["safedrug"].config["variant"] == "released"


def test_two_arms_with_the_same_settings_share_their_trials():
    arms = [{"model": "gamenet"}, {"model": "gamenet", "name": "twin"}]
    made = plan(arms=arms)
    assert made.record.arms[0].trials == made.record.arms[1].trials
    assert len(made.trials) == 2


def test_all_ablations_can_be_asked_for_at_once():
    made = plan(arms=[{"model": "gamenet", "ablations": "all"}])
    found = {a.ablation for a in made.record.arms}
    assert found == {None, "no_ddi_loss", "no_ddi_memory", "no_history", "no_memory"}


# ------------------------------------------------------------------ grids

GRID = {"model": "gamenet", "config": {"margin_weight": 0.1}}


def test_a_grid_is_one_arm_for_each_combination_and_nothing_else():
    grid = {"dim": [8, 16], "training.epochs": [3, 4]}
    made = plan(arms=[{**GRID, "grid": grid}], reference="gamenet-dim-8-training.epochs-4")
    assert [(a.name, a.title, a.varied) for a in made.record.arms] == [
        (
            f"gamenet-dim-{dim}-training.epochs-{epochs}",
            f"GAMENet, dim {dim}, epochs {epochs}",
            {"dim": dim, "training.epochs": epochs},
        )
        for dim in (8, 16)
        for epochs in (3, 4)
    ]
    assert {a.family for a in made.record.arms} == {"gamenet"}
    assert len(made.trials) == 4 * 2
    for arm in made.record.arms:
        for seed, key in arm.trials.items():
            spec = made.trials[key]
            assert spec.config["dim"] == arm.varied["dim"]
            assert spec.config["margin_weight"] == 0.1
            assert (spec.training.epochs, spec.seed) == (arm.varied["training.epochs"], int(seed))


def test_a_point_of_a_grid_is_the_trial_of_an_entry_with_that_setting():
    gridded = plan(arms=[{**GRID, "grid": {"dim": [8]}}], reference="gamenet-dim-8")
    config = {**GRID["config"], "dim": 8}
    assert gridded.trials == plan(arms=[{**GRID, "config": config}]).trials


@pytest.mark.parametrize(
    ("field", "values", "names", "titles"),
    [
        ("ddi_target", [0.03, 0.1], ["ddi_target-0.03", "ddi_target-0.1"], "DDI target 0.03"),
        ("memory", [True, False], ["memory-true", "memory-false"], "memory true"),
        ("controller", ["none"], ["controller-none"], "controller none"),
        ("training.clip_norm", [None, 1], ["training.clip_norm-null", "training.clip_norm-1.0"],
         "clip norm null"),
        ("dim", ["8"], ["dim-8"], "dim 8"),
    ],
)  # fmt: skip
def test_values_of_every_kind_make_names(field, values, names, titles):
    names = [f"mine-{name}" for name in names]
    arm = {"model": "gamenet", "name": "mine", "title": "Mine", "grid": {field: values}}
    made = plan(arms=[arm], reference=names[-1])
    assert [arm.name for arm in made.record.arms] == names
    assert made.record.arms[0].title == f"Mine, {titles}"
    assert {arm.family for arm in made.record.arms} == {"mine"}


def test_arms_without_a_grid_vary_nothing_and_know_their_entry():
    arms = plan().record.arms
    assert all(arm.varied == {} for arm in arms)
    assert [arm.family for arm in arms] == [
        "most_popular", "gamenet", "gamenet", "gamenet", "safedrug",
    ]  # fmt: skip


# ------------------------------------------------------------------ the rest of the record


def test_the_record_has_every_code_and_whether_patients_may_be_shown():
    found = tiny.data()
    record = plan().record
    assert record.vocabulary == {
        "diagnoses": found.cohort.vocabulary["diagnoses"],
        "procedures": found.cohort.vocabulary["procedures"],
    }
    assert record.medications == found.cohort.vocabulary["medications"]
    assert record.cohort.open_data  # synthetic
    provenance = dataclasses.replace(found.cohort.provenance, dataset="mimic4")
    closed = dataclasses.replace(
        found, cohort=dataclasses.replace(found.cohort, provenance=provenance)
    )
    assert not make_plan(Study.model_validate(FULL), closed).record.cohort.open_data


def test_a_record_made_before_these_fields_still_reads():
    content = json.loads(plan().record.model_dump_json())
    for name in ("vocabulary", "published"):
        del content[name]
    del content["cohort"]["open_data"]
    for arm in content["arms"]:
        del arm["family"], arm["varied"]
    read = StudyRecord.model_validate(content)
    assert not read.cohort.open_data
    assert read.vocabulary == {}
    assert StudyRecord.model_validate_json(plan().record.model_dump_json()) == plan().record


def test_a_search_is_not_part_of_the_frozen_plan():
    assert plan().trials == plan(searches=[]).trials
    assert plan().record.searches[0].trials == tiny.SEARCH["trials"]


def test_nothing_of_the_test_split_reaches_a_search():
    from tests.medrec.small import scramble  # imports torch, which other tests here do without

    found = tiny.data()
    test = np.flatnonzero(found.cohort.split == splits.TEST)
    scrambled = dataclasses.replace(found, cohort=scramble(found.cohort, splits.TEST), truth={
        name: value + 1 for name, value in found.truth.items()})  # fmt: skip
    assert len(test)
    study = Study.model_validate(
        {**tiny.STUDY, "searches": [{**tiny.SEARCH, "objective": ["jaccard", "ddi_rate"]}]}
    )
    (plan,), (other,) = (make_plan(study, data).record.searches for data in (found, scrambled))
    assert plan.medication_floor is not None
    place = {"base": {"cohort"}}
    assert plan.model_dump(exclude=place) == other.model_dump(exclude=place)


def test_early_stopping_by_a_metric_where_lower_is_better_is_refused():
    search = {**tiny.SEARCH, "objective": ["ddi_rate", "jaccard"], "early_stopping": {}}
    with pytest.raises(StudyError, match=r"searches\.0\.early_stopping.*recommends nothing"):
        make_plan(Study.model_validate({**tiny.STUDY, "searches": [search]}), tiny.data())


def test_codes_of_few_patients_are_named_on_open_data_alone():
    data = tiny.data()
    whole = make_plan(Study.model_validate(tiny.STUDY), data).record.vocabulary
    assert whole["diagnoses"] == data.cohort.vocabulary["diagnoses"]
    closed = replace(data.cohort, provenance=replace(data.cohort.provenance, dataset="meds"))
    record = make_plan(Study.model_validate(tiny.STUDY), replace(data, cohort=closed)).record
    for kind in ("diagnoses", "procedures"):
        carriers = closed.carriers(kind)
        for code, shown, patients in zip(
            closed.vocabulary[kind], record.vocabulary[kind], carriers, strict=True
        ):
            assert shown == (code if patients >= 10 else "rare")
        assert "rare" in record.vocabulary[kind]


def test_arms_of_one_title_are_told_apart_by_their_names():
    arms = [
        {"model": "gamenet", "name": "narrow", "config": {"dim": 8}},
        {"model": "gamenet", "name": "wide", "config": {"dim": 16}},
        {"model": "most_popular"},
    ]
    study = Study.model_validate({**tiny.STUDY, "arms": arms, "reference": "wide", "searches": []})
    titles = [arm.title for arm in make_plan(study, tiny.data()).record.arms]
    assert titles == ["GAMENet (narrow)", "GAMENet (wide)", "Most popular"]


def test_an_ablation_that_contradicts_the_arm_is_named():
    arm = {"model": "kindmed", "config": {"medicine_graph": False}, "ablations": ["no_attention"]}
    study = Study.model_validate(
        {**tiny.STUDY, "arms": [arm], "reference": "kindmed", "searches": []}
    )
    with pytest.raises(StudyError, match=r"arms\.0\.ablations \(no_attention\)\.config"):
        make_plan(study, tiny.data())
