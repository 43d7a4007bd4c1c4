"""Parallel coordinates: one line a trial of a search, across its settings to what it reached."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweeps.best import best_records, eligible
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
from sweeps.figures._trials import Record, ended
from sweeps.record import SearchPlan
from sweeps.statistics.results import StudyResults
from sweeps.tables.settings import value_text, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MISSING = -0.14  # where a setting that a trial does not have stands, below its axis
_HEIGHT = 3.7  # of one search, in inches
_LEVEL = 5  # axes up to which their titles fit side by side
_FEW = 5  # characters of a number that fit between two axes
_BEHIND = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.6, "alpha": 0.75}
_LINES: dict[str, dict[str, Any]] = {
    "Ended early, failed, or beyond a bound": {
        "color": "#8A919A", "linewidth": 0.7, "alpha": 0.7, "linestyle": ":",
    },
    "Complete": {"color": COLOURS[0], "linewidth": 1.0, "alpha": 0.55},
    "Best": {"color": COLOURS[1], "linewidth": 2.4, "marker": "o", "markersize": 5},
}  # fmt: skip
_OTHER, _COMPLETE, _BEST = _LINES


@dataclass(frozen=True)
class Axis:
    """One upright axis.

    Attributes:
        title: what it shows.
        choices: of a categorical dimension; none for numbers.
        low: end of the range at the foot.
        high: end of the range at the top.
        log: whether searched, and so drawn, on a logarithmic scale.
    """

    title: str
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 1.0
    log: bool = False

    def place(self, value: Any) -> float:
        """Returns where a value stands, 0 at the foot and 1 at the top; below if it is none."""
        if self.choices:
            found = [i for i, choice in enumerate(self.choices) if _same(choice, value)]
            return found[0] / max(len(self.choices) - 1, 1) if found else MISSING
        if not isinstance(value, int | float) or not math.isfinite(value):
            return MISSING
        low, high, own = self.low, self.high, float(value)
        if self.log:
            if own <= 0:
                return MISSING
            low, high, own = math.log(low), math.log(high), math.log(own)
        return (own - low) / (high - low) if high > low else 0.5

    def ticks(self) -> list[tuple[float, str]]:
        """Returns places and texts: every choice, or the ends of the range."""
        if self.choices:
            return [(self.place(each), shorten(value_text(each), 9)) for each in self.choices]
        ends = [self.low, self.high] if self.high > self.low else [self.low]
        return [(self.place(end), _short(end)) for end in ends]


def draw(results: StudyResults) -> Drawing | None:
    """Returns a panel for each search with a trial to show; None where there is none."""
    shown = [plan for plan in results.record.searches if plan.space and any(ended(results, plan))]
    if not shown:
        return None
    below = legend_inches(len(_LINES))
    figure = canvas(below + _HEIGHT * len(shown))
    told = []
    for place, plan in enumerate(shown):
        bottom = below + _HEIGHT * (len(shown) - 1 - place) + 1.1
        plain = panel(figure, 0.55, bottom, WIDTH - 0.9, _HEIGHT - 1.4)
        told.append(_panel(plain, results, plan))
    from matplotlib.lines import Line2D

    legend(figure, [Line2D([], [], **look) for look in _LINES.values()], list(_LINES))
    return Drawing(
        name="parallel_coordinates",
        title="Searched settings and what they reached",
        figure=figure,
        description=" ".join(told),
        caption="A line is a trial of the search; axes are the settings, logarithmic where they "
        "were searched so (log), and last the values on the validation split. Below an axis: the "
        "trial does not have the setting. Grey and dotted: trials stopped early, failed, or "
        "beyond one of the search's bounds; they end before the validation values. Best: the "
        "complete trial with the best value, of several objectives the Pareto front.",
    )


def search_axes(results: StudyResults, plan: SearchPlan) -> dict[str, Axis]:
    """Returns an axis for each dimension and objective of a search, by its name."""
    found = {name: _dimension(name, stated) for name, stated in plan.space.items()}
    usable, _ = ended(results, plan)
    for place, name in enumerate(plan.objectives):
        values = [float(record["values"][place]) for record in usable]
        title = f"Validation {results.metrics[name].title}"
        low, high = min(values, default=0.0), max(values, default=1.0)
        found[f"objective {name}"] = Axis(title, low=low, high=high)
    return found


def _dimension(name: str, stated: dict[str, Any]) -> Axis:
    """Returns the axis of a dimension from its distribution in Optuna's JSON form."""
    facts = stated["attributes"]
    if "choices" in facts:
        return Axis(words(name), choices=tuple(facts["choices"]))
    log = bool(facts.get("log"))
    title = f"{words(name)} (log)" if log else words(name)
    return Axis(title, low=float(facts["low"]), high=float(facts["high"]), log=log)


