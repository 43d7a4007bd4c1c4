"""What the best of m trials of a search is expected to be: validation performance by budget.

With n values v_(1) <= ... <= v_(n), the largest of m draws with replacement is at most v_(i) with
probability (i/n)^m, so its mean is the sum of v_(i) ((i/n)^m - ((i-1)/n)^m). A search's own best
value after m trials depends on the order of its trials; this does not, and comparing models at
one m compares them at one budget.

Reference:
    Dodge, Gururangan, Card, Schwartz, Smith, "Show Your Work: Improved Reporting of Experimental
    Results", EMNLP 2019, section 3.
"""

import numpy as np
from jaxtyping import Float64


def expected_maximum(values: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Returns the mean of the largest of m draws with replacement, for m = 1 to n.

    Args:
        values: finite validation values of complete trials, larger is better; for a metric of
            which less is better give negatives, and take the negative of what is returned.
    """
    return _chances(len(values)) @ np.sort(values)


def deviation_of_maximum(values: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Returns the standard deviation of the largest of m draws with replacement, m = 1 to n."""
    chances = _chances(len(values))
    centred = np.sort(values) - expected_maximum(values)[:, None]
    return np.sqrt((chances * centred**2).sum(axis=1))


def _chances(n: int) -> Float64[np.ndarray, "n n"]:
    """Returns the probability that the largest of m draws is the i-th smallest of n values."""
    draws = np.arange(1, n + 1)[:, None]
    return np.diff((np.arange(n + 1) / max(n, 1)) ** draws, axis=1)
