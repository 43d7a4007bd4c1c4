"""From stored predictions to aligned arrays: arms x seeds x test patients, for every metric.

The arrays hold sufficient statistics (`medrec.evaluation`), so that estimates, intervals and
differences are weighted sums over them. A trial that is not stored leaves a hole, and so does one
that is stored but damaged: it is never used.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float64, Int32

from medrec.evaluation import metrics, summed_by_patient
from medrec.predictions import Predictions
from medrec.spec import Task
from sweeps.errors import DamagedTrialError, StoreError
from sweeps.record import Arm, DdiGraph, StudyRecord
from sweeps.store import ResultsStore
from sweeps.tasks import measures_of
from sweeps.visits import Rows

Scope = str
"""Name of a set of test visits."""
ROWS: Mapping[Scope, Rows] = MappingProxyType(
    {
        "all": lambda predictions: np.ones(len(predictions.visit), dtype=bool),
        "transitions": lambda predictions: predictions.visit > 0,
    }
)
"""Visits of each scope that every study has."""
Drugs = Bool[np.ndarray, " drugs"]
EVERY_DRUG: Mapping[Scope, Drugs] = MappingProxyType({})


@dataclass(frozen=True)
class Scores:
    """Sufficient statistics of every arm, seed and test patient.

    Attributes:
        metrics: names, in the order of the first axis.
        arms: names, in the record's order; an arm without any trial is kept, all masked.
        seeds: training seeds, ascending.
        patients: rows of the cohort, ascending; a patient without a visit in scope is left out.
        visits: number of test visits in scope; 0 where no trial is stored.
        numerator: patient's numerator of each metric; 0 where there is no trial.
        denominator: patient's denominator of each metric; 0 where there is no trial.
        present: whether the trial is stored. The one trial of an unseeded arm is in the first
            column and stands for every seed.
        expected: whether the study asks for the trial.
        seeded: whether the arm's training depends on the seed.
    """

    metrics: tuple[str, ...]
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    patients: Int32[np.ndarray, " patients"]
    visits: int
    numerator: Float64[np.ndarray, "metrics arms seeds patients"]
    denominator: Float64[np.ndarray, "metrics arms seeds patients"]
    present: Bool[np.ndarray, "arms seeds"]
    expected: Bool[np.ndarray, "arms seeds"]
    seeded: Bool[np.ndarray, " arms"]


def metric_names() -> tuple[str, ...]:
    """Returns every metric of recommenders: the field's five, then others by name."""
    return tuple(measures_of("recommendation"))


def interaction_matrix(graph: DdiGraph, drugs: int) -> Bool[np.ndarray, "drugs drugs"]:
    """Returns the symmetric matrix of interacting pairs."""
    matrix = np.zeros((drugs, drugs), dtype=bool)
    pairs = np.array(graph.pairs, dtype=np.int64).reshape(-1, 2)
    matrix[pairs[:, 0], pairs[:, 1]] = True
    return matrix | matrix.T


def trial_keys(arm: Arm, seeds: Sequence[int]) -> dict[int, str]:
    """Returns the arm's trial key by column of `Scores`; an unseeded arm has one column."""
    ordered = sorted((int(seed), key) for seed, key in arm.trials.items())
    if not arm.seeded:
        return {0: ordered[0][1]} if ordered else {}
    return {seeds.index(seed): key for seed, key in ordered}


def evaluate_arms(store: ResultsStore, record: StudyRecord, scope: Scope) -> Scores:
    """Returns the scores of every arm over the visits of one scope.

    Args:
        store: the results directory.
        record: its study record.
        scope: `all` visits, or `transitions` (first visit of each patient left out).

    Raises:
        StoreError: two trials do not have the same test visits.
    """
    return evaluate_scopes(store, record, (scope,))[scope]


