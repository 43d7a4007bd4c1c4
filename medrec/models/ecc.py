"""ECC: an ensemble of classifier chains on the current visit's codes.

Source: Read et al., ECML PKDD 2009; the baseline ECC.py of SafeDrug: ten chains in scikit-learn's
random orders 0 to 9, of logistic regressions with L2, C = 1.

In a chain each drug is regressed on the visit's codes and on the drugs that come before it in the
chain's order: the true ones as it is fitted, its own answers (0 or 1) as it predicts. With the
true ones given no regression of a chain waits for another, so that a chain is one linear layer,
logits = x W + y U with U strictly upper triangular in the chain's order, and all its drugs are
solved together.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from pydantic import Field
from scipy import sparse
from torch import Tensor
from torch.nn.functional import embedding_bag

from medrec.batching import Batch
from medrec.cohort import Cohort
from medrec.knowledge.base import Knowledge
from medrec.logistic import solve
from medrec.models._base import FittedRecommender, Model, Prediction
from medrec.spec import ModelConfig
from medrec.visit_features import codes_of, sparse_rows, visit_features

_CERTAIN = 30.0  # logit of a drug that training visits have always, or never


class EccConfig(ModelConfig):
    """Settings of the chains and of their regressions."""

    chains: int = Field(
        default=10, ge=1, description="orders, drawn with random states 0, 1, ...; SafeDrug ECC.py"
    )
    inverse_regularisation: float = Field(
        default=1.0, gt=0, description="C of scikit-learn; SafeDrug ECC.py keeps its default"
    )
    iterations: int = Field(
        default=50,
        ge=1,
        description="Newton steps of a chain at most; ten or so do",
    )


class Ecc(FittedRecommender):
    """Multi-hot diagnoses and procedures of the visit to drugs that know of one another.

    A score is the mean of the chains' probabilities; a drug is chosen where at least half of the
    chains choose it, each at 0.5, whatever the threshold.
    """

    def __init__(self, config: EccConfig, knowledge: Knowledge) -> None:
        self.config = config
        self.diagnoses = knowledge.diagnoses
        features = knowledge.diagnoses + knowledge.procedures
        chains, drugs = config.chains, knowledge.drugs
        # Row `features` stands for padding codes and stays 0.
        self.weights = torch.zeros(features + 1, chains, drugs)
        self.intercept = torch.zeros(chains, drugs)
        self.links = torch.zeros(chains, drugs, drugs)  # from an earlier drug, its row, to a later
        self.order = torch.arange(drugs).repeat(chains, 1)

    def fit(self, cohort: Cohort, patients: Int64[np.ndarray, " members"]) -> None:
        """Fits each chain by itself; a drug given always or never gets a constant, outside it."""
        rows = cohort.visits_of(patients)
        codes = visit_features(cohort.codes, cohort.vocabulary)[rows]
        target = cohort.codes["medications"].multi_hot(cohort.drugs)[rows]
        always, varies = target.all(axis=0), target.any(axis=0) & ~target.all(axis=0)
        self.intercept[:] = torch.from_numpy(np.where(always, _CERTAIN, -_CERTAIN))
        kept, constant = np.flatnonzero(varies), np.flatnonzero(~varies)
        target = target[:, kept]
        told = sparse_rows(sparse.hstack([codes, sparse.csr_matrix(target)], format="csr"))
        drugs = torch.from_numpy(kept)
        for chain in range(self.config.chains):
            order = chain_order(chain, len(kept))
            self.order[chain] = torch.from_numpy(np.concatenate([kept[order], constant]))
            earlier = torch.from_numpy(_earlier(order))
            free = torch.ones(codes.shape[1], len(kept), dtype=torch.bool)
            found = solve(
                told,
                target,
                self.config.inverse_regularisation,
                self.config.iterations,
                allowed=torch.cat([free, earlier]),
            )
            weights, links, intercept = found.split([codes.shape[1], len(kept), 1])
            self.weights[:-1, chain, drugs] = weights
            self.links[chain, drugs[:, None], drugs] = links
            self.intercept[chain, drugs] = intercept[0]

    def predict(self, batch: Batch, threshold: float) -> Prediction:
        """Returns mean probabilities and what half of the chains choose.

        The threshold does not apply.
        """
        exists = batch.visit_mask
        codes = codes_of(batch, self.diagnoses, len(self.weights) - 1)[exists]
        base = embedding_bag(codes, self.weights.flatten(1), mode="sum")
        logits, given = self._follow(base.view(-1, *self.intercept.shape) + self.intercept)
        scores, chosen = torch.zeros(2, *batch.medications.shape)
        scores[exists] = torch.sigmoid(logits).mean(dim=0)
        chosen[exists] = (given.mean(dim=0) >= 0.5).float()
        return Prediction(scores, chosen > 0)

    def _follow(
        self, base: Float[Tensor, "visits chains drugs"]
    ) -> tuple[Float[Tensor, "chains visits drugs"], Float[Tensor, "chains visits drugs"]]:
        """Returns logits and answers of each chain, which asks for one drug after another."""
        # In the chain's order, and visits last: a step then reads whole rows.
        rows = self.order[:, :, None]
        logits = base.permute(1, 2, 0).take_along_dim(rows, dim=1)
        links = self.links.take_along_dim(rows, dim=1).take_along_dim(rows.mT, dim=2)
        given = torch.zeros_like(logits)
        for place in range(logits.shape[1]):
            column = links[:, None, :place, place]
            logits[:, place] += torch.bmm(column, given[:, :place])[:, 0]
            given[:, place] = logits[:, place] > 0
        back = self.order.argsort(dim=1)[:, :, None]
        return logits.take_along_dim(back, dim=1).mT, given.take_along_dim(back, dim=1).mT

    def tensors(self) -> dict[str, Tensor]:
        """Returns weights, intercepts, links between drugs, and the orders."""
        return {
            "weights": self.weights,
            "intercept": self.intercept,
            "links": self.links,
            "order": self.order,
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Takes back what `tensors` returned."""
        self.weights, self.intercept = tensors["weights"], tensors["intercept"]
        self.links, self.order = tensors["links"], tensors["order"]


def chain_order(chain: int, drugs: int) -> Int64[np.ndarray, " drugs"]:
    """Returns the order that scikit-learn's ClassifierChain draws with random state `chain`."""
    return np.random.RandomState(chain).permutation(drugs)


def _earlier(order: Int64[np.ndarray, " drugs"]) -> Bool[np.ndarray, "drugs drugs"]:
    """Returns whether a drug, the row, comes before another in an order."""
    place = np.argsort(order)
    return place[:, None] < place


MODEL = Model(
    title="ECC",
    source="Read et al., ECML PKDD 2009; as ECC.py of SafeDrug (88ce5c3); licence: none, written "
    "from the equations",
    config=EccConfig,
    build=Ecc,
    seeded=False,
)
