"""A/A studies: two arms that differ in name alone, trained and compared like any others.

A model is trained with ten seeds on a synthetic cohort; five of the trainings are one arm, five
the other. Whatever a test finds between them is chance. Each study has a cohort of its own, so
that patients vary between studies as well.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console

from sweeps.errors import SweepError
from sweeps.evaluate import Scores, evaluate_arms
from sweeps.record import Analysis
from sweeps.statistics.inference import Inference
from sweeps.store import ResultsStore
from sweeps.study import Study

SEEDS = 5  # of an arm


def same_arms(studies: int, seed: int) -> Iterator[float]:
    """Yields the p value of each study's comparison in Jaccard.

    Args:
        studies: how many.
        seed: of the first cohort; the others follow.
    """
    for number in range(studies):
        with tempfile.TemporaryDirectory() as folder:
            yield _one(seed + number, Path(folder))


def _one(cohort: int, folder: Path) -> float:
    from medrec.evaluation import metrics
    from sweeps.engine import EngineOptions
    from sweeps.run import run_study

    record = run_study(
        _study(cohort), folder, Console(quiet=True), EngineOptions("inline"), check=False
    )
    store = ResultsStore(folder)
    halves = split(evaluate_arms(store, record, "all"))
    inference = Inference(halves, metrics(), ["one", "one"], Analysis(), 1000, cohort)
    found = inference.p_value("jaccard", "other")
    if found is None:
        raise SweepError("An A/A study has no p value: its trainings failed.")
    return found


def _study(cohort: int) -> Study:
    return Study.model_validate(
        {
            "name": "same-arms",
            "question": "Do two arms differ that are the same?",
            "cohort": {"dataset": "synthetic", "options": {"patients": 240, "seed": cohort}},
            "seeds": list(range(2 * SEEDS)),
            "training": {"epochs": 4},
            "arms": [{"model": "gamenet", "config": {"dim": 16}}],
            "reference": "gamenet",
            "tables": [],
        }
    )


def split(scores: Scores) -> Scores:
    """Returns the one arm's trials as two arms, even and odd seeds."""
    halves = [scores.numerator[:, 0, start::2] for start in (0, 1)]
    below = [scores.denominator[:, 0, start::2] for start in (0, 1)]
    present = np.stack([scores.present[0, start::2] for start in (0, 1)])
    return replace(
        scores,
        arms=("one", "other"),
        seeds=scores.seeds[:SEEDS],
        numerator=np.stack(halves, axis=1),
        denominator=np.stack(below, axis=1),
        present=present,
        expected=present,
        seeded=np.array([True, True]),
    )
