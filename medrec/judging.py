"""What the test split says of a trained model; read once, after validation has chosen.

A recommender answers every test visit. A generator draws patients, as many as its settings say
(by default as the training patients), which are compared with the test patients: likelihood,
fidelity, utility, privacy. A builder of hierarchies is measured on codes whose parents it was not
told.
"""

import time
from dataclasses import dataclass

import numpy as np

from medrec import plugins, splits
from medrec.batching import ResidentCohort
from medrec.data import Data
from medrec.generation._base import FittedGenerator, Generator, GeneratorConfig, NeuralGenerator
from medrec.generation._fidelity import fidelity
from medrec.generation._histories import Histories, histories
from medrec.generation._privacy import privacy
from medrec.generation._utility import utility
from medrec.hierarchy._base import HierarchyBuilder
from medrec.measures import Measured
from medrec.predicting import predict
from medrec.predictions import Predictions
from medrec.spec import TrialSpec
from medrec.training import derived_seed
from medrec.validation import Trained, log_likelihood

_DRAWING, _ATTACK, _UTILITY = 4, 5, 6  # streams of the trial's seed


@dataclass(frozen=True)
class Judged:
    """What was found, and the seconds that drawing patients took, if any were drawn."""

    found: Predictions | Measured
    drawing: float | None = None


def judge(model: Trained, data: Data, spec: TrialSpec) -> Judged:
    """Returns what the test split says of a trained model."""
    if isinstance(model, HierarchyBuilder):
        return Judged(model.measured())
    if isinstance(model, NeuralGenerator | FittedGenerator):
        return _of_generator(model, data, spec)
    assert isinstance(data.resident, ResidentCohort)  # noqa: S101  as `data_for` makes it
    answers = predict(
        model,
        data.cohort,
        data.resident,
        data.cohort.members(splits.TEST),
        spec.protocol.threshold,
        precision=spec.training.precision,
    )
    return Judged(answers)


def drawn(model: Generator, spec: TrialSpec, patients: int) -> Histories:
    """Returns the patients that a trial's generator draws; they follow from the trial's seed."""
    settings: GeneratorConfig = plugins.load_model(spec.model).config(**spec.config)
    seed = derived_seed(spec.seed, _DRAWING)
    return model.draw(patients, seed, settings.temperature, settings.top_k)


def _of_generator(model: Generator, data: Data, spec: TrialSpec) -> Judged:
    cohort = data.cohort
    test = cohort.members(splits.TEST)
    real, known = histories(cohort, test), histories(cohort, data.train)
    sizes = {kind: len(names) for kind, names in cohort.vocabulary.items()}
    settings: GeneratorConfig = plugins.load_model(spec.model).config(**spec.config)
    started = time.perf_counter()
    generated = drawn(model, spec, settings.drawn or len(data.train))
    seconds = time.perf_counter() - started
    likelihood, visits = log_likelihood(model, data, spec, test)
    terms = {"log_likelihood": (likelihood, visits.astype(np.float64))}
    left_out = float(cohort.visits[test].sum() - visits.sum())
    facts = {"drawn_patients": float(len(generated.visits)), "visits_beyond_context": left_out}
    parts = (
        fidelity(real, generated, sizes),
        privacy(known, real, generated, sizes, derived_seed(spec.seed, _ATTACK)),
        utility(cohort, data.knowledge, generated, derived_seed(spec.seed, _UTILITY)),
    )
    for found, told in parts:
        terms |= found
        facts |= told
    measured = Measured(test.astype(np.int32), terms, facts)
    return Judged(measured, seconds)
