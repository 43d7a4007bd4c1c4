"""What can be had in a plane of two aims: Pareto front, and what runs attain.

A point is (gain, cost): more of the first is better, less of the second. A run is a set of points
found at one go, here the arms trained with one seed. A run attains every place in the plane that
is no better than one of its points in either aim.

Reference:
    Fonseca, Guerreiro, López-Ibáñez, Paquete, "On the computation of the empirical attainment
    function", EMO 2011: the places attained by at least k of the runs have a staircase for border.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64


def pareto_front(points: Float64[np.ndarray, "points 2"]) -> Bool[np.ndarray, " points"]:
    """Returns which points no other point beats: as good in both aims, better in one.

    Equal points stay together. A point with NaN is never on the front and beats nothing.
    """
    gain, cost = points.T
    no_worse = (gain[:, None] >= gain) & (cost[:, None] <= cost)
    better = (gain[:, None] > gain) | (cost[:, None] < cost)
    known = ~np.isnan(points).any(axis=1)
    return known & ~(no_worse & better & known[:, None]).any(axis=0)


def attainment(
    runs: Sequence[Float64[np.ndarray, "_points 2"]], least: int
) -> Float64[np.ndarray, "corners 2"]:
    """Returns the corners of what at least `least` of the runs attain, by falling gain.

    A place is in that region if it is no better than one of the corners in either aim.

    Args:
        runs: points of each run; points with NaN are left out.
        least: how many runs must attain a place, at least 1.

    Raises:
        ValueError: `least` is less than 1.
    """
    if least < 1:
        raise ValueError(f"`least` must be at least 1, but got {least=}.")
    known = [points[~np.isnan(points).any(axis=1)] for points in runs]
    if least > len(known):
        return np.zeros((0, 2))
    gains = np.unique(np.concatenate([points[:, 0] for points in known]))[::-1]
    needed = np.stack([_cheapest(points, gains) for points in known])
    cost = np.sort(needed, axis=0)[least - 1]
    lowest_before = np.minimum.accumulate(np.concatenate([[np.inf], cost[:-1]]))
    corner = cost < lowest_before
    return np.stack([gains[corner], cost[corner]], axis=1)


def _cheapest(
    points: Float64[np.ndarray, "points 2"], gains: Float64[np.ndarray, " gains"]
) -> Float64[np.ndarray, " gains"]:
    """Returns the least cost at which a run has each gain or more; infinite if it has not."""
    if len(points) == 0:
        return np.full(len(gains), np.inf)
    enough = points[:, 0] >= gains[:, None]
    return np.where(enough, points[:, 1], np.inf).min(axis=1)
