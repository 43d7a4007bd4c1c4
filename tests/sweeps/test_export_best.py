"""`medsweep export best`: chosen on validation, runs again under the same key."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import yaml

from medrec.cohort import Cohort
from medrec.errors import CohortError, InputError
from medrec.evaluation import evaluate
from medrec.metrics._base import Metric
from medrec.plugins import load
from sweeps.archive import export_results
from sweeps.cohorts import study_data
from sweeps.errors import StoreError
from sweeps.evaluate import interaction_matrix
from sweeps.export_best import export_best
from sweeps.exported import codes_of
from sweeps.plan import make_plan
from sweeps.record import Arm
from sweeps.run import run_study
from sweeps.store import ResultsStore
from sweeps.study import load_study
from sweeps.visits import FEWEST, RARE
from tests.sweeps import tiny

FILES = {"card.md", "model.safetensors", "spec.json", "study.yaml", "vocabulary.json"}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    root = tmp_path_factory.mktemp("ran")
    search = {**tiny.SEARCH, "trials": 2, "space": {"ddi_target": {}}, "config": {"dim": 8}}
    released = {"model": "gamenet", "name": "other", "config": {"variant": "released", "dim": 8}}
    arms = [*tiny.STUDY["arms"], released]
    study = tiny.study(root, arms=arms, searches=[search])
    run_study(study, root / "out", tiny.quiet(), tiny.INLINE)
    return root / "out"


def validation(store: ResultsStore, arm: Arm) -> dict[int, float]:
    return {
        int(seed): store.summary(key)["validation"]["jaccard"] for seed, key in arm.trials.items()
    }


def folder(path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in sorted(path.iterdir())}


def planned_keys(study_file, out, *settings) -> set[str]:
    study = load_study(str(study_file), settings)
    return set(make_plan(study, study_data(study, out)).trials)


# ------------------------------------------------------------------ what is chosen


def test_the_best_arm_has_the_best_mean_and_the_weights_are_of_its_best_seed(ran, tmp_path):
    store = ResultsStore(ran)
    values = {arm.name: validation(store, arm) for arm in store.study().arms}
    best = max(values, key=lambda name: np.mean(list(values[name].values())))
    choice = export_best(ran, tmp_path / "best")
    assert choice.arm.name == best
    assert choice.validation[choice.spec.seed]["jaccard"] == max(values[best].values())
    weights = (tmp_path / "best/model.safetensors").read_bytes()
    assert weights == store.weights(choice.spec.key)
    assert set(folder(tmp_path / "best")) == FILES


def test_an_arm_asked_for_and_its_best_seed(ran, tmp_path):
    store = ResultsStore(ran)
    choice = export_best(ran, tmp_path / "best", arm="gamenet")
    arm = next(arm for arm in store.study().arms if arm.name == "gamenet")
    values = validation(store, arm)
    assert choice.spec.seed == max(values, key=values.__getitem__)
    assert choice.spec.key == arm.trials[str(choice.spec.seed)]


def test_the_best_of_a_search(ran, tmp_path):
    store = ResultsStore(ran)
    entries = store.read_all("searches/tune").values()
    best = max(entries, key=lambda entry: entry["values"][0])
    choice = export_best(ran, tmp_path / "best", search="tune")
    assert choice.spec.key == best["key"]
    assert choice.spec.config["ddi_target"] == best["params"]["ddi_target"]


# ------------------------------------------------------------------ the study file


@pytest.mark.parametrize("which", [{"arm": "other"}, {"search": "tune"}])
def test_the_study_file_plans_the_same_trials(ran, tmp_path, which):
    choice = export_best(ran, tmp_path / "best", **which)
    found = planned_keys(tmp_path / "best/study.yaml", tmp_path / "out")
    assert found == set(choice.arm.trials.values())


def test_a_run_of_the_study_file_gives_the_same_model(ran, tmp_path):
    choice = export_best(ran, tmp_path / "best", search="tune")
    study = load_study(str(tmp_path / "best/study.yaml"))
    run_study(study, tmp_path / "again", tiny.quiet(), tiny.INLINE)
    tiny.same_result(ResultsStore(ran), ResultsStore(tmp_path / "again"), choice.spec.key)


def test_a_cohort_that_the_study_did_not_make_stays_a_name(ran, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(ran, moved)
    (moved / "cohort").rename(tmp_path / "mine")
    choice = export_best(moved, tmp_path / "best", arm="gamenet")
    text = (tmp_path / "best/study.yaml").read_text()
    assert yaml.safe_load(text)["cohort"] == "synthetic"
    assert "--set cohort=FOLDER" in text
    given = f"cohort={tmp_path / 'mine'}"
    found = planned_keys(tmp_path / "best/study.yaml", tmp_path / "out", given)
    assert found == set(choice.arm.trials.values())


# ------------------------------------------------------------------ codes, card, checksums


def test_codes_are_in_the_models_order(ran, tmp_path):
    export_best(ran, tmp_path / "best")
    found = json.loads((tmp_path / "best/vocabulary.json").read_text())
    cohort = Cohort.open(ran / "cohort")
    assert found["whole"]
    assert {kind: tuple(codes) for kind, codes in found["vocabulary"].items()} == cohort.vocabulary
    assert (tuple(found["genders"]), tuple(found["groups"])) == (cohort.genders, cohort.groups)


def test_rare_names_of_closed_data_are_not_written(ran):
    cohort, record = Cohort.open(ran / "cohort"), ResultsStore(ran).study()
    object.__setattr__(cohort.provenance, "dataset", "mimic3")
    found = codes_of(record, cohort)
    assert not found["whole"]
    carriers = cohort.carriers("diagnoses")
    for code, shown, patients in zip(
        cohort.vocabulary["diagnoses"], found["vocabulary"]["diagnoses"], carriers, strict=True
    ):
        assert shown == (code if patients >= FEWEST else RARE)


def test_checksums_vouch_for_weights_and_codes(ran, tmp_path):
    choice = export_best(ran, tmp_path / "best")
    head = json.loads((tmp_path / "best/spec.json").read_text())
    assert head["key"] == choice.spec.key
    for name in ("model.safetensors", "vocabulary.json"):
        data = (tmp_path / "best" / name).read_bytes()
        assert head["sha256"][name] == hashlib.sha256(data).hexdigest()


def test_the_card_prints_the_stored_numbers(ran, tmp_path):
    store = ResultsStore(ran)
    record = store.study()
    choice = export_best(ran, tmp_path / "best", arm="gamenet")
    card = (tmp_path / "best/card.md").read_text()
    jaccard: Metric = load("medrec.metrics", "jaccard", "METRIC")
    row = next(line for line in card.splitlines() if line.startswith(f"| {jaccard.title} "))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    arm = next(arm for arm in record.arms if arm.name == "gamenet")
    values = validation(store, arm)
    interacts = interaction_matrix(record.ddi, len(record.medications))
    test = [
        evaluate(store.load(key).predictions, interacts)["jaccard"] for key in arm.trials.values()
    ]
    assert cells[1] == f"{values[choice.spec.seed]:.4f}"
    assert cells[2] == f"{np.mean(list(values.values())):.4f}"
    assert cells[3].split()[0] == f"{np.mean(test):.4f}"
    low, high = (float(part.strip("[],")) for part in cells[3].split()[1:])
    assert low < np.mean(test) < high
    assert "no treatment advice" in card
    assert record.cohort.fingerprint in card
    assert "over training seeds and test patients" in card


def test_the_card_of_one_trial_says_that_it_is_conditional(ran, tmp_path):
    export_best(ran, tmp_path / "best", search="tune")
    assert "conditional on this trained model" in (tmp_path / "best/card.md").read_text()


def test_no_place_is_written_and_the_same_export_has_the_same_bytes(ran, tmp_path):
    export_best(ran, tmp_path / "best")
    first = folder(tmp_path / "best")
    export_best(ran, tmp_path / "best")  # an earlier export is replaced
    assert folder(tmp_path / "best") == first
    for name, content in first.items():
        assert str(tmp_path.parent).encode() not in content, name
        assert str(ran.parent).encode() not in content, name


# ------------------------------------------------------------------ refusals


def test_other_things_are_not_overwritten(ran, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match="Choose another --out"):
        export_best(ran, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    export_best(ran, tmp_path / "best")
    (tmp_path / "best/notes.txt").write_text("mine")
    with pytest.raises(InputError, match="or more than that"):
        export_best(ran, tmp_path / "best")
    assert (tmp_path / "best/notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("which", "named"),
    [
        ({"arm": "gamnet"}, "Did you mean 'gamenet'?"),
        ({"search": "tun"}, "Did you mean 'tune'?"),
    ],
)
def test_a_wrong_name_gets_the_nearest_right_one(ran, tmp_path, which, named):
    with pytest.raises(StoreError) as caught:
        export_best(ran, tmp_path / "best", **which)
    assert named in str(caught.value)
    assert not (tmp_path / "best").exists()


def test_a_copy_without_weights_is_refused(ran, tmp_path):
    export_results(ran, tmp_path / "copy")
    for which in ({}, {"arm": "gamenet"}, {"search": "tune"}):
        with pytest.raises(StoreError, match="weights"):
            export_best(tmp_path / "copy", tmp_path / "best", **which)


def test_another_cohort_is_refused(ran, tmp_path):
    tiny.data(40).cohort.save(tmp_path / "cohort")
    with pytest.raises(CohortError, match="has fingerprint"):
        export_best(ran, tmp_path / "best", cohort=tmp_path / "cohort")


def test_a_model_whose_settings_changed_is_refused(ran, tmp_path, monkeypatch):
    store = ResultsStore(ran)
    choice = export_best(ran, tmp_path / "best", arm="gamenet")
    summary = store.summary(choice.spec.key)
    del summary["spec"]["config"]["dropout"]
    monkeypatch.setattr(ResultsStore, "summary", lambda *_: summary)
    with pytest.raises(StoreError, match="other settings of gamenet than the trial \\(dropout"):
        export_best(ran, tmp_path / "again", arm="gamenet")