def evaluate_scopes(
    store: ResultsStore,
    record: StudyRecord,
    scopes: Iterable[Scope],
    rows: Mapping[Scope, Rows] = ROWS,
    drugs: Mapping[Scope, Drugs] = EVERY_DRUG,
    seen: Callable[[str, Predictions], None] = lambda key, predictions: None,
    damaged: Callable[[str, str], None] = lambda key, why: None,
) -> dict[Scope, Scores]:
    """Returns the scores for several scopes, each trial read once.

    Args:
        store: the results directory.
        record: its study record.
        scopes: names of what to score.
        rows: which visits each scope has.
        drugs: the drugs that alone a scope looks at, as if there were no others; scopes that are
            not named look at all.
        seen: called with the key and predictions of each trial, once, as it is read.
        damaged: called with the key of each trial that does not match its manifest, and why.

    Raises:
        StoreError: two trials do not have the same test visits.
    """
    seeded = [arm for arm in record.arms if arm.seeded]
    columns = sorted({seed for arm in seeded for seed in _asked_seeds(record, arm)}) or [0]
    wanted = [
        (row, column, key)
        for row, arm in enumerate(record.arms)
        for column, key in trial_keys(arm, columns).items()
    ]
    expected = np.zeros((len(record.arms), len(columns)), dtype=bool)
    for row, arm in enumerate(record.arms):
        for seed in _asked_seeds(record, arm):
            expected[row, columns.index(seed) if arm.seeded else 0] = True
    cells = [cell for cell in wanted if store.has(cell[2])]
    chosen = {scope: rows[scope] for scope in scopes}
    keys = sorted({key for _, _, key in cells})
    if record.task != "recommendation":
        terms, units = _read_measures(store, record.task, keys, damaged)
        cells = [cell for cell in cells if cell[2] in terms]
        none: dict[str, _Terms] = {}
        return {
            scope: _assemble(record, columns, expected, cells, terms, units)
            if scope == "all"
            else _assemble(record, columns, expected, [], none, units[:0])
            for scope in chosen
        }
    parts, patients = _read_terms(store, record, chosen, drugs, keys, seen, damaged)
    cells = [cell for cell in cells if all(cell[2] in terms for terms in parts.values())]
    return {
        scope: _assemble(record, columns, expected, cells, parts[scope], patients[scope])
        for scope in chosen
    }


def _asked_seeds(record: StudyRecord, arm: Arm) -> Sequence[int]:
    """Returns the seeds that the study asks of an arm, also where its trials are not known yet."""
    return record.seeds if arm.is_waiting else [int(seed) for seed in arm.trials]


_Terms = tuple[np.ndarray, np.ndarray]  # numerators and denominators [metrics, patients]


def _read_measures(
    store: ResultsStore, task: Task, keys: Iterable[str], damaged: Callable[[str, str], None]
) -> tuple[dict[str, _Terms], np.ndarray]:
    """Returns by key the terms of each of the task's measures, and the units."""
    found: dict[str, _Terms] = {}
    units: np.ndarray | None = None
    for key in keys:
        try:
            measured = store.load(key).measured
        except DamagedTrialError as error:
            damaged(key, str(error))
            continue
        if units is not None and not np.array_equal(units, measured.units):
            raise StoreError(
                f"Trial {key} was measured on other units than the study's first trial. Arms can "
                "only be compared on the same ones; move it out of trials/ and run again."
            )
        units = measured.units
        absent = np.zeros(len(units))
        pairs = [measured.terms.get(name, (absent, absent)) for name in measures_of(task)]
        above, below = zip(*pairs, strict=True)
        found[key] = np.stack(above), np.stack(below)
    return found, np.zeros(0, np.int32) if units is None else units