def _short(value: float) -> str:
    """Returns a number in few characters.

    Example:
        >>> [_short(value) for value in (0.05, 64.0, 0.0519, 0.00012, 12345.0)]
        ['0.05', '64', '0.052', '1.2e-4', '1.2e4']
    """
    for digits in (3, 2):
        text = f"{value:.{digits}g}"
        if "e" not in text and len(text) <= _FEW:
            return text
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def _same(one: Any, other: Any) -> bool:
    """Returns whether two values of a setting are the same; True is not 1."""
    return type(one) is type(other) and bool(one == other)


def _panel(plain: "Axes", results: StudyResults, plan: SearchPlan) -> str:
    """Draws one search and returns what it shows in words."""
    from matplotlib.collections import LineCollection

    upright = search_axes(results, plan)
    usable, others = ended(results, plan)
    top = best_records(plan, results.searches[plan.name], results.metrics)
    chosen = {record["number"] for record in top}
    rest = [record for record in usable if record["number"] not in chosen]
    for records, name in ((others, _OTHER), (rest, _COMPLETE)):
        paths = [list(enumerate(places(upright, plan, record))) for record in records]
        plain.add_collection(LineCollection(paths, **_LINES[name]))
    for record in top:
        plain.plot(places(upright, plan, record), zorder=3, **_LINES[_BEST])
    _frame(plain, list(upright.values()))
    if any(set(plan.space) - set(record.get("params") or ()) for record in usable + others):
        plain.axhline(MISSING, color=RULE, linewidth=0.8, zorder=0)
        plain.annotate(
            "not set", (1.0, MISSING), (0, 3), xycoords=plain.get_yaxis_transform(),
            textcoords="offset points", ha="right", fontsize=8, color=INK,
        )  # fmt: skip
    name = f"Search {shorten(plan.name, 40)}: {len(usable)} complete, {len(others)} others"
    plain.set_title(name, loc="left", fontsize=10, color=INK)
    told = "; ".join(_told(record, plan) for record in top) or "none"
    return f"{name}. Best: {told}."


def places(upright: dict[str, Axis], plan: SearchPlan, record: Record) -> list[float]:
    """Returns where a trial crosses each axis; without the objectives' if it has no result."""
    params = record.get("params") or {}
    found = [upright[name].place(params.get(name)) for name in plan.space]
    if eligible(plan, record):
        values = zip(plan.objectives, record["values"], strict=True)
        found += [upright[f"objective {name}"].place(value) for name, value in values]
    return found


def _frame(plain: "Axes", upright: Sequence[Axis]) -> None:
    """Draws the axes with the texts at their ticks, and their titles below."""
    from matplotlib.collections import LineCollection

    plain.grid(visible=False)
    for spine in plain.spines.values():
        spine.set_visible(False)
    plain.set_yticks([])
    plain.set_xlim(-0.25, len(upright) - 0.55)
    plain.set_ylim(MISSING - 0.05, 1.05)
    strokes: list[list[tuple[float, float]]] = []
    for place, axis in enumerate(upright):
        strokes.append([(place, 0.0), (place, 1.0)])
        for height, text in axis.ticks():
            strokes.append([(place - 0.03, height), (place, height)])
            # Away from the lines that run level along an end.
            shift = {0.0: -5, 1.0: 5}.get(height, 0)
            plain.annotate(
                text, (place, height), (4, shift), textcoords="offset points", va="center",
                fontsize=8, color=INK, zorder=4, bbox=_BEHIND,
            )  # fmt: skip
    plain.add_collection(LineCollection(strokes, color=INK, linewidth=0.9, zorder=2))
    turned = len(upright) > _LEVEL
    plain.set_xticks(
        range(len(upright)),
        ["\n".join(textwrap.wrap(shorten(axis.title, 30), 13)) for axis in upright],
        rotation=50 if turned else 0,
        ha="right" if turned else "center",
        rotation_mode="anchor" if turned else "default",
        fontsize=9,
    )
    plain.tick_params(axis="x", length=0)


def _told(record: Record, plan: SearchPlan) -> str:
    params = ", ".join(
        f"{words(name).lower()} {value_text(value)}"
        for name, value in sorted((record.get("params") or {}).items())
    )
    pairs = zip(plan.objectives, record["values"], strict=True)
    values = ", ".join(f"{name} {value:.4f}" for name, value in pairs)
    return f"{params} with {values}"


FIGURE = Plot("Searched settings and what they reached", draw)
