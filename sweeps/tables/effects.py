"""Effects: what each part of a factorial design is worth by itself, and which parts work together.

An effect is a contrast of all arms of the design (`sweeps.statistics.factorial`), so that every
trial serves every effect.
"""

from dataclasses import replace

import numpy as np

from sweeps.record import Arm, Design
from sweeps.statistics.comparisons import Contrasts
from sweeps.statistics.factorial import TIMES, effect_contrasts
from sweeps.statistics.families import holm
from sweeps.statistics.inference import Value
from sweeps.statistics.results import StudyResults, marked
from sweeps.statistics.verdicts import ALPHA
from sweeps.tables._base import (
    Column,
    Mark,
    Row,
    Table,
    TableData,
    cohort_sentence,
    estimate_sentence,
    holes_sentence,
    metric_column,
    scope_words,
    text_column,
)

KINDS = ("factorial", "fractional_factorial")


def build(results: StudyResults) -> list[TableData] | None:
    """Returns a table for each factorial design; None where there is none."""
    designs = [design for design in results.record.designs if design.kind in KINDS]
    return [_table(results, design) for design in designs] or None


def _table(results: StudyResults, design: Design) -> TableData:
    names, weights = effect_contrasts(design.levels, design.factors)
    by_arm = [dict(zip(design.levels, row, strict=True)) for row in weights.tolist()]
    found = results.inference().contrasts(by_arm)
    primary = _axis(results, results.record.analysis.primary)
    p = found.p[primary]
    known = ~np.isnan(p)
    corrected = np.full(len(p), np.nan)
    corrected[known] = holm(found.p_family[primary][known])
    full = results.arm(design.full)
    rows = [
        _row(results, full, found, place, name, float(p[place]), float(corrected[place]))
        for place, name in enumerate(names)
    ]
    return TableData(
        name=f"effects_{design.name}",
        title=f"Effects in {design.title}",
        columns=_columns(results),
        rows=tuple(rows),
        caption=_caption(results, design),
    )


def _columns(results: StudyResults) -> tuple[Column, ...]:
    effects = [
        replace(
            metric_column(results, name),
            key=f"effect_{name}",
            unit=f"{results.metrics[name].unit}, changed minus as in the full model",
            signed=True,
        )
        for name in results.compared
    ]
    return (
        text_column("effect", "Effect"),
        *effects,
        Column("p", "p", "probability", 4, numeric=True),
        Column("p_holm", "p Holm", "probability", 4, numeric=True),
    )


def _row(
    results: StudyResults,
    full: Arm,
    found: Contrasts,
    place: int,
    name: str,
    p: float,
    corrected: float,
) -> Row:
    values = tuple(
        marked(_value(found, _axis(results, metric), place), results.metrics[metric], full)
        for metric in results.compared
    )
    primary = results.record.analysis.primary
    marks: dict[str, Mark] = {}
    higher = results.metrics[primary].higher_is_better
    if corrected < ALPHA and higher is not None and TIMES not in name:
        gain = found.estimate[_axis(results, primary), place] > 0
        marks[f"effect_{primary}"] = "better" if gain == higher else "worse"
    return Row((name, *values, _number(p), _number(corrected)), marks=marks)


def _axis(results: StudyResults, metric: str) -> int:
    """Returns the place of a metric in the arrays of scores."""
    return results.scores["all"].metrics.index(metric)


def _value(found: Contrasts, metric: int, place: int) -> Value | None:
    estimate = float(found.estimate[metric, place])
    if np.isnan(estimate):
        return None
    return Value(estimate, float(found.low[metric, place]), float(found.high[metric, place]))


def _number(value: float) -> Value | None:
    return None if np.isnan(value) else Value(value)


def _caption(results: StudyResults, design: Design) -> str:
    arms = [arm for arm in results.record.arms if arm.name in design.levels]
    metric = results.metrics[results.record.analysis.primary]
    settings = (
        "the full model's settings" if design.settings == "fixed" else "settings of its own search"
    )
    notes = "".join(f" {note}" for note in design.notes)
    return (
        f"Study {results.record.name}, test split, {scope_words(results)}: {len(arms)} arms, "
        f"each with {settings}. A main effect is the mean over arms with the part changed minus "
        "the mean over arms with it as in the full model; an interaction (×) is half the "
        "difference between the effect of one part where the other is changed and where it is "
        f"not. p: analytic crossed-variance t, {metric.title}; p Holm: corrected for the "
        "effects of this table, the other metrics are exploratory. Main effects that remain "
        f"below {ALPHA:g} are marked: {metric.title} in bold is better with the part changed, ▼ "
        f"worse. An effect needs trials of every arm.{notes} {estimate_sentence(results)} "
        f"{cohort_sentence(results)}{holes_sentence(results, arms)}"
    )


TABLE = Table("Effects", build, needs="a factorial design")
