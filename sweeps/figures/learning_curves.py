"""Learning curves: validation Jaccard by epoch, one line an arm, with the range over seeds.

In studies of other things than recommenders: the validation measure that chose the epoch.
"""

import numpy as np
from jaxtyping import Float64

from sweeps.figures._base import INK, Drawing, Plot, axes, legend, shorten, style
from sweeps.record import Arm
from sweeps.statistics.results import StudyResults

COLUMNS = ("jaccard", "validation_jaccard")


def draw(results: StudyResults) -> Drawing | None:
    """Returns the curves of arms trained for more than one epoch; None where there is none."""
    curves = [
        (place, arm.title, curve(results, arm)) for place, arm in enumerate(results.record.arms)
    ]
    shown = [entry for entry in curves if entry[2].shape[1] > 1]
    if not shown:
        return None
    figure, plain = axes(3.4, len(shown))
    for place, title, rows in shown:
        own = style(place)
        epochs = np.arange(1, rows.shape[1] + 1)
        low, mean, high = spread(rows)
        plain.fill_between(epochs, low, high, color=own["color"], alpha=0.15, linewidth=0)
        every = max(1, rows.shape[1] // 8)
        # Markers of arms one beside another, not one upon another.
        start = place % every
        plain.plot(
            epochs, mean, label=shorten(title), markevery=(start, every), markersize=5, **own
        )
    plain.set_xlabel("Epoch", color=INK)
    name = "jaccard"
    if results.record.task != "recommendation":
        name = results.record.protocol.select
    measure = results.metrics[name]
    plain.set_ylabel(f"Validation {measure.title} ({measure.unit})", color=INK)
    plain.locator_params(axis="x", integer=True)
    legend(figure, *plain.get_legend_handles_labels())
    last = "; ".join(f"{title} {spread(rows)[1][-1]:.3f}" for _, title, rows in shown)
    return Drawing(
        name="learning_curves",
        title="Learning curves",
        figure=figure,
        description=f"Validation {measure.title} by epoch; at the last epoch: {last}.",
        caption="Mean over training seeds; the band reaches from the lowest to the highest seed. "
        "Where seeds stopped at different epochs, later ones rest on those still training. "
        "Arms with a single epoch are not shown.",
    )


def curve(results: StudyResults, arm: Arm) -> Float64[np.ndarray, "seeds epochs"]:
    """Returns the validation values; NaN after a seed's last epoch."""
    found = []
    select = results.record.protocol.select
    shown = COLUMNS if results.record.task == "recommendation" else (select,)
    for key in sorted(set(arm.trials.values())):
        history = results.histories.get(key, {})
        name = next((column for column in shown if column in history), None)
        if name is not None:
            found.append(np.array(history[name], dtype=np.float64))
    rows = np.full((len(found), max(map(len, found), default=0)), np.nan)
    for row, values in zip(rows, found, strict=True):
        row[: len(values)] = values
    return rows


Epochs = Float64[np.ndarray, " epochs"]


def spread(rows: Float64[np.ndarray, "seeds epochs"]) -> tuple[Epochs, Epochs, Epochs]:
    """Returns lowest, mean and highest of the seeds that have the epoch; NaN where none has."""
    known = ~np.isnan(rows)
    count = known.sum(axis=0)
    low = np.where(known, rows, np.inf).min(axis=0)
    high = np.where(known, rows, -np.inf).max(axis=0)
    mean = np.where(known, rows, 0.0).sum(axis=0) / np.maximum(count, 1)
    low[count == 0] = mean[count == 0] = high[count == 0] = np.nan
    return low, mean, high


FIGURE = Plot("Learning curves", draw)
