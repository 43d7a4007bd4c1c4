"""MICRON against its equations, one visit at a time, and its thresholds against scikit-learn."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_curve

from medrec import trial
from medrec.models._base import Step
from medrec.models.micron import Balance, MICRONConfig, roc_thresholds, scan
from medrec.predictions import Predictions
from tests.medrec.models import reference
from tests.medrec.models.reference import bag, linear, relu, sigmoid
from tests.medrec.small import make_spec, shaken, small_knowledge, whole_batch

VARIANTS = [{}, {"variant": "released"}, {"state": "true"}]
LOSSES = [{}, {"variant": "released"}, {"controller": "none"}, {"current_share": 1.0}]


def build(changes):
    spec = make_spec("micron", {**changes, "dropout": 0.0})
    return shaken(trial.build(spec, small_knowledge()))


def network(state, x):
    return linear(state, "prescribe.2", relu(linear(state, "prescribe.0", x)))


def vector_of(state, visit):
    parts = [
        bag(state[f"{kind}.embedding.weight"], visit[position], mean=False)
        for position, kind in enumerate(("diagnoses", "procedures"))
    ]
    return linear(state, "visit", np.concatenate(parts))


def visit_answer(state, prefix, thresholds, carried):
    """Score and set of the prefix's last visit."""
    vectors = [vector_of(state, visit) for visit in prefix]
    base = network(state, vectors[0])
    if len(prefix) == 1:
        score = sigmoid(base)
        return score, {drug for drug, p in enumerate(score) if p >= 0.5}
    chosen = set(prefix[0][2])
    for t in range(1, len(prefix)):
        base = base + network(state, vectors[t] - vectors[t - 1])
        if not carried:
            chosen = set(prefix[t - 1][2])
        for drug, p in enumerate(sigmoid(base)):
            if p >= thresholds[0]:
                chosen.add(drug)
            elif p < thresholds[1]:
                chosen.discard(drug)
    return sigmoid(base), chosen


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_scores_and_sets_equal_the_equations(changes):
    model, batch = build(changes), whole_batch()
    model.thresholds.copy_(torch.tensor([0.7, 0.25]))
    found = model.predict(batch, 0.5)
    state, kept = reference.state_of(model), 0
    for row, patient in enumerate(reference.patients()):
        for visit in range(len(patient)):
            carried = model.config.state == "carried"
            score, chosen = visit_answer(state, patient[: visit + 1], (0.7, 0.25), carried)
            np.testing.assert_allclose(found.scores[row, visit].detach(), score, atol=1e-5)
            assert set(found.chosen[row, visit].nonzero()[:, 0].tolist()) == chosen
            kept += sum(visit > 0 and 0.25 <= p < 0.7 for p in score)
    assert kept > 20, "the example must show drugs that stay as they were"


def test_the_scan_by_hand():
    scores = torch.tensor([[[0.9, 0.5, 0.1], [0.5, 0.1, 0.5], [0.5, 0.8, 0.79]]])
    first = torch.tensor([[False, True, True]])
    found = scan(first, scores, torch.tensor([0.8, 0.2]))
    assert found.int().tolist() == [[[1, 1, 0], [1, 0, 0], [1, 1, 0]]]


@pytest.mark.parametrize("changes", LOSSES, ids=str)
def test_training_loss_equals_the_equations(changes):
    model, batch, knowledge = build(changes).train(), whole_batch(), small_knowledge()
    found = model.loss(model(batch), batch, Step(0, 0.5)).item()
    state, config, interacts = reference.state_of(model), model.config, knowledge.interacts
    total, visits, rates = 0.0, 0, []
    for patient in reference.patients():
        visits += len(patient)
        for before, now in pairwise(patient):
            h_before, h_now = vector_of(state, before), vector_of(state, now)
            u_before, u_now = network(state, h_before), network(state, h_now)
            p, p_before = sigmoid(u_now), sigmoid(u_before)
            guess = sigmoid(u_before + network(state, h_now - h_before))
            share = config.current_share
            bce = share * reference.cross_entropy(p, now[2])
            bce += (1 - share) * reference.cross_entropy(p_before, before[2])
            margin = share * reference.margin(p, now[2])
            margin += (1 - share) * reference.margin(p_before, before[2])
            total += 0.25 * (np.square(p - guess).mean() + bce + 0.05 * margin)
            rates.append(reference.rate([d for d, q in enumerate(p) if q >= 0.5], interacts))
            if rates[-1] > 0.08 and config.controller != "none":
                total += 0.25 * reference.interaction(p, interacts) / knowledge.drugs
    assert found == pytest.approx(total / visits, abs=1e-5)
    assert min(rates) <= 0.08 < max(rates), "the example must show both branches"


def test_patients_with_one_visit_alone_train_nothing():
    model, batch = build({}).train(), whole_batch()
    single = batch.visit_mask.sum(dim=1) == 1
    batch = replace(batch, **{name: value[single] for name, value in vars(batch).items()})
    loss = model.loss(model(batch), batch, Step(0, 0.5))
    loss.backward()
    assert loss.item() == 0


