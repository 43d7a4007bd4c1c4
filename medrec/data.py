"""What training may see of a cohort: patients on a device, and which of them are for what."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from medrec import splits
from medrec.batching import ResidentCohort, training_batches
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

    def batches(
        self, batch_size: int, generator: np.random.Generator
    ) -> Iterator[Int64[Tensor, " batch"]]:
        """Yields each training patient once, in random batches.

        Visits are padded to the longest history of a batch, so histories of a batch are of
        similar length. Records are read without padding, and mixed: whether a record ends is
        learned from few tokens, and batches of short records alone would teach it in turns.
        """
        mixed = isinstance(self.resident, ResidentRecords)
        order = np.zeros_like(self.sizes) if mixed else self.sizes
        return training_batches(self.train, order[self.train], batch_size, generator)

    def weight(self, patients: Int64[np.ndarray, " batch"]) -> float:
        """Returns what a batch's mean loss counts: its tokens over those of a batch so large.

        Then every token counts the same, and short records do not count more. Recommenders'
        batches count 1 each.
        """
        if not isinstance(self.resident, ResidentRecords):
            return 1.0
        return float(self.sizes[patients].mean() / self.sizes[self.train].mean())


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
