"""Intervals, tests and verdicts of a large study: 20 arms, 5 seeds, 1,058 patients, 10,000 draws.

Ceiling: 10 s on two cores, in bounded memory.
"""

import numpy as np

from medrec.evaluation import metrics
from sweeps.evaluate import Scores, metric_names
from sweeps.record import Analysis
from sweeps.statistics.inference import Inference

ARMS, SEEDS, PATIENTS, RESAMPLES = 20, 5, 1058, 10_000


def _scores() -> Scores:
    rng, names = np.random.default_rng(0), metric_names()
    shape = (len(names), ARMS, SEEDS, PATIENTS)
    numerator, denominator = rng.random(shape), np.ones(shape)
    for metric, most in ((names.index("ddi_rate"), 300), (names.index("medications"), 6)):
        denominator[metric] = rng.integers(1, most, shape[1:])
        numerator[metric] = np.rint(numerator[metric] * denominator[metric])
    there = np.ones((ARMS, SEEDS), dtype=bool)
    return Scores(
        metrics=names,
        arms=tuple(f"arm{place}" for place in range(ARMS)),
        seeds=tuple(range(SEEDS)),
        patients=np.arange(PATIENTS, dtype=np.int32),
        visits=2 * PATIENTS,
        numerator=numerator,
        denominator=denominator,
        present=there,
        expected=there,
        seeded=np.ones(ARMS, dtype=bool),
    )


def test_all_intervals_and_verdicts(benchmark):
    scores = _scores()

    def infer() -> None:
        analysis = Analysis(primary="jaccard", margin=0.01)
        found = Inference(scores, metrics(), ["arm0"] * ARMS, analysis, RESAMPLES, 0)
        assert found.estimate("ddi_rate", "arm1") is not None
        assert found.comparison("arm1") is not None
        assert found.discoveries

    benchmark.pedantic(infer, rounds=3)
