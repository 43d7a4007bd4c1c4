"""Codes of the synthetic cohort that trade names, so that the ICD tree says nothing about them.

A condition has neighbouring codes, so the tree groups what a condition causes. An ablation of the
tree would lose by that alone. With traded names it loses only by what is planted in the tree.
"""

from functools import cache

import numpy as np
import pandas as pd

from medrec.cohort import Kind
from medrec.datasets._coding import VERSION
from medrec.datasets._conditions import read_conditions, read_pools
from medrec.datasets._rare_codes import rare_blocks
from medrec.knowledge.planted import planted_codes

_SEED = 9


def with_traded_names(codes: dict[Kind, pd.DataFrame]) -> dict[Kind, pd.DataFrame]:
    """Returns the same rows of `visit` and `code`, each code under another's name."""
    return {k: rows.assign(code=rows["code"].map(new_names(k))) for k, rows in codes.items()}


@cache
def new_names(kind: Kind) -> dict[str, str]:
    """Returns the new name of each diagnosis or procedure: always the same, a permutation.

    Codes with planted relations trade among themselves, and so do rare ones of a block: so that
    the planted causes stay as frequent as they were.
    """
    lists = [c.diagnoses if kind == "diagnoses" else c.procedures for c in read_conditions()]
    lists += [pool.codes for pool in read_pools() if pool.kind == kind]
    related = set(planted_codes()[kind])
    rare = {code for block in rare_blocks().values() for code in block}
    rng = np.random.default_rng(_SEED)
    groups: dict[tuple[bool, bool], list[str]] = {}
    for name in sorted({VERSION + code for codes in lists for code in codes}):
        groups.setdefault((name in related, name in rare), []).append(name)
    return {
        old: group[new]
        for group in groups.values()
        for old, new in zip(group, rng.permutation(len(group)).tolist(), strict=True)
    }
