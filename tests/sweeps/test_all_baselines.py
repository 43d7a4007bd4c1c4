"""The study of every model, in its small size: its table shows what is planted in the cohort."""

import time

import pandas as pd
import pytest

from tests.sweeps import tiny

pytestmark = pytest.mark.slow
MINUTES = 25  # on two cores
WITHOUT_HISTORY = (
    "LR", "ECC", "LEAP", "SafeDrug", "MoleRec", "DrugRec", "BH3-MedRec",
)  # fmt: skip
CONTROLS = ("Most popular", "Nearest", "Copy previous", "kNN")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("all")
    started = time.monotonic()
    small = ["--set", "scale=small"]
    done = tiny.medsweep("run", "all-baselines", *small, "--out", root, timeout=2 * 60 * MINUTES)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < 60 * MINUTES
    return root


def jaccard(folder, table):
    """Returns Jaccard by the beginning of an arm's title."""
    rows = pd.read_csv(folder / "tables" / f"{table}.csv")
    return rows.set_index("arm")["jaccard"].dropna()


def of(values, titles):
    return values[[any(arm.startswith(title) for title in titles) for arm in values.index]]


def test_copying_and_regression_beat_the_most_popular(folder):
    found = jaccard(folder, "baselines")
    (popular,) = of(found, ["Most popular"])
    (copied,) = of(found, ["Copy previous"])
    (regression,) = of(found, ["LR"])
    assert min(copied, regression) > popular + 0.02


def test_history_helps_where_it_is_planted(folder):
    found = jaccard(folder, "baselines_transitions")
    without = of(found, WITHOUT_HISTORY)
    networks = found.drop(without.index).drop(of(found, CONTROLS).index)
    assert len(without) == len(WITHOUT_HISTORY)
    assert networks.max() > without.max()
    assert of(found, ["Copy previous"]).item() > without.max()
    assert of(found, ["kNN"]).item() > without.max()