def _read_terms(
    store: ResultsStore,
    record: StudyRecord,
    scopes: Mapping[Scope, Rows],
    drugs: Mapping[Scope, Drugs],
    keys: Iterable[str],
    seen: Callable[[str, Predictions], None],
    damaged: Callable[[str, str], None],
) -> tuple[dict[Scope, dict[str, _Terms]], dict[Scope, np.ndarray]]:
    """Returns by scope: terms by key, and the patient of each visit in it."""
    interacts = interaction_matrix(record.ddi, len(record.medications))
    known = metrics()
    parts: dict[Scope, dict[str, _Terms]] = {scope: {} for scope in scopes}
    layout: Predictions | None = None
    inside: dict[Scope, np.ndarray] = {}
    patients: dict[Scope, tuple[np.ndarray, np.ndarray]] = {}
    for key in keys:
        try:
            predictions = store.load(key).predictions
        except DamagedTrialError as error:
            damaged(key, str(error))
            continue
        _check_layout(key, predictions, layout, len(record.medications))
        seen(key, predictions)
        if layout is None:
            layout = predictions
            inside = {scope: rows(layout) for scope, rows in scopes.items()}
            patients = {
                scope: np.unique(layout.patient[rows], return_inverse=True)
                for scope, rows in inside.items()
            }
        found = [known[name] for name in metric_names()]
        terms = [metric.terms(predictions, interacts) for metric in found]
        for scope, rows in inside.items():
            if scope in drugs:
                chosen, pairs = _of_drugs(predictions.select(rows), interacts, drugs[scope])
                own = [metric.terms(chosen, pairs) for metric in found]
            else:  # the visits' terms serve every scope
                own = [(above[rows], below[rows]) for above, below in terms]
            whose, row = patients[scope]
            sums = [
                summed_by_patient(metric, term, row, len(whose))
                for metric, term in zip(found, own, strict=True)
            ]
            above, below = zip(*sums, strict=True)
            parts[scope][key] = np.stack(above), np.stack(below)
    nobody = np.zeros(0, np.int32)
    return parts, {
        scope: nobody if layout is None else layout.patient[inside[scope]] for scope in scopes
    }


def _of_drugs(
    predictions: Predictions, interacts: np.ndarray, drugs: Drugs
) -> tuple[Predictions, np.ndarray]:
    """Returns predictions and interacting pairs of some drugs, as if there were no others."""
    part = replace(
        predictions,
        truth=predictions.truth[:, drugs],
        chosen=predictions.chosen[:, drugs],
        scores=predictions.scores[:, drugs],
    )
    return part, interacts[np.ix_(drugs, drugs)]


def _check_layout(key: str, own: Predictions, first: Predictions | None, drugs: int) -> None:
    if own.scores.shape[1] != drugs:
        raise StoreError(
            f"Trial {key} scores {own.scores.shape[1]} drugs, but study.json names {drugs}. It "
            "belongs to another study; move it out of trials/ and run the study again."
        )
    same = first is None or all(
        np.array_equal(getattr(own, name), getattr(first, name))
        for name in ("patient", "visit", "truth")
    )
    if not same:
        raise StoreError(
            f"Trial {key} was tested on other visits than the study's first trial "
            f"({len(own.patient)} against {len(first.patient) if first else 0} visits). Arms can "
            "only be compared on the same patients; move it out of trials/ and run again."
        )


def _assemble(
    record: StudyRecord,
    columns: Sequence[int],
    expected: np.ndarray,
    cells: Sequence[tuple[int, int, str]],
    terms: dict[str, _Terms],
    patient: np.ndarray,
) -> Scores:
    patients = np.unique(patient)
    names = tuple(measures_of(record.task))
    shape = (len(names), len(record.arms), len(columns), len(patients))
    numerator, denominator = np.zeros(shape), np.zeros(shape)
    present = np.zeros(expected.shape, dtype=bool)
    for row, column, key in cells:
        numerator[:, row, column], denominator[:, row, column] = terms[key]
        present[row, column] = True
    return Scores(
        metrics=names,
        arms=tuple(arm.name for arm in record.arms),
        seeds=tuple(columns),
        patients=patients,
        visits=len(patient),
        numerator=numerator,
        denominator=denominator,
        present=present,
        expected=expected,
        seeded=np.array([arm.seeded for arm in record.arms], dtype=bool),
    )
