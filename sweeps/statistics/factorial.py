"""Effects of a two-level factorial design, as contrasts of its arms.

level        of a part in an arm: 0 as in the full model, 1 changed
coding       s = -1 for level 0 and +1 for level 1
main effect  mean over arms with the part changed, minus mean over arms with it as in the full
             model: weights s / (arms / 2)
interaction  half the difference between the effect of one part where the other is changed, and
             where it is not: weights s s' / (arms / 2)

All effects of a design are orthogonal contrasts of its arms. In a fraction of all combinations
some are one and the same contrast: an interaction that shares it with a main effect is left to
that effect's name, and interactions that share one are named together.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Float64, Int64

TIMES = " × "
AND = " + "


def effect_contrasts(
    levels: Mapping[str, tuple[int, ...]], factors: Sequence[str], interactions: bool = True
) -> tuple[tuple[str, ...], Float64[np.ndarray, "effects arms"]]:
    """Returns the names of effects and the contrast of arms that estimates each.

    Args:
        levels: name of an arm to the level of each factor in it.
        factors: names of the parts that are varied.
        interactions: whether interactions of two parts are wanted too.

    Returns:
        Names, and a row of weights each over the arms in the order of `levels`: rows sum to 0,
        and weights x values of the arms is the effect.

    Raises:
        ValueError: the arms are not a full factorial design, nor a regular fraction of one in
            which main effects are separate.
    """
    table = np.array(list(levels.values()), dtype=np.int64).reshape(len(levels), -1)
    _check(table, factors)
    signs = 2.0 * table - 1.0
    columns: dict[tuple[str, ...], np.ndarray] = {
        (name,): signs[:, index] for index, name in enumerate(factors)
    }
    if interactions:
        for one, other in combinations(range(len(factors)), 2):
            columns[factors[one], factors[other]] = signs[:, one] * signs[:, other]
    names: list[str] = []
    rows: list[np.ndarray] = []
    mains = len(factors)
    for effect, column in columns.items():
        same = [at for at, row in enumerate(rows) if abs(row @ column) == len(table)]
        if not same:
            names.append(TIMES.join(effect))
            rows.append(column)
        elif same[0] >= mains:
            names[same[0]] += AND + TIMES.join(effect)
    return tuple(names), np.stack(rows) / (len(table) / 2)


def _check(table: Int64[np.ndarray, "arms factors"], factors: Sequence[str]) -> None:
    """Refuses what is no regular design; of the others, those whose main effects are not apart."""
    arms = len(table)
    if not factors or table.shape[1] != len(factors) or not np.isin(table, (0, 1)).all():
        raise ValueError("Every arm needs the level, 0 or 1, of each of at least one factor.")
    runs = {tuple(row) for row in (table ^ table[:1]).tolist()}
    sums = {tuple(a ^ b for a, b in zip(one, two, strict=True)) for one in runs for two in runs}
    signs = 2 * table - 1
    apart = signs.T @ signs == arms * np.eye(len(factors), dtype=np.int64)
    if len(runs) < arms or sums != runs or signs.sum(axis=0).any() or not apart.all():
        raise ValueError(
            f"{arms} arms over {list(factors)} are neither a full factorial design nor a regular "
            "fraction of one, so effects cannot be told apart."
        )
