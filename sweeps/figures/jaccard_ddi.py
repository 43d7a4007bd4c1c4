"""Accuracy against safety: every arm's Jaccard and DDI rate, the Pareto front, and attainment.

Seeds are runs: the arms trained with one seed are what one run of the study found. Of three runs
or more, the figure shades what at least half of them attain.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64

from sweeps.figures._base import (
    INK,
    RULE,
    Drawing,
    Plot,
    axes,
    legend,
    shorten,
    style,
)
from sweeps.statistics.attainment import attainment, pareto_front
from sweeps.statistics.inference import Value
from sweeps.statistics.results import StudyResults

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEWEST = 3  # runs from which on half of them says something
_FAR = 1e3  # beyond any axis


@dataclass(frozen=True)
class Point:
    """An arm in the plane; `place` is its number in the study."""

    place: int
    title: str
    jaccard: Value
    ddi_rate: Value


def draw(results: StudyResults) -> Drawing | None:
    """Returns the scatter plot; None where no trial is stored."""
    found = points(results)
    if not found:
        return None
    front = pareto_front(np.array([[p.jaccard.estimate, p.ddi_rate.estimate] for p in found]))
    seeds = runs(results)
    attained = len(seeds) >= FEWEST
    figure, plain = axes(3.6, len(found) + 2 + 3 * attained)
    for point, best in zip(found, front, strict=True):
        _point(plain, point, bool(best))
    truth = results.record.true_ddi_rate
    plain.axhline(truth, color=INK, linestyle="--", linewidth=1.2, label="True prescriptions")
    limits = plain.get_xlim(), plain.get_ylim()  # of arms and truth; what follows runs beyond
    corners = np.array([[p.jaccard.estimate, p.ddi_rate.estimate] for p in found])[front]
    _staircase(plain, corners, "Pareto front of the arms", linewidth=1.4, linestyle="-")
    if attained:
        _attainment(plain, seeds)
    plain.set_xlim(limits[0])
    plain.set_ylim(limits[1])
    plain.set_xlabel("Jaccard (fraction; higher is better →)", color=INK)
    plain.set_ylabel("DDI rate (fraction; ↓ lower is better)", color=INK)
    arms_first = sorted(zip(*plain.get_legend_handles_labels(), strict=True), key=_is_border)
    legend(figure, *zip(*arms_first, strict=True))
    return Drawing(
        name="jaccard_ddi",
        title="Jaccard and DDI rate",
        figure=figure,
        description=_description(found, front.tolist(), truth),
        caption=_caption(len(seeds), attained),
    )


def points(results: StudyResults) -> list[Point]:
    """Returns the arms that have both numbers, in the study's order."""
    found = []
    for place, arm in enumerate(results.record.arms):
        right = results.estimate("jaccard", arm.name)
        up = results.estimate("ddi_rate", arm.name)
        if right is not None and up is not None:
            found.append(Point(place, arm.title, right, up))
    return found


def runs(results: StudyResults) -> list[Float64[np.ndarray, "_arms 2"]]:
    """Returns Jaccard and DDI rate of the arms stored, for each seed that every seeded arm has.

    An arm without a seed is the same in each run.
    """
    scores = results.scores["all"]
    stored = scores.present.any(axis=1)
    seeded = scores.seeded & stored
    at = [scores.metrics.index("jaccard"), scores.metrics.index("ddi_rate")]
    above, below = (part[at].sum(axis=3) for part in (scores.numerator, scores.denominator))
    values = np.divide(above, below, out=np.zeros_like(above), where=below != 0)
    fixed = values[:, stored & ~scores.seeded, 0].T
    if not seeded.any():
        return []
    whole = np.flatnonzero(scores.present[seeded].all(axis=0))
    return [np.concatenate([fixed, values[:, seeded, column].T]) for column in whole]


def _point(plain: "Axes", point: Point, best: bool) -> None:
    own = style(point.place)
    right, up = point.jaccard, point.ddi_rate
    plain.errorbar(
        right.estimate,
        up.estimate,
        xerr=_reach(right),
        yerr=_reach(up),
        label=shorten(point.title),
        color=own["color"],
        marker=own["marker"],
        linestyle="none",
        markersize=7,
        markeredgecolor=INK if best else own["color"],
        markeredgewidth=1.4 if best else 0.5,
        elinewidth=1.2,
        zorder=3,
    )


def _staircase(
    plain: "Axes", corners: Float64[np.ndarray, "corners 2"], label: str, **look: Any
) -> None:
    """Draws the border of what is no better than a corner, out to where nothing is attained."""
    if len(corners):
        plain.plot(*border(corners), color=INK, label=label, **look)


def border(corners: Float64[np.ndarray, "corners 2"]) -> tuple[list[float], list[float]]:
    """Returns the staircase from high cost at the highest gain to low cost at no gain."""
    ordered = corners[np.lexsort((corners[:, 1], -corners[:, 0]))]
    gain, cost = np.repeat(ordered, 2, axis=0).T.tolist()
    return [*gain, -_FAR], [_FAR, *cost]


def _attainment(plain: "Axes", seeds: list[Float64[np.ndarray, "_arms 2"]]) -> None:
    half = attainment(seeds, -(-len(seeds) // 2))
    across, up = border(half)
    plain.fill([*across, -_FAR], [*up, _FAR], color=RULE, alpha=0.4, linewidth=0, zorder=0.5,
               label="Attained by half of the seeds")  # fmt: skip
    for least, word, dash in ((1, "any", ":"), (len(seeds), "every", "-.")):
        label = f"Border of what {word} seed attains"
        _staircase(plain, attainment(seeds, least), label, linewidth=0.8, linestyle=dash)


def _is_border(entry: tuple[object, str]) -> bool:
    return not isinstance(entry[0], tuple)  # the bars and marker of an arm come as a tuple


def _reach(value: Value) -> list[list[float]]:
    """Returns the bars' lengths; a percentile interval may lie beside a skewed estimate."""
    low = value.estimate if value.low is None else value.low
    high = value.estimate if value.high is None else value.high
    return [[max(value.estimate - low, 0.0)], [max(high - value.estimate, 0.0)]]


def _description(found: list[Point], front: list[bool], truth: float) -> str:
    listed = "; ".join(
        f"{p.title} {p.jaccard.estimate:.3f} and {p.ddi_rate.estimate:.3f}" for p in found
    )
    best = ", ".join(p.title for p, on in zip(found, front, strict=True) if on)
    return (
        f"Jaccard and DDI rate of each arm: {listed}; prescribed {truth:.3f}. "
        f"On the Pareto front: {best}."
    )


def _caption(seeds: int, attained: bool) -> str:
    text = (
        "All test visits; bars are 95% intervals over training seeds and patients. Dashed: DDI "
        "rate of what was prescribed. Solid: Pareto front of the estimates, its arms outlined."
    )
    if not attained:
        return text
    return (
        f"{text} Shaded: what at least half of the {seeds} seeds that every arm has attain by one "
        "of their arms; thin lines: what any and what every one of these seeds attains."
    )


FIGURE = Plot("Jaccard and DDI rate", draw, tasks=("recommendation",))
