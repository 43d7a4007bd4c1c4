"""Budget and importances of searches, against loops, draws and a setting known to decide."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from sweeps.statistics.results import gather
from sweeps.store import ResultsStore
from sweeps.tables import budget, importances
from tests.sweeps.fabricate import fabricate, with_search


def column(table, key):
    place = [column.key for column in table.columns].index(key)
    return [row.cells[place] for row in table.rows]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    root = tmp_path_factory.mktemp("searches")
    with_search(root, fabricate(root, resamples=20))
    return gather(ResultsStore(root))


def best_of(values, draws: int, best=max) -> float:
    """Mean of the best over every ordered draw with replacement."""
    every = [best(drawn) for drawn in itertools.product(values, repeat=draws)]
    return sum(every) / len(every)


def test_the_expected_best_equals_the_mean_over_every_draw(results):
    (table,) = budget.build(results)
    values = (0.40, 0.50, 0.45)  # of complete trials; that of the pruned one is larger
    for key, draws in (("expected_1", 1), ("expected_2", 2), ("expected_all", 3)):
        assert column(table, key)[0].estimate == pytest.approx(best_of(values, draws))
    assert column(table, "expected_5")[:2] == [None, None]
    assert [column(table, state)[0] for state in ("complete", "pruned", "failed")] == [3, 1, 1]


def test_budgets_go_up_to_the_longest_search(results):
    (table,) = budget.build(results)
    keys = [c.key for c in table.columns if c.key.startswith("expected")]
    assert keys == [f"expected_{m}" for m in (1, 2, 5, 10, 20, "all")]
    grown = [column(table, key)[2].estimate for key in keys]
    assert grown == sorted(grown)
    records = results.searches["wide"]
    assert grown[0] == pytest.approx(np.mean([record["values"][0] for record in records]))
    assert grown[-1] < max(record["values"][0] for record in records)


def test_trials_stopped_early_are_said_to_flatter(results):
    (table,) = budget.build(results)
    assert "stopped early (tune: 1; pareto: 1)" in table.caption
    assert "too high" in table.caption


def test_less_is_better_takes_the_expected_minimum(results):
    plan = results.record.searches[1].model_copy(update={"objectives": ("ddi_rate", "jaccard")})
    found = budget.expected(results, plan)  # first values are 0.40, 0.50 and 0.45
    expected = [best_of((0.40, 0.50, 0.45), draws, min) for draws in (1, 2, 3)]
    assert found == pytest.approx(expected)


def test_trials_outside_the_bounds_are_not_drawn(results):
    plan = results.record.searches[0].model_copy(update={"ddi_ceiling": 0.06})
    assert budget.expected(results, plan) == pytest.approx([0.45])  # trial 4 alone keeps it


def importance_of(table, search) -> dict[str, float]:
    shown = zip(*(column(table, k) for k in ("search", "setting", "importance")), strict=True)
    return {setting: value.estimate for name, setting, value in shown if name == search and value}


def test_the_setting_that_decides_is_first_and_shares_add_up_to_one(tmp_path):
    with_search(tmp_path, fabricate(tmp_path, resamples=20), trials=80)
    (table,) = importances.build(gather(ResultsStore(tmp_path)))
    found = importance_of(table, "wide")
    assert next(iter(found)) == "dropout"
    assert found["dropout"] > 0.6
    assert sum(found.values()) == pytest.approx(1.0, abs=1e-5)
    assert set(found) == {"dropout", "dim", "rule", "gain"}


def test_a_setting_without_importance_says_why(results):
    (table,) = importances.build(results)
    rows = {(row.cells[0], row.cells[2]): row.cells for row in table.rows}
    assert rows["wide", "gain"][4] == 12  # half of the trials have it
    assert rows["wide", "steps"][3:] == (None, 24, "none: the same in every trial")
    assert rows["wide", "late"][3:] == (None, 2, "none: in fewer than 10 trials")
    # The records of the other two hold settings that their space does not have.
    assert [cells[5] for key, cells in rows.items() if key[0] == "tune"] == [
        "none: 0 complete trials, fewer than 10"
    ]


def test_each_objective_of_a_search_has_its_own_block(results):
    (table,) = importances.build(results)
    blocks = list(dict.fromkeys(row.block for row in table.rows))
    assert blocks == ["tune jaccard", "pareto jaccard", "pareto ddi_rate", "wide jaccard"]


def test_repeated_failed_and_foreign_trials_do_not_count(results):
    plan = results.record.searches[2]
    space = importances.from_json(plan.space)
    good = results.searches["wide"][:2]
    others = [
        {**good[0], "number": 90},
        {**good[0], "key": "a", "state": "pruned"},
        {**good[0], "key": "b", "values": [float("nan")]},
        {**good[0], "key": "c", "values": None},
        {**good[0], "key": "d", "params": {"dropout": 7.0}},
        {**good[0], "key": "e", "params": {"unheard": 1}},
        {},
    ]
    assert importances.complete([*good, *others], space, 1) == good


def test_equal_values_everywhere_decide_nothing(results):
    plan = results.record.searches[2]
    space = importances.from_json(plan.space)
    records = [{**record, "values": [0.5]} for record in results.searches["wide"]]
    assert importances.importances(records, 0, False, space, ["dropout", "dim"]) == {}


REFUSING = """
import pathlib, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "ray"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
"""


def test_importances_need_neither_torch_nor_ray_and_depend_on_no_hash_seed(tmp_path):
    with_search(tmp_path, fabricate(tmp_path, resamples=20))
    code = REFUSING + (
        "from sweeps.statistics.results import gather\n"
        "from sweeps.store import ResultsStore\n"
        "from sweeps.tables import importances\n"
        "from sweeps.tables._render import to_csv\n"
        f"results = gather(ResultsStore(pathlib.Path({str(tmp_path)!r})))\n"
        "print(to_csv(importances.build(results)[0]))\n"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1
    assert "dropout" in texts.pop()
