"""Which patients train, validate and test. Always whole patients, never visits."""

from typing import Literal

import numpy as np
from jaxtyping import Int8

from medrec.errors import ConfigError

TRAIN, VALIDATION, TEST = 0, 1, 2
NAMES = ("train", "validation", "test")
_EPSILON = 1e-9  # 6 * (2 / 3) must not round down to 3
Rule = Literal["random", "sequential"]


def split_patients(
    patients: int, rule: Rule, seed: int, fractions: tuple[float, float, float]
) -> Int8[np.ndarray, " patients"]:
    """Returns 0, 1 or 2 (train, validation, test) for each patient.

    Args:
        patients: how many there are, in the order of the source's patient key.
        rule: `random` permutes them with `seed`; `sequential` is the published pipelines' habit
            (first part train, next part test, last part validation, no shuffle, sizes rounded
            down: 4,233, 1,058 and 1,059 of 6,350).
        seed: seed of the permutation.
        fractions: of train, validation, test; they sum to 1.

    Raises:
        ConfigError: the fractions do not sum to 1, or a part would be empty.
    """
    if abs(sum(fractions) - 1.0) > 1e-6 or min(fractions) <= 0:
        raise ConfigError(f"`fractions` must be positive and sum to 1, but got {fractions}.")
    if rule == "sequential":
        train = int(patients * fractions[0] + _EPSILON)
        share = fractions[2] / (fractions[1] + fractions[2])
        held_out = int((patients - train) * share + _EPSILON)
    else:
        train = round(patients * fractions[0])
        held_out = round(patients * fractions[1])
    if min(train, held_out, patients - train - held_out) < 1:
        raise ConfigError(
            f"{patients} patients cannot be split into {fractions}: a part would be empty. "
            "Use more patients or other fractions."
        )
    first, second = (TEST, VALIDATION) if rule == "sequential" else (VALIDATION, TEST)
    labels = np.full(patients, second, dtype=np.int8)
    labels[:train] = TRAIN
    labels[train : train + held_out] = first
    if rule == "sequential":
        return labels
    split = np.empty(patients, dtype=np.int8)
    split[np.random.default_rng(seed).permutation(patients)] = labels
    return split
