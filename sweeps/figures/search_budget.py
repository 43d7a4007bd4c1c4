"""Expected validation performance by budget: what the best of so many trials would reach."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64

from sweeps.figures._base import INK, Drawing, Plot, axes, legend, shorten, style
from sweeps.figures._trials import ended
from sweeps.record import SearchPlan
from sweeps.statistics.budget import deviation_of_maximum, expected_maximum
from sweeps.statistics.results import StudyResults

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEWEST = 2  # complete trials; with one there is nothing to expect


def draw(results: StudyResults) -> Drawing | None:
    """Returns the curves of searches of the most common first objective; None without any."""
    goal, found = _of_one_goal(results)
    if not found:
        return None
    metric = results.metrics[goal]
    sign = -1.0 if metric.higher_is_better is False else 1.0
    figure, plain = axes(3.4, len(found))
    told = []
    for place, plan, values in found:
        _curve(plain, place, plan, values, sign)
        last = sign * expected_maximum(sign * values)[-1]
        told.append(f"{plan.name} {last:.3f} after {len(values)}")
    plain.locator_params(axis="x", integer=True)
    plain.set_xlim(left=0.8)
    plain.set_xlabel("Complete trials", color=INK)
    plain.set_ylabel(f"Expected best validation {metric.title} ({metric.unit})", color=INK)
    legend(figure, *plain.get_legend_handles_labels())
    return Drawing(
        name="search_budget",
        title="Expected validation performance by budget",
        figure=figure,
        description=f"Expected best validation {metric.title} by complete trials: "
        f"{'; '.join(told)}.",
        caption=_caption(results, goal),
    )


def _of_one_goal(
    results: StudyResults,
) -> tuple[str, list[tuple[int, SearchPlan, Float64[np.ndarray, " trials"]]]]:
    """Returns the first objective that most searches have, and its searches with their values."""
    found = []
    for place, plan in enumerate(results.record.searches):
        usable, _ = ended(results, plan)
        if len(usable) >= FEWEST:
            values = np.array([record["values"][0] for record in usable], dtype=np.float64)
            found.append((place, plan, values))
    goals = [plan.objectives[0] for _, plan, _ in found]
    goal = max(goals, key=goals.count, default="")
    return goal, [entry for entry in found if entry[1].objectives[0] == goal]


def _curve(
    plain: "Axes",
    place: int,
    plan: SearchPlan,
    values: Float64[np.ndarray, " trials"],
    sign: float,
) -> None:
    own = style(place)
    trials = np.arange(1, len(values) + 1)
    middle, wide = sign * expected_maximum(sign * values), deviation_of_maximum(sign * values)
    # No best of draws lies outside what was found.
    low = np.maximum(middle - wide, values.min())
    high = np.minimum(middle + wide, values.max())
    plain.fill_between(trials, low, high, color=own["color"], alpha=0.15, linewidth=0)
    every = max(1, len(values) // 8)
    title = f"{shorten(plan.name, 20)} ({len(values)} trials)"
    plain.plot(trials, middle, label=title, markevery=every, markersize=5, **own)


def _caption(results: StudyResults, goal: str) -> str:
    others = [
        plan.name for plan in results.record.searches if plan.objectives[0] != goal
    ]  # fmt: skip
    text = (
        "Mean of the best validation value of so many draws with replacement from a search's "
        "complete trials within its bounds (Dodge et al. 2019); the band is one standard "
        "deviation of that best value to either side. One training seed a trial; of several "
        "objectives the first."
    )
    return f"{text} Other objectives, not shown: {', '.join(others)}." if others else text


FIGURE = Plot("Expected validation performance by budget", draw)
