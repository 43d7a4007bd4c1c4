"""Fidelity against dictionaries built by plain loops, and influences against derivatives."""

import itertools
from collections import Counter

import numpy as np
import pytest
from sklearn.metrics import r2_score

from medrec.generation._fidelity import fidelity
from medrec.generation._measures import FIDELITY as MEASURES
from medrec.generation._measures import LEAST_VISITS
from tests.medrec.generation.made import (
    SIZES,
    histories_of,
    numbers_of,
    part_of,
    records_of,
    some_patients,
)

CODES = sum(SIZES.values())
REAL, GENERATED = some_patients(40, seed=1), some_patients(35, seed=2)
TERMS, FACTS = fidelity(REAL, GENERATED, SIZES)


def unigrams(visits):
    return [code for visit in visits for code in visit]


def same_visit(visits):
    return [frozenset(pair) for visit in visits for pair in itertools.combinations(visit, 2)]


def sequential(visits):
    return [pair for a, b in itertools.pairwise(visits) for pair in itertools.product(a, b)]


def shares(of, people, weights):
    """Share of each gram, each person's grams multiplied by a weight."""
    found = Counter()
    for visits, weight in zip(people, weights, strict=True):
        for gram in of(visits):
            found[gram] += weight
    total = sum(found.values())
    return {gram: number / total for gram, number in found.items()}


def r2_of(real, generated):
    keys = sorted(set(real) | set(generated), key=str)
    return r2_score([real.get(k, 0) for k in keys], [generated.get(k, 0) for k in keys])


def prevalence(people, weights):
    return np.array(
        [
            sum(w for visits, w in zip(people, weights, strict=True) if code in unigrams(visits))
            for code in range(CODES)
        ]
    ) / sum(weights)


def weighted_visits(people, weights):
    """Each visit as a row of zeros and ones, and its weight."""
    rows = [[float(c in visit) for c in range(CODES)] for visits in people for visit in visits]
    of = [w for visits, w in zip(people, weights, strict=True) for _ in visits]
    return np.array(rows), np.array(of) / sum(of)


