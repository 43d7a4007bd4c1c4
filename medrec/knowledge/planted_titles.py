"""Titles of the synthetic cohort's ICD codes: invented for testing software.

A diagnosis is called by the condition that the synthetic data set plants with it, a code of a pool
by its pool, and a qualifier tells the codes of one condition apart: "heart failure, recurrent". A
category is called as most of its codes are. The same code always has the same title; none is
ICD's own, for which `medsweep data knowledge --sources` reads the published files.
"""

from collections import Counter, defaultdict
from functools import cache

from medrec.cohort import Kind
from medrec.datasets._conditions import read_conditions, read_pools
from medrec.knowledge.relations import node

_QUALIFIERS = (
    "unspecified", "acute", "chronic", "severe", "mild", "recurrent", "left-sided", "right-sided",
    "bilateral", "with obstruction", "with bleeding", "initial episode", "subsequent episode",
    "of newborn", "drug-induced", "traumatic", "hereditary", "postoperative", "congenital",
    "idiopathic", "in remission", "without complication", "with infection", "of upper part",
    "of lower part", "open", "closed", "multiple", "single", "secondary", "malignant", "benign",
)  # fmt: skip


@cache
def planted_titles() -> dict[str, str]:
    """Returns the title of each code, and of each category above codes, by its node.

    Example:
        >>> planted_titles()["diagnoses/9:4280"]
        'heart failure, unspecified'
    """
    groups: list[tuple[Kind, str, tuple[str, ...]]] = []
    for condition in read_conditions():
        groups.append(("diagnoses", condition.name, condition.diagnoses))
        groups.append(("procedures", f"{condition.name} procedure", condition.procedures))
    groups += [(pool.kind, pool.name, pool.codes) for pool in read_pools()]
    titles: dict[str, str] = {}
    named: defaultdict[str, Counter[str]] = defaultdict(Counter)
    used: Counter[tuple[str, str]] = Counter()
    for kind, name, codes in groups:
        length = 3 if kind == "diagnoses" else 2
        for code in codes:
            own = node(kind, f"9:{code}")
            if own in titles:
                continue
            titles[own] = f"{name}, {_qualifier(used[kind, name])}"
            used[kind, name] += 1
            category = code[: length + 1] if code.startswith("E") else code[:length]
            named[node(kind, f"9:{category}")][name] += 1
    for category, names in named.items():
        titles.setdefault(category, min(names, key=lambda name: (-names[name], name)))
    return titles


def _qualifier(number: int) -> str:
    """Returns a qualifier for the codes of one name: each number another."""
    first, second = number % len(_QUALIFIERS), number // len(_QUALIFIERS)
    if not second:
        return _QUALIFIERS[first]
    return f"{_QUALIFIERS[first]}, {_QUALIFIERS[(first + second) % len(_QUALIFIERS)]}"
