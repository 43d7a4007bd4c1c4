"""Forest plot: difference of each arm to its reference in Jaccard, with its interval."""

from typing import TYPE_CHECKING

from sweeps.figures._base import COLOURS, INK, PAPER, Drawing, Plot, axes, shorten
from sweeps.statistics.results import StudyResults, Value

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(results: StudyResults) -> Drawing | None:
    """Returns the plot; None where no arm can be compared."""
    found = [
        (f"{shorten(arm.title, 36)} \u2212 {shorten(results.reference(arm.name).title, 14)}", gap)
        for arm in results.record.arms
        if (gap := results.difference("jaccard", arm.name)) is not None
    ]
    if not found:
        return None
    figure, plain = axes(8.0, 1.1 + 0.38 * len(found))
    for place, (_, gap) in enumerate(found):
        _row(plain, place, gap)
    plain.axvline(0, color=INK, linewidth=1)
    plain.set_yticks(range(len(found)), [title for title, _ in found], color=INK)
    plain.set_ylim(len(found) - 0.5, -0.5)
    plain.grid(visible=False, axis="y")
    plain.locator_params(axis="x", nbins=5)
    plain.set_xlabel("Difference in Jaccard", color=INK)
    right = plain.secondary_yaxis("right")
    right.set_yticks(range(len(found)), [_text(gap) for _, gap in found], color=INK)
    right.tick_params(length=0)
    right.spines["right"].set_visible(False)
    listed = "; ".join(f"{title} {_text(gap)}" for title, gap in found)
    return Drawing(
        name="forest",
        title="Differences in Jaccard",
        figure=figure,
        description=f"Differences in Jaccard with 95% intervals: {listed}.",
        caption="Arm minus its reference (an ablation's is its full model) on the same test "
        "patients, all visits, with 95% intervals over training seeds and patients. Filled: the "
        "interval excludes 0.",
    )


def _row(plain: "Axes", place: int, gap: Value) -> None:
    low, high = gap.low or 0.0, gap.high or 0.0
    clear = low > 0 or high < 0
    plain.plot([low, high], [place, place], color=COLOURS[0], linewidth=2)
    plain.plot(
        [gap.estimate],
        [place],
        marker="o",
        color=COLOURS[0],
        markerfacecolor=COLOURS[0] if clear else PAPER,
        markersize=7,
    )


def _text(gap: Value) -> str:
    low, high = gap.low or 0.0, gap.high or 0.0
    text = f"{gap.estimate + 0.0:+.3f} [{low + 0.0:+.3f}, {high + 0.0:+.3f}]"
    return text.replace("-", "\u2212")


FIGURE = Plot("Differences in Jaccard", draw)
