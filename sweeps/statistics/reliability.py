"""Calibration: are drugs with a score of 0.3 prescribed in three of ten visits?

Every (visit, drug) cell of a trial's test predictions is counted in one of ten bins of equal width
by its score. The counts of trials add up, so an arm's diagram is the sum over its seeds.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from medrec.predictions import Predictions

BINS = 10
_HALF = 2.0**-11  # largest rounding of a number below 1 that is stored in half precision


@dataclass(frozen=True)
class Reliability:
    """Counts of cells by score.

    Attributes:
        cells: how many cells lie in each bin; the last bin includes a score of 1.
        prescribed: how many of them were prescribed.
        total: sum of their scores.
        cut: whether the choice is the scores that reach the threshold. Where it is not,
            the scores rank drugs and are not used as probabilities.
    """

    cells: Int64[np.ndarray, " bins"]
    prescribed: Int64[np.ndarray, " bins"]
    total: Float64[np.ndarray, " bins"]
    cut: bool


def reliability(predictions: Predictions, threshold: float) -> Reliability:
    """Returns the counts of one trial; a score that is no number is left out.

    Args:
        predictions: of the test split.
        threshold: the protocol's, from which on a drug is recommended.
    """
    scores, truth = predictions.scores.ravel(), predictions.truth.ravel()
    differs = predictions.chosen.ravel() != (scores >= np.float32(threshold))
    # A copy in half precision may round a score to the other side of the threshold.
    cut = not (differs & (np.abs(scores - np.float32(threshold)) > _HALF)).any()
    known = np.isfinite(scores)
    if not known.all():
        scores, truth = scores[known], truth[known]
    place = np.clip((scores * BINS).astype(np.int64), 0, BINS - 1)
    return Reliability(
        cells=np.bincount(place, minlength=BINS),
        prescribed=np.bincount(place[truth], minlength=BINS),
        total=np.bincount(place, weights=scores, minlength=BINS),
        cut=cut,
    )


def pooled(trials: Iterable[Reliability]) -> Reliability:
    """Returns the counts of all trials together."""
    found = list(trials)
    empty = np.zeros(BINS)
    return Reliability(
        cells=sum((each.cells for each in found), empty.astype(np.int64)),
        prescribed=sum((each.prescribed for each in found), empty.astype(np.int64)),
        total=sum((each.total for each in found), empty),
        cut=all(each.cut for each in found),
    )


def curve(
    counts: Reliability,
) -> tuple[Float64[np.ndarray, " filled"], Float64[np.ndarray, " filled"]]:
    """Returns mean score and share prescribed of each bin that has a cell."""
    filled = counts.cells > 0
    cells = counts.cells[filled]
    return counts.total[filled] / cells, counts.prescribed[filled] / cells


def expected_calibration_error(counts: Reliability) -> float:
    """Returns the mean over cells of |mean score - share prescribed| of their bin; NaN if none."""
    cells = int(counts.cells.sum())
    return float(np.abs(counts.total - counts.prescribed).sum() / cells) if cells else np.nan
