"""Independent marginals: every probability of a tiny world, and what is drawn."""

import itertools

import numpy as np
import pytest

from medrec.cohort import KINDS
from medrec.generation import marginals
from medrec.generation.marginals import MODEL
from tests.medrec.generation.made import (
    SIZES,
    histories_of,
    knowledge_of,
    numbers_of,
    records_of,
    some_patients,
)


def fitted(real, sizes=SIZES, **settings):
    model = marginals.Marginals(MODEL.config(**settings), knowledge_of(sizes))
    model.fit(real)
    return model


def visits_of_world(sizes):
    """All sets of codes but the empty one."""
    codes = [(kind, c) for kind in KINDS for c in range(sizes[kind])]
    found = []
    for chosen in itertools.product([False, True], repeat=len(codes)):
        of = {kind: [] for kind in KINDS}
        for (kind, code), has in zip(codes, chosen, strict=True):
            of[kind] += [code] if has else []
        found.append(of)
    return found[1:]


def test_log_likelihood_is_that_of_plain_loops():
    real, smoothing = some_patients(30, seed=0), 0.5
    people = [numbers_of(record) for record in records_of(real)]
    visits = [visit for person in people for visit in person]
    model = fitted(real, smoothing=smoothing)
    held_out = some_patients(10, seed=1, most_visits=9)
    found = model.log_likelihood(held_out)
    frequency = [
        (sum(c in visit for visit in visits) + smoothing) / (len(visits) + 2 * smoothing)
        for c in range(15)
    ]
    empty = np.prod([1 - p for p in frequency])
    for i, record in enumerate(records_of(held_out)):
        expected = 0.0
        for number, visit in enumerate(numbers_of(record), start=1):
            chances = [p if c in visit else 1 - p for c, p in enumerate(frequency)]
            expected += np.log(chances).sum() - np.log(1 - empty)
            if number <= 4:
                present = sum(len(person) >= number for person in people)
                left = sum(len(person) == number for person in people)
            else:  # beyond the longest training record
                present, left = len(visits), len(people)
            leaving = (left + smoothing) / (present + 2 * smoothing)
            expected += np.log(leaving if number == len(record) else 1 - leaving)
        assert found[i] == pytest.approx(expected)


def test_probabilities_of_all_records_of_a_tiny_world_sum_to_one():
    sizes = {"diagnoses": 2, "procedures": 0, "medications": 1}
    seen = [[{"diagnoses": [0]}], [{"diagnoses": [0, 1]}, {"medications": [0]}]]
    model = fitted(histories_of(seen), sizes)
    visits = visits_of_world(sizes)
    for number in (1, 2):
        records = [list(of) for of in itertools.product(visits, repeat=number)]
        total = np.exp(model.log_likelihood(histories_of(records))).sum()
        stay = np.prod(1 - model.leaving[: number - 1])
        assert total == pytest.approx(stay * model.leaving[number - 1])


def test_an_empty_visit_is_impossible():
    model = fitted(some_patients(30, seed=0))
    found = model.log_likelihood(histories_of([[{"diagnoses": [0]}, {}], [{"diagnoses": [0]}]]))
    assert found[0] == -np.inf
    assert np.isfinite(found[1])


def test_draws_have_the_fitted_frequencies_across_blocks(monkeypatch):
    monkeypatch.setattr(marginals, "_BLOCK", 15 * 1000)
    model = fitted(some_patients(30, seed=0))
    drawn = model.draw(20_000, seed=1)
    people = drawn.visits
    for number in (1, 2, 3):
        left = (people == number).sum() / (people >= number).sum()
        assert left == pytest.approx(model.leaving[number - 1], abs=0.02)
    first = 0
    for kind in KINDS:
        shares = np.bincount(drawn.codes[kind].values, minlength=SIZES[kind]) / people.sum()
        np.testing.assert_allclose(shares, model.codes[first : first + SIZES[kind]], atol=0.015)
        assert len(drawn.codes[kind].offsets) == people.sum() + 1
        first += SIZES[kind]


def test_no_drawn_visit_is_empty_and_each_set_is_as_frequent_as_it_is_likely():
    sizes = {"diagnoses": 2, "procedures": 0, "medications": 1}
    seen = histories_of([[{"diagnoses": [0]}] for _ in range(6)] + [[{"medications": [0]}]])
    model = fitted(seen, sizes)
    model.codes = np.array([0.2, 0.1, 0.05])  # most visits are empty at first
    model.leaving = np.array([1 - 1e-12, 0.5])
    drawn = model.draw(20_000, seed=0)
    found = {}
    for record in records_of(drawn):
        key = tuple(tuple(record[0][kind]) for kind in KINDS)
        found[key] = found.get(key, 0) + 1 / 20_000
    for visit in visits_of_world(sizes):
        chance = np.exp(model.log_likelihood(histories_of([[visit]])))[0]
        key = tuple(tuple(visit[kind]) for kind in KINDS)
        assert found.pop(key, 0) == pytest.approx(chance, abs=0.015)
    assert not found


def test_temperature_and_top_k():
    model = fitted(some_patients(30, seed=0))
    cold, best = model.draw(500, seed=0, temperature=0.05), np.argsort(-model.codes)[:2]
    codes = {c for record in records_of(cold) for visit in numbers_of(record) for c in visit}
    assert codes <= set(np.flatnonzero(model.codes > 0.4).tolist()) | {int(best[0])}
    few = model.draw(500, seed=0, top_k=2)
    codes = {c for record in records_of(few) for visit in numbers_of(record) for c in visit}
    assert codes == set(best.tolist())


def test_the_same_seed_draws_the_same_and_a_restored_model_too():
    model = fitted(some_patients(30, seed=0))
    other = fitted(some_patients(5, seed=3))
    other.restore(model.tensors())
    first = records_of(model.draw(50, seed=4))
    assert first == records_of(model.draw(50, seed=4)) == records_of(other.draw(50, seed=4))
    assert first != records_of(model.draw(50, seed=5))
    held_out = some_patients(10, seed=1)
    np.testing.assert_array_equal(model.log_likelihood(held_out), other.log_likelihood(held_out))
