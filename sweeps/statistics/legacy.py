"""What the field prints: mean ± standard deviation of ten rounds of 80 % of the test patients.

Kept by name, so that published tables can be set beside ours in their own terms. Neither is a
confidence interval: one trained model is measured ten times on overlapping patients, so training
does not vary, and the figure after ± is itself uncertain by half. As a test it finds differences
between equal models in far more than 5 % of cases (`medsweep calibrate` shows how many).

Sources: `SafeDrug.py` and its descendants draw with replacement and run the model again in each
round; COGNet draws without replacement from cached values. Given each patient's numbers, neither
needs the model: the figures are the same to the bit.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from jaxtyping import Float64

ROUNDS = 10
SHARE = 0.8

Legacy = Callable[
    [Float64[np.ndarray, " patients"], Float64[np.ndarray, " patients"], int], tuple[float, float]
]


def ten_rounds_with_replacement(
    numerator: Float64[np.ndarray, " patients"],
    denominator: Float64[np.ndarray, " patients"],
    seed: int = 0,
) -> tuple[float, float]:
    """Returns mean and standard deviation over ten draws of 80 % with replacement (SafeDrug).

    Args:
        numerator: of one trained model, as in `medrec.evaluation`.
        denominator: the same.
        seed: of NumPy's legacy generator, which the published scripts seed or leave unseeded.
    """
    return _ten_rounds(numerator, denominator, seed, replace=True)


def ten_rounds_without_replacement(
    numerator: Float64[np.ndarray, " patients"],
    denominator: Float64[np.ndarray, " patients"],
    seed: int = 0,
) -> tuple[float, float]:
    """Returns mean and standard deviation over ten draws of 80 % without replacement (COGNet)."""
    return _ten_rounds(numerator, denominator, seed, replace=False)


def rounds(
    numerator: Float64[np.ndarray, " patients"],
    denominator: Float64[np.ndarray, " patients"],
    seed: int,
    replace: bool,
) -> Float64[np.ndarray, " rounds"]:
    """Returns the metric in each round: a mean over the patients drawn, or their pooled ratio."""
    generator = np.random.RandomState(seed)
    patients = len(numerator)
    size = round(SHARE * patients)
    values = []
    for _ in range(ROUNDS):
        drawn = generator.choice(patients, size, replace=replace)
        below = denominator[drawn]
        if (below == 1).all():
            values.append(np.mean(numerator[drawn]))  # as published, to the bit
        else:
            total = below.sum()
            values.append(numerator[drawn].sum() / total if total else 0.0)
    return np.array(values)


def _ten_rounds(
    numerator: np.ndarray, denominator: np.ndarray, seed: int, replace: bool
) -> tuple[float, float]:
    found = rounds(numerator, denominator, seed, replace)
    return float(np.mean(found)), float(np.std(found))


LEGACY: Mapping[str, Legacy] = MappingProxyType(
    {
        "ten_rounds_with_replacement": ten_rounds_with_replacement,
        "ten_rounds_without_replacement": ten_rounds_without_replacement,
    }
)
