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

from medrec.measures import Measure
from medrec.predictions import Predictions

Terms = tuple[Float64[np.ndarray, " visits"], Float64[np.ndarray, " visits"]]


@dataclass(frozen=True)
class Metric(Measure):
    """A recommender's metric: a measure of patients, worked out from predictions.

    Attributes:
        pooled: whether visits are pooled over patients; otherwise each patient counts once.
        terms: (predictions, interacting pairs) to (numerators, denominators), one per visit.
            A visit whose denominator is 0 is undefined and left out.
    """

    pooled: bool
    terms: Callable[[Predictions, Bool[np.ndarray, "drugs drugs"]], Terms]
