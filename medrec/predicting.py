"""A model's answers for all visits of some patients, by one worker or by all of a group."""

from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from jaxtyping import Int64

from medrec.batching import ResidentCohort, evaluation_batches
from medrec.cohort import Cohort
from medrec.distributed import ALONE, Group
from medrec.models._base import NeuralRecommender, Recommender
from medrec.precision import Precision, mixed
from medrec.predictions import Predictions

Members = Int64[np.ndarray, " members"]


def predict(
    model: Recommender,
    cohort: Cohort,
    resident: ResidentCohort,
    members: Members,
    level: float,
    *,
    precision: Precision = "float32",
    group: Group = ALONE,
) -> Predictions:
    """Returns the model's answer for every visit of these patients, patients ascending.

    The workers of a group share out the batches. Each batch is what it is for one worker, so the
    answers are the same to the bit.

    Args:
        model: a trained model; on every worker with the same weights.
        cohort: the cohort.
        resident: the same, on the model's device.
        members: patients.
        level: score from which a drug is recommended.
        precision: of a neural model's forward pass.
        group: the workers; each gets all answers.
    """
    device = resident.visits.device
    context: AbstractContextManager[None] = nullcontext()
    if isinstance(model, NeuralRecommender):
        model.eval()
        context = mixed(precision, device)
    patients = np.sort(members)
    visits = cohort.visits[patients]
    first = visits.cumsum() - visits
    rows = cohort.visits_of(patients)
    answers = torch.zeros(2, len(rows), cohort.drugs)  # scores, and what is chosen
    batches = list(evaluation_batches(members, cohort.visits[members]))
    with torch.inference_mode():
        for some in batches[group.rank :: group.workers]:
            batch = resident.gather(some.to(device))
            with context:
                answer = model.predict(batch, level)
            exists = batch.visit_mask
            begin = torch.from_numpy(first[np.searchsorted(patients, some.numpy())])
            places = (begin[:, None] + torch.arange(exists.shape[1]))[exists.cpu()]
            answers[0, places] = answer.scores[exists].float().cpu()
            answers[1, places] = answer.chosen[exists].float().cpu()
    scores, chosen = group.sum(answers).numpy()
    truth = resident.medications[torch.from_numpy(rows).to(device)]
    return Predictions(
        patient=np.repeat(patients, visits).astype(np.int32),
        visit=(np.arange(len(rows)) - np.repeat(first, visits)).astype(np.int16),
        truth=truth.cpu().numpy(),
        chosen=chosen > 0,
        scores=scores,
    )
