"""The plots of a card, as SVG."""

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from medrec.card.contents import patients_and_visits
from medrec.card.parts import Plot
from medrec.card.words import FEW_PATIENTS, listed, many, percent
from medrec.cohort import KINDS, Cohort
from medrec.demographics import AGE_BINS, age_bin

# Written into every SVG; a page may put its own colours in their place.
INK, RULE, COLOURS = "#24292f", "#c9ced6", ("#0072b2", "#d55e00", "#009e73")
_BARS = {"visits": 15, "codes": 60}  # bars of a plot; the last one holds all beyond
_RANKS = 120  # points of a curve over ranks, evenly spaced on the log scale
_DAYS = {1: "1 d", 7: "7 d", 30: "30 d", 365: "1 y", 3650: "10 y"}


def plots(cohort: Cohort) -> tuple[Plot, ...]:
    """Returns the plots, the same bytes for the same cohort and version of matplotlib."""
    import matplotlib

    # The reader's own matplotlibrc must not change a plot.
    plain: dict[Any, Any] = {
        name: value
        for name, value in matplotlib.rcParamsDefault.items()
        if not name.startswith("backend")
    }
    style: dict[Any, Any] = {
        "svg.hashsalt": "medsweep",
        "svg.fonttype": "none",
        "text.parse_math": False,
    }
    draw: tuple[Callable[[Cohort], Plot | None], ...] = (
        _visits_plot,
        _gaps_plot,
        _codes_plot,
        _age_plot,
        _ranks_plot,
    )
    with matplotlib.rc_context({**plain, **style}):
        return tuple(plot for one in draw if (plot := one(cohort)) is not None)


def _axes(panels: int, width: float, below: float = 0.48) -> tuple[Any, list[Any]]:
    """Returns an empty figure and that many pairs of plain axes; `width` and `below` in inches."""
    from matplotlib.figure import Figure

    height = 2.9
    figure = Figure(figsize=(width, height))
    figure.patch.set_visible(False)
    figure.subplots_adjust(0.6 / width, below / height, 1 - 0.06 / width, 1 - 0.1 / height, 0.16)
    found = list(figure.subplots(1, panels, squeeze=False)[0])
    for axes in found:
        axes.patch.set_visible(False)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(INK)
        axes.tick_params(which="both", colors=INK)
        axes.xaxis.label.set_color(INK)
        axes.yaxis.label.set_color(INK)
        axes.grid(axis="y", color=RULE, linewidth=0.6)
        axes.set_axisbelow(True)
    return figure, found


def _svg(figure: Any) -> str:
    sink = io.BytesIO()
    figure.savefig(sink, format="svg", metadata={"Date": None, "Creator": "medsweep"})
    return sink.getvalue().decode()


def _pooled(counts: Int[np.ndarray, " some"], least: int, bars: int) -> tuple[list[str], Any]:
    """Returns labels and percentages of `least`, `least` + 1, …; the last holds all beyond."""
    last = least + bars - 1
    heights = np.bincount(np.minimum(counts, last) - least) * 100 / len(counts)
    labels = [str(least + i) for i in range(len(heights))]
    if counts.max() > last:
        labels[-1] += "+"
    return labels, heights


def _bars(axes: Any, labels: Sequence[str], heights: Any, colour: str, every: int) -> None:
    axes.bar(range(len(heights)), heights, width=0.86, color=colour, linewidth=0)
    ticks = list(range(0, len(labels), every))
    if labels[-1].endswith("+"):
        last = len(labels) - 1
        ticks = [tick for tick in ticks if last - tick >= max(every, 2)] + [last]
    axes.set_xticks(ticks, [labels[i] for i in ticks])


def _visits_plot(cohort: Cohort) -> Plot:
    figure, (axes,) = _axes(1, 4.8)
    labels, heights = _pooled(cohort.visits, 1, _BARS["visits"])
    _bars(axes, labels, heights, COLOURS[0], 1)
    axes.set(xlabel="Visits", ylabel="Patients (%)")
    text = ", ".join(
        f"{label}: {height:.1f}%" for label, height in zip(labels, heights, strict=True)
    )
    caption = (
        f"Median {np.median(cohort.visits):g}, most {cohort.visits.max():,}; "
        f"{percent((cohort.visits == 1).mean())} of the patients have one visit."
    )
    title = "Visits per patient"
    return Plot("visits", title, _svg(figure), f"Patients by number of visits. {text}.", caption)


