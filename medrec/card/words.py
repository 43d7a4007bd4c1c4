"""How a card writes numbers and lists, and which numbers of patients it does not write."""

from collections.abc import Sequence

import numpy as np

FEW_PATIENTS = 5


def masked(patients: int) -> str:
    """Returns a count of patients (or of their rows) for people, "<5" for 1 to 4.

    A card is passed on more freely than its cohort, and someone who knows that one of four
    patients is meant may recognise the patient. It is the habit of such reports and no proof.

    Example:
        >>> masked(0), masked(4), masked(1500)
        ('0', '<5', '1,500')
    """
    return f"<{FEW_PATIENTS}" if 0 < patients < FEW_PATIENTS else number(patients)


def number(value: int | float | np.integer) -> str:
    """Returns a number with its thousands marked, and two decimals unless it is whole."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"


def percent(share: float) -> str:
    """Returns a share of [0, 1] in percent."""
    return "<0.1%" if 0 < share < 0.0005 else f"{100 * share:.1f}%"


def gap(here: float, published: float) -> str:
    """Returns the difference between our number and a published one, and its share of that."""
    difference = here - published
    sign = "+" if difference > 0 else ""
    text = f"{sign}{number(difference)} ({100 * difference / published:+,.1f}%)"
    return text.replace("-", "\u2212")


def many(count: int, one: str, more: str = "") -> str:
    """Returns a count with its noun, whose plural is `more` or ends in s."""
    return f"{count:,} {one if count == 1 else more or one + 's'}"


def listed(words: Sequence[str]) -> str:
    """Returns words joined by commas and, before the last, "and"."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
