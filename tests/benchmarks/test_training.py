"""Seconds per epoch on a MIMIC-III-sized cohort: 10,000 training visits, dimension 64, one thread.

For scale, measured on one such thread for the same visits: the published implementations take
53 s (GAMENet) and 8,900 s (SafeDrug) an epoch.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from medrec import trial
from medrec.batching import ResidentCohort
from medrec.cohort import Cohort
from medrec.data import Data
from medrec.datasets._base import prepare
from medrec.datasets.synthetic import SyntheticOptions
from medrec.evaluation import evaluate
from medrec.knowledge.base import Knowledge, load_knowledge
from medrec.light import model_facts
from medrec.predicting import predict
from medrec.predictions import Predictions
from medrec.spec import CohortRef, KnowledgeSpec, Training, TrialSpec
from medrec.training import _Loop

# Ceilings in seconds by (model, patients per batch); see README, "How fast".
CEILINGS = {
    ("gamenet", 16): 2.0,
    ("gamenet", 64): 1.0,
    ("safedrug", 16): 6.0,
    ("safedrug", 64): 2.0,
}


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    # Two thirds of 6,290 patients have close to 10,000 visits.
    return prepare("synthetic", None, SyntheticOptions(patients=6290))


@pytest.fixture(scope="module")
def knowledge(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Knowledge:
    return load_knowledge(cohort, KnowledgeSpec(), tmp_path_factory.mktemp("cache"))


def _spec(model: str, batch_size: int) -> TrialSpec:
    return TrialSpec(
        model=model,
        config=model_facts(model).config().model_dump(mode="json"),
        training=Training(batch_size=batch_size),
        cohort=CohortRef(path="", fingerprint=""),
        seed=0,
    )


@pytest.mark.parametrize(("model", "batch_size"), list(CEILINGS))
def test_epoch(benchmark, cohort, knowledge, model, batch_size):
    torch.set_num_threads(1)
    train = cohort.members(0)
    assert 9_500 < cohort.visits[train].sum() < 10_500
    spec = _spec(model, batch_size)
    data = Data(cohort, ResidentCohort(cohort), knowledge, train, cohort.members(1))
    network = trial.build(spec, knowledge)
    assert isinstance(network, torch.nn.Module)
    loop = _Loop(network, data, spec, None)
    benchmark.pedantic(loop._pass, args=(0,), rounds=5, warmup_rounds=1)
    benchmark.extra_info["ceiling"] = CEILINGS[model, batch_size]


def test_logistic_regression_fit(benchmark, cohort, knowledge):
    torch.set_num_threads(1)
    model = trial.build(_spec("logistic_regression", 16), knowledge)
    benchmark.pedantic(model.fit, args=(cohort, cohort.members(0)), rounds=1)


def test_all_metrics_of_1000_visits(benchmark, cohort, knowledge):
    """Ceiling: 0.2 s."""
    rng = np.random.default_rng(0)
    truth = cohort.codes["medications"].multi_hot(cohort.drugs)[:1000]
    scores = rng.random(truth.shape, dtype=np.float32)
    predictions = Predictions(
        patient=np.repeat(np.arange(500), 2).astype(np.int32),
        visit=np.tile([0, 1], 500).astype(np.int16),
        truth=truth,
        chosen=scores > 0.9,
        scores=scores,
    )
    benchmark(evaluate, predictions, knowledge.interacts)


def test_predict_validation_split(benchmark, cohort, knowledge):
    torch.set_num_threads(1)
    model = trial.build(_spec("gamenet", 16), knowledge)
    resident, members = ResidentCohort(cohort), cohort.members(1)
    benchmark.pedantic(predict, args=(model, cohort, resident, members, 0.5), rounds=3)


def test_open_cohort(benchmark, cohort, tmp_path: Path):
    cohort.save(tmp_path)
    benchmark(Cohort.open, tmp_path)
