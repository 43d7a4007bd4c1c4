"""Single test visits: what each arm recommended where the reference arm does best and worst.

As in the case studies of KindMed (Tables VIII and IX) and DKINet (Table 6). A pure function of
the results directory. A case has no row, patient or date, only its place in this choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from medrec.evaluation import metrics, ratio
from medrec.predictions import Predictions
from sweeps.evaluate import interaction_matrix
from sweeps.record import Arm, StudyRecord
from sweeps.store import ResultsStore

EACH = 3  # cases of either kind
FEWEST_DRUGS = 3
MOST_ARMS = 8
SCORES = ("f1", "jaccard", "ddi_rate")


@dataclass(frozen=True)
class Recommendation:
    """What one trained model recommended at a visit.

    Attributes:
        arm: title of the arm.
        chosen: drugs recommended.
        scores: F1, Jaccard and DDI rate of this visit by name, in [0, 1].
    """

    arm: str
    chosen: Bool[np.ndarray, " drugs"]
    scores: dict[str, float]


@dataclass(frozen=True)
class Case:
    """A visit.

    Attributes:
        best: whether it is one of the reference's best; otherwise one of its worst.
        jaccard: the reference's, mean over its stored seeds.
        truth: drugs prescribed.
        ddi_rate: of the drugs prescribed.
        shown: a recommendation for each arm shown.
    """

    best: bool
    jaccard: float
    truth: Bool[np.ndarray, " drugs"]
    ddi_rate: float
    shown: tuple[Recommendation, ...]


@dataclass(frozen=True)
class Cases:
    """The cases and what their reader must know.

    Attributes:
        cases: best ones first, then worst ones, both from the extreme inwards.
        reference: title of the arm that chose them.
        seeds: seed of the trial shown by title of its arm; None where training needs none.
        left_out: titles of arms beyond the number that is shown.
        missing: titles of arms without a stored trial.
    """

    cases: tuple[Case, ...]
    reference: str
    seeds: tuple[tuple[str, int | None], ...]
    left_out: tuple[str, ...]
    missing: tuple[str, ...]


def find_cases(store: ResultsStore, record: StudyRecord) -> Cases | None:
    """Returns the reference arm's best and worst visits by mean Jaccard over its stored seeds.

    Only visits with a predecessor and at least three drugs prescribed count. Equal ones are taken
    in the order of the test split. Of each arm the first stored seed is shown.

    Returns:
        None where the reference has no stored trial, or no visit counts.

    Raises:
        DamagedTrialError: a stored trial does not match its manifest.
    """
    arms = [arm for arm in _ordered(record) if _stored(store, arm)]
    reference = next((arm for arm in arms if arm.name == record.reference), None)
    if reference is None:
        return None
    interacts = interaction_matrix(record.ddi, len(record.medications))
    layout, jaccard = _mean_jaccard(store, reference, interacts)
    best, worst = _extremes(layout, jaccard)
    rows = np.array([*best, *worst], dtype=np.int64)
    if not len(rows):
        return None
    shown = [_recommendations(store, arm, rows, interacts) for arm in arms[:MOST_ARMS]]
    visits = layout.select(rows)
    of_truth = _scores(_as_prescribed(visits), interacts)
    return Cases(
        cases=tuple(
            Case(
                best=place < len(best),
                jaccard=float(jaccard[row]),
                truth=visits.truth[place],
                ddi_rate=of_truth[place]["ddi_rate"],
                shown=tuple(by_case[place] for by_case in shown),
            )
            for place, row in enumerate(rows.tolist())
        ),
        reference=reference.title,
        seeds=tuple(
            (arm.title, _stored(store, arm)[0][0] if arm.seeded else None)
            for arm in arms[:MOST_ARMS]
        ),
        left_out=tuple(arm.title for arm in arms[MOST_ARMS:]),
        missing=tuple(arm.title for arm in record.arms if not _stored(store, arm)),
    )


def _ordered(record: StudyRecord) -> list[Arm]:
    """Returns the reference, then arms that are no ablations, then ablations."""
    return sorted(
        record.arms, key=lambda arm: (arm.name != record.reference, arm.ablation is not None)
    )


def _stored(store: ResultsStore, arm: Arm) -> list[tuple[int, str]]:
    """Returns seed and key of the arm's stored trials, by seed."""
    ordered = sorted((int(seed), key) for seed, key in arm.trials.items())
    return [(seed, key) for seed, key in ordered if store.has(key)]


def _mean_jaccard(
    store: ResultsStore, arm: Arm, interacts: np.ndarray
) -> tuple[Predictions, np.ndarray]:
    """Returns the first seed's predictions, and each visit's Jaccard averaged over seeds."""
    found = [store.load(key).predictions for _, key in _stored(store, arm)]
    values = [metrics()["jaccard"].terms(each, interacts)[0] for each in found]
    return found[0], np.mean(values, axis=0)


def _extremes(layout: Predictions, jaccard: np.ndarray) -> tuple[list[int], list[int]]:
    counts = layout.truth.sum(axis=1)
    rows = np.flatnonzero((layout.visit > 0) & (counts >= FEWEST_DRUGS)).tolist()
    best = sorted(rows, key=lambda row: (-jaccard[row], row))[:EACH]
    rest = [row for row in rows if row not in best]
    return best, sorted(rest, key=lambda row: (jaccard[row], row))[:EACH]


def _recommendations(
    store: ResultsStore, arm: Arm, rows: np.ndarray, interacts: np.ndarray
) -> list[Recommendation]:
    """Returns what the arm's first stored seed recommended at these visits."""
    own = store.load(_stored(store, arm)[0][1]).predictions.select(rows)
    return [
        Recommendation(arm.title, chosen, scores)
        for chosen, scores in zip(own.chosen, _scores(own, interacts), strict=True)
    ]


def _as_prescribed(visits: Predictions) -> Predictions:
    truth = visits.truth
    return Predictions(visits.patient, visits.visit, truth, truth, visits.scores)


def _scores(predictions: Predictions, interacts: np.ndarray) -> list[dict[str, float]]:
    """Returns each visit's scores; a DDI rate of no pair is 0."""
    known = metrics()
    terms = {name: known[name].terms(predictions, interacts) for name in SCORES}
    return [
        {name: ratio(of[0][row], of[1][row]) for name, of in terms.items()}
        for row in range(len(predictions.visit))
    ]


def interacting_pairs(
    drugs: Bool[np.ndarray, " drugs"], pairs: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Returns the pairs of which both drugs are in the set."""
    return [(a, b) for a, b in pairs if drugs[a] and drugs[b]]
