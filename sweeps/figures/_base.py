"""What a figure is, and how it becomes the same bytes each time.

A figure plug-in is one file that defines `FIGURE`. Its `draw` takes `StudyResults` and returns a
drawing, or None where it does not apply. Matplotlib is imported when something is drawn, not
before, so that listing and tables stay fast.

Sizes are inches and fixed: matplotlib's layout engines measure every text several times, which
takes as long as drawing. A width of 6.4 keeps text legible on a phone and in a column of print.
"""

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medrec.spec import SELECT, Task
from sweeps.record import Arm
from sweeps.statistics.results import StudyResults

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, safe for the common kinds of colour blindness, without black and yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", ":", "-.")
INK, RULE, PAPER = "#24292f", "#c9ced6", "#ffffff"
WIDTH = 6.4
LEGIBLE = 8  # lines that can be told apart where they cross and have bands
DPI = 200
_ROW = 0.195  # of a legend
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
    tasks: tuple[Task, ...] = tuple(SELECT)


def canvas(height: float) -> "Figure":
    """Returns an empty figure of that height and the usual width."""
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), facecolor=PAPER)


def panel(figure: "Figure", left: float, bottom: float, width: float, height: float) -> "Axes":
    """Returns plain axes in that place of the figure; all in inches."""
    whole_width, whole_height = figure.get_size_inches()
    plain = figure.add_axes(
        (left / whole_width, bottom / whole_height, width / whole_width, height / whole_height)
    )
    plain.set_facecolor("none")
    for side in ("top", "right"):
        plain.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        plain.spines[side].set_color(INK)
    plain.tick_params(colors=INK)
    plain.grid(color=RULE, linewidth=0.6)
    plain.set_axisbelow(True)
    return plain


def axes(height: float, entries: int) -> tuple["Figure", "Axes"]:
    """Returns a figure with one plain pair of axes above room for a legend of that many entries.

    Args:
        height: of the axes in inches.
        entries: in the legend, as `legend` makes it.
    """
    below = 0.6 + legend_inches(entries)
    figure = canvas(height + below + 0.15)
    return figure, panel(figure, 0.8, below, WIDTH - 1.0, height)


def style(index: int) -> dict[str, Any]:
    """Returns colour, marker and dash of the arm at this place; the first 42 pairs differ."""
    turn, colour = divmod(index, len(COLOURS))
    return {
        "color": COLOURS[colour],
        "marker": MARKERS[(colour + turn) % len(MARKERS)],
        "linestyle": DASHES[turn % len(DASHES)],
    }


def shorten(text: str, limit: int = 38) -> str:
    """Returns the text, abbreviated and then without its middle where it is too long.

    Arms of one study often begin alike, and a setting stands at the end.

    Example:
        >>> shorten("a model with a name", 10)
        'a mod…name'
    """
    if len(text) > limit:
        text = text.replace("without ", "w/o ")
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 2
    return text[: limit - 1 - tail].rstrip() + "…" + text[-tail:].lstrip()


def legend(figure: "Figure", handles: Sequence["Artist"], labels: Sequence[str]) -> None:
    """Puts the legend at the figure's foot in two columns, where it can cover nothing."""
    half = -(-len(labels) // 2)
    top = legend_inches(len(labels)) / figure.get_figheight()
    for left, column in ((0.01, slice(half)), (0.5, slice(half, None))):
        figure.legend(
            handles[column],
            labels[column],
            loc="upper left",
            bbox_to_anchor=(left, top),
            frameon=False,
            labelcolor=INK,
            borderaxespad=0.0,
            borderpad=0.0,
            fontsize=9,
        )


def legend_inches(entries: int) -> float:
    """Returns the height that `legend` needs."""
    return _ROW * -(-entries // 2) + 0.15 if entries else 0.0


def legible(
    results: StudyResults, shown: Sequence[tuple[int, Arm]]
) -> tuple[list[tuple[int, Arm]], str]:
    """Returns at most `LEGIBLE` arms, and a sentence on those that are left out.

    The study's reference stays, then those with the best primary metric; in the given order.
    """
    if len(shown) <= LEGIBLE:
        return list(shown), ""
    name = results.record.analysis.primary
    primary = results.metrics[name]
    sign = -1.0 if primary.higher_is_better is False else 1.0

    def rank(entry: tuple[int, Arm]) -> tuple[bool, float, int]:
        value = results.estimate(name, entry[1].name)
        estimate = -float("inf") if value is None else sign * value.estimate
        return entry[1].name != results.record.reference, -estimate, entry[0]

    kept = {place for place, _ in sorted(shown, key=rank)[:LEGIBLE]}
    left = ", ".join(arm.title for place, arm in shown if place not in kept)
    return [entry for entry in shown if entry[0] in kept], (
        f" Of {len(shown)} arms the reference and those with the best {primary.title} are shown; "
        f"left out: {left}."
    )


@contextmanager
def _own_style() -> Iterator[None]:
    """The reader's own matplotlibrc must not change a figure."""
    import matplotlib

    plain: dict[Any, Any] = {
        name: value
        for name, value in matplotlib.rcParamsDefault.items()
        if not name.startswith("backend")
    }
    with matplotlib.rc_context({**plain, **_STYLE}):
        yield


def to_svg(plot: Plot, results: StudyResults) -> tuple[Drawing, str] | None:
    """Returns the drawing and its SVG text; the same bytes for the same results."""
    with _own_style():
        drawing = plot.draw(results)
        if drawing is None:
            return None
        sink = io.BytesIO()
        drawing.figure.savefig(sink, format="svg", metadata={"Date": None, "Creator": "medsweep"})
    return drawing, sink.getvalue().decode()


def to_png(drawing: Drawing) -> bytes:
    """Returns the drawing as a PNG on white; no date and no version is in it.

    Without the alpha channel, and lightly compressed: half the time for a tenth more bytes.
    """
    import numpy as np
    from PIL import Image

    painted, sink = io.BytesIO(), io.BytesIO()
    with _own_style():
        drawing.figure.savefig(painted, format="rgba", dpi=DPI)
    width = int(drawing.figure.get_figwidth() * DPI)
    dots = np.frombuffer(painted.getvalue(), np.uint8).reshape(-1, width, 4)
    image = Image.fromarray(np.ascontiguousarray(dots[..., :3]))
    image.save(sink, format="png", dpi=(DPI, DPI), compress_level=3)
    return sink.getvalue()


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
