"""Synthetic patients with real codes: a cohort for anyone without access to hospital data.

Diagnoses and procedures are ICD-9-CM (written `9:4280`), medications ATC level 3. What causes the
medications is known, because it is planted: current conditions, history, and avoidance of
interactions, each with a switch; and, off unless asked for, blocks of the ICD tree, relations
between codes, courses of drugs, and reactions to interacting drugs. So a test or an ablation can
be checked against the truth. The switches change medications only: patients, times, diagnoses and
procedures stay as they are. (Two are no causes: `rare_codes` adds diagnoses and `traded_names`
renames codes.)

Sizes follow the MIMIC-III cohort of the literature, as the README of SafeDrug's code gives them
(6,350 patients, 15,032 visits; a visit has 10.51 diagnoses, 3.84 procedures, 11.65 medications).
No patient's data was used.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int64, Shaped
from pydantic import Field

from medrec.cohort import Kind
from medrec.datasets._base import Dataset
from medrec.datasets._coding import draw_codes
from medrec.datasets._conditions import read_conditions, read_pools
from medrec.datasets._effects import Planted, Visits, make_effects
from medrec.datasets._population import Population, draw_population
from medrec.datasets._prescriptions import Strengths, make_law, prescribe
from medrec.datasets._rare_codes import with_rare_codes
from medrec.datasets._services import SERVICES, services
from medrec.datasets._traded_names import with_traded_names
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
    traded_names: bool = Field(
        default=False,
        description="diagnoses and procedures trade names, so that the ICD tree says nothing "
        "about current conditions",
    )
    rare_codes: float = Field(
        default=0.0,
        ge=0.0,
        le=10.0,
        description="mean number of additional rare diagnoses of a visit, drawn at random",
    )
    ontology: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        description="probability that a rare diagnosis causes the drug of its block of the ICD "
        "tree (invented)",
    )
    relations: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        description="probability that two related codes of a visit cause the drug of their "
        "relation (invented)",
    )
    courses: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        description="probability that the visit after one with the first drug of a course has its "
        "next drug (invented)",
    )
    reactions: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        description="probability that the visit after interacting drugs has the drugs of an "
        "adverse reaction (invented)",
    )
    service: tuple[str, ...] = Field(
        default=(),
        description="keep stays that a service of these codes cared for, e.g. CMED,CSURG; "
        "default all",
    )


def load(source: Path | None, options: SyntheticOptions) -> Records:
    """Returns the synthetic records; equal options give equal records in every process.

    Raises:
        InputError: a source folder is given, or `service` names one that there is not.
    """
    if source is not None:
        raise InputError(
            f"The synthetic data set is generated and needs no source, but one is given: {source}."
            f" Leave it out."
        )
    conditions = read_conditions()
    root = np.random.default_rng(options.seed)
    people, coding, keys, drugs = root.spawn(4)
    rare, *streams = root.spawn(5)
    population = draw_population(options.patients, conditions, people)
    visit = _visit_keys(len(population.patient), keys)
    codes = draw_codes(population, conditions, read_pools(), visit, coding)
    if options.traded_names:
        codes = with_traded_names(codes)
    codes["diagnoses"] = with_rare_codes(codes["diagnoses"], visit, options.rare_codes, rare)
    strengths = Strengths(options.current, options.history, options.avoidance)
    law = make_law(conditions, read_interactions("embedded"), strengths)
    planted = Planted(options.ontology, options.relations, options.courses, options.reactions)
    effects = make_effects(law, Visits(visit, codes), planted, tuple(streams))
    given = prescribe(law, population, drugs, effects)
    codes["medications"] = _medications(given, law.drugs, visit)
    service = services(population, conditions)
    return _of_services(_records(population, visit, service, codes), options.service)


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
    population: Population,
    visit: Int64[np.ndarray, " visits"],
    service: Shaped[np.ndarray, " visits"],
    codes: dict[Kind, pd.DataFrame],
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
            "service": service,
        }
    )
    return Records(patients=patients, visits=visits, codes=codes)


def _of_services(records: Records, service: tuple[str, ...]) -> Records:
    """Returns the visits of these services, or all if none is named."""
    wanted = {name.upper() for name in service}
    if not wanted:
        return records
    unknown = sorted(wanted - set(SERVICES))
    if unknown:
        raise InputError(
            f"No synthetic visit has the service {unknown[0]!r} of `service`; there are "
            f"{', '.join(SERVICES)}."
        )
    of_them = records.visits["service"].isin(wanted)
    return replace(
        records,
        visits=records.visits[of_them].reset_index(drop=True),
        dropped={"admissions of other services": int((~of_them).sum())},
    )


DATASET = Dataset(
    title="generated patients with real ICD-9-CM and ATC codes and planted, switchable effects",
    options=SyntheticOptions,
    load=load,
    needs_source=False,
)
