"""Draws a cohort from what a generator's trial learned."""

from pathlib import Path

import numpy as np
import torch

from medrec import plugins, splits
from medrec.apply import (
    Learned,
    home_of,
    knowledge_of,
    need_training_cohort,
    restored,
)
from medrec.cohort import KINDS, Codes, Cohort, Provenance
from medrec.errors import CohortError, InputError
from medrec.generation._base import FittedGenerator, NeuralGenerator
from medrec.generation._cohorts import as_cohort
from medrec.spec import TASKS

_UNKNOWN = "unknown"
_APART = 90.0  # days between visits where nobody's are known


def draw_cohort(
    learned: Learned,
    patients: int,
    seed: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    trained_on: Cohort | None = None,
    cache: Path | None = None,
) -> Cohort:
    """Returns a cohort of generated patients, split at random.

    Args:
        learned: a generator.
        patients: how many.
        seed: the same seed draws the same patients.
        temperature: divides the logits; below 1 drawn patients are more alike.
        top_k: draw among so many likeliest tokens; None among all.
        trained_on: the cohort it was trained on: gender, group, age, service and the gaps between
            admissions are drawn from its training patients. Without it they are unknown, and
            visits 90 days apart.
        cache: folder for derived knowledge.

    Raises:
        InputError: it is no generator, or weights, knowledge or cohort are not the model's.
    """
    spec = learned.spec
    if TASKS[plugins.package_of(spec.model)] != "generation":
        raise InputError(
            f"{spec.model} draws no patients: it is no generator. `medsweep predict` applies a "
            "recommender."
        )
    torch.set_default_dtype(torch.float32)
    torch.set_num_threads(max(1, int(spec.resources.cpus)))
    home = home_of(learned, None, trained_on)
    source = home or _nobody(learned)
    model = restored(learned, knowledge_of(learned, home, source, cache))
    assert isinstance(model, NeuralGenerator | FittedGenerator)  # noqa: S101  of that task
    if isinstance(model, NeuralGenerator):
        model.eval()
    drawn = model.draw(patients, seed, temperature, top_k)
    options = {
        "generator": spec.model,
        "trial": spec.key,
        "seed": seed,
        "temperature": temperature,
        "top_k": top_k,
        "trained_on": spec.cohort.fingerprint,
    }
    return as_cohort(source, drawn, seed, options)


def _nobody(learned: Learned) -> Cohort:
    """Returns a cohort in the model's codes with one patient of whom nothing is known.

    Raises:
        CohortError: the model's codes were not all kept.
    """
    coding = learned.coding
    if coding is None:
        raise CohortError(need_training_cohort(learned, "its codes were not all kept"))
    empty = Codes(np.zeros(3, np.int32), np.zeros(0, np.int32))
    return Cohort(
        vocabulary=dict(coding.vocabulary),
        visits=np.array([2], np.int64),
        split=np.array([splits.TRAIN], np.int8),
        gender=np.zeros(1, np.int8),
        group=np.zeros(1, np.int8),
        admitted=np.array([0.0, _APART], np.float32),
        age=np.array([-1, -1], np.int16),
        service=np.zeros(2, np.int8),
        codes=dict.fromkeys(KINDS, empty),
        genders=(_UNKNOWN,),
        groups=(_UNKNOWN,),
        services=(_UNKNOWN,),
        provenance=Provenance(coding.dataset, {}),
    )
