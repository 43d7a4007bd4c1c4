"""Vectors of codes in the plane: a panel an arm, colour by chapter, marker by kind of code.

No plug-in: it needs weights and minutes, so it is drawn only when asked for.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medrec.cohort import Kind
from sweeps.chapters import chapters
from sweeps.embeddings import (
    ANGLE,
    ITERATIONS,
    MOST_CODES,
    PERPLEXITY,
    SEED,
    Picture,
    Pictures,
)
from sweeps.figures._base import COLOURS, INK, PAPER, Drawing, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_SHAPES: Mapping[Kind, str] = {"diagnoses": "o", "procedures": "^", "medications": "s"}
_TONES = (*COLOURS, "#8B8000", "#A0506E")
_REST = "#8A919A"
_SIZE, _LARGER = 3.2, 5.5  # points; drugs are few and lie among many
_LEGEND_ROW = 0.16  # inches


def draw(pictures: Pictures) -> Drawing:
    """Returns the figure of all arms."""
    of_code = {kind: chapters(kind, codes) for kind, codes in pictures.vocabulary.items() if codes}
    tones = {kind: colours(names) for kind, names in of_code.items()}
    figure = _figure(pictures, tones, of_code)
    arms = ", ".join(each.arm for each in pictures.arms)
    counts = ", ".join(f"{len(names):,} {kind}" for kind, names in of_code.items())
    return Drawing(
        name="embeddings",
        title="Vectors of codes",
        figure=figure,
        description=f"Vectors of {counts} in the plane, as learned by {arms}.",
        caption=_caption(pictures, counts),
    )


def colours(names: Sequence[str]) -> dict[str, str]:
    """Returns a colour for each of the chapters with most codes; others are grey.

    Args:
        names: chapter of each code.
    """
    ordered = sorted(Counter(names).items(), key=lambda item: (-item[1], item[0]))
    return {name: tone for (name, _), tone in zip(ordered, _TONES, strict=False)}


def _figure(
    pictures: Pictures,
    tones: Mapping[Kind, Mapping[str, str]],
    of_code: Mapping[Kind, Sequence[str]],
) -> "Figure":
    from matplotlib.figure import Figure

    handles = _legend(tones, of_code)
    deep = _LEGEND_ROW * len(handles) / len(tones) + 0.2
    columns = min(2, len(pictures.arms))
    rows = -(-len(pictures.arms) // columns)
    high = (4.0 if columns == 2 else 5.5) * rows
    whole = Figure(figsize=(8.0, high + deep), layout="constrained", facecolor=PAPER)
    parts = whole.subfigures(2, 1, squeeze=False, height_ratios=[high, deep])
    upper, lower = parts.ravel()
    for place, picture in enumerate(pictures.arms, start=1):
        _panel(upper.add_subplot(rows, columns, place), picture, tones, of_code)
    lower.legend(
        handles=handles,
        loc="upper center",
        ncols=len(tones),
        frameon=False,
        labelcolor=INK,
        fontsize=8.5,
        handletextpad=0.3,
        labelspacing=0.25,
    )
    return whole


def _panel(
    plain: "Axes",
    picture: Picture,
    tones: Mapping[Kind, Mapping[str, str]],
    of_code: Mapping[Kind, Sequence[str]],
) -> None:
    plain.set_facecolor("none")
    plain.set_xticks([])
    plain.set_yticks([])
    for spine in plain.spines.values():
        spine.set_color(INK)
        spine.set_linewidth(0.6)
    plain.set_title(shorten(picture.arm, 44), color=INK, fontsize=10)
    for kind, points in picture.points.items():
        names = np.array(of_code[kind], dtype=np.str_)
        known = list(tones[kind].items())
        groups = [(np.isin(names, [name for name, _ in known], invert=True), _REST)]
        groups += [(names == name, tone) for name, tone in known]
        for inside, tone in groups:
            plain.plot(*points[inside].T, **_look(kind, tone))


def _look(kind: Kind, tone: str) -> dict[str, Any]:
    drug = kind == "medications"
    return {
        "linestyle": "none",
        "marker": _SHAPES[kind],
        "markersize": _LARGER if drug else _SIZE,
        "markerfacecolor": tone,
        "markeredgecolor": INK if drug else tone,
        "markeredgewidth": 0.5 if drug else 0.0,
        "zorder": 3 if drug else 2,
    }


def _legend(
    tones: Mapping[Kind, Mapping[str, str]], of_code: Mapping[Kind, Sequence[str]]
) -> list["Line2D"]:
    """Returns a column a kind: its name, its chapters, the rest; columns of the same length."""
    from matplotlib.lines import Line2D

    lines = {}
    for kind, own in tones.items():
        entries = [Line2D([], [], linestyle="none", label=f"{kind.capitalize()}:")]
        for name, tone in own.items():
            label = shorten(name, 34)
            entries.append(Line2D([], [], **_entry(kind, tone), label=label))
        if len(set(of_code[kind])) > len(own):
            entries.append(Line2D([], [], **_entry(kind, _REST), label="other chapters"))
        lines[kind] = entries
    longest = max(map(len, lines.values()))
    blank = [Line2D([], [], linestyle="none", label=" ")]
    return [e for own in lines.values() for e in [*own, *blank * (longest - len(own))]]


def _entry(kind: Kind, tone: str) -> dict[str, Any]:
    return {**_look(kind, tone), "markersize": _LARGER}


def _caption(pictures: Pictures, counts: str) -> str:
    how = "the first two principal components"
    if pictures.method == "tsne":
        how = (
            f"t-SNE (scikit-learn; perplexity {PERPLEXITY:g} or less, {ITERATIONS} iterations, "
            f"angle {ANGLE:g}, seed {SEED}, from principal components)"
        )
    shown = ", ".join(
        each.arm if each.seed is None else f"{each.arm} (seed {each.seed})"
        for each in pictures.arms
    )
    text = (
        f"{counts} by {how} of the vectors in the stored weights of each arm's first stored seed: "
        f"{shown}. Each panel is projected by itself: directions, and in t-SNE distances between "
        "groups, mean nothing, and panels share no axes. Colour: the chapters with most codes of "
        "each kind. A code that no training visit has may still be where it began."
    )
    if pictures.cut:
        kinds = " and ".join(pictures.cut)
        text += f" Of {kinds} only the first {MOST_CODES:,} in vocabulary order."
    if pictures.left_out:
        text += f" Left out for space: {', '.join(pictures.left_out)}."
    if pictures.without:
        reasons = "; ".join(f"{title}: {why}" for title, why in pictures.without)
        text += f" Not shown: {reasons}."
    return text
