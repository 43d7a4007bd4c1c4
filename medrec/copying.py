"""Copying drugs from a patient's earlier visits.

A query (a step in writing a visit's drugs) attends to every drug of every earlier visit of its
patient. Histories differ a hundredfold in length, and the table of queries and drugs is quadratic
in it. So patients with histories of similar length, within a factor of two, are taken together:
padding then at most quadruples the table, whatever the batch.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import one_hot, pad

from medrec.code_transformer import Ragged, bias_of, take_rows
from medrec.layers import full_precision


@dataclass(frozen=True)
class _Similar:
    """Patients with histories of similar length."""

    queries: Int64[Tensor, "patients queries"]  # rows; one past the last where there is none
    places: Int64[Tensor, " rows"]  # of the queries that exist, in the table flattened
    items: Int64[Tensor, "patients items"]  # rows; one past the last where there is none
    bias: Float[Tensor, "patients queries items"]
    drugs: Float[Tensor, "patients items drugs"]  # one-hot; zero where there is no item


class Copies:
    """What each query of a batch may copy.

    Args:
        patient: of each visit, ascending.
        query_visit: visit of each query, ascending.
        item_visit: visit of each drug that was prescribed, ascending.
        item_drug: that drug.
        drugs: number of drug classes.
    """

    def __init__(
        self,
        patient: Int64[Tensor, " visits"],
        query_visit: Int64[Tensor, " queries"],
        item_visit: Int64[Tensor, " items"],
        item_drug: Int64[Tensor, " items"],
        drugs: int,
    ) -> None:
        visit = torch.arange(len(patient), device=patient.device)
        first = torch.searchsorted(patient, patient)  # visit of the patient
        # Items of a patient's earlier visits come first among the patient's items.
        earlier = torch.searchsorted(item_visit, visit) - torch.searchsorted(item_visit, first)
        reach = earlier[query_visit]
        self.found = reach > 0
        rows, owner = self.found.nonzero()[:, 0], patient[query_visit]
        item_owner = patient[item_visit]
        patients = int(patient[-1]) + 1 if len(patient) else 0
        query_counts = owner[rows].bincount(minlength=patients)
        item_counts = item_owner.bincount(minlength=patients)
        octave = item_counts.clamp(min=1).float().log2().long()
        octave = torch.where(query_counts > 0, octave, -1)
        reach = pad(reach, (0, 1))  # a query that does not exist reaches nothing
        item_drug = pad(item_drug, (0, 1), value=drugs)
        self._groups: list[_Similar] = []
        self._rows = [rows[:0]]
        for each in octave.unique().tolist():
            if each < 0:
                continue
            members = octave == each
            queries, items = Ragged(query_counts[members]), Ragged(item_counts[members])
            asking = rows[members[owner[rows]]]
            query_rows = pad(asking, (0, 1), value=len(owner))[queries.rows]
            held = members[item_owner].nonzero()[:, 0]
            item_rows = pad(held, (0, 1), value=len(item_owner))[items.rows]
            steps = torch.arange(item_rows.shape[1], device=patient.device)
            self._rows.append(asking)
            self._groups.append(
                _Similar(
                    queries=query_rows,
                    places=queries.places,
                    items=item_rows,
                    bias=bias_of(steps < reach[query_rows][..., None]),
                    drugs=one_hot(item_drug[item_rows], drugs + 1)[..., :drugs].float(),
                )
            )
        self._drugs = drugs

    def keys(self, items: Float[Tensor, "items dim"]) -> list[Tensor]:
        """Returns the vectors of all items as `read` takes them: transposed, by group."""
        return [take_rows(items, group.items).transpose(1, 2).float() for group in self._groups]

    def read(
        self,
        queries: Float[Tensor, "queries dim"],
        keys: list[Tensor],
    ) -> Float[Tensor, "queries drugs"]:
        """Returns how much of its attention each query pays to each drug, in float32.

        softmax over all earlier items of query · key, added up by drug. Zero where there is none:
        see `found`.
        """
        read = [queries.new_zeros(0, self._drugs, dtype=torch.float32)]
        with full_precision(queries.device):
            for group, key in zip(self._groups, keys, strict=True):
                scores = take_rows(queries.float(), group.queries) @ key + group.bias
                weights = torch.softmax(scores, dim=2)
                read.append((weights @ group.drugs).flatten(0, 1).index_select(0, group.places))
            out = read[0].new_zeros(len(queries), self._drugs)
            return out.index_copy(0, torch.cat(self._rows), torch.cat(read))
