"""The law by which synthetic patients get their drugs: three causes, each with a switch.

current     conditions that count at a visit indicate drugs; otherwise drugs come by popularity
history     earlier drugs are kept, chronic conditions count although today's codes do not show
            them, and among alternatives (ACE inhibitor or ARB, say) the patient's own is taken
avoidance   a drug that interacts with one already given is withheld

With current = 0 drugs are independent of every code of the visit; with history = 0 they depend on
the recorded conditions of the same visit alone. So that the switches change causes and not
frequencies, each drug has a constant shift of its log-odds, found once on a fixed pilot
population: the law is the same for every cohort, whatever its size and seed.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from medrec.datasets._conditions import Condition, drug_classes
from medrec.datasets._population import Population, draw_population

DRUGS_PER_VISIT = 11.65  # mean of the MIMIC-III cohort of the literature
_RAREST = 0.001  # least share of visits with a drug
_PILOT = 1000  # patients of the pilot, two visits each
_PILOT_SEED = 20
_VISIT_SPREAD = 0.5  # standard deviation of a visit's log-odds of any drug
_SHARPNESS = 6.0  # of log-odds: each prescriber is firmer than the mean of a table
_FADING = 0.45  # what is left of the memory of a drug after a visit without it
_KEEP_ACUTE, _KEEP_CHRONIC = 0.15, 0.70  # chance to keep a drug of acute and of chronic use
_BOUND = 45.0  # largest shift of log-odds


@dataclass(frozen=True)
class Strengths:
    """How strong each cause is, in [0, 1]; 0 switches it off."""

    current: float
    history: float
    avoidance: float


@dataclass(frozen=True)
class Law:
    """Everything that decides about drugs, apart from chance.

    Attributes:
        conditions: in the order of a population's columns.
        drugs: ATC classes, sorted.
        strengths: of the causes.
        keep: chance to keep each drug at the next visit, at full history.
        neighbours: the drugs that interact with each drug.
        popularity: share of visits with each drug.
        order: in which drugs are considered, popular ones first.
        shifts: of log-odds, for first and for later visits.
    """

    conditions: tuple[Condition, ...]
    drugs: tuple[str, ...]
    strengths: Strengths
    keep: Float64[np.ndarray, " drugs"]
    neighbours: tuple[np.ndarray, ...]
    popularity: Float64[np.ndarray, " drugs"]
    order: Int64[np.ndarray, " drugs"]
    shifts: Float64[np.ndarray, "2 drugs"]


@dataclass(frozen=True)
class Effects:
    """What is planted on top of the law.

    Attributes:
        added: drugs that a visit gets in any case. Nothing remembers them: all other drugs are
            those of the law alone.
        courses: pairs of a first drug and the next one.
        continues: visits that get the next drug, if the visit before has the first one.
        reaction: drugs that an adverse reaction is treated with.
        reacts: visits that get them, if drugs of the visit before interact (other than those of
            a reaction).
    """

    added: Bool[np.ndarray, "drugs visits"]
    courses: Int64[np.ndarray, "courses 2"]
    continues: Bool[np.ndarray, "courses visits"]
    reaction: Int64[np.ndarray, " some"]
    reacts: Bool[np.ndarray, " visits"]


def make_law(
    conditions: tuple[Condition, ...],
    interactions: tuple[tuple[str, str], ...],
    strengths: Strengths,
) -> Law:
    """Returns the law, its popularities and shifts found on the pilot population."""
    rng = np.random.default_rng(_PILOT_SEED)
    pilot = draw_population(_PILOT, conditions, rng, visits=2)
    drugs = drug_classes(conditions)
    wanted = _indicated(conditions, drugs, 1.0, pilot, rng)
    popularity = np.maximum(_scaled(wanted.mean(axis=1)), _RAREST)
    law = Law(
        conditions=conditions,
        drugs=drugs,
        strengths=strengths,
        keep=_keep(conditions, drugs),
        neighbours=_neighbours(drugs, interactions),
        popularity=popularity,
        order=np.argsort(-popularity, kind="stable"),
        shifts=np.zeros((2, len(drugs))),
    )
    law = replace(law, shifts=_marginal_shifts(law, pilot, rng))
    return replace(law, shifts=law.shifts + _compensation(law, pilot))


def prescribe(
    law: Law, population: Population, rng: np.random.Generator, effects: Effects | None = None
) -> Bool[np.ndarray, "drugs visits"]:
    """Returns which drugs each visit gets; at least one."""
    odds = _odds(law, population, rng)
    given = np.zeros(odds.shape, dtype=bool)
    reacted = np.zeros(odds.shape[1], dtype=bool)
    memory = np.zeros((len(law.drugs), len(population.visits)))
    for number in range(int(population.number.max()) + 1):
        rows = population.rows(number)
        patients = population.patient[rows]
        draw = rng.random((3, len(law.drugs), len(rows)))
        kept = draw[0] < law.strengths.history * law.keep[:, None] * memory[:, patients]
        likely = odds[:, rows] + law.shifts[min(number, 1)][:, None]
        careful = draw[2] < law.strengths.avoidance
        today = _visit(law, kept, likely, draw[1], careful)
        memory[:, patients] = np.where(today, 1.0, _FADING * memory[:, patients])
        given[:, rows] = today
        if effects is not None:
            given[:, rows] |= effects.added[:, rows]
        if effects is not None and number:
            first, following = effects.courses.T
            due = given[first[:, None], rows - 1] & effects.continues[:, rows]
            given[following[:, None], rows] |= due
            reacted[rows] = effects.reacts[rows] & interacting(law, given[:, rows - 1])
    if effects is not None:
        # Afterwards: a reaction's own drugs cause no other, or it would tell itself.
        given[effects.reaction[:, None], np.flatnonzero(reacted)] = True
    return given


def interacting(law: Law, given: Bool[np.ndarray, "drugs visits"]) -> Bool[np.ndarray, " visits"]:
    """Returns the visits at which two drugs interact."""
    found = np.zeros(given.shape[1], dtype=bool)
    for drug, others in enumerate(law.neighbours):
        found |= given[drug] & given[others].any(axis=0)
    return found


def _visit(
    law: Law,
    kept: Bool[np.ndarray, "drugs visits"],
    odds: Float64[np.ndarray, "drugs visits"],
    draw: Float64[np.ndarray, "drugs visits"],
    careful: Bool[np.ndarray, "drugs visits"],
) -> Bool[np.ndarray, "drugs visits"]:
    """Returns the drugs of these visits: kept ones are considered first, then new ones.

    Args:
        law: order and interactions are taken from it.
        kept: what the patient would keep.
        odds: log-odds of a new prescription.
        draw: uniform draws that decide about it.
        careful: where a drug is withheld if it interacts with one already given.
    """
    new = draw < _sigmoid(odds)
    given = np.zeros_like(kept)
    blocked = np.zeros_like(kept)
    for wanted in (kept, new):
        for drug in law.order:
            given[drug] |= wanted[drug] & ~(blocked[drug] & careful[drug])
            blocked[law.neighbours[drug]] |= given[drug]
    none = np.flatnonzero(~given.any(axis=0))
    given[np.argmax(odds[:, none] - _logit(draw[:, none]), axis=0), none] = True
    return given


def _odds(
    law: Law, population: Population, rng: np.random.Generator
) -> Float64[np.ndarray, "drugs visits"]:
    """Returns log-odds of each drug before the law's shifts."""
    current = law.strengths.current
    chance = _indicated(law.conditions, law.drugs, law.strengths.history, population, rng)
    chance = current * chance + (1.0 - current) * law.popularity[:, None]
    return _SHARPNESS * _logit(chance) + rng.normal(0.0, _VISIT_SPREAD, chance.shape[1])


