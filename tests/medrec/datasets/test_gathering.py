from collections import Counter

import numpy as np
import pandas as pd
import pytest

from medrec.datasets._gathering import Found, Gatherer, order_by_count
from medrec.datasets._stays import Stays
from medrec.raw_table import Column

KEYS = np.array([70, 30, 50], dtype=np.int64)


def stays() -> Stays:
    visits = pd.DataFrame({"visit": KEYS, "patient": 1, "admitted": 0.0, "order": 0, "age": 1})
    return Stays.of(visits.assign(service="MED"))


def column(cells: list[str]) -> Column:
    names = tuple(dict.fromkeys([*cells, "a name that no row has"]))
    return Column(np.array([names.index(cell) for cell in cells], np.int32), names)


def resolve(cells: tuple[str, ...]) -> Found:
    """The cell "a b" with "x" gives ax and bx; "?" is not known; "" gives nothing."""
    first, second = cells
    if not first:
        return Found("empty", ())
    if "?" in first:
        return Found("not found", (), ("name", first))
    return Found("found", tuple(part + second for part in first.split()))


def draw(rng: np.random.Generator, size: int) -> list[tuple[int, str, str]]:
    firsts = ["a", "a b", "b c d", "", "?", "?!"]
    return [
        (int(rng.integers(3)), firsts[rng.integers(6)], "xy"[rng.integers(2)]) for _ in range(size)
    ]


@pytest.mark.parametrize("slack", [0, 20, 4_000_000])
@pytest.mark.parametrize("sizes", [[200], [1, 0, 60, 7, 100]])
def test_gathering_equals_a_plain_loop(monkeypatch, slack, sizes):
    monkeypatch.setattr("medrec.datasets._gathering._SLACK", slack)
    rng, gatherer = np.random.default_rng(0), Gatherer(resolve)
    pairs, steps, unknown = set(), Counter(), Counter()
    for size in sizes:
        rows = draw(rng, size)
        gatherer.add(
            np.array([row for row, _, _ in rows], dtype=np.int64),
            column([first for _, first, _ in rows]),
            column([second for _, _, second in rows]),
        )
        for row, first, second in rows:
            found = resolve((first, second))
            steps[found.step] += 1
            pairs |= {(int(KEYS[row]), code) for code in found.codes}
            unknown.update([found.unknown[1]] if found.unknown else [])
    frame = gatherer.frame(stays())
    found = list(frame.itertuples(index=False, name=None))
    assert len(found) == len(set(found))
    assert set(found) == pairs
    assert gatherer.rows == steps
    assert gatherer.unknown == {"name": unknown}


def test_each_combination_is_looked_at_once_whatever_its_rows():
    asked = []

    def ask(cells):
        asked.append(cells)
        return Found("found", cells)

    gatherer = Gatherer(ask)
    for _ in range(3):
        gatherer.add(np.zeros(4, np.int64), column(["a", "b", "a", "a"]))
    assert sorted(asked) == [("a",), ("b",)]
    assert gatherer.rows == {"found": 12}


def test_memory_grows_with_the_distinct_pairs_only(monkeypatch):
    monkeypatch.setattr("medrec.datasets._gathering._SLACK", 10)
    gatherer = Gatherer(lambda cells: Found("found", cells))
    for _ in range(50):
        gatherer.add(np.arange(3), column(["a", "b", "c"]))
        assert sum(len(pairs) for pairs in gatherer._pairs) <= 10 + 3 + 3 + 3
    assert len(gatherer.frame(stays())) == 3


def test_rare_names_are_not_listed():
    gatherer = Gatherer(lambda cells: Found("not found", (), ("drug name", cells[0])))
    cells = ["often"] * 10 + ["rare"] * 9 + ["also often"] * 10
    gatherer.add(np.zeros(len(cells), np.int64), column(cells))
    assert gatherer.listed(10) == {"drug name": {"also often": 10, "often": 10}}
    assert list(gatherer.listed()["drug name"]) == ["also often", "often", "rare"]


def test_nothing_added_gives_an_empty_frame():
    frame = Gatherer(resolve).frame(stays())
    assert (list(frame), len(frame)) == (["visit", "code"], 0)


def test_order_by_count():
    assert order_by_count(Counter(b=2, a=2, c=3)) == [("c", 3), ("a", 2), ("b", 2)]
