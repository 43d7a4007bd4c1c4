"""Reliability diagram: score of a drug against how often drugs with that score are prescribed."""

from typing import TYPE_CHECKING

import numpy as np

from sweeps.figures._base import (
    INK,
    WIDTH,
    Drawing,
    Plot,
    canvas,
    legend,
    legend_inches,
    legible,
    panel,
    shorten,
    style,
)
from sweeps.statistics.reliability import (
    BINS,
    Reliability,
    curve,
    expected_calibration_error,
    pooled,
)
from sweeps.statistics.results import StudyResults

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POWERS = tuple(10.0**-power for power in range(7))


def draw(results: StudyResults) -> Drawing | None:
    """Returns the diagram; None where no arm has scores that are probabilities."""
    counts = of_arms(results)
    arms = [(at, arm) for at, arm in enumerate(results.record.arms) if counts[arm.name].cut]
    shown, left_out = legible(results, [entry for entry in arms if _any(counts[entry[1].name])])
    if not shown:
        return None
    below = 0.6 + legend_inches(len(shown) + 1)
    figure = canvas(below + 4.95)
    lower = panel(figure, 0.8, below, WIDTH - 1.0, 1.1)
    upper = panel(figure, 0.8, below + 1.3, WIDTH - 1.0, 3.5)
    errors = {}
    for place, arm in shown:
        found = counts[arm.name]
        errors[arm.title] = expected_calibration_error(found)
        label = f"{shorten(arm.title, 24)} (ECE {errors[arm.title]:.3f})"
        across, up = curve(found)
        upper.plot(across, up, label=label, markersize=5, **style(place))
        _shares(lower, place, found)
    upper.plot([0, 1], [0, 1], color=INK, linewidth=0.9, linestyle="-", label="Calibrated")
    lower.set_yscale("log")
    lower.set_yticks(_POWERS, [f"{power:g}" for power in _POWERS])
    lower.minorticks_off()
    lower.set_ylim(min(_least(counts[arm.name]) for _, arm in shown) / 2, 1.0)
    for plain in (upper, lower):
        plain.set_xlim(0, 1)
        plain.set_xticks(np.linspace(0, 1, 11))
    upper.set_ylim(0, 1)
    upper.tick_params(axis="x", labelbottom=False, length=0)
    upper.set_ylabel("Share prescribed (fraction)", color=INK)
    lower.set_xlabel("Score of a drug at a visit", color=INK)
    lower.set_ylabel("Share of cells", color=INK)
    legend(figure, *upper.get_legend_handles_labels())
    listed = "; ".join(f"{title} {error:.3f}" for title, error in errors.items())
    return Drawing(
        name="reliability",
        title="Calibration of scores",
        figure=figure,
        description="Share prescribed by score of each arm, with the expected calibration error: "
        f"{listed}.",
        caption=_caption(results, counts) + left_out,
    )


def of_arms(results: StudyResults) -> dict[str, Reliability]:
    """Returns each arm's counts, its stored trials together."""
    return {
        arm.name: pooled(
            results.calibration[key]
            for key in sorted(set(arm.trials.values()))
            if key in results.calibration
        )
        for arm in results.record.arms
    }


def _any(counts: Reliability) -> bool:
    return int(counts.cells.sum()) > 0


def _least(counts: Reliability) -> float:
    """Returns the share of cells in the emptiest bin that has any."""
    return float(counts.cells[counts.cells > 0].min() / counts.cells.sum())


def _shares(plain: "Axes", place: int, counts: Reliability) -> None:
    """Draws the share of cells in each bin; most cells have a low score, so by magnitude."""
    own = style(place)
    share = counts.cells / counts.cells.sum()
    edges = np.linspace(0, 1, BINS + 1)
    plain.stairs(share, edges, color=own["color"], linestyle=own["linestyle"], baseline=None)


def _caption(results: StudyResults, counts: dict[str, Reliability]) -> str:
    stored = [arm for arm in results.record.arms if _any(counts[arm.name])]
    ranks = [arm.title for arm in stored if not counts[arm.name].cut]
    text = (
        f"Every test visit and drug is a cell, pooled over training seeds, in {BINS} bins of one "
        "width; a point is a bin's mean score and the share of its cells that were prescribed. "
        "Below: share of the arm's cells in each bin, logarithmic. ECE: expected calibration "
        "error, the mean over cells of the distance of their bin to the line. No intervals."
    )
    if ranks:
        text += (
            " Not shown, because their choice is not their scores cut at the threshold, so that "
            f"the scores only rank drugs: {', '.join(ranks)}."
        )
    return text


FIGURE = Plot("Calibration of scores", draw, tasks=("recommendation",))
