"""Demographic groups: ages in bins, and broad groups of ethnicity or race.

KindMed feeds a patient as one-hots of gender, 7 ethnicity groups and 17 age bins; the paper does
not print its groups, so these are ours.
"""

import numpy as np
from jaxtyping import Int16, Int64

AGE_EDGES = tuple(range(15, 95, 5))  # 17 bins: below 15, 15 to 19, …, 85 to 89, 90 and older
AGE_BINS = ("<15", *(f"{edge}-{edge + 4}" for edge in AGE_EDGES[:-1]), "90+")
GROUPS = ("asian", "black", "hispanic", "native", "other", "unknown", "white")
_STARTS = (
    ("unknown", ("?", "UNKNOWN", "UNABLE TO OBTAIN", "PATIENT DECLINED", "OTHER/UNKNOWN")),
    ("white", ("WHITE", "PORTUGUESE", "CAUCASIAN")),
    ("black", ("BLACK", "AFRICAN AMERICAN")),
    ("asian", ("ASIAN",)),
    ("hispanic", ("HISPANIC", "SOUTH AMERICAN")),
    ("native", ("AMERICAN INDIAN", "NATIVE")),
)


def age_bin(age: Int16[np.ndarray, " visits"]) -> Int64[np.ndarray, " visits"]:
    """Returns the place of each age in `AGE_BINS`, or -1 where it is unknown.

    Example:
        >>> [AGE_BINS[i] for i in age_bin(np.array([14, 15, 89, 95], np.int16))]
        ['<15', '15-19', '85-89', '90+']
    """
    return np.where(age < 0, -1, np.searchsorted(AGE_EDGES, age, side="right")).astype(np.int64)


def group_of(race: str) -> str:
    """Returns the broad group of an ethnicity or race as MIMIC or eICU writes it.

    Example:
        >>> group_of("HISPANIC/LATINO - CUBAN"), group_of("PATIENT DECLINED TO ANSWER")
        ('hispanic', 'unknown')
    """
    text = race.strip().upper()
    starts = (group for group, words in _STARTS if text.startswith(words))
    return next(starts, "other") if text else "unknown"
