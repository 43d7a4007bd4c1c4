"""DDI controllers: how a visit's own DDI rate weighs accuracy against interactions.

Each is a pure function of the rates r [visits] of the thresholded recommendation to two weights
[visits]: of the prediction loss and of the interaction loss. r carries no gradient. Every model
with a DDI loss can use every controller.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Controller = Literal[
    "none", "gamenet", "safedrug_paper", "safedrug_released", "molerec", "threshold"
]
Rates = Float[Tensor, " visits"]
Weights = tuple[Rates, Rates]


@dataclass(frozen=True)
class Control:
    """Settings of a controller.

    Attributes:
        target: acceptable DDI rate γ of a visit, in [0, 1].
        gain: K_p of the SafeDrug rules; initial temperature T of gamenet; exponent of molerec;
            weight of the interaction loss of threshold.
        decay: factor of gamenet's temperature at each epoch.
    """

    target: float
    gain: float
    decay: float


def none(rates: Rates, control: Control, epoch: int) -> Weights:
    """Accuracy alone."""
    return torch.ones_like(rates), torch.zeros_like(rates)


def gamenet(rates: Rates, control: Control, epoch: int) -> Weights:
    """Above γ, with probability exp((γ - r)/T), the interaction loss *instead of* accuracy.

    T = gain * decay^epoch: as it cools, accuracy is trained ever more often.
    Source: GAMENet train_GAMENet.py (da695b4), specs of the DDI loss.
    """
    temperature = control.gain * control.decay**epoch
    probability = torch.exp((control.target - rates) / temperature)
    drawn = (rates > control.target) & (torch.rand_like(rates) < probability)
    return (~drawn).float(), drawn.float()


def safedrug_paper(rates: Rates, control: Control, epoch: int) -> Weights:
    """β = clip(1 - (r - γ)/K_p, 0, 1) on accuracy, 1 - β on interactions.

    Source: SafeDrug (IJCAI 2021), the controllable loss.
    """
    beta = (1 - (rates - control.target) / control.gain).clamp(0, 1)
    return beta, 1 - beta


def safedrug_released(rates: Rates, control: Control, epoch: int) -> Weights:
    """Above γ, β = min(0, 1 + (γ - r)/K_p): never positive, so accuracy is un-learned.

    Source: SafeDrug.py:243 (88ce5c3), where `min` stands for `max`. Kept to reproduce it.
    """
    beta = (1 + (control.target - rates) / control.gain).clamp(max=0)
    beta = torch.where(rates <= control.target, torch.ones_like(rates), beta)
    return beta, 1 - beta


def molerec(rates: Rates, control: Control, epoch: int) -> Weights:
    """Above γ, β = min(1, exp(gain (1 - r/γ))) on accuracy, 1 - β on interactions.

    Source: MoleRec (WWW 2023), training.py (dd5afaf).
    """
    excess = 1 - rates / max(control.target, torch.finfo(rates.dtype).tiny)
    beta = torch.exp(control.gain * excess).clamp(max=1)
    beta = torch.where(rates <= control.target, torch.ones_like(rates), beta)
    return beta, 1 - beta


def threshold(rates: Rates, control: Control, epoch: int) -> Weights:
    """Accuracy always; interactions with weight `gain` above γ.

    Source: MICRON (γ .08, weight .25) and DrugRec (γ .05, weight .5).
    """
    return torch.ones_like(rates), control.gain * (rates > control.target).float()


CONTROLLERS: dict[Controller, Callable[[Rates, Control, int], Weights]] = {
    "none": none,
    "gamenet": gamenet,
    "safedrug_paper": safedrug_paper,
    "safedrug_released": safedrug_released,
    "molerec": molerec,
    "threshold": threshold,
}
# Published gain of each rule, taken where a configuration names a rule and no gain.
PUBLISHED_GAIN: dict[Controller, float] = {
    "none": 1.0,
    "gamenet": 0.5,  # GAMENet T, da695b4; SafeDrug's copy of GAMENet has 2.0
    "safedrug_paper": 0.05,  # K_p
    "safedrug_released": 0.05,  # K_p
    "molerec": 2.5,  # coef
    "threshold": 0.5,  # DrugRec
}
