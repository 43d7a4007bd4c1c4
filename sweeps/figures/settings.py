"""Settings: Jaccard and DDI rate against each setting that a grid varies, with intervals.

Values that are numbers lie on a line with a band; others stand apart, each with a bar.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweeps.figures._base import (
    INK,
    WIDTH,
    Drawing,
    Plot,
    canvas,
    legend,
    legend_inches,
    panel,
    shorten,
    style,
)
from sweeps.record import Arm
from sweeps.statistics.inference import Value
from sweeps.statistics.results import StudyResults
from sweeps.tables.settings import entry_title, is_number, value_text, varied, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TARGET = "ddi_target"  # the setting that says which DDI rate a model aims at
WIDE = 8  # from this ratio of the largest to the smallest value on, the axis is logarithmic
_METRICS = (("jaccard", "Jaccard"), ("ddi_rate", "DDI rate"))
_HEIGHT = 2.7  # of a row of panels, in inches


@dataclass(frozen=True)
class Line:
    """A model along one setting, all its other settings fixed.

    Attributes:
        label: the model, and its other settings where the grid varies them.
        points: value of the setting, Jaccard, DDI rate; in the setting's order.
    """

    label: str
    points: list[tuple[Any, Value, Value]]


def draw(results: StudyResults) -> Drawing | None:
    """Returns a row of two panels for each setting; None where no grid has a stored trial."""
    settings = panels(results)
    if not settings:
        return None
    labels = list(dict.fromkeys(line.label for lines in settings.values() for line in lines))
    look = {label: style(place) for place, label in enumerate(labels)}
    aims = TARGET in settings
    below = legend_inches(len(labels) + 1 + aims)
    figure = canvas(below + _HEIGHT * len(settings))
    for row, (field, lines) in enumerate(settings.items()):
        bottom = below + _HEIGHT * (len(settings) - row - 1) + 0.6
        for column, (_, title) in enumerate(_METRICS):
            width = WIDTH / 2 - 0.98
            plain = panel(figure, 0.85 + column * WIDTH / 2, bottom, width, _HEIGHT - 0.75)
            _lines(plain, lines, column, look)
            _ticks(plain, field, lines)
            plain.locator_params(axis="y", nbins=6)
            plain.set_xlabel(words(field), color=INK)
            plain.set_ylabel(f"{title} (fraction)", color=INK)
        _references(plain, field, lines, results.record.true_ddi_rate)
    _legend(figure)
    return Drawing(
        name="settings",
        title="Jaccard and DDI rate by setting",
        figure=figure,
        description=_description(settings, results.record.true_ddi_rate),
        caption="All test visits; bands and bars are 95% intervals over training seeds and "
        "patients, at each value by itself; lines between values only guide the eye. "
        "Dashed: DDI rate of what was prescribed."
        + (" Dotted: a DDI rate equal to the target." if aims else ""),
    )


def panels(results: StudyResults) -> dict[str, list[Line]]:
    """Returns the lines of each setting, in the study's order; arms without trials left out."""
    found: dict[str, list[Line]] = {}
    for _, field, arms in varied(results.record.arms):
        groups: dict[str, list[Arm]] = {}
        for arm in arms:
            groups.setdefault(_label(arm, field), []).append(arm)
        for label, group in groups.items():
            points = [
                (arm.varied[field], right, up)
                for arm in group
                if (right := results.estimate("jaccard", arm.name)) is not None
                and (up := results.estimate("ddi_rate", arm.name)) is not None
            ]
            if points:
                found.setdefault(field, []).append(Line(label, points))
    return found


def _label(arm: Arm, field: str) -> str:
    others = [
        f"{words(name).lower()} {value_text(value)}"
        for name, value in arm.varied.items()
        if name != field
    ]
    return shorten(", ".join([entry_title(arm), *others]), 40)


def positions(lines: Sequence[Line]) -> dict[Any, float]:
    """Returns where each value stands: at its own size if all are numbers, else evenly."""
    values = list(dict.fromkeys(value for line in lines for value, *_ in line.points))
    if all(is_number(value) for value in values):
        return {value: float(value) for value in values}
    return {value: float(place) for place, value in enumerate(values)}


def _lines(
    plain: "Axes", lines: Sequence[Line], metric: int, look: dict[str, dict[str, Any]]
) -> None:
    places = positions(lines)
    ordered = all(is_number(value) for value in places)
    for number, line in enumerate(lines):
        across = [places[value] for value, *_ in line.points]
        values = [point[1 + metric] for point in line.points]
        middle = [value.estimate for value in values]
        own = look[line.label]
        if ordered and len(values) > 1:
            low, high = zip(*map(_ends, values), strict=True)
            plain.plot(across, middle, label=line.label, markersize=6, **own)
            plain.fill_between(across, low, high, color=own["color"], alpha=0.18, linewidth=0)
        else:
            # Models beside one another at a value, not one upon the other.
            aside = 0.0 if ordered else 0.12 * (number - (len(lines) - 1) / 2)
            plain.errorbar(
                [place + aside for place in across],
                middle,
                yerr=list(zip(*map(_reach, values), strict=True)),
                label=line.label,
                markersize=6,
                elinewidth=1.2,
                capsize=3,
                **{**own, "linestyle": "none"},
            )


def _ticks(plain: "Axes", field: str, lines: Sequence[Line]) -> None:
    """Names every value on the axis, which is logarithmic where numbers span much."""
    ticks = sorted(positions(lines).items(), key=lambda item: item[1])
    low, high = ticks[0][1], ticks[-1][1]
    if not all(is_number(value) for value, _ in ticks):
        plain.set_xlim(-0.5, len(ticks) - 0.5)
    elif field != TARGET and low > 0 and high / low >= WIDE:
        plain.set_xscale("log")
        plain.minorticks_off()
    plain.set_xticks([place for _, place in ticks], [value_text(value) for value, _ in ticks])


def _ends(value: Value) -> tuple[float, float]:
    below, above = _reach(value)
    return value.estimate - below, value.estimate + above


def _reach(value: Value) -> tuple[float, float]:
    """Returns the bar's lengths; a percentile interval may lie beside a skewed estimate."""
    low = value.estimate if value.low is None else value.low
    high = value.estimate if value.high is None else value.high
    return max(value.estimate - low, 0.0), max(high - value.estimate, 0.0)


def _references(plain: "Axes", field: str, lines: Sequence[Line], truth: float) -> None:
    plain.axhline(truth, color=INK, linestyle="--", linewidth=1.2, label="True prescriptions")
    if field == TARGET:
        places = sorted(positions(lines).values())
        ends = [places[0], places[-1]]
        plain.plot(ends, ends, color=INK, linestyle=":", linewidth=1.2, label="Target")


def _legend(figure: "Figure") -> None:
    """Puts each line once below the panels, models first."""
    found: dict[str, Any] = {}
    for plain in figure.axes:
        for handle, label in zip(*plain.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    labels = sorted(found, key=lambda label: label in ("True prescriptions", "Target"))
    legend(figure, [found[label] for label in labels], labels)


def _description(columns: dict[str, list[Line]], truth: float) -> str:
    listed = "; ".join(
        f"{line.label}, {words(field).lower()} {value_text(value)}: "
        f"{right.estimate:.3f} and {up.estimate:.3f}"
        for field, lines in columns.items()
        for line in lines
        for value, right, up in line.points
    )
    return f"Jaccard and DDI rate by setting: {listed}; prescribed DDI rate {truth:.3f}."


FIGURE = Plot("Jaccard and DDI rate by setting", draw, tasks=("recommendation",))
