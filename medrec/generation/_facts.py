"""What is told of generated patients besides measures: counts and yardsticks without intervals."""

from medrec.measures import Measure

_MEAN, _SD = "mean", "standard deviation"


def _side(title: str, unit: str, decimals: int, whose: str) -> Measure:
    return Measure(f"{title}, {whose}", unit, higher_is_better=None, decimals=decimals)


COUNTED: dict[str, Measure] = {
    "drawn_patients": Measure("Drawn", "patients", higher_is_better=None, decimals=0),
    "visits_beyond_context": Measure(
        "Beyond context",
        "visits",
        higher_is_better=None,
        decimals=0,
        description="test visits that a network's context does not hold; its likelihood is of the "
        "others",
    ),
    **{
        f"{what}_{of}_{side}": _side(
            f"{title} ({short})", f"{_MEAN if of == 'mean' else _SD}", 2, side
        )
        for what, title in (("visits", "Visits/record"), ("codes", "Codes/visit"))
        for of, short in (("mean", "mean"), ("sd", "SD"))
        for side in ("generated", "real")
    },
}
"""Sizes of records."""
COPIED: dict[str, Measure] = {
    "copied_records_generated": Measure(
        "Copied records", "patients", higher_is_better=False, decimals=0,
        description="generated patients all of whose visits are a training patient's",
    ),
    "copied_records_test": Measure(
        "Copied records, test", "patients", higher_is_better=None, decimals=0,
        description="test patients of whom that is true",
    ),
    "copied_visits_generated": Measure(
        "Copied visits", "fraction", higher_is_better=False,
        description="share of generated visits that a training patient has had, code by code",
    ),
    "copied_visits_test": Measure("Copied visits, test", "fraction", higher_is_better=None),
    "nearest_jaccard_mean_generated": Measure(
        "Nearest, generated", "Jaccard distance", higher_is_better=None, decimals=3,
        description="mean distance of a generated patient to the nearest training patient",
    ),
    "nearest_jaccard_mean_test": Measure(
        "Nearest, test", "Jaccard distance", higher_is_better=None, decimals=3
    ),
    "nearer_to_training": Measure(
        "Nearer to training", "fraction", higher_is_better=None, decimals=3,
        description="generated patients nearer to a training patient than to as many test "
        "patients; 0.5 if nothing is copied",
    ),
}  # fmt: skip
"""What is copied, and how near generated patients come."""
