"""What training may see of a cohort: patients on a device, and which of them are for what."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64

from medrec import splits
from medrec.batching import ResidentCohort
from medrec.cohort import Cohort
from medrec.generation._base import NeuralGenerator
from medrec.generation._histories import histories
from medrec.generation._records import ResidentRecords
from medrec.knowledge.base import Knowledge


@dataclass(frozen=True)
class Data:
    """The cohort on a device and two sets of patients.

    Attributes:
        cohort: the cohort.
        resident: the same on the device: visits for recommenders, records for generators.
        knowledge: what models are told besides.
        train: patients to train on.
        validation: patients that choose the epoch.
    """

    cohort: Cohort
    resident: ResidentCohort | ResidentRecords
    knowledge: Knowledge
    train: Int64[np.ndarray, " train"]
    validation: Int64[np.ndarray, " validation"]

    @property
    def sizes(self) -> Int64[np.ndarray, " patients"]:
        """What each patient counts in a mean loss: visits, or tokens of the record."""
        if isinstance(self.resident, ResidentRecords):
            return self.resident.lengths
        return self.cohort.visits


def data_for(
    model: object, cohort: Cohort, knowledge: Knowledge, device: torch.device | str
) -> Data:
    """Returns the cohort in the form that a model is trained on.

    Args:
        model: a recommender, a generator or a builder of hierarchies.
        cohort: whose training and validation patients are told; the test split is not named.
        knowledge: for it.
        device: where batches are gathered.
    """
    resident: ResidentCohort | ResidentRecords
    if isinstance(model, NeuralGenerator):
        everyone = histories(cohort, np.arange(cohort.patients))
        resident = ResidentRecords(everyone, model.tokens, model.context, device)
    else:
        resident = ResidentCohort(cohort, device)
    train, validation = cohort.members(splits.TRAIN), cohort.members(splits.VALIDATION)
    return Data(cohort, resident, knowledge, train, validation)
