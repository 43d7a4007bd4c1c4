"""Legacy: the field's "mean ± std of ten rounds of 80 %" of one trained model, by its name."""

from dataclasses import replace

import numpy as np

from sweeps.evaluate import metric_names
from sweeps.record import Arm
from sweeps.statistics.inference import Value
from sweeps.statistics.legacy import LEGACY
from sweeps.statistics.results import StudyResults, marked
from sweeps.tables._base import (
    Cell,
    Column,
    Row,
    Table,
    TableData,
    cohort_sentence,
    metric_column,
    text_column,
)


def build(results: StudyResults) -> list[TableData] | None:
    """Returns the table, each arm's first stored seed by each estimator; None without trials."""
    scores = results.scores["all"]
    arms = [arm for arm in results.record.arms if results.stored(arm.name)]
    if not arms or not len(scores.patients):
        return None
    columns = [
        text_column("arm", "Arm"),
        text_column("estimator", "Estimator"),
        text_column("seed", "Seed"),
    ]
    for name in metric_names():
        metric = results.metrics[name]
        columns.append(replace(metric_column(results, name), interval=False))
        columns.append(Column(f"std_{name}", "± std", metric.unit, metric.decimals, numeric=True))
    return [
        TableData(
            name="legacy",
            title="As the field prints it: ten rounds of 80 %",
            columns=tuple(columns),
            rows=tuple(_row(results, arm, estimator) for arm in arms for estimator in LEGACY),
            caption=_caption(results),
        )
    ]


def _row(results: StudyResults, arm: Arm, estimator: str) -> Row:
    scores = results.scores["all"]
    row = scores.arms.index(arm.name)
    column = int(np.flatnonzero(scores.present[row])[0])
    cells: list[Cell] = [arm.title, estimator, str(scores.seeds[column]) if arm.seeded else "any"]
    for name in metric_names():
        metric = scores.metrics.index(name)
        mean, spread = LEGACY[estimator](
            scores.numerator[metric, row, column],
            scores.denominator[metric, row, column],
            results.record.bootstrap_seed,
        )
        told = (Value(mean), Value(spread))
        cells += [marked(value, results.metrics[name], arm) for value in told]
    return Row(tuple(cells), block=arm.name)


def _caption(results: StudyResults) -> str:
    return (
        f"Study {results.record.name}, test split, all visits. Mean and standard deviation over "
        "ten resamples of 80 % of the test patients of one trained model, as SafeDrug (with "
        "replacement) and COGNet (without) print them; random seed "
        f"{results.record.bootstrap_seed}. This is no confidence interval and no test: training "
        "does not vary in it, and two equal models differ by it far too often. "
        f"{cohort_sentence(results)}"
    )


TABLE = Table("Ten rounds of 80 %", build, needs="a stored trial", tasks=("recommendation",))
