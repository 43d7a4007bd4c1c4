"""Grace periods of early stopping are those that the recorded learning curves justify."""

import importlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medrec import plugins
from sweeps.statistics.early import FEWEST_CONFIGURATIONS, best_so_far, grace_epochs

CURVES = pd.read_csv(Path(__file__).parents[2] / "results" / "learning-curves.csv")


@pytest.mark.parametrize("model", plugins.names("search_spaces"))
def test_the_grace_period_follows_from_the_curves(model):
    recorded = CURVES[CURVES["model"] == model]
    space = importlib.import_module(f"search_spaces.{model}")
    if recorded.empty:  # a fitted model, or one whose curves nobody recorded
        assert not hasattr(space, "GRACE_EPOCHS")
        return
    curves = recorded.pivot(index="configuration", columns="epoch", values="jaccard").to_numpy()
    assert np.isfinite(curves).all()
    assert len(curves) >= FEWEST_CONFIGURATIONS
    assert grace_epochs(best_so_far(curves)) == space.GRACE_EPOCHS
