"""What every generator and builder of hierarchies promises, with every ablation."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load
from torch import nn

from medrec import light, plugins, splits, trial
from medrec.cohort import KINDS, Cohort
from medrec.data import data_for
from medrec.errors import Interrupted
from medrec.hierarchy._tree_json import to_json
from medrec.judging import drawn
from medrec.measures import Measured
from medrec.spec import SELECT, TASKS, Protocol, Training, TrialSpec
from medrec.training import Fitted, train
from sweeps.tasks import measures_of
from tests.medrec.small import make_spec as recommender_spec
from tests.medrec.small import saved, scramble, small_cohort, small_knowledge

ROOT = Path(__file__).resolve().parents[2]
NAMES = [name for package in list(TASKS)[1:] for name in plugins.names(package)]
NARROW = {
    "dim": 8, "heads": 2, "layers": 1, "context": 256, "text_dim": 8, "tree_epochs": 2,
    "tree_hidden": 8, "hidden": 8, "epochs": 2, "tangent_dim": 4, "steps": 2,
}  # fmt: skip


def arms():
    found = []
    for model in NAMES:
        found.append((model, {}))
        if "variant" in light.model_facts(model).config.model_fields:
            plain, released = (
                light.model_facts(model).config(variant=variant).model_dump(exclude={"variant"})
                for variant in ("paper", "released")
            )
            if plain != released:
                found.append((model, {"variant": "released"}))
        ablations = plugins.load("search_spaces", model, "ABLATIONS")
        found += [(model, dict(ablation.changes)) for ablation in ablations.values()]
    return found


def arm_name(arm):
    return "-".join([arm[0], *(f"{name}={value}" for name, value in arm[1].items())])


def make_spec(model, config=None, **fields) -> TrialSpec:
    facts = light.model_facts(model)
    narrow = {name: n for name, n in NARROW.items() if name in facts.config.model_fields}
    full = facts.config(**{**narrow, **(config or {})}).model_dump(mode="json")
    protocol = Protocol(select=SELECT[facts.task][0])
    training = Training(epochs=2, batch_size=4, learning_rate=0.01)
    base = recommender_spec("most_popular")
    update = {"model": model, "config": full, "protocol": protocol, "training": training}
    return base.model_copy(update={**update, **fields})


def trained(arm, seed=0, cohort: Cohort | None = None):
    spec = make_spec(*arm, seed=seed)
    cohort = cohort or small_cohort()
    model = trial.build(spec, small_knowledge())
    train(model, data_for(model, cohort, small_knowledge(), "cpu"), spec, lambda row: None, None)
    return model, spec


def digest(result) -> str:
    found = hashlib.sha256(result.weights)
    for name, (above, below) in sorted(result.found.terms.items()):
        found.update(name.encode() + above.tobytes() + below.tobytes())
    found.update(json.dumps(dict(result.found.facts), sort_keys=True).encode())
    return found.hexdigest()


def digests(ref) -> dict[str, str]:
    return {
        arm_name(arm): digest(trial.run(make_spec(*arm, cohort=ref), lambda row: None))
        for arm in arms()
    }


every_arm = pytest.mark.parametrize("arm", arms(), ids=arm_name)
generators = [arm for arm in arms() if arm[0] in plugins.names("medrec.generation")]
generator_arms = pytest.mark.parametrize("arm", generators, ids=arm_name)
neural = [
    arm
    for arm in generators
    if isinstance(trial.build(make_spec(*arm), small_knowledge()), nn.Module)
]
neural_arms = pytest.mark.parametrize("arm", neural, ids=arm_name)


def test_no_name_is_used_twice():
    names = [name for package in plugins.MODELS for name in plugins.names(package)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_the_same_without_torch(name):
    code = (
        "import sys, json; from medrec.light import model_facts; f = model_facts(sys.argv[1]);"
        "assert 'torch' not in sys.modules; print(json.dumps([f.title, f.source, f.task, f.seeded,"
        " f.config().model_dump(mode='json'), f.training.model_dump()]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, name], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    facts = light.model_facts(name)
    settings = [facts.config().model_dump(mode="json"), facts.training.model_dump()]
    assert json.loads(done.stdout) == [facts.title, facts.source, facts.task, facts.seeded,
                                       *settings]  # fmt: skip


@every_arm
def test_a_trial_leaves_the_measures_of_its_task(arm, tmp_path):
    spec = make_spec(*arm, cohort=saved(tmp_path / "cohort"))
    result = trial.run(spec, lambda row: None)
    found = result.found
    assert isinstance(found, Measured)
    task = light.model_facts(arm[0]).task
    assert set(found.terms) <= set(measures_of(task))
    assert spec.protocol.select in result.validation
    for above, below in found.terms.values():
        assert above.shape == below.shape == found.units.shape
        assert np.isfinite(above).all()
        assert (below >= 0).all()
    assert (np.diff(found.units) > 0).all()
    if task == "generation":
        np.testing.assert_array_equal(found.units, small_cohort().members(splits.TEST))
    assert all(np.isfinite(value) for value in found.facts.values())


def test_another_process_gets_the_same_bits(tmp_path):
    ref = saved(tmp_path / "cohort")
    code = (
        "import json, sys, torch; torch.set_num_threads(1);"
        "from tests.contracts.test_producers import digests; from medrec.spec import CohortRef;"
        "print(json.dumps(digests(CohortRef.model_validate_json(sys.argv[1]))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, ref.model_dump_json()],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": "7"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.strip().splitlines()[-1]) == digests(ref)


@every_arm
def test_restores_under_another_seed(arm):
    model, spec = trained(arm)
    other = trial.build(make_spec(*arm, seed=5), small_knowledge())
    trial.restore(other, {name: t.clone() for name, t in trial.weights(model).items()})
    if isinstance(model, nn.Module):
        other.eval()
    if light.model_facts(arm[0]).task == "hierarchy":
        assert to_json(other.tree) == to_json(model.tree)
        np.testing.assert_array_equal(other.vectors, model.vectors)
        return
    one, two = drawn(model, spec, 9), drawn(other, spec, 9)
    np.testing.assert_array_equal(one.visits, two.visits)
    for kind in KINDS:
        np.testing.assert_array_equal(one.codes[kind].values, two.codes[kind].values)


@generator_arms
def test_drawn_patients_are_patients_of_the_vocabulary(arm):
    model, _ = trained(arm)
    found = model.draw(40, 3, 1.0, None)
    assert len(found.visits) == 40
    assert (found.visits >= 1).all()
    for kind in KINDS:
        codes = found.codes[kind]
        assert len(codes.counts) == found.visits.sum()
        assert ((codes.values >= 0) & (codes.values < len(small_cohort().vocabulary[kind]))).all()
        inside = np.repeat(np.arange(len(codes.counts)), codes.counts)
        same = inside[1:] == inside[:-1]
        assert (np.diff(codes.values.astype(np.int64))[same] > 0).all()


@every_arm
def test_validation_and_test_patients_teach_nothing(arm):
    cohort = small_cohort()
    others = scramble(cohort, splits.TEST)
    one, two = (trial.weights(trained(arm, cohort=each)[0]) for each in (cohort, others))
    assert one.keys() == two.keys()
    assert all(one[name].numpy().tobytes() == two[name].numpy().tobytes() for name in one)


@neural_arms
def test_an_interrupted_trial_goes_on_to_the_same_bits(arm, tmp_path):
    spec = make_spec(*arm, cohort=saved(tmp_path / "cohort"))
    whole = trial.run(spec, lambda row: None)
    left = [2]

    def notice() -> bool:
        left[0] -= 1
        return left[0] < 0

    with pytest.raises(Interrupted):
        trial.run(spec, lambda row: None, tmp_path / "checkpoint", notice=notice)
    again = trial.run(spec, lambda row: None, tmp_path / "checkpoint")
    assert digest(again) == digest(whole)


@neural_arms
def test_every_weight_gets_a_gradient(arm):
    spec = make_spec(*arm)
    model = trial.build(spec, small_knowledge())
    data = data_for(model, small_cohort(), small_knowledge(), "cpu")
    model.pretrain()
    batch = data.resident.gather(torch.arange(small_cohort().patients))
    from medrec.models._base import Step

    model.loss(model(batch), batch, Step(0, 0.5)).backward()
    lacking = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not lacking


@neural_arms
def test_another_seed_gives_another_model(arm):
    one, two = (trial.weights(trained(arm, seed)[0]) for seed in (0, 1))
    assert any(not torch.equal(one[name], two[name]) for name in one)


@pytest.mark.gpu
@neural_arms
def test_trains_and_draws_on_a_gpu(arm):
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    spec = make_spec(*arm)
    model = trial.build(spec, small_knowledge()).to("cuda")
    data = data_for(model, small_cohort(), small_knowledge(), "cuda")
    train(model, data, spec, lambda row: None, None)
    assert len(model.eval().draw(10, 0, 1.0, None).visits) == 10


def test_fitted_means_no_checkpoint():
    for arm in arms():
        model = trial.build(make_spec(*arm), small_knowledge())
        assert isinstance(model, nn.Module) != isinstance(model, Fitted)


def test_weights_are_whole(tmp_path):
    spec = make_spec("bigram", cohort=saved(tmp_path / "cohort"))
    result = trial.run(spec, lambda row: None)
    model = trial.build(spec, small_knowledge())
    trial.restore(model, load(result.weights))
    assert replace(result, history=()).weights == result.weights
