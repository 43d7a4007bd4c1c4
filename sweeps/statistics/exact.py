"""Sums that are the same on every machine.

A sum of floats depends on the order of its additions, and so on the processor and the number of
threads that a matrix product uses. Sums of whole multiples of one power of two do not, as long as
they fit into the 53 bits of a float: nothing is ever rounded. So statistics of patients are
rounded once to multiples of the finest such power (for a thousand patients and values up to 1
about 1e-13, far below any printed digit), and every sum over patients with whole weights is exact,
whatever library adds it up.

Functions such as a normal quantile differ in their last bit between processors. `settled` rounds
them to ten decimals, where that bit no longer shows.
"""

import numpy as np
from jaxtyping import Float64

_BITS = 53  # of a float's significand


def exact(values: Float64[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
    """Returns the values rounded so that resampled sums over the last axis are exact.

    A resample draws n of n patients: the largest sum takes the largest value n times.

    Example:
        >>> exact(np.array([0.1, 3.0])) - np.array([0.1, 3.0]) < 1e-14
        array([ True,  True])
    """
    # Each row by itself: counts of pairs must not make fractions coarse.
    largest = np.abs(values).max(axis=-1, keepdims=True, initial=0.0) * values.shape[-1]
    _, exponent = np.frexp(largest)  # largest < 2 ** exponent
    unit = np.ldexp(1.0, exponent - _BITS)
    return np.asarray(np.rint(values / unit) * unit)


def settled(values: Float64[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
    """Returns the values rounded to ten decimals."""
    return np.round(values, 10)
