"""Accuracy against safety: every arm's Jaccard and DDI rate, both with intervals."""

from sweeps.figures._base import (
    INK,
    Drawing,
    Plot,
    axes,
    legend_below,
    legend_inches,
    shorten,
    style,
)
from sweeps.statistics.results import StudyResults, Value


def draw(results: StudyResults) -> Drawing | None:
    """Returns the scatter plot; None where no trial is stored."""
    found: list[tuple[int, str, Value, Value]] = []
    for place, arm in enumerate(results.record.arms):
        right = results.estimate("jaccard", arm.name)
        up = results.estimate("ddi_rate", arm.name)
        if right is not None and up is not None:
            found.append((place, shorten(arm.title), right, up))
    if not found:
        return None
    figure, plain = axes(6.4, 3.9 + legend_inches(len(found) + 1))
    for place, title, right, up in found:
        own = style(place)
        plain.errorbar(
            right.estimate,
            up.estimate,
            xerr=_reach(right),
            yerr=_reach(up),
            label=title,
            color=own["color"],
            marker=own["marker"],
            linestyle="none",
            markersize=7,
            elinewidth=1.2,
        )
    truth = results.record.true_ddi_rate
    plain.axhline(truth, color=INK, linestyle="--", linewidth=1.2, label="True prescriptions")
    plain.set_xlabel("Jaccard (higher is better)", color=INK)
    plain.set_ylabel("DDI rate (lower is better)", color=INK)
    legend_below(plain)
    listed = "; ".join(f"{t} {x.estimate:.3f} and {y.estimate:.3f}" for _, t, x, y in found)
    return Drawing(
        name="jaccard_ddi",
        title="Jaccard and DDI rate",
        figure=figure,
        description=f"Jaccard and DDI rate of each arm: {listed}; prescribed {truth:.3f}.",
        caption="All test visits; bars are 95% intervals over training seeds and patients. "
        "Dashed: DDI rate of what was prescribed.",
    )


def _reach(value: Value) -> list[list[float]]:
    """Returns the bars' lengths; a percentile interval may lie beside a skewed estimate."""
    low = value.estimate if value.low is None else value.low
    high = value.estimate if value.high is None else value.high
    return [[max(value.estimate - low, 0.0)], [max(high - value.estimate, 0.0)]]


FIGURE = Plot("Jaccard and DDI rate", draw)
