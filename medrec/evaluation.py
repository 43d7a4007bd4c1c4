"""From predictions to sufficient statistics per patient, and from those to numbers.

estimate(metric) = Σ_p w_p · numerator_p / Σ_p w_p · denominator_p

with w_p = 1 for the plain estimate and a resampling weight for an interval. For a metric averaged
over patients the numerator is the patient's mean and the denominator 1; for a pooled metric both
are the patient's sums.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64

from medrec import plugins
from medrec.metrics._base import Metric, Terms
from medrec.predictions import Predictions


@dataclass(frozen=True)
class PatientTerms:
    """One metric's sufficient statistics; a patient with denominator 0 contributes nothing."""

    patients: Int32[np.ndarray, " patients"]
    numerator: Float64[np.ndarray, " patients"]
    denominator: Float64[np.ndarray, " patients"]


def metrics() -> dict[str, Metric]:
    """Returns every metric by name."""
    return plugins.load_all("medrec.metrics", "METRIC")


def patient_terms(
    metric: Metric, predictions: Predictions, interacts: Bool[np.ndarray, "drugs drugs"]
) -> PatientTerms:
    """Returns the metric's numerator and denominator for each patient, patients in order."""
    patients, row = np.unique(predictions.patient, return_inverse=True)
    terms = metric.terms(predictions, interacts)
    return PatientTerms(patients, *summed_by_patient(metric, terms, row, len(patients)))


def summed_by_patient(
    metric: Metric, terms: Terms, row: Int64[np.ndarray, " visits"], patients: int
) -> tuple[Float64[np.ndarray, " patients"], Float64[np.ndarray, " patients"]]:
    """Returns each patient's numerator and denominator from those of the visits.

    Args:
        metric: whose terms they are.
        terms: numerators and denominators of some visits.
        row: position of each visit's patient.
        patients: how many there are.
    """
    # Of no visits at all, bincount returns integers.
    numerator = np.bincount(row, terms[0], minlength=patients).astype(np.float64)
    denominator = np.bincount(row, terms[1], minlength=patients).astype(np.float64)
    if not metric.pooled:
        defined = denominator > 0
        numerator = np.where(defined, numerator / np.where(defined, denominator, 1.0), 0.0)
        denominator = defined.astype(np.float64)
    return numerator, denominator


def ratio(numerator: float, denominator: float) -> float:
    """Returns numerator / denominator, and 0 for an empty sum (no pairs, no patients)."""
    return float(numerator / denominator) if denominator else 0.0


def evaluate(
    predictions: Predictions, interacts: Bool[np.ndarray, "drugs drugs"]
) -> dict[str, float]:
    """Returns every metric of the predictions by name."""
    values = {}
    for name, metric in metrics().items():
        terms = patient_terms(metric, predictions, interacts)
        values[name] = ratio(terms.numerator.sum(), terms.denominator.sum())
    return values
