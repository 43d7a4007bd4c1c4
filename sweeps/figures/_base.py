"""What a figure is, and how it becomes the same bytes each time.

A figure plug-in is one file that defines `FIGURE`. Its `draw` takes `StudyResults` and returns a
drawing, or None where it does not apply. Matplotlib is imported when something is drawn, not
before, so that listing and tables stay fast.
"""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweeps.statistics.results import StudyResults

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, safe for the common kinds of colour blindness, without black and yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", ":", "-.")
INK, RULE, PAPER = "#24292f", "#c9ced6", "#ffffff"
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "medsweep",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 10.0,
    "axes.unicode_minus": True,
    "text.parse_math": False,  # a dollar sign in a title is a dollar sign
}


@dataclass(frozen=True)
class Drawing:
    """A drawn figure, what a reader who cannot see it is told, and what stands below it."""

    name: str
    title: str
    figure: "Figure"
    description: str
    caption: str


@dataclass(frozen=True)
class Plot:
    """A figure plug-in."""

    title: str
    draw: Callable[[StudyResults], Drawing | None]


def axes(width: float, height: float) -> tuple["Figure", "Axes"]:
    """Returns an empty figure of that size in inches with one plain pair of axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor=PAPER)
    plain = figure.add_subplot()
    plain.set_facecolor("none")
    for side in ("top", "right"):
        plain.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        plain.spines[side].set_color(INK)
    plain.tick_params(colors=INK)
    plain.grid(color=RULE, linewidth=0.6)
    plain.set_axisbelow(True)
    return figure, plain


def style(index: int) -> dict[str, Any]:
    """Returns colour, marker and dash of the arm at this place; the first 42 pairs differ."""
    turn, colour = divmod(index, len(COLOURS))
    return {
        "color": COLOURS[colour],
        "marker": MARKERS[(colour + turn) % len(MARKERS)],
        "linestyle": DASHES[turn % len(DASHES)],
    }


def shorten(text: str, limit: int = 30) -> str:
    """Returns the text, without its middle where it is longer than `limit` characters.

    Arms of one study often begin alike, and a setting stands at the end.

    Example:
        >>> shorten("a model with a name", 10)
        'a mod…name'
    """
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 2
    return text[: limit - 1 - tail].rstrip() + "…" + text[-tail:].lstrip()


def legend_below(plain: "Axes") -> None:
    """Puts the legend below the axes, where it can cover nothing."""
    plain.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.16),
        ncols=2,
        frameon=False,
        labelcolor=INK,
    )


def legend_inches(entries: int) -> float:
    """Returns the height in inches that `legend_below` needs."""
    return 0.22 * -(-entries // 2) + 0.3


def to_svg(plot: Plot, results: StudyResults) -> tuple[Drawing, str] | None:
    """Returns the drawing and its SVG text; the same bytes for the same results."""
    import matplotlib

    # The reader's own matplotlibrc must not change a figure.
    plain: dict[Any, Any] = {
        name: value
        for name, value in matplotlib.rcParamsDefault.items()
        if not name.startswith("backend")
    }
    with matplotlib.rc_context({**plain, **_STYLE}):
        drawing = plot.draw(results)
        if drawing is None:
            return None
        sink = io.BytesIO()
        drawing.figure.savefig(sink, format="svg", metadata={"Date": None, "Creator": "medsweep"})
    return drawing, sink.getvalue().decode()


def inline(svg: str, drawing: Drawing) -> str:
    """Returns the SVG for a page: named, ids its own, ink and paper taken from the page."""
    body = svg[svg.index("<svg") :]
    prefix = f"{drawing.name}-"
    body = re.sub(r'\bid="', f'id="{prefix}', body)
    body = re.sub(r'(href="|url\()#', rf"\1#{prefix}", body)
    body = (
        body.replace(INK, "currentColor")
        .replace(RULE, "var(--rule)")
        .replace(PAPER, "var(--paper)")
    )
    label = f"{prefix}title"
    head = f'<svg role="img" aria-labelledby="{label}" '
    named = body.replace("<svg ", head, 1)
    end = named.index(">") + 1
    return f'{named[:end]}<title id="{label}">{_escape(drawing.description)}</title>{named[end:]}'


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
