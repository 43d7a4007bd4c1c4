"""What a search-space file defines: SPACE, ABLATIONS, and perhaps CONDITIONS and GRACE_EPOCHS.

SPACE maps a dimension to its Optuna distribution. A dimension is a field of the model's settings
(`ddi_target`) or of the training loop (`training.learning_rate`). Every default lies inside its
range, so that a search can start from the published settings.

GRACE_EPOCHS is the epoch before which early stopping stops no trial of the model: the first from
which on validation ranks its configurations as at the end (results/learning-curves.csv). A file
without it takes part in early stopping only where the study names an epoch.

CONDITIONS maps a dimension to the setting that it depends on and the values under which it
matters. Elsewhere it is not searched, and keeps what the study or the model sets.
"""

from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

Space = dict[str, BaseDistribution]
Conditions = dict[str, tuple[str, tuple[Any, ...]]]


@dataclass(frozen=True)
class Ablation:
    """One part of a model taken away.

    Attributes:
        title: how tables name it, after the model's name.
        changes: settings that differ from the full model.
    """

    title: str
    changes: dict[str, Any] = field(default_factory=dict)


def logarithmic(low: float, high: float) -> FloatDistribution:
    """Returns a float range searched on a logarithmic scale."""
    return FloatDistribution(low, high, log=True)


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Returns whether a value lies in the distribution's range.

    Example:
        >>> contains(FloatDistribution(0.0, 1.0), 0.5), contains(IntDistribution(1, 3), 4)
        (True, False)
    """
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    if not isinstance(value, int | float):
        return False
    if isinstance(distribution, FloatDistribution | IntDistribution):
        whole = not isinstance(distribution, IntDistribution) or value == int(value)
        return whole and distribution.low <= value <= distribution.high
    return False


def extremes(distribution: BaseDistribution) -> tuple[Any, ...]:
    """Returns the ends of a range, or every choice: if these are valid, so is what lies between.

    Example:
        >>> extremes(IntDistribution(1, 3)), extremes(CategoricalDistribution(["sum", "mean"]))
        ((1, 3), ('sum', 'mean'))
    """
    if isinstance(distribution, CategoricalDistribution):
        return tuple(distribution.choices)
    if isinstance(distribution, FloatDistribution | IntDistribution):
        return distribution.low, distribution.high
    return ()


# Searched with every neural model. One step per batch of patients instead of the published step
# per visit calls for larger rates than the papers', hence the upper end.
TRAINING: Space = {
    "training.learning_rate": logarithmic(1e-4, 1e-2),
    "training.batch_size": CategoricalDistribution([8, 16, 32, 64]),
    "training.weight_decay": FloatDistribution(0.0, 1e-3),
}

# Rules of the DDI loss (medrec.controllers) besides `none`, under which its settings mean nothing.
CONTROLLERS = ("gamenet", "safedrug_paper", "safedrug_released", "molerec", "threshold")
DDI_LOSS: Conditions = {
    "ddi_target": ("controller", CONTROLLERS),
    "ddi_gain": ("controller", CONTROLLERS),
    "ddi_decay": ("controller", ("gamenet",)),
}
