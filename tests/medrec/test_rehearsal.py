"""A first step shows whether a trial can run, what it may cost, and what an ablation takes."""

import math

import numpy as np
import pytest
import torch

from medrec import plugins, trial
from medrec.batching import ResidentCohort
from medrec.errors import NonFiniteLossError
from medrec.models._base import Step
from medrec.rehearsal import later_look, rehearse_step, typical_patients
from medrec.spec import Resources, Training
from medrec.training import derived_seed
from tests.medrec.small import (
    data_of,
    make_spec,
    neural_models,
    saved,
    small_cohort,
    small_knowledge,
)

NEURAL = neural_models()


@pytest.fixture(scope="module")
def ref(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("cohort"))


def built(spec):
    return trial.build(spec, small_knowledge())


def rehearsed(spec):
    return rehearse_step(built(spec), data_of(small_cohort()), spec)


def test_the_patients_are_those_with_histories_from_the_mean_length_up():
    data = data_of(small_cohort())
    visits = dict(zip(data.train.tolist(), data.cohort.visits[data.train].tolist(), strict=True))
    mean = sum(visits.values()) / len(visits)
    long = sorted(count for count in visits.values() if count >= mean)
    for size in (1, 3, len(long)):
        found = typical_patients(data, size).tolist()
        assert sorted(visits[patient] for patient in found) == long[:size]
    assert sorted(typical_patients(data, 10_000).tolist()) == sorted(visits)[:64]


@pytest.mark.parametrize("model", ["gamenet", "kindmed"])
def test_loss_and_gradients_are_those_of_a_step_written_out(model):
    spec, data = make_spec(model), data_of(small_cohort())
    found, network = rehearsed(spec), built(spec)
    batch = ResidentCohort(small_cohort()).gather(
        torch.from_numpy(typical_patients(data, spec.training.batch_size))
    )
    network.train()
    torch.manual_seed(derived_seed(spec.seed, 1, 0))
    loss = network.loss(network(batch), batch, Step(0, 0.5))
    loss.backward()
    assert found.loss == float(loss.detach())
    assert found.parameters == {n: tuple(p.shape) for n, p in network.named_parameters()}
    assert found.weights == sum(p.numel() for p in network.parameters())
    without = {name for name, p in network.named_parameters() if p.grad is None}
    assert set(found.without_gradient) == without


def test_the_cost_is_steps_of_all_epochs():
    spec = make_spec("gamenet", training=Training(epochs=7, batch_size=4))
    found = rehearsed(spec)
    assert found.steps == math.ceil(len(data_of(small_cohort()).train) / 4)
    assert found.step_seconds > 0
    assert found.seconds == pytest.approx(found.step_seconds * found.steps * 7)


def test_the_same_spec_takes_the_same_step_and_another_seed_another():
    spec = make_spec("safedrug")
    one, two = rehearsed(spec), rehearsed(spec)
    assert one.same_step(two)
    assert not one.same_step(rehearsed(spec.model_copy(update={"seed": 1})))


def test_a_loss_that_is_not_finite_is_refused():
    spec = make_spec("gamenet", {"margin_weight": 1e38, "bce_weight": 1e38})
    with pytest.raises(NonFiniteLossError, match="The loss of the first batch is inf"):
        rehearsed(spec)


@pytest.mark.parametrize("model", ["most_popular", "logistic_regression"])
def test_a_fitted_model_is_built_and_its_cost_is_not_known(ref, model):
    found = trial.rehearse(make_spec(model, cohort=ref))
    assert (found.loss, found.seconds, found.weights) == (None, None, 0)
    assert trial.look_later(make_spec(model, cohort=ref)) == ""


def test_a_step_is_taken_on_a_cpu_whatever_the_trial_asks_for(ref):
    spec = make_spec("gamenet", cohort=ref)
    asks = spec.model_copy(update={"resources": Resources(gpus=1)})
    assert trial.rehearse(asks).same_step(trial.rehearse(spec))


ABLATIONS = [
    (model, name) for model in NEURAL for name in plugins.load("search_spaces", model, "ABLATIONS")
]


@pytest.mark.parametrize(("model", "name"), ABLATIONS)
def test_every_declared_ablation_shows_that_it_takes_something_away(model, name):
    changes = plugins.load("search_spaces", model, "ABLATIONS")[name].changes
    full, ablated = make_spec(model), make_spec(model, changes)
    if rehearsed(full).same_step(rehearsed(ablated)):
        # One comes before the first step, the other after the last.
        assert name in ("no_pretraining", "no_post_processing")
        data = data_of(small_cohort())
        assert later_look(built(full), data, full) != later_look(built(ablated), data, ablated)


@pytest.mark.parametrize(("target", "acts"), [(0.3, True), (0.95, True), (1.0, False)])
def test_a_later_look_sees_a_ddi_loss_that_leaves_untrained_scores_alone(target, acts):
    full = make_spec("safedrug", {"ddi_target": target})
    ablated = make_spec("safedrug", {"ddi_target": target, "controller": "none"})
    data = data_of(small_cohort())
    looks = [later_look(built(spec), data, spec) for spec in (full, ablated)]
    assert (looks[0] != looks[1]) == acts


def test_a_later_look_is_the_same_twice_and_sees_pre_training():
    spec = make_spec("bh3", {"pretrain_steps": 2})
    data, none = data_of(small_cohort()), make_spec("bh3", {"icd_pretrain": "none"})
    first = later_look(built(spec), data, spec)
    assert first == later_look(built(spec), data, spec)
    assert first != later_look(built(none), data, none)


def test_training_itself_is_not_changed_by_a_rehearsal(ref):
    spec = make_spec("gamenet", cohort=ref)
    before = trial.run(spec, lambda row: None)
    trial.rehearse(spec)
    after = trial.run(spec, lambda row: None)
    assert after.weights == before.weights
    assert np.array_equal(after.predictions.scores, before.predictions.scores)


def test_kept_seconds_are_those_of_the_checkpoint(ref, tmp_path):
    spec, path, rows = make_spec("gamenet", cohort=ref), tmp_path / "checkpoint.safetensors", []
    assert trial.kept_seconds(spec, path) == 0

    def stop(row):
        rows.append(row)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trial.run(spec, stop, path)
    assert trial.kept_seconds(spec, path) == rows[0]["seconds"] > 0
    assert trial.kept_seconds(make_spec("gamenet", cohort=ref, seed=1), path) == 0
    path.write_bytes(b"torn")
    assert trial.kept_seconds(spec, path) == 0
