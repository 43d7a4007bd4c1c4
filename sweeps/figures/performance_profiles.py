"""Performance profiles: share of test patients and seeds with Jaccard above each value."""

import numpy as np

from sweeps.figures._base import (
    INK,
    Drawing,
    Plot,
    axes,
    legend,
    legible,
    shorten,
    style,
)
from sweeps.statistics.profiles import RESAMPLES, profiles
from sweeps.statistics.results import StudyResults

ABOVE = np.linspace(0.0, 1.0, 101)


def draw(results: StudyResults) -> Drawing | None:
    """Returns the profiles; None where no trial is stored."""
    record, scores = results.record, results.scores["all"]
    every = [entry for entry in enumerate(record.arms) if results.stored(entry[1].name)]
    shown, left_out = legible(results, every)
    if not shown:
        return None
    at = [place for place, _ in shown]
    metric = scores.metrics.index("jaccard")
    found = profiles(
        scores.numerator[metric, at],
        scores.denominator[metric, at],
        scores.present[at],
        ABOVE,
        record.bootstrap_seed,
    )
    figure, plain = axes(3.6, len(shown))
    told = []
    for row, (place, arm) in enumerate(shown):
        own = style(place)
        plain.fill_between(
            ABOVE, found.low[row], found.high[row], color=own["color"], alpha=0.15, linewidth=0
        )
        # Markers of arms one beside another, not one upon another.
        marks = (2 * row % 14, 14)
        title = shorten(arm.title)
        plain.plot(ABOVE, found.share[row], label=title, markevery=marks, markersize=5, **own)
        told.append(f"{arm.title} {found.share[row][len(ABOVE) // 2]:.3f}")
    plain.set_xlim(0, 1)
    plain.set_ylim(0, 1.02)
    plain.set_xlabel("Jaccard τ of a patient (fraction)", color=INK)
    plain.set_ylabel("Share of patients and seeds above τ", color=INK)
    legend(figure, *plain.get_legend_handles_labels())
    return Drawing(
        name="performance_profiles",
        title="Performance profiles",
        figure=figure,
        description="Share of test patients and seeds with a Jaccard above 0.5: "
        f"{'; '.join(told)}.",
        caption="Share of (training seed, test patient) whose Jaccard, mean over the patient's "
        f"visits, is above τ. Bands: plain crossed bootstrap, {RESAMPLES} resamples of patients "
        "and seeds, pointwise, to show the spread; narrower than 95% where trainings differ much; "
        f"bootstrap seed {record.bootstrap_seed}.{left_out}",
    )


FIGURE = Plot("Performance profiles", draw, tasks=("recommendation",))
