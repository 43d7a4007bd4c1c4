"""What a comparison comes to: hurts, helps, equivalent, undecided; and what it could have shown.

That a difference is not significant does not make a part useless. An arm is called equivalent
only where two one-sided tests (Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 15(6),
1987) show the difference to be smaller than a margin that the study file fixed beforehand.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64
from scipy import stats

from sweeps.statistics.exact import settled

ALPHA = 0.05
POWER = 0.8
Word = Literal["hurts", "helps", "equivalent", "undecided"]


@dataclass(frozen=True)
class Verdict:
    """What is said of an arm.

    Attributes:
        word: hurts or helps: the family-wise p value is below 5 %; equivalent: the two one-sided
            tests are, corrected by Holm's method; undecided: neither.
        margin: the margin that equivalence was tested against; None without one.
        small: whether the arm is equivalent within the margin, though it hurts or helps.
    """

    word: Word
    margin: float | None = None
    small: bool = False

    @property
    def text(self) -> str:
        """The verdict as tables print it."""
        if self.word == "equivalent":
            return f"equivalent within ±{self.margin:g}"
        return f"{self.word}, by less than {self.margin:g}" if self.small else self.word


def verdict(
    estimate: float,
    p_family: float,
    p_equivalent: float | None,
    higher_is_better: bool,
    margin: float | None,
) -> Verdict:
    """Returns the verdict from family-corrected p values.

    Args:
        estimate: arm minus reference.
        p_family: that they do not differ.
        p_equivalent: that they differ by the margin or more; None without a margin.
        higher_is_better: the metric's direction.
        margin: as the study file has it.
    """
    same = p_equivalent is not None and p_equivalent < ALPHA
    if p_family < ALPHA:
        better = (estimate > 0) == higher_is_better
        return Verdict("helps" if better else "hurts", margin, small=same)
    return Verdict("equivalent" if same else "undecided", margin)


def equivalence_p(
    estimate: Float64[np.ndarray, "*shape"],
    error: Float64[np.ndarray, "*shape"],
    freedom: Float64[np.ndarray, "*shape"],
    margin: float,
) -> Float64[np.ndarray, "*shape"]:
    """Returns the larger p value of the two one-sided tests against -margin and +margin."""
    room = margin - np.abs(estimate)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = stats.t.sf(room / error, freedom)
    return settled(np.where(error == 0, np.where(room > 0, 0.0, 1.0), found))


def detectable(
    error: Float64[np.ndarray, "*shape"], freedom: Float64[np.ndarray, "*shape"]
) -> Float64[np.ndarray, "*shape"]:
    """Returns the true difference that a two-sided 5 % test would find in 80 % of studies.

    Not corrected for the family; about (t(0.975) + t(0.8)) standard errors.
    """
    scores = stats.t.ppf(1 - ALPHA / 2, freedom) + stats.t.ppf(POWER, freedom)
    return settled(np.asarray(scores * error))
