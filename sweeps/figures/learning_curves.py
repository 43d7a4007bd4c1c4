"""Learning curves: validation Jaccard by epoch, one line an arm, with the range over seeds."""

import numpy as np

from sweeps.figures._base import (
    INK,
    Drawing,
    Plot,
    axes,
    legend_below,
    legend_inches,
    shorten,
    style,
)
from sweeps.record import Arm
from sweeps.statistics.results import StudyResults

COLUMNS = ("jaccard", "validation_jaccard")


def draw(results: StudyResults) -> Drawing | None:
    """Returns the curves of arms trained for more than one epoch; None where there is none."""
    curves = [
        (place, shorten(arm.title), curve(results, arm))
        for place, arm in enumerate(results.record.arms)
    ]
    shown = [entry for entry in curves if entry[2].shape[1] > 1]
    if not shown:
        return None
    figure, plain = axes(6.4, 3.7 + legend_inches(len(shown)))
    for place, title, rows in shown:
        own = style(place)
        epochs = np.arange(1, rows.shape[1] + 1)
        plain.fill_between(
            epochs,
            np.nanmin(rows, axis=0),
            np.nanmax(rows, axis=0),
            color=own["color"],
            alpha=0.15,
            linewidth=0,
        )
        every = max(1, rows.shape[1] // 8)
        plain.plot(epochs, np.nanmean(rows, axis=0), label=title, markevery=every, **own)
    plain.set_xlabel("Epoch", color=INK)
    plain.set_ylabel("Validation Jaccard", color=INK)
    plain.locator_params(axis="x", integer=True)
    legend_below(plain)
    last = "; ".join(f"{title} {np.nanmean(rows[:, -1]):.3f}" for _, title, rows in shown)
    return Drawing(
        name="learning_curves",
        title="Learning curves",
        figure=figure,
        description=f"Validation Jaccard by epoch; at the last epoch: {last}.",
        caption="Mean over training seeds; the band reaches from the lowest to the highest seed. "
        "Arms with a single epoch are not shown.",
    )


def curve(results: StudyResults, arm: Arm) -> np.ndarray:
    """Returns validation Jaccard [seeds, epochs]; NaN after a seed's last epoch."""
    found = []
    for key in sorted(set(arm.trials.values())):
        history = results.histories.get(key, {})
        name = next((column for column in COLUMNS if column in history), None)
        if name is not None:
            found.append(np.array(history[name], dtype=np.float64))
    rows = np.full((len(found), max(map(len, found), default=0)), np.nan)
    for row, values in zip(rows, found, strict=True):
        row[: len(values)] = values
    return rows


FIGURE = Plot("Learning curves", draw)
