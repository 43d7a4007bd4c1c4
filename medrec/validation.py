"""What validation says of a model after an epoch; the test split is not named here."""

import numpy as np
import torch

from medrec.batching import ResidentCohort, evaluation_batches
from medrec.data import Data
from medrec.distributed import ALONE, Group
from medrec.evaluation import evaluate
from medrec.generation._base import FittedGenerator, NeuralGenerator
from medrec.generation._histories import histories
from medrec.generation._records import ResidentRecords
from medrec.hierarchy._base import HierarchyBuilder
from medrec.models._base import CalibratedRecommender, Recommender
from medrec.precision import forward
from medrec.predicting import predict
from medrec.predictions import Predictions
from medrec.spec import TrialSpec

Trained = Recommender | NeuralGenerator | FittedGenerator | HierarchyBuilder
"""Whatever a trial trains or fits."""


def validate(
    model: Trained, data: Data, spec: TrialSpec, group: Group = ALONE
) -> dict[str, float]:
    """Returns validation metrics, after choosing what the model lets validation choose."""
    if isinstance(model, HierarchyBuilder):
        return model.validation()
    if isinstance(model, NeuralGenerator | FittedGenerator):
        likelihood, visits = log_likelihood(model, data, spec, data.validation)
        return {"log_likelihood": float(likelihood.sum() / visits.sum())}
    if isinstance(model, CalibratedRecommender):
        model.calibrate(_answers(model, data, spec, group))
    return evaluate(_answers(model, data, spec, group), data.knowledge.interacts)


def log_likelihood(
    model: NeuralGenerator | FittedGenerator, data: Data, spec: TrialSpec, patients: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the natural logarithm of the probability of each patient's record, and its visits.

    A network's record ends with the last visit that its context holds.
    """
    if isinstance(model, FittedGenerator):
        return model.log_likelihood(histories(data.cohort, patients)), data.cohort.visits[patients]
    assert isinstance(data.resident, ResidentRecords)  # noqa: S101  as `data_for` makes it
    found = np.zeros(len(patients))
    place = np.argsort(np.argsort(patients, kind="stable"), kind="stable")
    ordered = np.sort(patients)
    model.eval()
    with torch.inference_mode():
        for some in evaluation_batches(ordered, data.sizes[ordered], 64):
            batch = data.resident.gather(some.to(data.resident.device))
            outputs = forward(model, batch, spec.training.precision)
            likelihood = model.log_likelihood(outputs, batch)
            found[np.searchsorted(ordered, some.numpy())] = likelihood.double().cpu().numpy()
    return found[place], data.resident.visits[patients]


def _answers(model: Recommender, data: Data, spec: TrialSpec, group: Group) -> Predictions:
    assert isinstance(data.resident, ResidentCohort)  # noqa: S101  as `data_for` makes it
    predictions = predict(
        model,
        data.cohort,
        data.resident,
        data.validation,
        spec.protocol.threshold,
        precision=spec.training.precision,
        group=group,
    )
    return predictions.transitions() if spec.protocol.visits == "transitions" else predictions
