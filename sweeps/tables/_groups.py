"""Captions of tables whose blocks are groups of visits: how intervals are made varies by group."""

from sweeps.statistics.intervals import (
    BCA_PATIENTS,
    FEWEST_FREEDOM,
    FEWEST_PATIENTS,
    FEWEST_SEEDS,
    LEVEL,
)
from sweeps.statistics.results import StudyResults


def groups_sentence(results: StudyResults) -> str:
    """Returns what the estimates and their intervals are, and over what, in groups of any size."""
    record = results.record
    seeds = ", ".join(str(seed) for seed in record.seeds)
    return (
        f"Estimates are means over training seeds ({seeds}); in brackets {LEVEL:.0%} intervals "
        "over training seeds and test patients, not adjusted for multiple comparisons: analytic "
        f"crossed-variance t where a group has fewer than {FEWEST_PATIENTS} patients or an arm "
        f"fewer than {FEWEST_SEEDS} seeds, or few trainings decide (fewer than "
        f"{FEWEST_FREEDOM:g} degrees of freedom), and else crossed bootstrap, "
        f"{record.resamples:,} resamples, bootstrap seed {record.bootstrap_seed} (percentile; "
        f"BCa from {BCA_PATIENTS} patients on for an arm's own ratio or skewed metric)."
    )
