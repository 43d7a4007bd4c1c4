"""What a producer, a generator of records or a builder of hierarchies, is measured at.

A measure is a ratio of sums over units, test patients or codes, as a recommender's metrics are
over patients; so everything that `sweeps` does with metrics it does with measures. A quantity that
is no such ratio enters as its value plus each unit's influence on it, over 1: the mean over units
is the value, and resampling the units gives the interval of its linearisation.

Source: the infinitesimal jackknife (Jaeckel 1972; Efron, "The Jackknife, the Bootstrap and Other
Resampling Plans", 1982, chapter 6).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64, Int32

Terms = tuple[Float64[np.ndarray, " units"], Float64[np.ndarray, " units"]]
"""Numerator and denominator of each unit; a unit with denominator 0 contributes nothing."""


@dataclass(frozen=True)
class Measure:
    """A measure's definition and the facts that tables need about it.

    Attributes:
        title: heading in tables.
        unit: what one unit is.
        higher_is_better: None where neither direction is better by itself.
        decimals: digits after the point in printed tables.
        of_scores: whether it is about the scores of drugs, not about the set recommended.
        description: what it is, for captions; empty for the field's own metrics.
        group: title of the table that shows it, where measures are too many for one.
        main: whether tables that compare arms in few columns show it.
        signed: whether it can be negative.
        most: largest value that it can have.
    """

    title: str
    unit: str
    higher_is_better: bool | None
    decimals: int = field(default=4, kw_only=True)
    of_scores: bool = field(default=False, kw_only=True)
    description: str = field(default="", kw_only=True)
    group: str = field(default="", kw_only=True)
    main: bool = field(default=True, kw_only=True)
    signed: bool = field(default=False, kw_only=True)
    most: float = field(default=math.inf, kw_only=True)


@dataclass(frozen=True)
class Measured:
    """What one trial was measured at.

    Attributes:
        units: number of each unit: a test patient's row of the cohort, or a code's number.
        terms: by name of the measure.
        facts: what has no unit, for tables to print without an interval.
        files: further files of the trial, by name.
    """

    units: Int32[np.ndarray, " units"]
    terms: Mapping[str, Terms]
    facts: Mapping[str, float] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)


def linearised(value: float, influence: Float64[np.ndarray, " units"]) -> Terms:
    """Returns the terms of a quantity that is no ratio of sums.

    Args:
        value: of all units.
        influence: the derivative of the value with respect to each unit's weight, at equal
            weights of sum 1; its mean is 0 but for rounding.

    Example:
        >>> numerator, denominator = linearised(0.5, np.array([0.1, -0.1]))
        >>> float(numerator.sum() / denominator.sum())
        0.5
    """
    centred = influence - influence.mean()
    return value + centred, np.ones_like(centred)
