"""Each rule at the target, half way through the band, at its end and beyond, by hand."""

import math
from typing import get_args

import pytest
import torch

from medrec.controllers import CONTROLLERS, PUBLISHED_GAIN, Control, Controller
from medrec.models._base import DdiLossConfig

TARGET, GAIN = 0.25, 0.5  # exact in binary
RATES = [0.0, 0.25, 0.5, 0.75, 1.0]  # below, at γ, γ + K/2, γ + K, beyond
CONTROL = Control(TARGET, GAIN, 0.85)


def weights(name, rates=RATES, control=CONTROL, epoch=0):
    on_accuracy, on_ddi = CONTROLLERS[name](torch.tensor(rates), control, epoch)
    return on_accuracy.tolist(), on_ddi.tolist()


def molerec(rate):
    return math.exp(GAIN * (1 - rate / TARGET))


@pytest.mark.parametrize(
    ("name", "on_accuracy", "on_ddi"),
    [
        ("none", [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]),
        ("safedrug_paper", [1, 1, 0.5, 0, 0], [0, 0, 0.5, 1, 1]),
        ("safedrug_released", [1, 1, 0, 0, -0.5], [0, 0, 1, 1, 1.5]),
        (
            "molerec",
            [1, 1, molerec(0.5), molerec(0.75), molerec(1.0)],
            [0, 0, 1 - molerec(0.5), 1 - molerec(0.75), 1 - molerec(1.0)],
        ),
        ("threshold", [1, 1, 1, 1, 1], [0, 0, 0.5, 0.5, 0.5]),
    ],
)
def test_by_hand(name, on_accuracy, on_ddi):
    found = weights(name)
    assert found[0] == pytest.approx(on_accuracy)
    assert found[1] == pytest.approx(on_ddi)


def test_the_released_rule_unlearns_at_the_published_settings():
    control = Control(0.06, 0.05, 0.85)
    found, _ = weights("safedrug_released", [0.06, 0.07, 0.20], control)
    assert found == pytest.approx([1.0, 0.0, -1.8], abs=1e-5)
    found, _ = weights("safedrug_paper", [0.06, 0.07, 0.20], control)
    assert found == pytest.approx([1.0, 0.8, 0.0], abs=1e-5)


@pytest.mark.parametrize("name", sorted(set(CONTROLLERS) - {"safedrug_released"}))
@pytest.mark.parametrize("epoch", [0, 3, 200])
def test_accuracy_is_never_unlearned(name, epoch):
    rates = torch.linspace(0, 1, 101).tolist()
    for target in (0.0, 0.06, 1.0):
        control = Control(target, PUBLISHED_GAIN[name], 0.85)
        on_accuracy, on_ddi = weights(name, rates, control, epoch)
        assert all(0 <= weight <= 1 for weight in on_accuracy)
        assert all(0 <= weight <= 1 for weight in on_ddi)


@pytest.mark.parametrize("name", sorted(set(CONTROLLERS) - {"threshold"}))
def test_weights_share_out_one(name):
    on_accuracy, on_ddi = weights(name)
    assert [a + b for a, b in zip(on_accuracy, on_ddi, strict=True)] == pytest.approx([1.0] * 5)


@pytest.mark.parametrize("epoch", [0, 5])
@pytest.mark.parametrize("rate", [0.1, 0.3, 0.9])
def test_gamenet_draws_with_its_probability(rate, epoch):
    """20,000 draws: the frequency lies within five standard errors."""
    torch.manual_seed(0)
    control, draws = Control(0.05, 0.5, 0.85), 20_000
    on_accuracy, on_ddi = CONTROLLERS["gamenet"](torch.full((draws,), rate), control, epoch)
    assert set(on_ddi.tolist()) <= {0.0, 1.0}
    assert torch.equal(on_accuracy, 1 - on_ddi)
    probability = math.exp((0.05 - rate) / (0.5 * 0.85**epoch))
    error = math.sqrt(probability * (1 - probability) / draws)
    assert on_ddi.mean().item() == pytest.approx(probability, abs=5 * error)


def test_gamenet_leaves_acceptable_visits_alone():
    torch.manual_seed(0)
    on_accuracy, on_ddi = weights("gamenet", [0.0] * 500 + [0.05] * 500, Control(0.05, 2.0, 0.85))
    assert set(on_accuracy) == {1.0}
    assert set(on_ddi) == {0.0}


def test_every_rule_has_a_gain_and_a_name():
    assert set(CONTROLLERS) == set(PUBLISHED_GAIN) == set(get_args(Controller))


@pytest.mark.parametrize("name", sorted(CONTROLLERS))
def test_a_configuration_without_gain_takes_the_published_one(name):
    assert DdiLossConfig(controller=name).ddi_gain == PUBLISHED_GAIN[name]
    assert DdiLossConfig(controller=name, ddi_gain=0.7).ddi_gain == 0.7