def _marginal_shifts(
    law: Law, pilot: Population, rng: np.random.Generator
) -> Float64[np.ndarray, "2 drugs"]:
    """Returns the shifts under which, without avoidance, every drug has its popularity."""
    odds = _odds(law, pilot, rng)
    given = np.zeros((len(law.drugs), _PILOT), dtype=bool)
    shifts = np.zeros((2, len(law.drugs)))
    for number in (0, 1):
        today = odds[:, pilot.rows(number)]
        draw = rng.random((2, *today.shape))
        kept = given & (draw[0] < law.strengths.history * law.keep[:, None])
        missing = law.popularity - kept.mean(axis=1)
        shifts[number] = [_shift(*case) for case in zip(today, ~kept, missing, strict=True)]
        given = kept | (draw[1] < _sigmoid(today + shifts[number][:, None]))
    return shifts


def _compensation(law: Law, pilot: Population) -> float:
    """Returns the one shift of all drugs that makes up for those that avoidance withholds."""
    low, high = 0.0, 12.0
    for _ in range(10 if law.strengths.avoidance > 0.0 else 0):
        middle = (low + high) / 2.0
        trial = replace(law, shifts=law.shifts + middle)
        given = prescribe(trial, pilot, np.random.default_rng(_PILOT_SEED + 1))
        low, high = (middle, high) if given.sum(axis=0).mean() < DRUGS_PER_VISIT else (low, middle)
    return low