def _codes_plot(cohort: Cohort) -> Plot:
    kinds = [kind for kind in KINDS if cohort.vocabulary[kind]]
    figure, panels = _axes(len(kinds), 3.3 * len(kinds))
    medians = []
    for axes, kind in zip(panels, kinds, strict=True):
        counts = cohort.codes[kind].counts
        labels, heights = _pooled(counts, 0, _BARS["codes"])
        every = 5 if len(labels) > 12 else 1
        _bars(axes, labels, heights, COLOURS[KINDS.index(kind)], every)
        axes.set_xlabel(kind.capitalize())
        medians.append(f"{kind} {np.median(counts):g}")
    panels[0].set_ylabel("Visits (%)")
    text = f"Codes per visit; medians: {', '.join(medians)}"
    caption = f"Medians: {', '.join(medians)}. A last bar marked + holds all visits beyond."
    return Plot("codes", "Codes per visit", _svg(figure), f"{text}.", caption)


def _age_plot(cohort: Cohort) -> Plot | None:
    age = np.where(cohort.age < 0, len(AGE_BINS), age_bin(cohort.age))
    patients, visits = patients_and_visits(cohort, age, len(AGE_BINS) + 1)
    drawn = np.where(patients < FEW_PATIENTS, 0, visits)[:-1]
    if not drawn.any():
        return None
    figure, (axes,) = _axes(1, 4.8, below=0.7)
    heights = drawn * 100 / len(age)
    axes.bar(range(len(heights)), heights, width=0.86, color=COLOURS[0], linewidth=0)
    axes.set_xticks(range(0, len(AGE_BINS), 2), AGE_BINS[::2], rotation=40, ha="right")
    axes.set(xlabel="Age (years)", ylabel="Visits (%)")
    shown = [f"{AGE_BINS[i]}: {heights[i]:.1f}%" for i in np.flatnonzero(drawn)]
    caption = (
        f"Median {np.median(cohort.age[cohort.age >= 0]):g} years; unknown at "
        f"{percent((cohort.age < 0).mean())} of the visits. Bins of fewer than {FEW_PATIENTS} "
        "patients are left out."
    )
    text = f"Visits by age at admission. {', '.join(shown)}."
    return Plot("age", "Age at admission", _svg(figure), text, caption)


def _gaps_plot(cohort: Cohort) -> Plot | None:
    owner = np.repeat(np.arange(cohort.patients), cohort.visits)
    days = cohort.admitted[np.lexsort((cohort.admitted, owner))]  # also where not in time's order
    gaps = np.diff(days)[np.diff(owner) == 0]
    if not len(gaps):
        return None
    figure, (axes,) = _axes(1, 4.8)
    edges = 0.5 * 2.0 ** (np.arange(41) / 2)  # days, from half a day to over a thousand years
    edges = edges[: np.searchsorted(edges, max(float(gaps.max()), 2.0)) + 1]
    heights = np.histogram(np.clip(gaps, edges[0], edges[-1]), edges)[0] * 100 / len(gaps)
    axes.bar(edges[:-1], heights, width=np.diff(edges) * 0.9, align="edge", color=COLOURS[0], lw=0)
    axes.set_xscale("log")
    ticks = [day for day in _DAYS if day <= edges[-1]]
    axes.set_xticks(ticks, [_DAYS[day] for day in ticks])
    axes.minorticks_off()
    axes.set(xlabel="Days (d) and years (y) to the next admission, log scale", ylabel="Pairs (%)")
    soon = percent((gaps <= 30).mean())
    caption = (
        f"{many(len(gaps), 'pair')} of admissions that follow one another; median "
        f"{np.median(gaps):,.3g} days, {soon} within 30 days. The first bar holds shorter times "
        "too."
    )
    title = "Days between visits"
    return Plot("gaps", title, _svg(figure), f"Days between visits. {caption}", caption)


def _ranks_plot(cohort: Cohort) -> Plot:
    figure, (axes,) = _axes(1, 4.8)
    texts = []
    for kind, colour, dash in zip(KINDS, COLOURS, ("-", "--", ":"), strict=True):
        size = len(cohort.vocabulary[kind])
        if not size:
            continue
        visits = np.sort(np.bincount(cohort.codes[kind].values, minlength=size))[::-1]
        ranks = np.unique(np.geomspace(1, size, _RANKS).round().astype(int))
        shares = visits[ranks - 1] * 100 / len(cohort.admitted)
        axes.plot(ranks, shares, color=colour, linestyle=dash, linewidth=1.8, label=kind)
        half = int(np.searchsorted(np.cumsum(visits), visits.sum() / 2)) + 1
        texts.append(f"{half:,} of {size:,} {kind}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter("{x:,.10g}")
    axes.yaxis.set_major_formatter("{x:,.10g}")
    axes.minorticks_off()
    axes.legend(loc="lower left", frameon=False, labelcolor=INK, fontsize="small")
    axes.set(xlabel="Rank of the code (log scale)", ylabel="Visits that have it (%)")
    caption = f"Half of all entries are {listed(texts)}."
    text = f"Share of visits by rank of the code. {caption}"
    return Plot("ranks", "Frequency of codes", _svg(figure), text, caption)
