"""kNN: what the most similar training visits were prescribed, and the patient's previous drugs.

Source: a re-analysis of published models on transitions between visits (2026), in which k nearest
neighbours "with previous prescription" at a weight of 0.2 beat nearly all networks. It does not
print the combination; here a score is

    (1 - weight) * mean prescription of the neighbours, by similarity + weight * (drug was given
    at the patient's previous visit)

and the neighbours' part alone at a first visit. The set is the drugs of highest score, as many as
the scores sum to: the mean number of drugs of the neighbours and of the previous visit, in the
same mixture. On the validation split of synthetic cohorts that is better than scores from 0.5 or
from 0.3 on (Jaccard 0.39, 0.31 and 0.38): a mean over neighbours seldom reaches a half.

Neighbours are visits of training patients, so
that a test patient's own visits are never among them; a training patient would find his own.
Nothing is learned: training visits are looked up in the cohort, and are in no checkpoint.
"""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from pydantic import Field
from torch import Tensor

from medrec.batching import Batch
from medrec.cohort import Cohort
from medrec.knowledge.base import Knowledge
from medrec.models._base import FittedRecommender, Model, Prediction
from medrec.spec import ModelConfig
from medrec.visit_features import codes_of, sparse_rows, visit_features

_CHUNK = 128  # visits answered at once: with 10,000 training visits 5 MB a matrix
_STEPS = 2**16  # of a score, as sets see it: rounding errors of a mean do not break ties


class KnnConfig(ModelConfig):
    """Settings of the neighbourhood and of what the previous visit adds."""

    neighbours: int = Field(
        default=50,
        ge=1,
        description="training visits that answer, and those as near as the last of them; chosen "
        "on the validation split of a synthetic cohort, none is published",
    )
    similarity: Literal["cosine", "jaccard"] = Field(
        default="jaccard",
        description="of the visits' sets of diagnoses and procedures; chosen likewise",
    )
    weighted: bool = Field(
        default=True, description="whether nearer neighbours count more, by their similarity"
    )
    weight_of_previous: float = Field(
        default=0.2, ge=0, le=1, description="of the previous visit's drugs; re-analysis of 2026"
    )


class Knn(FittedRecommender):
    """Neighbours of the current visit's codes among the training visits.

    Visits with no code in common are no neighbours. A visit without any gets the training
    frequencies instead.
    """

    def __init__(self, config: KnnConfig, knowledge: Knowledge) -> None:
        visits = knowledge.training_visits
        features = visit_features(visits, knowledge.vocabulary)
        self.config = config
        self.diagnoses, self.features = knowledge.diagnoses, features.shape[1]
        self.codes = sparse_rows(features)
        self.sizes = torch.from_numpy(np.diff(features.indptr)).float()
        hot = visits["medications"].multi_hot(knowledge.drugs)
        self.medications = torch.from_numpy(hot).float()
        self.frequency = self.medications.mean(dim=0)

    def fit(self, cohort: Cohort, patients: Int64[np.ndarray, " members"]) -> None:
        """Learns nothing."""

    def predict(self, batch: Batch, threshold: float) -> Prediction:
        """Returns the neighbours' drugs, mixed with the previous visit's.

        The threshold does not apply.
        """
        exists = batch.visit_mask
        codes = codes_of(batch, self.diagnoses, self.features)[exists]
        found = torch.zeros_like(batch.medications)
        found[exists] = torch.cat([self._answer(chunk) for chunk in codes.split(_CHUNK)])
        weight = torch.full((exists.shape[1], 1), self.config.weight_of_previous)
        weight[0] = 0.0
        scores = torch.lerp(found, batch.previous, weight)
        return Prediction(scores, expected_set(scores))

    def _answer(self, codes: Int64[Tensor, "some codes"]) -> Float[Tensor, "some drugs"]:
        """Returns the mean prescription of each visit's neighbours."""
        similarity = self._similarity(codes)
        count = min(self.config.neighbours, len(self.sizes))
        # Who is as near as the last neighbour counts too: the order of visits decides nothing.
        last = similarity.topk(count, dim=1).values[:, -1:]
        near = (similarity >= last) & (similarity > 0)
        weights = similarity.mul_(near) if self.config.weighted else near.float()
        total = weights.sum(dim=1, keepdim=True)
        mean = weights @ self.medications / total
        return torch.where(total > 0, mean, self.frequency).clamp(max=1.0)

    def _similarity(self, codes: Int64[Tensor, "some codes"]) -> Float[Tensor, "some visits"]:
        """Returns the similarity of visits to each training visit, in [0, 1]."""
        hot = torch.zeros(self.features + 1, len(codes))
        hot.scatter_(0, codes.T, 1.0)
        hot = hot[:-1]  # padding codes
        common = self.codes.times(hot).T.contiguous()
        own = hot.sum(dim=0)[:, None]
        if self.config.similarity == "cosine":
            return common.div_((own * self.sizes).sqrt_().clamp_(min=1.0))
        return common.div_((own + self.sizes - common).clamp_(min=1.0))

    def tensors(self) -> dict[str, Tensor]:
        """Returns nothing: training visits do not leave the cohort."""
        return {}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Takes back nothing."""


def expected_set(scores: Float[Tensor, "*visits drugs"]) -> Bool[Tensor, "*visits drugs"]:
    """Returns the drugs of highest score, as many as the scores sum to.

    Of equal scores the lower number wins.

    Example:
        >>> expected_set(torch.tensor([0.25, 0.5, 0.5, 0.25, 0.0])).nonzero()[:, 0].tolist()
        [1, 2]
    """
    steps = (scores * _STEPS).round()
    size = (steps.sum(dim=-1, keepdim=True) / _STEPS).round()
    best = steps.argsort(dim=-1, descending=True, stable=True)
    within = torch.arange(scores.shape[-1]).expand_as(best) < size
    return torch.zeros_like(within).scatter(-1, best, within)


MODEL = Model(
    title="kNN",
    source="control; after a re-analysis of 2026, combination with the previous visit ours",
    config=KnnConfig,
    build=Knn,
    seeded=False,
)
