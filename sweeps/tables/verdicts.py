"""Verdicts: every arm against its reference in the primary metric, corrected for its family."""

from dataclasses import replace

from sweeps.record import Arm
from sweeps.statistics.inference import Comparison, Value
from sweeps.statistics.results import StudyResults, marked
from sweeps.statistics.verdicts import ALPHA, POWER
from sweeps.tables._base import (
    Cell,
    Column,
    Row,
    Table,
    TableData,
    arm_marks,
    cohort_sentence,
    difference_column,
    estimate_sentence,
    holes_sentence,
    over_all_visits,
    scope_words,
    seeds_text,
    text_column,
)


def build(results: StudyResults) -> list[TableData] | None:
    """Returns one table, a block a family; None where nothing can be compared."""
    found = [
        (arm, comparison)
        for arm in results.record.arms
        if (comparison := results.comparison(arm.name)) is not None
    ]
    if not found:
        return None
    order = list(dict.fromkeys(results.reference(arm.name).name for arm, _ in found))
    found.sort(key=lambda pair: order.index(results.reference(pair[0].name).name))
    margin = results.record.analysis.margin
    title = results.metrics[results.record.analysis.primary].title
    return [
        TableData(
            name="verdicts",
            title=f"Verdicts on {title}",
            columns=_columns(results),
            rows=tuple(_row(results, arm, comparison) for arm, comparison in found),
            caption=_caption(results, [arm for arm, _ in found], margin),
        )
    ]


def _columns(results: StudyResults) -> tuple[Column, ...]:
    metric = results.metrics[results.record.analysis.primary]
    gap = difference_column(results, results.record.analysis.primary)
    equivalent = (
        () if results.record.analysis.margin is None else (_p("p_equivalent", "p equiv."),)
    )
    return (
        text_column("arm", "Arm"),
        text_column("reference", "Compared with"),
        text_column("seeds", "Seeds"),
        text_column("verdict", "Verdict"),
        gap,
        replace(gap, key="analytic", title="Δ, analytic t"),
        replace(gap, key="together", title="Δ, whole family"),
        Column("relative", "Relative, %", "% of the reference", 1, numeric=True, signed=True),
        _p("p", "p"),
        _p("p_max_t", "p max-T"),
        _p("p_holm", "p Holm"),
        *equivalent,
        Column("detectable", "Detectable", metric.unit, metric.decimals, numeric=True),
        Column("beats", "P(arm better)", "probability", 2, numeric=True),
    )


def _p(key: str, title: str) -> Column:
    return Column(key, title, "probability", 4, numeric=True)


def _row(results: StudyResults, arm: Arm, found: Comparison) -> Row:
    reference = results.reference(arm.name)
    judged = "none: fewer than three seeds" if found.p is None else "no direction"
    if found.verdict is not None:
        judged = found.verdict.text
    if arm.leak:
        judged = "none: it reads its target"
    relative = None if found.relative is None else Value(100 * found.relative)
    equivalent = () if results.record.analysis.margin is None else (_number(found.p_equivalent),)
    metric = results.metrics[results.record.analysis.primary]
    intervals = (found.difference, found.analytic, found.together)
    cells: tuple[Cell, ...] = (
        over_all_visits(arm),
        over_all_visits(reference),
        f"{seeds_text(results, arm)} / {seeds_text(results, reference)}",
        judged,
        *(marked(value, metric, arm, reference) for value in intervals),
        relative,
        _number(found.p),
        _number(found.p_max_t),
        _number(found.p_holm),
        *equivalent,
        _number(found.detectable),
        _number(found.beats),
    )
    return Row(cells, block=reference.name, marks=arm_marks(results, arm, "all"))


def _number(value: float | None) -> Value | None:
    return None if value is None else Value(value)


def _caption(results: StudyResults, arms: list[Arm], margin: float | None) -> str:
    metric = results.metrics[results.record.analysis.primary]
    better = {True: "higher is better", False: "lower is better", None: "without a direction"}
    equivalence = (
        "No margin was fixed in the study file, so no arm is called equivalent."
        if margin is None
        else f"Equivalent: two one-sided tests against ±{margin:g}, the margin fixed in the study "
        "file, Holm's correction."
    )
    return (
        f"Study {results.record.name}, test split, {scope_words(results)}, primary metric "
        f"{metric.title} ({better[metric.higher_is_better]}). A family is the arms with the "
        f"same reference. Helps or hurts: p below {ALPHA:g} after correction for the family by "
        "step-down max-T on the bootstrap's draws; Holm's correction beside it. p: analytic "
        "crossed-variance t (patients and seeds crossed, Satterthwaite's degrees of freedom; "
        "cautious ones for what is corrected); with fewer than three seeds of an arm there is "
        f"none, and with one its interval is conditional on that trained model. {equivalence} "
        "Undecided: neither; that is no evidence that the part is useless. Whole family: "
        "intervals that hold together. Detectable: the true difference that this number of "
        f"seeds and patients finds with about {POWER:.0%} power, not corrected. P(arm better): "
        "that one training of the arm beats one of the reference on patients drawn anew. "
        f"{estimate_sentence(results)} {cohort_sentence(results)}"
        f"{holes_sentence(results, results.record.arms)}"
    )


TABLE = Table("Verdicts", build, needs="two arms with stored trials")
