"""One spec in, one result out."""

import io

import numpy as np
import pytest
import torch
from safetensors.torch import load

from medrec import splits, trial
from medrec.batching import ResidentCohort
from medrec.errors import CohortError, ConfigError, UnknownPluginError
from medrec.predicting import predict
from medrec.spec import CohortRef, Resources, Training
from tests.medrec.small import make_spec, saved, small_cohort, small_knowledge


@pytest.fixture(scope="module")
def ref(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("cohort"))


def run(spec):
    rows = []
    return trial.run(spec, rows.append), rows


def test_the_result_is_complete(ref):
    spec = make_spec("gamenet", cohort=ref)
    result, rows = run(spec)
    assert result.spec == spec
    assert list(result.history) == rows
    assert [row["epoch"] for row in rows] == [1.0, 2.0]
    assert set(result.predictions.patient.tolist()) == set(small_cohort().members(splits.TEST))
    best = rows[result.best_epoch - 1]
    assert result.validation == {name: best[name] for name in result.validation}
    assert set(result.validation) == {"jaccard", "f1", "prauc", "ddi_rate", "medications"}
    assert 0 < result.seconds["training"] <= result.seconds["wall"]
    assert result.environment["device"]


@pytest.mark.parametrize("model", ["gamenet", "safedrug", "logistic_regression", "copy_previous"])
def test_stored_weights_give_the_stored_predictions(ref, model):
    result, _ = run(make_spec(model, cohort=ref))
    again = trial.build(result.spec.model_copy(update={"seed": 5}), small_knowledge())
    trial.restore(again, load(result.weights))
    cohort = small_cohort()
    members = cohort.members(splits.TEST)
    answers = predict(again, cohort, ResidentCohort(cohort), members, 0.5)
    assert np.array_equal(answers.scores, result.predictions.scores)
    assert np.array_equal(answers.chosen, result.predictions.chosen)


@pytest.mark.parametrize("model", ["gamenet", "safedrug"])
def test_a_used_process_gives_the_same_result(ref, model):
    spec = make_spec(model, cohort=ref)
    first, _ = run(spec)
    threads = torch.get_num_threads()
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(2)
        torch.manual_seed(77)
        np.random.default_rng(3).random(5)
        run(make_spec(model, cohort=ref, seed=4))
        torch.set_default_dtype(torch.float64)
        second, _ = run(spec)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_num_threads(threads)
    assert second.weights == first.weights
    assert np.array_equal(second.predictions.scores, first.predictions.scores)


def test_the_seed_matters(ref):
    one, other = (run(make_spec("gamenet", cohort=ref, seed=seed))[0] for seed in (0, 1))
    assert one.weights != other.weights


def test_the_report_learns_nothing_of_the_test_split(ref):
    _, rows = run(make_spec("gamenet", cohort=ref))
    names = {"jaccard", "f1", "prauc", "ddi_rate", "medications"}
    expected = {"epoch", "loss", "seconds"} | names | {f"best_{name}" for name in names}
    assert all(set(row) == expected for row in rows)


def test_initial_weights_depend_on_the_seed_alone():
    one, two = make_spec("gamenet"), make_spec("gamenet", training=Training(epochs=9))
    torch.manual_seed(1)
    first = trial.weights(trial.build(one, small_knowledge()))
    torch.manual_seed(2)
    second = trial.weights(trial.build(two, small_knowledge()))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_another_cohort_than_planned_is_refused(ref):
    wrong = CohortRef(path=ref.path, fingerprint="0" * 64)
    with pytest.raises(CohortError, match="was planned on 000000000000"):
        run(make_spec("most_popular", cohort=wrong))


def test_a_missing_cohort_is_reported(tmp_path):
    missing = CohortRef(path=str(tmp_path / "none"), fingerprint="0" * 64)
    with pytest.raises(CohortError, match=r"no cohort\.json"):
        run(make_spec("most_popular", cohort=missing))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_reported(ref):
    spec = make_spec("most_popular", cohort=ref, resources=Resources(gpus=1))
    with pytest.raises(ConfigError, match=r"resources\.gpus"):
        run(spec)


def test_a_model_that_is_not_there_is_reported(ref):
    spec = make_spec("gamenet", cohort=ref).model_copy(update={"model": "gamnet"})
    with pytest.raises(UnknownPluginError, match="Did you mean 'gamenet'"):
        run(spec)


def test_weights_are_plain_safetensors(ref):
    result, _ = run(make_spec("safedrug", cohort=ref))
    size = int.from_bytes(io.BytesIO(result.weights).read(8), "little")
    assert result.weights[8:9] == b"{"
    assert size < len(result.weights)


@pytest.mark.parametrize(
    ("change", "other"),
    [
        ({"resources": Resources(cpus=4, gpus=1)}, False),
        ({"seed": 1}, True),
        ({"training": Training(epochs=3)}, True),
        ({"model": "safedrug"}, True),
        ({"cohort": CohortRef(path="elsewhere", fingerprint=small_cohort().fingerprint)}, False),
        ({"cohort": CohortRef(path="nowhere", fingerprint="f")}, True),
    ],
    ids=str,
)
def test_the_key_covers_what_decides_the_result(change, other):
    spec = make_spec("gamenet")
    assert (spec.model_copy(update=change).key != spec.key) is other
