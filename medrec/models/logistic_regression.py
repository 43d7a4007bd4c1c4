"""Logistic regression on the current visit's codes, one per drug (scikit-learn).

Source: the LR baseline of GAMENet and SafeDrug (LR.py): L2, C = 1, lbfgs, 100 iterations.
Their split and visit-level averages are not taken over: the one protocol holds for every model.
"""

import warnings

import numpy as np
import torch
from jaxtyping import Float64, Int64
from pydantic import Field
from scipy import sparse
from torch import Tensor

from medrec.batching import Batch
from medrec.cohort import Cohort
from medrec.knowledge.base import Knowledge
from medrec.models._base import FittedRecommender, Model, Prediction
from medrec.spec import ModelConfig
from medrec.visit_features import codes_of, visit_features


class LogisticRegressionConfig(ModelConfig):
    """Settings of scikit-learn's estimator."""

    inverse_regularisation: float = Field(
        default=1.0, gt=0, description="C of scikit-learn; SafeDrug LR.py keeps its default"
    )
    iterations: int = Field(default=100, ge=1, description="at most, of lbfgs")


class LogisticRegression(FittedRecommender):
    """Multi-hot diagnoses and procedures of the visit to one probability a drug; no history."""

    def __init__(self, config: LogisticRegressionConfig, knowledge: Knowledge) -> None:
        self.config = config
        self.diagnoses = knowledge.diagnoses
        features = knowledge.diagnoses + knowledge.procedures
        # Row `features` stands for padding codes and stays 0.
        self.weights = torch.zeros(features + 1, knowledge.drugs)
        self.intercept = torch.zeros(knowledge.drugs)

    def fit(self, cohort: Cohort, patients: Int64[np.ndarray, " members"]) -> None:
        """Fits each drug by itself; a drug given always or never gets a constant."""
        rows = cohort.visits_of(patients)
        features = visit_features(cohort.codes, cohort.vocabulary)[rows]
        target = cohort.codes["medications"].multi_hot(cohort.drugs)[rows]
        for drug in range(cohort.drugs):
            weights, intercept = self._fit_drug(features, target[:, drug])
            self.weights[:-1, drug] = torch.from_numpy(weights).float()
            self.intercept[drug] = intercept

    def _fit_drug(
        self, features: sparse.csr_matrix, target: np.ndarray
    ) -> tuple[Float64[np.ndarray, " features"], float]:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression as Estimator

        if target.all() or not target.any():
            return np.zeros(features.shape[1]), 30.0 if target.all() else -30.0
        estimator = Estimator(
            C=self.config.inverse_regularisation, max_iter=self.config.iterations
        )
        with warnings.catch_warnings():
            # The published baseline stops at 100 iterations too, converged or not.
            warnings.simplefilter("ignore", ConvergenceWarning)
            estimator.fit(features, target)
        return estimator.coef_[0], float(estimator.intercept_[0])

    def predict(self, batch: Batch, threshold: float) -> Prediction:
        """Returns probabilities from the codes of each visit alone."""
        codes = codes_of(batch, self.diagnoses, len(self.weights) - 1)
        logits = self.weights[codes].sum(dim=2) + self.intercept
        scores = torch.sigmoid(logits)
        return Prediction(scores, scores >= threshold)

    def tensors(self) -> dict[str, Tensor]:
        """Returns weights and intercepts."""
        return {"weights": self.weights, "intercept": self.intercept}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Takes back weights and intercepts."""
        self.weights, self.intercept = tensors["weights"], tensors["intercept"]


MODEL = Model(
    title="LR",
    source="LR.py of SafeDrug (88ce5c3)",
    config=LogisticRegressionConfig,
    build=LogisticRegression,
    seeded=False,
)
