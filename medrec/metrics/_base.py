"""What a metric is: two numbers per visit, and how visits become one number.

`patient mean` (the field's protocol for Jaccard, F1, PRAUC): mean over a patient's visits, then
over patients. `pooled` (DDI rate, medications per visit): one ratio over all visits of all
patients. Both are a ratio of weighted sums over patients, which is what makes every interval a
matrix product (`medrec.evaluation`).

Source: evaluation code shared by GAMENet, SafeDrug, MoleRec (`util.py`, `multi_label_metric`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from medrec.predictions import Predictions

Terms = tuple[Float64[np.ndarray, " visits"], Float64[np.ndarray, " visits"]]


@dataclass(frozen=True)
class Metric:
    """A metric's definition and the facts that tables need about it.

    Attributes:
        title: heading in tables.
        unit: what one unit is.
        higher_is_better: None where neither direction is better by itself.
        pooled: whether visits are pooled over patients; otherwise each patient counts once.
        terms: (predictions, interacting pairs) to (numerators, denominators), one per visit.
            A visit whose denominator is 0 is undefined and left out.
        decimals: digits after the point in printed tables.
        of_scores: whether it is about the scores of drugs, not about the set recommended.
    """

    title: str
    unit: str
    higher_is_better: bool | None
    pooled: bool
    terms: Callable[[Predictions, Bool[np.ndarray, "drugs drugs"]], Terms]
    decimals: int = 4
    of_scores: bool = False
