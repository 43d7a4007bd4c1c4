"""Forest plot: difference of each arm to its reference in the primary metric, and its verdict."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweeps.figures._base import (
    COLOURS,
    INK,
    PAPER,
    RULE,
    WIDTH,
    Drawing,
    Plot,
    canvas,
    legend,
    legend_inches,
    panel,
    shorten,
)
from sweeps.record import Arm, StudyRecord
from sweeps.statistics.inference import Value
from sweeps.statistics.results import StudyResults
from sweeps.tables._base import units_word

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# By verdict; without one (a single training seed) the last. Shape and filling say it without
# colour.
_LOOKS: dict[str, dict[str, Any]] = {
    "hurts": {"marker": "v", "color": COLOURS[1], "markerfacecolor": COLOURS[1]},
    "helps": {"marker": "^", "color": COLOURS[0], "markerfacecolor": COLOURS[0]},
    "equivalent": {"marker": "s", "color": COLOURS[2], "markerfacecolor": COLOURS[2]},
    "undecided": {"marker": "o", "color": INK, "markerfacecolor": PAPER},
    "no verdict": {"marker": "D", "color": INK, "markerfacecolor": PAPER},
}
_ROW, _HEADING = 0.5, 0.26  # inches: a row, and the line of text at its top


@dataclass(frozen=True)
class Row:
    """One arm; a heading, which has no difference, is a full model above its ablations."""

    title: str
    gap: Value | None
    word: str
    within: bool


def draw(results: StudyResults) -> Drawing | None:
    """Returns the plot; None where no arm can be compared."""
    found = rows(results)
    if not found:
        return None
    record = results.record
    metric = results.metrics[record.analysis.primary]
    words = [word for word in _LOOKS if word in {row.word for row in found if row.gap}]
    tall = sum(_ROW if row.gap else _HEADING for row in found)
    below = 0.6 + legend_inches(len(words))
    figure = canvas(tall + below + 0.1)
    plain = panel(figure, 0.2, below, WIDTH - 0.4, tall)
    plain.set_ylim(tall, 0)
    plain.set_yticks([])
    plain.spines["left"].set_visible(False)
    margin = record.analysis.margin
    if margin is not None:
        plain.axvspan(-margin, margin, color=RULE, alpha=0.45, linewidth=0)
    plain.axvline(0, color=INK, linewidth=1)
    _rows(plain, found, metric.decimals)
    plain.margins(x=0.06)
    plain.locator_params(axis="x", nbins=6)
    plain.set_xlabel(
        f"Difference in {metric.title} ({metric.unit}), arm \u2212 reference", color=INK
    )
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], linewidth=2, markersize=7, **_LOOKS[word]) for word in words]
    legend(figure, handles, words)
    listed = "; ".join(
        f"{row.title} {_text(row.gap, metric.decimals)}, {row.word}" for row in found if row.gap
    )
    return Drawing(
        name="forest",
        title=f"Differences in {metric.title}",
        figure=figure,
        description=f"Differences in {metric.title} with 95% intervals: {listed}.",
        caption=_caption(results),
    )


def rows(results: StudyResults) -> list[Row]:
    """Returns the arms in the study's order, ablations below their full model."""
    found = []
    for arm, within in _ordered(results.record):
        gap = results.difference(results.record.analysis.primary, arm.name)
        verdict = None if gap is None else results.verdict(arm.name)
        word = "no verdict" if verdict is None else verdict.word
        title = f"{arm.title} (reference)" if arm.name == results.record.reference else arm.title
        found.append(Row(title, gap, word, within))
    if all(row.gap is None for row in found):
        return []
    above = [after.within for after in found[1:]] + [False]  # whether an ablation stands below
    return [
        row
        for row, heads in zip(found, above, strict=True)
        if row.gap is not None or (heads and not row.within)
    ]


def _ordered(record: StudyRecord) -> list[tuple[Arm, bool]]:
    """Returns the arms, and whether each is an ablation that stands below its full model."""
    heads = {arm.name for arm in record.arms if arm.full is None}
    ordered: list[tuple[Arm, bool]] = []
    for arm in record.arms:
        if arm.full is None or arm.full not in heads:
            ordered.append((arm, False))
            ordered += [(each, True) for each in record.arms if each.full == arm.name]
    return ordered


def _rows(plain: "Axes", found: list[Row], decimals: int) -> None:
    """Draws each row: a line of text on paper, and the interval below it."""
    top = 0.0
    for row in found:
        place: dict[str, Any] = {"va": "center", "fontsize": 9.5, "color": INK, "zorder": 3}
        place["transform"] = plain.get_yaxis_transform()
        plain.axhspan(top, top + _HEADING, color=PAPER, linewidth=0, zorder=2)
        plain.axhline(top, color=RULE, linewidth=0.6, zorder=2.5)
        indent = 0.03 if row.within else 0.0
        title = shorten(row.title, 38 if row.gap else 64)
        plain.text(indent, top + _HEADING / 2, title, **place)
        if row.gap is None:
            top += _HEADING
            continue
        told = f"{_text(row.gap, decimals)}  {row.word}"
        plain.text(1.0, top + _HEADING / 2, told, ha="right", **place)
        _interval(plain, top + (_HEADING + _ROW) / 2, row.gap, _LOOKS[row.word])
        top += _ROW


def _interval(plain: "Axes", place: float, gap: Value, look: dict[str, Any]) -> None:
    if gap.low is not None and gap.high is not None:
        plain.plot([gap.low, gap.high], [place, place], color=look["color"], linewidth=2)
    plain.plot([gap.estimate], [place], markersize=7, linestyle="none", **look)


def _text(gap: Value, decimals: int) -> str:
    text = f"{gap.estimate + 0.0:+.{decimals}f}"
    if gap.low is not None and gap.high is not None:
        text += f" [{gap.low + 0.0:+.{decimals}f}, {gap.high + 0.0:+.{decimals}f}]"
    return text.replace("-", "\u2212")


def _caption(results: StudyResults) -> str:
    record = results.record
    reference = results.arm(record.reference).title
    units = "test patients, all visits"
    if record.task != "recommendation":
        units = "held-out codes" if record.task == "hierarchy" else "test patients"
    text = (
        f"Arm minus its reference ({reference}; an indented ablation's is the full model above "
        f"it) on the same {units}. Lines are 95% intervals over training seeds and "
        f"{units_word(results)}, each by itself; marker and word are the verdict, corrected for "
        "all arms compared with one reference, so that an interval may leave out 0 and be "
        "undecided."
    )
    if record.analysis.margin is not None:
        text += f" Shaded: differences up to the study's margin of ±{record.analysis.margin:g}."
    missing = [arm.title for arm in record.arms if results.stored(arm.name) == 0]
    if missing:
        text += f" No trial is stored of: {', '.join(missing)}."
    return text


FIGURE = Plot("Differences in the primary metric", draw)
