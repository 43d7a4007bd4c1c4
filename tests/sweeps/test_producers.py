"""Studies of generators and hierarchies, and what recommenders take from them, end to end."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from medrec import splits, trial
from medrec.cohort import Cohort
from medrec.errors import MedrecError
from medrec.hierarchy._tree_json import from_json
from medrec.measures import Measured
from medrec.producing import augmented, generator_spec, rehearsed
from medrec.spec import Augment
from sweeps import trial_files
from sweeps.cli import main
from sweeps.cohorts import study_data
from sweeps.errors import StudyError
from sweeps.export_best import export_best
from sweeps.plan import make_plan
from sweeps.regenerate import regenerate
from sweeps.run import run_study
from sweeps.statistics.results import gather
from sweeps.store import ResultsStore
from sweeps.tasks import measures_of
from tests.sweeps import tiny
from tests.sweeps.fabricate import fabricate_measured

GENERATORS = [
    {
        "model": "hisgt",
        "config": {"layers": 1, "heads": 2, "dim": 8, "tree_epochs": 2, "tree_hidden": 8,
                   "text_dim": 8, "tree_edges": "parent_child"},
    },
    {"model": "marginals"},
]  # fmt: skip
MASH = {"model": "mash", "config": {"steps": 5, "hidden": 8, "code_dim": 16, "dim": 4}}


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """A study of generators, and the exported HiSGT beside it."""
    root = tmp_path_factory.mktemp("generators")
    study = tiny.study(root, arms=GENERATORS, reference="hisgt", training={"epochs": 1})
    run_study(study, root / "out", tiny.quiet(), tiny.INLINE)
    export_best(root / "out", root / "model", arm="hisgt")
    return root


@pytest.fixture(scope="module")
def arranged(tmp_path_factory):
    root = tmp_path_factory.mktemp("hierarchies")
    study = tiny.study(root, arms=[MASH], reference="mash")
    run_study(study, root / "out", tiny.quiet(), tiny.INLINE)
    return root


def command(*arguments) -> None:
    main([str(a) for a in arguments])  # exits where it fails


def refused(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as caught:
        main([str(a) for a in arguments])
    found = capsys.readouterr()
    assert caught.value.code in (1, 2)
    assert "Traceback" not in found.err + found.out
    return " ".join(found.err.split())


def planned(tmp_path, **changes):
    study = tiny.study(tmp_path, **changes)
    return make_plan(study, study_data(study, tmp_path / "out"))


# ---------------------------------------------------------------------- the store and tables


def test_measures_are_stored_and_read_back(generated):
    store = ResultsStore(generated / "out")
    assert store.study().task == "generation"
    for key in store.trial_keys():
        found = store.load(key).found
        assert isinstance(found, Measured)
        assert set(found.terms) <= set(measures_of("generation"))
        assert store.summary(key)["facts"]["drawn_patients"] > 0
        with pytest.raises(Exception, match="no recommender"):
            _ = store.load(key).predictions


def test_estimates_are_the_ratios_that_trials_stored(generated):
    store = ResultsStore(generated / "out")
    results = gather(store)
    for arm in results.record.arms:
        for name in results.metrics:
            own = []
            for key in arm.trials.values():
                above, below = store.load(key).measured.terms.get(name, (np.zeros(1), np.zeros(1)))
                if below.any():
                    own.append(above.sum() / below.sum())
            found = results.estimate(name, arm.name)
            if own:
                assert found.estimate == pytest.approx(np.mean(own), abs=1e-9)


def test_tables_and_report_of_generators(generated):
    written = {path.name for path in regenerate(generated / "out")}
    assert {"generation_fidelity.md", "generation_utility.csv", "generation_privacy.tex",
            "generation_copies.md", "generation_sizes.md", "verdicts.md"} <= written  # fmt: skip
    report = (generated / "out" / "report.html").read_text()
    assert "Same-visit R²" in report
    assert "DDI graph" not in (generated / "out/tables/baselines.md").read_text()
    assert not (generated / "out/cases.html").exists()


def test_a_hierarchy_leaves_its_tree(arranged):
    store = ResultsStore(arranged / "out")
    (key, *_) = store.trial_keys()
    tree = from_json(store.further(key)["tree.json"].decode())
    assert "code" in tree.kinds
    regenerate(arranged / "out")
    page = (arranged / "out/trees/mash.html").read_text()
    assert "<canvas" in page
    assert "trees/mash.html" in (arranged / "out/report.html").read_text()


# ---------------------------------------------------------------------- generated cohorts


def test_a_generated_cohort_is_a_cohort(generated, tmp_path):
    out, again = tmp_path / "drawn", tmp_path / "again"
    for folder in (out, again):
        command("generate", "--model", generated / "model", "--patients", 30, "--out", folder)
    cohort = Cohort.open(out)
    assert cohort.patients == 30
    assert cohort.fingerprint == Cohort.open(again).fingerprint
    assert cohort.vocabulary == Cohort.open(generated / "out/cohort").vocabulary
    assert set(cohort.genders) == {"unknown"}
    study = tiny.study(tmp_path, cohort=str(out), seeds=[0], training={"epochs": 1})
    run_study(study, tmp_path / "out", tiny.quiet(), tiny.INLINE)


def test_demographics_come_from_the_training_patients_of_a_cohort(generated, tmp_path):
    home = generated / "out/cohort"
    command("generate", "--model", generated / "model", "--patients", 30, "--out", tmp_path / "x",
            "--trained-on", home, "--seed", 3, "--temperature", 0.5, "--top-k", 20)  # fmt: skip
    drawn, real = Cohort.open(tmp_path / "x"), Cohort.open(home)
    assert drawn.genders == real.genders
    assert (drawn.age >= 0).all()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--patients", "2"], "3"),
        (["--patients", "9", "--temperature", "0"], "0"),
        (["--patients", "9", "--top-k", "0"], "top-k"),
        (["--patients", "9", "--trained-on", "nowhere"], "no cohort"),
        (["--patients", "9", "--bundle", "nowhere"], "nowhere"),
    ],
)
def test_generate_refuses(capsys, generated, tmp_path, given, said):
    message = refused(capsys, "generate", "--model", generated / "model", "--out",
                      tmp_path / "x", *given)  # fmt: skip
    assert said in message
    assert not (tmp_path / "x").exists()


def test_generate_overwrites_nothing_of_a_user(capsys, generated, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("mine")
    given = ["generate", "--model", generated / "model", "--patients", 9]
    assert "no cohort" in refused(capsys, *given, "--out", tmp_path / "mine")
    assert "another cohort" in refused(capsys, *given, "--out", generated / "out/cohort")


def test_each_command_names_the_other_for_a_model_of_the_other_kind(capsys, generated, tmp_path):
    predict = ("predict", "--model", generated / "model", "--cohort", generated / "out/cohort",
               "--out", tmp_path / "p.parquet")  # fmt: skip
    assert "medsweep generate" in refused(capsys, *predict)
    study = tiny.study(tmp_path, seeds=[0], training={"epochs": 1})
    run_study(study, tmp_path / "out", tiny.quiet(), tiny.INLINE)
    export_best(tmp_path / "out", tmp_path / "best", arm="gamenet")
    draw = ("generate", "--model", tmp_path / "best", "--patients", 9, "--out", tmp_path / "x")
    assert "medsweep predict" in refused(capsys, *draw)


# ---------------------------------------------------------------------- a tree on its own


def test_hierarchy_writes_a_tree_and_matches(arranged, tmp_path):
    home = arranged / "out/cohort"
    small = [x for pair in MASH["config"].items() for x in ("--set", f"{pair[0]}={pair[1]}")]
    command("hierarchy", "--cohort", home, "--out", tmp_path / "tree", "--other", home,
            "--set", "alignment=sinkhorn", *small)  # fmt: skip
    assert "children" in json.loads((tmp_path / "tree/tree.json").read_text())
    assert "<canvas" in (tmp_path / "tree/tree.html").read_text()
    rows = list(csv.DictReader((tmp_path / "tree/matches.csv").read_text().splitlines()))
    assert rows
    assert all(row["source"] == row["target"] for row in rows if row["given"] == "yes")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--set", "dim=1"], "dim"),
        (["--set", "dims=4"], "dims"),
        (["--set", "dim"], "field=value"),
        (["--bundle", "nowhere"], "no knowledge bundle"),
        (["--other-bundle", "x"], "--other"),
        (["--set", "institutions=versions"], "ICD-10"),
    ],
)
def test_hierarchy_refuses(capsys, arranged, tmp_path, given, said):
    home = ("hierarchy", "--cohort", arranged / "out/cohort", "--out", tmp_path / "x")
    assert said in refused(capsys, *home, *given)
    assert not (tmp_path / "x").exists()


# ---------------------------------------------------------------------- settings of an arm


PARTS = {
    "more": {"title": "+ more", "changes": {"augment.generator": "marginals",
                                            "augment.ratio": 0.5}},
    "alone": {"title": "alone", "changes": {"augment.generator": "marginals",
                                            "augment.real": False}},
    "flat": {"title": "flat", "changes": {"knowledge.ontology": "none"}},
}  # fmt: skip
AUGMENTED = {
    "model": "medtree",
    "config": {"dim": 8},
    "parts": PARTS,
    "designs": [{"kind": "leave_one_out", "parts": ["more", "alone", "flat"]}],
}


def test_parts_of_an_arm_augment_it_and_change_its_hierarchy(tmp_path):
    plan = planned(tmp_path, arms=[AUGMENTED], reference="medtree")
    by_name = {arm.name: plan.trials[arm.trials["0"]] for arm in plan.record.arms}
    assert by_name["medtree"].augment is None
    assert by_name["medtree-more"].augment.generator == "marginals"
    assert by_name["medtree-more"].augment.config["smoothing"] > 0  # written out
    assert not by_name["medtree-alone"].augment.real
    assert by_name["medtree-flat"].knowledge.ontology == "none"
    assert len({spec.key for spec in by_name.values()}) == 4


def test_earlier_keys_stay_what_they_were(tmp_path):
    """Trials that were stored before generated patients were known must be found again."""
    plan = planned(tmp_path)
    spec = next(iter(plan.trials.values()))
    content = spec.model_dump(mode="json")
    del content["augment"], content["knowledge"]["ontology"]
    assert type(spec).model_validate(content).key == spec.key


def test_an_augmented_trial_runs_on_as_many_patients_as_asked(tmp_path):
    plan = planned(tmp_path, arms=[AUGMENTED], reference="medtree")
    study = tiny.study(tmp_path, arms=[AUGMENTED], reference="medtree")
    study_data(study, tmp_path / "out").materialise()
    spec = next(plan.trials[a.trials["0"]] for a in plan.record.arms if a.name == "medtree-more")
    cohort, knowledge = trial._load(spec.cohort, spec.knowledge, None)
    found = augmented(cohort, knowledge, spec, tmp_path / "cache")
    real = len(cohort.members(splits.TRAIN))
    assert len(found.members(splits.TRAIN)) == real + round(0.5 * real)
    np.testing.assert_array_equal(found.members(splits.TEST), cohort.members(splits.TEST))
    again = augmented(cohort, knowledge, spec, tmp_path / "cache")
    assert again.fingerprint == found.fingerprint
    other = augmented(cohort, knowledge, spec.model_copy(update={"seed": 9}), None)
    assert other.fingerprint != found.fingerprint


def test_a_generator_learns_from_training_patients_alone(tmp_path):
    plan = planned(tmp_path, arms=[{**GENERATORS[1]}], reference="marginals")
    spec = next(iter(plan.trials.values()))
    own = generator_spec(spec, Augment(generator="bigram"))
    assert own.model == "bigram"
    assert own.cohort == spec.cohort
    assert own.augment is None
    with pytest.raises(MedrecError, match="gamenet"):
        generator_spec(spec, Augment(generator="gamenet"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arms": [*GENERATORS, {"model": "gamenet"}]}, "several"),
        ({"arms": GENERATORS, "protocol": {"select": "jaccard"}}, "log_likelihood"),
        ({"arms": GENERATORS, "resources": {"workers": 2}}, "one worker"),
        ({"arms": GENERATORS, "analysis": {"primary": "jaccard"}}, "jaccard"),
        ({"arms": [{"model": "marginals", "augment": {"generator": "bigram"}}]}, "recommends"),
        ({"arms": [{"model": "gamenet", "augment": {"generator": "bigramm"}}]}, "'bigram'"),
        ({"arms": [{"model": "gamenet", "augment": {"generator": "gpt", "ratio": 0}}]}, "ratio"),
        ({"arms": [{"model": "gamenet", "augment": {"generator": "gpt",
                                                    "config": {"dim": -1}}}]}, "dim"),
        ({"arms": [{"model": "gamenet"}], "knowledge": {"ontology": "ccs"}}, "CCS"),
        ({"arms": [{"model": "gamenet"}], "knowledge": {"ontology": "icd11"}}, "ontology"),
    ],
)  # fmt: skip
def test_planning_refuses(tmp_path, changes, said):
    reference = changes["arms"][0]["model"]
    with pytest.raises((StudyError, MedrecError), match=said):
        planned(tmp_path, reference=reference, **changes)


# ---------------------------------------------------------------------- what numbers may say


def test_a_measure_that_no_unit_has_is_no_number(tmp_path):
    """An arm that matches nothing must not show 0 matches, nor be tested against others."""
    fabricate_measured(tmp_path, "hierarchy")
    store = ResultsStore(tmp_path)
    record = store.study()
    for key in record.arms[1].trials.values():
        content = store.content(key)
        shutil.rmtree(tmp_path / "trials" / key)
        measured = trial_files.measures_from_bytes(content["measures.parquet"], {})
        gone = {"match_first": (np.zeros(150), np.zeros(150))}
        changed = replace(measured, terms={**measured.terms, **gone})
        content["measures.parquet"] = trial_files.measures_to_bytes(changed)
        store.save_files(key, {**content, "model.safetensors": b"weights"})
    results = gather(store)
    assert results.estimate("match_first", "full") is not None
    assert results.estimate("match_first", "without") is None
    assert results.difference("match_first", "without") is None
    assert results.difference("match_ten", "without") is not None
    assert ("match_first", "without") not in results.inference().discoveries


def test_shares_have_no_interval_beyond_one(tmp_path):
    fabricate_measured(tmp_path, "hierarchy", patients=8)
    results = gather(ResultsStore(tmp_path))
    for arm in results.record.arms:
        value = results.estimate("parent_recall", arm.name)
        assert 0 <= value.low <= value.high <= 1


def test_a_hierarchy_is_learned_against_the_known_one_alone(tmp_path):
    with pytest.raises(StudyError, match="known hierarchy"):
        planned(tmp_path, arms=[MASH], reference="mash", knowledge={"ontology": "mash"})


def test_a_first_step_trains_no_long_generator(tmp_path):
    arm = {**AUGMENTED, "augment": {"generator": "gpt", "training": {"epochs": 500}}}
    del arm["designs"], arm["parts"]
    plan = planned(tmp_path, arms=[arm], reference="medtree")
    spec = next(iter(plan.trials.values()))
    assert spec.augment.training["epochs"] == 500
    assert rehearsed(spec).augment.generator == "marginals"
