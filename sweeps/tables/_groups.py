"""Captions of tables whose blocks are groups of visits."""

from sweeps.statistics.intervals import LEVEL
from sweeps.statistics.results import StudyResults


def groups_sentence(results: StudyResults) -> str:
    """Returns what the estimates and their intervals are, and over what, in groups of any size."""
    seeds = ", ".join(str(seed) for seed in results.record.seeds)
    return (
        f"Estimates are means over training seeds ({seeds}); in brackets {LEVEL:.0%} analytic "
        "crossed-variance t intervals over training seeds and test patients, without resamples, "
        "not adjusted for multiple comparisons."
    )
