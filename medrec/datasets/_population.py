"""Who the synthetic patients are, when they come, and what they have at each visit.

A patient has latent normal burdens, one per organ system and one overall, so conditions of one
system come together. Chronic conditions start at a visit and stay; acute ones are drawn at every
visit. A chronic condition is *active* at every later visit, but only *recorded* at some of them:
what today's codes leave out, only the history tells.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from medrec.datasets._conditions import Condition

MOST_VISITS = 29  # as in the MIMIC-III cohort of the literature
_RECORDED = 0.68  # share of visits that code an active chronic condition
_ONSET = 0.08  # chance of a new chronic condition at a later visit, relative to the first
_ONE, _TWO = 0.15, 0.76  # cumulated shares of patients with one and with up to two visits
_OFFSET = -0.70  # makes up for the burdens, which raise the mean of a probability


@dataclass(frozen=True)
class Population:
    """Patients and visits; visits of a patient are adjacent and in order of time.

    Attributes:
        female: sex of each patient.
        age: years at the first visit, 18 to 89.
        group: index of a neutral label; related to nothing.
        visits: number of visits of each patient, 1 to 29.
        patient: of each visit.
        number: 0 for a patient's first visit, and so on.
        admitted: day of admission since some origin.
        active: conditions a patient has at a visit.
        recorded: those of them that the visit's codes show.
    """

    female: Bool[np.ndarray, " patients"]
    age: Int64[np.ndarray, " patients"]
    group: Int64[np.ndarray, " patients"]
    visits: Int64[np.ndarray, " patients"]
    patient: Int64[np.ndarray, " visits"]
    number: Int64[np.ndarray, " visits"]
    admitted: Float64[np.ndarray, " visits"]
    active: Bool[np.ndarray, "visits conditions"]
    recorded: Bool[np.ndarray, "visits conditions"]

    def rows(self, number: int) -> Int64[np.ndarray, " some"]:
        """Returns the visits of this number, in the order of their patients."""
        return np.flatnonzero(self.number == number)


def draw_population(
    patients: int,
    conditions: tuple[Condition, ...],
    rng: np.random.Generator,
    visits: int | None = None,
) -> Population:
    """Returns this many patients; `visits` fixes the number of visits of each."""
    female = rng.random(patients) < 0.44
    age = np.clip(np.rint(rng.normal(64, 16, patients)), 18, 89).astype(np.int64)
    group = np.searchsorted([0.6, 0.85], rng.random(patients))
    counts = _visit_counts(patients, rng) if visits is None else np.full(patients, visits)
    patient = np.repeat(np.arange(patients), counts)
    number = np.arange(len(patient)) - np.repeat(np.cumsum(counts) - counts, counts)
    odds = _log_odds(conditions, female, age, rng)
    active = _active(conditions, odds, patient, number, rng)
    chronic = np.array([c.chronic for c in conditions])
    shown = rng.random(active.shape, dtype=np.float32) < np.where(chronic, _RECORDED, 1.0)
    return Population(
        female=female,
        age=age,
        group=group,
        visits=counts,
        patient=patient,
        number=number,
        admitted=_admissions(counts, patient, rng),
        active=active,
        recorded=active & shown,
    )


def _visit_counts(patients: int, rng: np.random.Generator) -> Int64[np.ndarray, " patients"]:
    """Returns visits per patient: mostly two, and a long tail; 2.37 in the mean."""
    share = rng.random(patients)
    tail = 3 + np.floor(1.65 * rng.pareto(1.9, patients))
    counts = np.where(share < _ONE, 1, np.where(share < _TWO, 2, tail))
    return np.minimum(counts, MOST_VISITS).astype(np.int64)


def _admissions(
    counts: Int64[np.ndarray, " patients"],
    patient: Int64[np.ndarray, " visits"],
    rng: np.random.Generator,
) -> Float64[np.ndarray, " visits"]:
    """Returns admission days: a first day within ten years, gaps of 153 days in the median."""
    gaps = 3.0 + rng.lognormal(np.log(150.0), 1.2, len(patient))
    first = np.cumsum(counts) - counts
    gaps[first] = rng.uniform(0.0, 3650.0, len(counts))
    total = np.cumsum(gaps)
    return np.round(total - (total[first] - gaps[first])[patient], 2)


def _log_odds(
    conditions: tuple[Condition, ...],
    female: Bool[np.ndarray, " patients"],
    age: Int64[np.ndarray, " patients"],
    rng: np.random.Generator,
) -> Float32[np.ndarray, "patients conditions"]:
    """Returns each patient's log-odds of each condition, before anything about the visit."""
    prevalence = np.clip([c.prevalence for c in conditions], 0.0, 1.0 - 1e-9)
    names = sorted({c.system for c in conditions})
    system = np.array([names.index(c.system) for c in conditions])
    slope = np.array([c.age for c in conditions])
    lean = np.array([{"F": 0.5, "M": -0.5, "": 0.0}[c.sex] for c in conditions])
    burden = rng.normal(0.0, 0.8, (len(age), len(names)))
    overall = rng.normal(0.0, 0.45, (len(age), 1))
    odds = np.log(prevalence / (1.0 - prevalence)) + _OFFSET + burden[:, system] + overall
    odds += np.outer((age - 64) / 15.0, slope) + np.outer(np.where(female, 1.0, -1.0), lean)
    return odds.astype(np.float32)


def _active(
    conditions: tuple[Condition, ...],
    odds: Float32[np.ndarray, "patients conditions"],
    patient: Int64[np.ndarray, " visits"],
    number: Int64[np.ndarray, " visits"],
    rng: np.random.Generator,
) -> Bool[np.ndarray, "visits conditions"]:
    """Returns what each visit's patient has: chronic conditions stay, acute ones are redrawn."""
    chronic = np.array([c.chronic for c in conditions])
    acuity = rng.normal(0.0, 0.7, (len(patient), 1)).astype(np.float32)
    visit_odds = odds[patient] + np.where(chronic, np.float32(0.0), acuity)
    chance = 1.0 / (1.0 + np.exp(-visit_odds))
    later = (number > 0)[:, None] & chronic
    chance = np.where(later, _ONSET * chance, chance)
    active = rng.random(chance.shape, dtype=np.float32) < chance
    for step in range(1, int(number.max(initial=0)) + 1):
        rows = np.flatnonzero(number == step)
        active[rows] |= active[rows - 1] & chronic
    return active