def test_adaptive_weights_by_hand():
    balance = Balance(0.75)
    rounds = [
        # epoch, terms, pairs
        (0, [2.0, 4.0, 8.0, 0.0], 2),
        (0, [1.0, 2.0, 8.0, 3.0], 2),
        (1, [1.0, 1.0, 1.0, 1.0], 1),
        (2, [0.0, 0.0, 0.0, 0.0], 1),
    ]
    found = [balance(torch.tensor(terms), pairs, epoch) for epoch, terms, pairs in rounds]
    weights = np.full(4, 0.25)
    np.testing.assert_allclose(found[0], weights)
    np.testing.assert_allclose(found[1], weights)
    # Epoch 0 has means .75, 1.5, 4, .75 where its first step had 1, 2, 4, 0.
    weights = 0.75 * weights + 0.25 * reference.softmax(np.array([0.75, 0.75, 1.0, 1.0]))
    np.testing.assert_allclose(found[2], weights, atol=1e-6)
    ratios = np.array([1 / 0.75, 1 / 1.5, 1 / 4, 1 / 0.75])
    weights = 0.75 * weights + 0.25 * reference.softmax(ratios)
    np.testing.assert_allclose(found[3], weights, atol=1e-6)
    assert weights.sum() == pytest.approx(1)


def test_a_copy_from_the_checkpoint_goes_on_with_the_same_weights():
    one, other = Balance(0.75), Balance(0.75)
    generator = torch.Generator().manual_seed(0)
    steps = [(epoch, torch.rand(4, generator=generator)) for epoch in range(4) for _ in range(3)]
    for number, (epoch, terms) in enumerate(steps):
        if number in (4, 6):  # inside an epoch, and between two
            other.load_state_dict(one.state_dict())
        expected = one(terms, 5, epoch)
        if number >= 4:
            assert torch.equal(other(terms, 5, epoch), expected)


def test_weights_stand_still_outside_training():
    model = build({})
    before = {name: t.clone() for name, t in model.state_dict().items()}
    model.loss(model(whole_batch()), whole_batch(), Step(3, 0.5))
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


@pytest.mark.parametrize("decimals", [1, 2, 7])
def test_thresholds_equal_those_of_scikit_learn(decimals):
    rng = np.random.default_rng(decimals)
    truth = rng.random((300, 6)) < 0.3
    scores = 0.25 + 0.3 * (rng.random(truth.shape) + truth * rng.random(6))
    scores = scores.round(decimals).astype(np.float32)
    highs, lows = [], []
    for drug in range(6):
        turns = roc_curve(truth[:, drug], scores[:, drug])[2]
        high = turns[max(round(0.05 * len(turns)) - 1, 0)]
        low = turns[max(round(0.95 * len(turns)) - 1, 0)]
        highs.append(min(max(high, 0.5), 0.9))
        lows.append(min(max(low, 0.1), 0.5))
    expected = (np.mean(highs), np.mean(lows))
    assert roc_thresholds(truth, scores) == pytest.approx(expected, abs=1e-6)
    assert 0.1 < expected[1] < 0.5 <= expected[0] <= 0.9


def predictions(visits):
    rng = np.random.default_rng(0)
    return Predictions(
        patient=np.zeros(len(visits), np.int32),
        visit=np.array(visits, np.int16),
        truth=rng.random((len(visits), 10)) < 0.5,
        chosen=np.zeros((len(visits), 10), bool),
        scores=rng.random((len(visits), 10)).astype(np.float32),
    )


def test_validation_chooses_thresholds_on_later_visits_alone():
    model, found = build({}), predictions([0, 1, 2, 3, 0, 1])
    model.calibrate(found)
    later = found.transitions()
    expected = torch.tensor(roc_thresholds(later.truth, later.scores))
    assert torch.equal(model.thresholds, expected)
    model.calibrate(predictions([0, 0, 0]))
    assert torch.equal(model.thresholds, expected)


def test_fixed_thresholds_stay():
    model = build({"thresholds": "fixed", "add_from": 0.6})
    model.calibrate(predictions([0, 1, 2, 3]))
    assert model.thresholds.tolist() == pytest.approx([0.6, 0.2])


def test_a_drug_that_nobody_or_everybody_has_is_no_obstacle():
    truth = np.array([[True, False]] * 3)
    scores = np.array([[0.7, 0.3]] * 3, dtype=np.float32)
    high, low = roc_thresholds(truth, scores)
    assert high == pytest.approx((0.9 + 0.9) / 2)  # infinity, then one score for all
    assert low == pytest.approx((0.5 + 0.3) / 2)


def test_settings_are_those_of_the_sources():
    paper, released = MICRONConfig(), MICRONConfig(variant="released")
    assert (paper.dim, paper.feed_forward, paper.dropout) == (64, 256, 0.5)
    assert (paper.current_share, paper.margin_weight, paper.momentum) == (0.75, 0.05, 0.75)
    assert (paper.controller, paper.ddi_target, paper.ddi_gain) == ("threshold", 0.08, 1.0)
    assert (paper.add_from, paper.keep_from, paper.state) == (0.8, 0.2, "carried")
    assert (paper.weights, released.weights) == ("adaptive", "frozen")
    assert MICRONConfig(controller="safedrug_paper").ddi_gain == 0.05
