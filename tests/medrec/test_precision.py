"""Mixed precision: nearly the metrics of float32, with weights and scores in float32."""

import numpy as np
import pytest
import torch
from safetensors.torch import load

from medrec import splits, trial
from medrec.datasets._base import prepare
from medrec.datasets.synthetic import SyntheticOptions
from medrec.evaluation import evaluate
from medrec.models._base import SequenceRecommender
from medrec.precision import forward
from medrec.predicting import predict
from medrec.spec import Training
from tests.medrec.small import (
    arm_name,
    arms,
    make_spec,
    neural_models,
    saved,
    shaken,
    small_knowledge,
    whole_batch,
)

NEURAL = ["dkinet", "gamenet", "kindmed", "safedrug"]
RATES = ("jaccard", "f1", "prauc", "ddi_rate")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("small"))


def bf16(**fields):
    return Training(epochs=1, batch_size=5, precision="bf16", **fields)


@pytest.mark.parametrize(
    "arm",
    [arm for arm in arms() if arm[0] in neural_models()],
    ids=arm_name,
)
def test_every_arm_gives_logits_near_those_of_float32(arm):
    model = shaken(trial.build(make_spec(*arm), small_knowledge()))
    with torch.no_grad():
        full, half = (forward(model, whole_batch(), p) for p in ("float32", "bf16"))
        assert torch.equal(full, model(whole_batch()))
    assert half.dtype == torch.float32
    # A model that writes sequences has rows for visits that exist alone.
    exists = slice(None) if isinstance(model, SequenceRecommender) else whole_batch().visit_mask
    assert not torch.equal(full[exists], half[exists])
    spread = full[exists].std()
    assert (full - half)[exists].abs().mean() < 0.05 * spread


@pytest.mark.parametrize("model", ["gamenet", "kindmed"])
def test_weights_scores_and_stored_answers(small, model):
    spec = make_spec(model, cohort=small, training=bf16())
    result = trial.run(spec, lambda row: None)
    assert all(t.dtype == torch.float32 for t in load(result.weights).values())
    assert result.predictions.scores.dtype == np.float32
    again, data, _ = trial.prepared(spec, None)
    trial.restore(again, load(result.weights))
    test = data.cohort.members(splits.TEST)
    found = predict(again, data.cohort, data.resident, test, 0.5, precision="bf16")
    assert np.array_equal(found.scores, result.predictions.scores)
    assert trial.run(spec, lambda row: None).weights == result.weights


def test_a_rehearsal_tells_the_precisions_apart(small):
    half = trial.rehearse(make_spec("gamenet", cohort=small, training=bf16()))
    training = Training(epochs=1, batch_size=5)
    full = trial.rehearse(make_spec("gamenet", cohort=small, training=training))
    assert not half.same_step(full)
    assert half.loss == pytest.approx(full.loss, rel=1e-2)


def test_the_key_tells_the_precisions_apart_and_keeps_that_of_float32():
    one = make_spec("gamenet")
    assert one.key == make_spec("gamenet", training=Training(epochs=2, batch_size=4)).key
    assert one.key != make_spec("gamenet", training=bf16()).key


@pytest.mark.slow
@pytest.mark.parametrize("model", [*NEURAL, "bh3"])
def test_metrics_of_bf16_are_within_a_thousandth(tmp_path, model):
    """The same weights, looked at in both precisions, on some 300 validation patients.

    Two trainings drift apart: a rounded gradient is another gradient. After one epoch of 84 steps
    Jaccard and F1 differed by 7e-4 at most, PRAUC by 2.4e-3 (GAMENet).
    """
    ref = saved(tmp_path, prepare("synthetic", None, SyntheticOptions(patients=2000)))
    config = {"icd_pretrain": "none"} if model == "bh3" else {}
    training = Training(epochs=1, batch_size=16)
    spec = make_spec(model, config, cohort=ref, training=training)
    weights = load(trial.run(spec, lambda row: None).weights)
    network, data, _ = trial.prepared(spec, None)
    trial.restore(network, weights)
    found = []
    for precision in ("float32", "bf16"):
        answers = predict(
            network, data.cohort, data.resident, data.validation, 0.5, precision=precision
        )
        found.append(evaluate(answers, data.knowledge.interacts))
    assert max(abs(found[0][name] - found[1][name]) for name in RATES) < 1e-3
