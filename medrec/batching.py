"""Batches gathered by index from a cohort that stays whole on the device.

No DataLoader, no per-visit Python: a batch is a handful of gathers from flat tensors.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from medrec.cohort import Cohort, Kind
from medrec.demographics import AGE_BINS, age_bin


@dataclass(frozen=True)
class Batch:
    """Some patients and all their visits, padded at the end.

    Attributes:
        patients: rows of the cohort.
        visit_mask: visits that exist.
        diagnoses: codes of each visit; the padding code is the vocabulary's size.
        procedures: likewise.
        medications: what was prescribed, multi-hot, 0 in padding. The target; models may read
            it at earlier visits only.
        gender: index into the cohort's genders.
        group: index into the cohort's groups.
        age: bin of the age at each visit (`medrec.demographics.AGE_BINS`); their number where it
            is unknown, and in padding.
    """

    patients: Int64[Tensor, " patients"]
    visit_mask: Bool[Tensor, "patients visits"]
    diagnoses: Int64[Tensor, "patients visits diagnoses"]
    procedures: Int64[Tensor, "patients visits procedures"]
    medications: Float[Tensor, "patients visits drugs"]
    gender: Int64[Tensor, " patients"]
    group: Int64[Tensor, " patients"]
    age: Int64[Tensor, "patients visits"]

    @property
    def previous(self) -> Float[Tensor, "patients visits drugs"]:
        """Medications of the visit before; 0 at the first."""
        return torch.nn.functional.pad(self.medications, (0, 0, 1, 0))[:, :-1]


class ResidentCohort:
    """A cohort's codes as flat tensors on one device."""

    def __init__(self, cohort: Cohort, device: torch.device | str = "cpu") -> None:
        self.visits = torch.from_numpy(cohort.visits.copy()).to(device)
        self.offsets = torch.from_numpy(cohort.offsets[:-1].copy()).to(device)
        self.drugs = cohort.drugs
        self.medications = torch.from_numpy(
            cohort.codes["medications"].multi_hot(cohort.drugs)
        ).to(device)
        self._diagnoses = _FlatCodes(cohort, "diagnoses", device)
        self._procedures = _FlatCodes(cohort, "procedures", device)
        self._gender = torch.from_numpy(cohort.gender.astype(np.int64)).to(device)
        self._group = torch.from_numpy(cohort.group.astype(np.int64)).to(device)
        bins = age_bin(cohort.age)
        known = np.where(bins < 0, len(AGE_BINS), bins)
        self._age = torch.from_numpy(known).to(device)

    @property
    def device(self) -> torch.device:
        """Where the tensors lie."""
        return self.visits.device

    def gather(self, patients: Int64[Tensor, " patients"]) -> Batch:
        """Returns these patients' visits, padded to the longest history among them."""
        counts = self.visits[patients]
        steps = torch.arange(int(counts.max()), device=patients.device)
        mask = steps < counts[:, None]
        rows = torch.where(mask, self.offsets[patients][:, None] + steps, 0)
        return Batch(
            patients=patients,
            visit_mask=mask,
            diagnoses=self._diagnoses.gather(rows, mask),
            procedures=self._procedures.gather(rows, mask),
            medications=(self.medications[rows] & mask[..., None]).float(),
            gender=self._gender[patients],
            group=self._group[patients],
            age=torch.where(mask, self._age[rows], len(AGE_BINS)),
        )


class _FlatCodes:
    """One kind of code in compressed sparse row form, gathered into padded rows."""

    def __init__(self, cohort: Cohort, kind: Kind, device: torch.device | str) -> None:
        codes = cohort.codes[kind]
        self.pad = len(cohort.vocabulary[kind])
        # One padding code at the end keeps every index valid, even where there is no code at all.
        values = np.append(codes.values, self.pad).astype(np.int64)
        self.values = torch.from_numpy(values).to(device)
        self.starts = torch.from_numpy(codes.offsets[:-1].astype(np.int64)).to(device)
        self.counts = torch.from_numpy(codes.counts.astype(np.int64)).to(device)

    def gather(
        self,
        rows: Int64[Tensor, "patients visits"],
        mask: Bool[Tensor, "patients visits"],
    ) -> Int64[Tensor, "patients visits codes"]:
        counts = torch.where(mask, self.counts[rows], 0)
        steps = torch.arange(max(int(counts.max()), 1), device=rows.device)
        exists = steps < counts[..., None]
        index = torch.where(exists, self.starts[rows][..., None] + steps, len(self.values) - 1)
        return self.values[index]


def training_batches(
    patients: Int64[np.ndarray, " members"],
    visits: Int64[np.ndarray, " members"],
    batch_size: int,
    generator: np.random.Generator,
) -> Iterator[Int64[Tensor, " batch"]]:
    """Yields each patient once, in random batches of similar history length.

    Sorting a random permutation by length keeps the batches random among equals and wastes
    little padding: in MIMIC-III the mean history is 2.4 visits and the longest 29.
    """
    shuffled = generator.permutation(len(patients))
    ordered = shuffled[np.argsort(visits[shuffled], kind="stable")]
    starts = np.arange(0, len(ordered), batch_size)
    for start in generator.permutation(starts):
        yield torch.from_numpy(patients[ordered[start : start + batch_size]])


def evaluation_batches(
    patients: Int64[np.ndarray, " members"],
    visits: Int64[np.ndarray, " members"],
    batch_size: int = 256,
) -> Iterator[Int64[Tensor, " batch"]]:
    """Yields each patient once, shortest histories first."""
    ordered = patients[np.argsort(visits, kind="stable")]
    for start in range(0, len(ordered), batch_size):
        yield torch.from_numpy(ordered[start : start + batch_size])
