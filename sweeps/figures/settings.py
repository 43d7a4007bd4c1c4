"""Settings: Jaccard and DDI rate against each setting that a grid varies, with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweeps.figures._base import INK, PAPER, RULE, Drawing, Plot, legend_inches, shorten, style
from sweeps.record import Arm
from sweeps.statistics.results import StudyResults, Value
from sweeps.tables.settings import entry_title, is_number, value_text, varied, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TARGET = "ddi_target"  # the setting that says which DDI rate a model aims at
WIDE = 8  # from this ratio of the largest to the smallest value on, the axis is logarithmic
_METRICS = (("jaccard", "Jaccard"), ("ddi_rate", "DDI rate"))


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
    """Returns a column of two panels for each setting; None where no grid has a stored trial."""
    columns = panels(results)
    if not columns:
        return None
    labels = list(dict.fromkeys(line.label for lines in columns.values() for line in lines))
    look = {label: style(place) for place, label in enumerate(labels)}
    aims = TARGET in columns
    figure = _figure(len(columns), len(labels) + 1 + aims)
    grid = figure.add_gridspec(2, len(columns))
    for place, (field, lines) in enumerate(columns.items()):
        upper = _panel(figure, grid[0, place])
        lower = _panel(figure, grid[1, place])
        for row, plain in enumerate((upper, lower)):
            _lines(plain, lines, row, look)
            _ticks(plain, field, lines)
            plain.set_ylabel(_METRICS[row][1] if place == 0 else "", color=INK)
        _references(lower, field, lines, results.record.true_ddi_rate)
        lower.set_xlabel(words(field), color=INK)
    _legend(figure)
    return Drawing(
        name="settings",
        title="Jaccard and DDI rate by setting",
        figure=figure,
        description=_description(columns, results.record.true_ddi_rate),
        caption="All test visits; bars are 95% intervals over training seeds and patients. "
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


def _figure(columns: int, entries: int) -> "Figure":
    from matplotlib.figure import Figure

    width = 6.4 if columns == 1 else 4.2 * columns
    height = 5.2 + legend_inches(entries)
    return Figure(figsize=(width, height), layout="constrained", facecolor=PAPER)


def _panel(figure: "Figure", place: Any) -> "Axes":
    plain = figure.add_subplot(place)
    plain.set_facecolor("none")
    for side in ("top", "right"):
        plain.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        plain.spines[side].set_color(INK)
    plain.tick_params(colors=INK)
    plain.grid(color=RULE, linewidth=0.6)
    plain.set_axisbelow(True)
    return plain


def positions(lines: Sequence[Line]) -> dict[Any, float]:
    """Returns where each value stands: at its own size if all are numbers, else evenly."""
    values = list(dict.fromkeys(value for line in lines for value, *_ in line.points))
    if all(is_number(value) for value in values):
        return {value: float(value) for value in values}
    return {value: float(place) for place, value in enumerate(values)}


def _lines(
    plain: "Axes", lines: Sequence[Line], row: int, look: dict[str, dict[str, Any]]
) -> None:
    places = positions(lines)
    ordered = all(is_number(value) for value in places)
    for line in lines:
        values = [point[1 + row] for point in line.points]
        own = look[line.label] if ordered else {**look[line.label], "linestyle": "none"}
        plain.errorbar(
            [places[value] for value, *_ in line.points],
            [value.estimate for value in values],
            yerr=list(zip(*map(_reach, values), strict=True)),
            label=line.label,
            markersize=6,
            elinewidth=1.2,
            capsize=3,
            **own,
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
    figure.legend(
        [found[label] for label in labels],
        labels,
        loc="outside lower center",
        ncols=2,
        frameon=False,
        labelcolor=INK,
    )


def _description(columns: dict[str, list[Line]], truth: float) -> str:
    listed = "; ".join(
        f"{line.label}, {words(field).lower()} {value_text(value)}: "
        f"{right.estimate:.3f} and {up.estimate:.3f}"
        for field, lines in columns.items()
        for line in lines
        for value, right, up in line.points
    )
    return f"Jaccard and DDI rate by setting: {listed}; prescribed DDI rate {truth:.3f}."


FIGURE = Plot("Jaccard and DDI rate by setting", draw)
