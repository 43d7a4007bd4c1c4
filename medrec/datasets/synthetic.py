"""Synthetic patients with real codes: a cohort for anyone without access to hospital data.

Diagnoses and procedures are ICD-9-CM (written `9:4280`), medications ATC level 3. What causes the
medications is known, because it is planted: current conditions, history, and avoidance of
interactions, each with a switch. So a test or an ablation can be checked against the truth. The
switches change medications only: patients, times, diagnoses and procedures stay as they are.

Sizes follow the MIMIC-III cohort of the literature, as the README of SafeDrug's code gives them
(6,350 patients, 15,032 visits; a visit has 10.51 diagnoses, 3.84 procedures, 11.65 medications).
No patient's data was used.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int64
from pydantic import Field

from medrec.cohort import Kind
from medrec.datasets._base import Dataset
from medrec.datasets._coding import draw_codes
from medrec.datasets._conditions import read_conditions, read_pools
from medrec.datasets._population import Population, draw_population
from medrec.datasets._prescriptions import Strengths, make_law, prescribe
from medrec.errors import InputError
from medrec.knowledge.tables import read_interactions
from medrec.records import CohortOptions, Records

_GROUPS = np.array(["A", "B", "C"], dtype=object)


class SyntheticOptions(CohortOptions):
    """Size, seed and planted effects."""

    dataset = "synthetic"

    patients: int = Field(default=1200, ge=12, le=200_000, description="number of patients")
    seed: int = Field(default=0, ge=0, description="seed of the patients and all their codes")
    current: float = Field(
        default=1.0,
        ge=0.0,
        le=1.0,
        description="how far the current conditions cause medications; 0: drugs by popularity",
    )
    history: float = Field(
        default=1.0,
        ge=0.0,
        le=1.0,
        description="how far earlier visits matter: drugs kept, conditions not coded today, own "
        "choice among alternatives",
    )
    avoidance: float = Field(
        default=0.7,
        ge=0.0,
        le=1.0,
        description="probability that a drug is withheld if it interacts with one already given",
    )


def load(source: Path | None, options: SyntheticOptions) -> Records:
    """Returns the synthetic records; equal options give equal records in every process.

    Raises:
        InputError: a source folder is given.
    """
    if source is not None:
        raise InputError(
            f"The synthetic data set is generated and needs no source, but one is given: {source}."
            f" Leave it out."
        )
    conditions = read_conditions()
    people, coding, keys, drugs = np.random.default_rng(options.seed).spawn(4)
    population = draw_population(options.patients, conditions, people)
    visit = _visit_keys(len(population.patient), keys)
    codes = draw_codes(population, conditions, read_pools(), visit, coding)
    strengths = Strengths(options.current, options.history, options.avoidance)
    law = make_law(conditions, read_interactions("embedded"), strengths)
    given = prescribe(law, population, drugs)
    codes["medications"] = _medications(given, law.drugs, visit)
    return _records(population, visit, codes)


def _visit_keys(visits: int, rng: np.random.Generator) -> Int64[np.ndarray, " visits"]:
    """Returns visit keys in random order, as hospitals' admission numbers are."""
    return 100_000 + rng.permutation(visits)


def _medications(
    given: Bool[np.ndarray, "drugs visits"],
    drugs: tuple[str, ...],
    visit: Int64[np.ndarray, " visits"],
) -> pd.DataFrame:
    row, drug = np.nonzero(given.T)
    return pd.DataFrame({"visit": visit[row], "code": np.array(drugs, dtype=object)[drug]})


def _records(
    population: Population, visit: Int64[np.ndarray, " visits"], codes: dict[Kind, pd.DataFrame]
) -> Records:
    patients = pd.DataFrame(
        {
            "patient": np.arange(len(population.visits)),
            "gender": np.where(population.female, "F", "M"),
            "group": _GROUPS[population.group],
        }
    )
    first = np.cumsum(population.visits) - population.visits
    years = (population.admitted - population.admitted[first][population.patient]) // 365.25
    visits = pd.DataFrame(
        {
            "visit": visit,
            "patient": population.patient,
            "admitted": population.admitted,
            "order": population.admitted,
            "age": np.minimum(population.age[population.patient] + years.astype(np.int64), 120),
            "service": "unknown",
        }
    )
    return Records(patients=patients, visits=visits, codes=codes)


DATASET = Dataset(
    title="generated patients with real ICD-9-CM and ATC codes and planted, switchable effects",
    options=SyntheticOptions,
    load=load,
    needs_source=False,
)
