"""What generated patients are worth for training: train on them, test on real patients.

TSTR (train on synthetic, test on real) stands beside TRTR (train on real, test on real), with the
same models, settings, number of patients, and real test patients:

  medications  logistic regression and nearest neighbours, models of this project with their
               defaults: Jaccard of a patient's visits, and recall of the drugs that are rarest
               in training. The regressions are solved to convergence (`medrec.logistic`), not
               broken off after 100 iterations.
  phenotypes   whether each of 25 groups of diagnoses (`_phenotypes`) is coded at the *next*
               visit; logistic regressions on the codes of a visit and of earlier ones: AUROC and
               average precision, means over phenotypes.

HiSGT (Zhou and Barbieri, arXiv 2502.20719) asks a BiLSTM for 25 CCS phenotypes of a record that
follow from codes of the same record, which a model reads off its input: every generator whose
codes are sound does well. Predicting the next visit needs courses of disease that are true.

Nothing is fitted to test patients: groups, rarity and weights come from training patients alone.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool

from medrec import splits
from medrec.batching import ResidentCohort, evaluation_batches
from medrec.cohort import KINDS, Cohort
from medrec.evaluation import metrics, patient_terms
from medrec.generation._histories import Histories, histories
from medrec.generation._measures import UTILITY
from medrec.generation._phenotypes import (
    Phenotypes,
    Transitions,
    fit,
    judged,
    phenotypes,
    transitions,
)
from medrec.generation._regressions import regressions
from medrec.knowledge.base import Knowledge
from medrec.measures import Terms, linearised
from medrec.models._base import FittedRecommender
from medrec.models.knn import Knn, KnnConfig
from medrec.models.logistic_regression import LogisticRegression, LogisticRegressionConfig
from medrec.predictions import Predictions
from medrec.spec import Protocol
from medrec.visit_features import visit_features

_RARE = 0.25  # quantile of training visits up to which a drug is rare


@dataclass(frozen=True)
class _Test:
    """What every fit is tested on, and what it takes from the cohort."""

    cohort: Cohort
    resident: ResidentCohort
    knowledge: Knowledge
    rare: Bool[np.ndarray, " drugs"]
    labels: Phenotypes
    transitions: Transitions

    @classmethod
    def of(cls, cohort: Cohort, knowledge: Knowledge) -> "_Test":
        training = histories(cohort, cohort.members(splits.TRAIN))
        test = histories(cohort, cohort.members(splits.TEST))
        vocabulary = cohort.vocabulary
        labels = phenotypes(vocabulary["diagnoses"], knowledge.bundle, training.codes["diagnoses"])
        visits = np.bincount(training.codes["medications"].values, minlength=cohort.drugs)
        return cls(
            cohort,
            ResidentCohort(cohort),
            knowledge,
            rare=visits <= np.quantile(visits, _RARE),
            labels=labels,
            transitions=transitions(test, vocabulary, labels),
        )


def utility(
    cohort: Cohort, knowledge: Knowledge, drawn: Histories, seed: int
) -> tuple[dict[str, Terms], dict[str, float]]:
    """Returns the terms of `_measures.UTILITY` and facts beside them.

    Generated and real patients that models are fitted to are equally many: the first generated
    ones, and, where fewer were generated than there are training patients, so many of these at
    random.

    Args:
        cohort: real patients.
        knowledge: of that cohort, whatever hierarchy is in use.
        drawn: generated patients.
        seed: of the choice among training patients.

    Returns:
        terms with a unit for each test patient, in the order of their rows; and numbers of
        patients and visits that models were fitted to, of phenotypes that count, whether these
        are CCS categories (1 or 0), and of rare drugs.
    """
    test = _Test.of(cohort, knowledge)
    training = cohort.members(splits.TRAIN)
    size = min(len(training), len(drawn.visits))
    chosen = np.sort(np.random.default_rng(seed).permutation(training)[:size])
    sources = {"tstr": _first(drawn, size), "trtr": histories(cohort, chosen)}
    terms: dict[str, Terms] = {}
    facts: dict[str, float] = {
        "utility_patients": float(size),
        "phenotypes_ccs": float(test.labels.ccs),
        "rare_drugs": float(test.rare.sum()),
    }
    for name, source in sources.items():
        found, counted = _of_phenotypes(source, test)
        found |= _of_drugs(source, test)
        terms |= {f"{name}_{measured}": each for measured, each in found.items()}
        facts[f"{name}_visits"] = float(source.visits.sum())
        facts["phenotypes"] = float(counted)
    return {name: terms[name] for name in UTILITY}, facts


def _first(drawn: Histories, patients: int) -> Histories:
    visits = drawn.visits[:patients]
    rows = np.arange(visits.sum())
    return Histories(visits, {kind: drawn.codes[kind].take(rows) for kind in KINDS})


def _of_drugs(source: Histories, test: _Test) -> dict[str, Terms]:
    knowledge = test.knowledge
    neighbours = Knn(KnnConfig(), replace(knowledge, training_visits=source.codes))
    answers = {
        "jaccard": _answers(_regression(source, knowledge), test),
        "knn_jaccard": _answers(neighbours, test),
    }
    found: dict[str, Terms] = {}
    for name, each in answers.items():
        jaccard = patient_terms(metrics()["jaccard"], each, knowledge.interacts)
        found[name] = jaccard.numerator, jaccard.denominator
    return {**found, "rare_recall": _recall(answers["jaccard"], test.rare)}


def _regression(source: Histories, knowledge: Knowledge) -> LogisticRegression:
    config = LogisticRegressionConfig()
    features = visit_features(source.codes, knowledge.vocabulary)
    target = source.codes["medications"].multi_hot(knowledge.drugs)
    weights = torch.from_numpy(regressions(features, target, config.inverse_regularisation))
    padding = torch.zeros(1, knowledge.drugs)
    model = LogisticRegression(config, knowledge)
    model.restore({"weights": torch.cat([weights[:-1], padding]), "intercept": weights[-1]})
    return model


def _answers(model: FittedRecommender, test: _Test) -> Predictions:
    """Returns the model's answers for every visit of the test patients, patients ascending."""
    cohort, members = test.cohort, test.cohort.members(splits.TEST)
    batches = list(evaluation_batches(members, cohort.visits[members]))
    answered = cohort.visits_of(torch.cat(batches).numpy())
    parts = []
    for some in batches:
        batch = test.resident.gather(some)
        answer = model.predict(batch, Protocol().threshold)
        parts.append([part[batch.visit_mask] for part in (answer.scores, answer.chosen)])
    order = np.argsort(answered)
    scores, chosen = (torch.cat(part).numpy()[order] for part in zip(*parts, strict=True))
    rows, patient = answered[order], np.repeat(members, cohort.visits[members])
    return Predictions(
        patient=patient.astype(np.int32),
        visit=(rows - cohort.offsets[patient]).astype(np.int16),
        truth=test.resident.medications.numpy()[rows],
        chosen=chosen,
        scores=scores,
    )


def _recall(predictions: Predictions, drugs: Bool[np.ndarray, " drugs"]) -> Terms:
    """Returns how many prescriptions of some drugs were recommended, of how many; by patient."""
    patients, row = np.unique(predictions.patient, return_inverse=True)
    given = predictions.truth[:, drugs]
    met = (given & predictions.chosen[:, drugs]).sum(axis=1)
    counts = (met, given.sum(axis=1))
    first, second = (np.bincount(row, n, len(patients)).astype(np.float64) for n in counts)
    return first, second


def _of_phenotypes(source: Histories, test: _Test) -> tuple[dict[str, Terms], int]:
    training = transitions(source, test.cohort.vocabulary, test.labels)
    patients = len(test.cohort.members(splits.TEST))
    area, precision, counted = judged(fit(training), test.transitions, patients)
    if not counted:
        nothing = np.zeros(patients)
        return {"auroc": (nothing, nothing), "ap": (nothing, nothing)}, 0
    return {"auroc": linearised(*area), "ap": linearised(*precision)}, counted
