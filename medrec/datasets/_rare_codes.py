"""Rare diagnoses of the synthetic cohort, and the blocks of the ICD tree that they belong to.

A code is rare if it comes late in the list of its condition or pool and has no planted relation.
Of a block with many of them each code is too rare to be learned from, the block is not: what a
block causes can be told by a model that knows the tree.
"""

from functools import cache

import numpy as np
import pandas as pd
from jaxtyping import Int64

from medrec import codes
from medrec.datasets._coding import MOST_CODES, VERSION
from medrec.datasets._conditions import read_conditions, read_pools
from medrec.knowledge.icd_known import diagnosis_tree_9
from medrec.knowledge.planted import planted_codes

_COMMON = {"condition": 5, "pool": 20}  # codes of a list, from its beginning, that are not rare
_LEAST = 15  # rare codes of a block


@cache
def rare_blocks() -> dict[str, tuple[str, ...]]:
    """Returns the rare codes ("9:80841") of each block ("9:805-809") with many; both sorted.

    A chapter without blocks stands for its own block.
    """
    lists = [c.diagnoses[_COMMON["condition"] :] for c in read_conditions()]
    lists += [p.codes[_COMMON["pool"] :] for p in read_pools() if p.kind == "diagnoses"]
    planted = {codes.split(code)[1] for code in planted_codes()["diagnoses"]}
    rare = sorted({code for each in lists for code in each} - planted)
    tree = diagnosis_tree_9(dict.fromkeys(rare, "")).finish("rare codes", [], {})
    members: dict[str, list[str]] = {}
    for code in rare:
        above = tree.ancestors(VERSION + code)
        block = next(name for name in above if "-" in name)
        members.setdefault(block, []).append(VERSION + code)
    return {name: tuple(members[name]) for name in sorted(members) if len(members[name]) >= _LEAST}


def with_rare_codes(
    diagnoses: pd.DataFrame,
    visit: Int64[np.ndarray, " visits"],
    mean: float,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Returns diagnoses and additional rare ones: uniformly drawn, Poisson many a visit.

    Args:
        diagnoses: rows of `visit` key and `code`.
        visit: keys of the visits.
        mean: number of additional codes a visit; no visit gets more than `MOST_CODES` in all.
        rng: source of the draws.
    """
    if mean == 0.0:
        return diagnoses
    pool = np.array([code for block in rare_blocks().values() for code in block], dtype=object)
    counts = rng.poisson(mean, len(visit))
    row = np.repeat(np.arange(len(visit)), counts)
    code = pool[rng.integers(len(pool), size=len(row))]
    place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    already = np.bincount(pd.Index(visit).get_indexer(diagnoses["visit"]), minlength=len(visit))
    fits = place + already[row] < MOST_CODES
    more = pd.DataFrame({"visit": visit[row[fits]], "code": code[fits]})
    return pd.concat([diagnoses, more], ignore_index=True).drop_duplicates(ignore_index=True)