def _indicated(
    conditions: tuple[Condition, ...],
    drugs: tuple[str, ...],
    history: float,
    population: Population,
    rng: np.random.Generator,
) -> Float64[np.ndarray, "drugs visits"]:
    """Returns the chance of each drug at each visit, given the conditions that count there."""
    hidden = rng.random(population.active.shape, dtype=np.float32) < history
    counts = population.recorded | (population.active & hidden)
    index = {drug: i for i, drug in enumerate(drugs)}
    without = np.ones((len(drugs), len(counts)))
    choices: dict[tuple[str, ...], np.ndarray] = {}
    for number, condition in enumerate(conditions):
        rows = np.flatnonzero(counts[:, number])
        for treatment in condition.treatments:
            classes = treatment.classes
            if classes not in choices:
                choices[classes] = _choice(len(classes), history, population, rng)
            which = np.array([index[name] for name in classes])[choices[classes][rows]]
            without[which, rows] *= 1.0 - treatment.probability
    return np.clip(1.0 - without, 1e-4, 1.0 - 1e-4)


def _choice(
    options: int, history: float, population: Population, rng: np.random.Generator
) -> Int64[np.ndarray, " visits"]:
    """Returns which alternative each visit takes: the patient's own, as far as history counts."""
    if options == 1:
        return np.zeros(len(population.patient), dtype=np.int64)
    weights = np.cumsum(1.0 / np.arange(1, options + 1))
    edges = weights[:-1] / weights[-1]
    own = np.searchsorted(edges, rng.random(len(population.visits)))[population.patient]
    fresh = np.searchsorted(edges, rng.random(len(population.patient)))
    return np.where(rng.random(len(fresh)) < history, own, fresh).astype(np.int64)


def _keep(
    conditions: tuple[Condition, ...], drugs: tuple[str, ...]
) -> Float64[np.ndarray, " drugs"]:
    """Returns the chance to keep each drug: by the share of its use that is chronic."""
    index = {drug: i for i, drug in enumerate(drugs)}
    use = np.zeros((2, len(drugs)))
    for condition in conditions:
        for treatment in condition.treatments:
            for place, name in enumerate(treatment.classes, start=1):
                amount = condition.prevalence * treatment.probability / place
                use[int(condition.chronic), index[name]] += amount
    return _KEEP_ACUTE + (_KEEP_CHRONIC - _KEEP_ACUTE) * use[1] / use.sum(axis=0)


def _neighbours(
    drugs: tuple[str, ...], interactions: tuple[tuple[str, str], ...]
) -> tuple[np.ndarray, ...]:
    index = {drug: i for i, drug in enumerate(drugs)}
    matrix = np.zeros((len(drugs), len(drugs)), dtype=bool)
    for a, b in interactions:
        if a in index and b in index and a != b:
            matrix[index[a], index[b]] = matrix[index[b], index[a]] = True
    return tuple(np.flatnonzero(row) for row in matrix)


def _scaled(chance: Float64[np.ndarray, " drugs"]) -> Float64[np.ndarray, " drugs"]:
    """Returns chances whose sum is `DRUGS_PER_VISIT`, moved by one shift of all log-odds."""
    odds = _logit(chance)
    return _sigmoid(
        odds + _shift(odds, np.ones(len(odds), dtype=bool), DRUGS_PER_VISIT / len(odds))
    )


def _shift(
    odds: Float64[np.ndarray, " cases"], free: Bool[np.ndarray, " cases"], target: float
) -> float:
    """Returns the shift that makes the mean of free · sigmoid(odds + shift) the target."""
    low, high = -_BOUND, _BOUND
    for _ in range(32):
        middle = (low + high) / 2.0
        if float((free * _sigmoid(odds + middle)).mean()) < target:
            low = middle
        else:
            high = middle
    return (low + high) / 2.0


def _sigmoid(odds: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    return 1.0 / (1.0 + np.exp(-odds))


def _logit(chance: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    return np.log(chance / (1.0 - chance))