def correlations(people, weights, chosen):
    rows, of = weighted_visits(people, weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        covariance = np.cov(rows[:, chosen].T, aweights=of, ddof=0)
        spread = np.sqrt(np.diag(covariance))
        return np.nan_to_num(covariance / np.outer(spread, spread))


def joint_distance(people, weights, drawn):
    counts = np.sum([[c in v for c in range(CODES)] for p in people for v in p], axis=0)
    chosen = np.flatnonzero(counts >= LEAST_VISITS)
    real = correlations(people, weights, chosen)
    difference = real - correlations(drawn, np.ones(len(drawn)), chosen)
    return np.sqrt(np.mean(difference[~np.eye(len(chosen), dtype=bool)] ** 2))


def plain(name, people, weights, drawn):
    """The measure by plain loops, real people weighted."""
    equal = np.ones(len(drawn))
    grams = {"unigram_r2": unigrams, "same_visit_r2": same_visit, "sequential_r2": sequential}
    if name in grams:
        of = grams[name]
        return r2_of(shares(of, people, weights), shares(of, drawn, equal))
    if name == "prevalence_r2":
        return r2_score(prevalence(people, weights), prevalence(drawn, equal))
    if name == "prevalence_gap":
        return np.abs(prevalence(people, weights) - prevalence(drawn, equal)).max()
    if name == "joint_distance":
        return joint_distance(people, weights, drawn)
    (rows, of), (others, alike) = weighted_visits(people, weights), weighted_visits(drawn, equal)
    if name == "dimension_distance":
        return np.abs(of @ rows - alike @ others).mean()
    if name == "codes_gap":
        return abs(of @ rows.sum(axis=1) - others.sum(axis=1).mean())
    visits = np.array([len(p) for p in people])
    return abs(np.average(visits, weights=weights) - np.mean([len(p) for p in drawn]))


def people_of(histories):
    return [numbers_of(record) for record in records_of(histories)]


def value(terms):
    return terms[0].sum() / terms[1].sum()


@pytest.mark.parametrize("name", MEASURES)
def test_value_is_that_of_plain_loops(name):
    people, drawn = people_of(REAL), people_of(GENERATED)
    assert value(TERMS[name]) == pytest.approx(plain(name, people, np.ones(40), drawn), abs=1e-12)


@pytest.mark.parametrize("name", MEASURES)
def test_influence_is_the_derivative_with_respect_to_a_patients_weight(name):
    people, drawn = people_of(REAL), people_of(GENERATED)
    influence = TERMS[name][0] - TERMS[name][0].mean()
    assert np.abs(influence).max() > 1e-4
    step = 1e-5
    for patient in range(0, 40, 3):
        moved = []
        for way in (-step, step):
            weights = np.full(40, (1 - way) / 40)
            weights[patient] += way
            moved.append(plain(name, people, weights, drawn))
        slope = (moved[1] - moved[0]) / (2 * step)
        scale = np.abs(influence).max()
        assert influence[patient] == pytest.approx(slope, rel=1e-4, abs=1e-6 * scale)


def test_spread_is_that_of_a_bootstrap_over_patients():
    real, generated = some_patients(300, seed=3), some_patients(300, seed=4)
    terms, _ = fidelity(real, generated, SIZES)
    draws = np.random.default_rng(0).integers(0, 300, size=(100, 300))
    found = [fidelity(part_of(real, draw.tolist()), generated, SIZES)[0] for draw in draws]
    for name in ("unigram_r2", "same_visit_r2", "sequential_r2", "joint_distance", "codes_gap"):
        spread = np.std([value(drawn[name]) for drawn in found])
        assert terms[name][0].std() / np.sqrt(300) == pytest.approx(spread, rel=0.25), name


def test_the_same_patients_are_perfect():
    terms, facts = fidelity(REAL, REAL, SIZES)
    for name, measure in MEASURES.items():
        assert value(terms[name]) == pytest.approx(1.0 if measure.higher_is_better else 0.0)
    assert facts["visits_mean_real"] == facts["visits_mean_generated"]


def test_every_patient_is_a_unit_of_every_measure():
    assert TERMS.keys() == MEASURES.keys()
    assert all(len(part) == 40 for both in TERMS.values() for part in both)


def test_facts_are_means_and_standard_deviations():
    people = people_of(GENERATED)
    codes = [len(visit) for visits in people for visit in visits]
    drugs = [len(visit["medications"]) for record in records_of(GENERATED) for visit in record]
    assert FACTS["visits_sd_generated"] == pytest.approx(np.std([len(p) for p in people]))
    assert FACTS["codes_mean_generated"] == pytest.approx(np.mean(codes))
    assert FACTS["codes_sd_generated"] == pytest.approx(np.std(codes))
    assert FACTS["medications_mean_generated"] == pytest.approx(np.mean(drugs))


def test_sequential_pairs_are_undefined_where_no_real_patient_comes_twice():
    once = some_patients(12, seed=5, most_visits=1)
    terms, _ = fidelity(once, GENERATED, SIZES)
    assert not terms["sequential_r2"][1].any()
    assert np.isfinite(value(terms["same_visit_r2"]))


def test_generated_patients_without_a_second_visit_have_no_sequential_pair():
    once = some_patients(12, seed=5, most_visits=1)
    terms, _ = fidelity(REAL, once, SIZES)
    real = shares(sequential, people_of(REAL), np.ones(40))
    assert value(terms["sequential_r2"]) == pytest.approx(r2_of(real, {}))


def test_pairs_are_walked_through_in_blocks(monkeypatch):
    monkeypatch.setattr("medrec.generation._pairs._BLOCK", 7)
    parts, _ = fidelity(REAL, GENERATED, SIZES)
    for name, (numerator, _) in TERMS.items():
        np.testing.assert_allclose(parts[name][0], numerator, atol=1e-12)


def test_visits_without_codes_of_a_kind():
    real = histories_of([[{"diagnoses": [0, 2]}, {"medications": [1]}], [{"diagnoses": [0]}]])
    terms, _ = fidelity(real, real, SIZES)
    assert value(terms["unigram_r2"]) == pytest.approx(1)
    assert not terms["joint_distance"][1].any()  # no code has enough visits


def test_a_code_that_no_generated_visit_has_correlates_with_nothing():
    lacking = [
        [{**visit, "diagnoses": [c for c in visit["diagnoses"] if c != 1]} for visit in record]
        for record in records_of(GENERATED)
    ]
    drawn = histories_of(lacking)
    found = value(fidelity(REAL, drawn, SIZES)[0]["joint_distance"])
    people = people_of(REAL)
    assert found == pytest.approx(joint_distance(people, np.ones(40), people_of(drawn)))
