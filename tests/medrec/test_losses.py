"""Losses against torch's own and against double loops."""

import math

import numpy as np
import pytest
import torch

from medrec.losses import cross_entropy, interaction, margin, pair_cross_entropy, visit_ddi_rate

VISITS, DRUGS = 9, 7


@pytest.fixture
def example():
    """Logits, scores, targets (none, some and all drugs given) and interactions."""
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(VISITS, DRUGS))).float()
    target = torch.from_numpy(rng.random((VISITS, DRUGS)) < 0.4).float()
    target[0], target[1] = 0.0, 1.0
    upper = np.triu(rng.random((DRUGS, DRUGS)) < 0.4, 1)
    return logits, torch.sigmoid(logits), target, torch.from_numpy(upper | upper.T).float()


def test_cross_entropy(example):
    logits, scores, target, _ = example
    for visit, found in enumerate(cross_entropy(logits, target)):
        total = 0.0
        for drug in range(DRUGS):
            p = scores[visit, drug].item()
            total -= math.log(p) if target[visit, drug] else math.log(1 - p)
        assert found.item() == pytest.approx(total / DRUGS, abs=1e-6)


def test_cross_entropy_of_extreme_logits_is_finite():
    logits = torch.tensor([[100.0, -100.0]])
    wrong = torch.tensor([[0.0, 1.0]])
    assert cross_entropy(logits, wrong).item() == pytest.approx(100.0)
    assert cross_entropy(logits, 1 - wrong).item() == pytest.approx(0.0, abs=1e-6)


def test_margin_equals_torch(example):
    _, scores, target, _ = example
    found = margin(scores, target)
    for visit in range(VISITS):
        given = target[visit].nonzero()[:, 0]
        slots = torch.full((DRUGS,), -1)
        slots[: len(given)] = given
        theirs = torch.nn.functional.multilabel_margin_loss(scores[visit], slots)
        assert found[visit].item() == pytest.approx(theirs.item(), abs=1e-6)


def test_margin_has_torchs_gradient(example):
    _, scores, target, _ = example
    mine = scores.clone().requires_grad_()
    margin(mine, target).sum().backward()
    theirs = scores.clone().requires_grad_()
    slots = torch.full((VISITS, DRUGS), -1)
    for visit in range(VISITS):
        given = target[visit].nonzero()[:, 0]
        slots[visit, : len(given)] = given
    torch.nn.functional.multilabel_margin_loss(theirs, slots, reduction="sum").backward()
    torch.testing.assert_close(mine.grad, theirs.grad)


@pytest.mark.parametrize(
    ("scores", "target", "expected"),
    [
        ([[1.0, 0.0]], [[1.0, 0.0]], 0.0),  # as far apart as can be
        ([[0.0, 1.0]], [[1.0, 0.0]], 1.0),  # 1 - (0 - 1) = 2, over 2 drugs
        ([[0.5, 0.5, 0.5]], [[1.0, 0.0, 0.0]], 2 / 3),
        ([[0.3, 0.9]], [[0.0, 0.0]], 0.0),
        ([[0.3, 0.9]], [[1.0, 1.0]], 0.0),
    ],
)
def test_margin_by_hand(scores, target, expected):
    assert margin(torch.tensor(scores), torch.tensor(target)).item() == pytest.approx(expected)


def test_interaction_by_double_loop(example):
    _, scores, _, interacts = example
    for visit, found in enumerate(interaction(scores, interacts)):
        total = 0.0
        for i in range(DRUGS):
            for j in range(DRUGS):
                total += (interacts[i, j] * scores[visit, i] * scores[visit, j]).item()
        assert found.item() == pytest.approx(total, abs=1e-5)


def test_rate_by_loop(example):
    _, scores, _, interacts = example
    chosen = scores >= 0.5
    chosen[0], chosen[1] = False, False
    chosen[1, 3] = True
    found = visit_ddi_rate(chosen, interacts)
    for visit in range(VISITS):
        drugs = [drug for drug in range(DRUGS) if chosen[visit, drug]]
        pairs = [(i, j) for i in drugs for j in drugs if i < j]
        bad = sum(int(interacts[i, j]) for i, j in pairs)
        expected = bad / len(pairs) if pairs else 0.0
        assert found[visit].item() == pytest.approx(expected, abs=1e-6)
    assert found[0] == found[1] == 0.0  # nothing, and one drug: no pair


def test_pair_cross_entropy_is_a_mean_over_pairs(example):
    logits, scores, target, _ = example
    for visit, found in enumerate(pair_cross_entropy(logits, target)):
        terms = []
        for i in range(DRUGS):
            for j in range(i + 1, DRUGS):
                both = (scores[visit, i] * scores[visit, j]).item()
                given = target[visit, i] * target[visit, j] == 1
                terms.append(-math.log(both if given else 1 - both))
        assert found.item() == pytest.approx(np.mean(terms), abs=1e-6)


def test_pair_cross_entropy_has_the_gradient_of_its_value(example):
    logits, _, target, _ = example
    logits = logits.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: pair_cross_entropy(x, target.double()), logits)


def test_pair_cross_entropy_of_extreme_logits_is_finite():
    logits = torch.tensor([[200.0, 200.0, -200.0, 20.0]]).repeat(2, 1).requires_grad_()
    found = pair_cross_entropy(logits, torch.tensor([[1.0, 1, 0, 1], [0, 0, 1, 0]]))
    assert torch.isfinite(found).all()
    assert found[0] < 1e-6
    assert found[1] > 10
    found.sum().backward()
    assert torch.isfinite(logits.grad).all()
