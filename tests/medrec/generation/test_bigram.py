"""Bigram: probabilities of each token after each, of whole records, and what is drawn."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch

from medrec.cohort import KINDS
from medrec.errors import TrialError
from medrec.generation._records import Tokens
from medrec.generation.bigram import MODEL, Bigram
from tests.medrec.generation.made import (
    SIZES,
    histories_of,
    knowledge_of,
    records_of,
    some_patients,
)

TOKENS = Tokens(*SIZES.values())


def fitted(real, sizes=SIZES, prior_weight=10.0):
    model = Bigram(MODEL.config(prior_weight=prior_weight), knowledge_of(sizes))
    model.fit(real)
    return model


def written(record, tokens=TOKENS):
    """The tokens of a record, one by one."""
    found = [tokens.start]
    closing = (tokens.procedures_token, tokens.medications_token, tokens.end_visit)
    for visit in record:
        for kind, token in zip(KINDS, closing, strict=True):
            found += [tokens.first[kind] + code for code in visit.get(kind, [])] + [token]
    return [*found, tokens.end_record]


def dense(model):
    """Probability of each token after each."""
    found = np.zeros((model.tokens.size, model.tokens.size))
    found[model.rows.token, model.rows.follower] = model.probability
    return found


def plain(real, prior_weight):
    """The same from the records, by plain loops."""
    pairs, single = Counter(), Counter()
    for record in records_of(real):
        tokens = written(record)
        pairs.update(itertools.pairwise(tokens))
        single.update(tokens[1:])
    visits = single[TOKENS.end_visit]
    frequency = [(single[c] + 1) / (visits + 2) for c in range(TOKENS.codes)]
    leaving = (single[TOKENS.end_record] + 1) / (visits + 2)
    found = np.zeros((TOKENS.size, TOKENS.size))
    for token in range(TOKENS.end_record):
        allowed = np.flatnonzero(TOKENS.allowed(torch.tensor(token)).numpy())
        total, prior, left = sum(pairs[token, other] for other in allowed), {}, 1.0
        for other in allowed:
            if other < TOKENS.codes:
                prior[other] = left * frequency[other]
                left *= 1 - frequency[other]
            elif other == TOKENS.end_record:
                prior = {o: p * (1 - leaving) for o, p in prior.items()}
                prior[other] = leaving
            else:
                prior[other] = left
        assert sum(prior.values()) == pytest.approx(1)
        for other in allowed:
            share = (pairs[token, other] + prior_weight * prior[other]) / (total + prior_weight)
            found[token, other] = share
    return found


def test_probabilities_are_those_of_plain_loops():
    real = some_patients(30, seed=0)
    for weight in (0.5, 20.0):
        found = dense(fitted(real, prior_weight=weight))
        before = slice(None, TOKENS.end_record)
        np.testing.assert_allclose(found[before], plain(real, weight)[before], atol=1e-12)


def test_each_token_has_followers_the_grammar_allows_with_probabilities_of_sum_one():
    model = fitted(some_patients(30, seed=0))
    found = dense(model)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    allowed = TOKENS.allowed(torch.arange(TOKENS.size)).numpy()
    np.testing.assert_array_equal(found > 0, allowed)


def test_log_likelihood_is_the_product_along_the_record():
    model = fitted(some_patients(30, seed=0))
    found = dense(model)
    held_out = some_patients(12, seed=1, most_visits=7)
    expected = [
        sum(np.log(found[a, b]) for a, b in itertools.pairwise(written(record)))
        for record in records_of(held_out)
    ]
    np.testing.assert_allclose(model.log_likelihood(held_out), expected)


def test_probabilities_of_all_records_of_a_tiny_grammar_sum_to_one():
    sizes = {"diagnoses": 2, "procedures": 1, "medications": 1}
    seen = [[{"diagnoses": [0], "procedures": [0]}], [{"diagnoses": [0, 1]}, {"medications": [0]}]]
    model = fitted(histories_of(seen), sizes, prior_weight=0.7)
    parts = itertools.product([[], [0], [1], [0, 1]], [[], [0]], [[], [0]])
    visits = [dict(zip(KINDS, part, strict=True)) for part in parts]
    tokens = Tokens(*sizes.values())
    stay = dense(model)[tokens.end_visit, tokens.end_record]
    for number, chance in ((1, stay), (2, stay * (1 - stay))):
        records = [list(of) for of in itertools.product(visits, repeat=number)]
        total = np.exp(model.log_likelihood(histories_of(records))).sum()
        assert total == pytest.approx(chance)


def test_drawn_tokens_follow_each_other_as_fitted():
    model = fitted(some_patients(30, seed=0))
    expected = dense(model)
    # Visits without codes are left out when decoding, and are rare here.
    _, values, _ = TOKENS.encode(model.draw(20_000, seed=1), context=10_000)
    found = np.zeros_like(expected)
    np.add.at(found, (values[:-1], values[1:]), 1)
    found[TOKENS.end_record] = 0  # the next record's start
    totals = found.sum(axis=1)
    often = np.flatnonzero(totals > 5000)
    assert len(often) > 10
    np.testing.assert_allclose(found[often] / totals[often, None], expected[often], atol=0.02)


def test_a_large_prior_makes_codes_independent():
    real = some_patients(60, seed=0)
    found = fitted(real, prior_weight=10_000.0).draw(20_000, seed=2)
    visits = int(real.visits.sum())
    for kind in KINDS:
        counts = np.bincount(real.codes[kind].values, minlength=SIZES[kind])
        drawn = np.bincount(found.codes[kind].values, minlength=SIZES[kind])
        np.testing.assert_allclose(
            drawn / found.visits.sum(), (counts + 1) / (visits + 2), atol=0.02
        )
    hot = found.codes["diagnoses"].multi_hot(SIZES["diagnoses"])
    correlations = np.corrcoef(hot.T)[~np.eye(SIZES["diagnoses"], dtype=bool)]
    assert np.abs(correlations).max() < 0.03


def test_top_k_draws_only_the_likeliest_followers():
    model = fitted(some_patients(30, seed=0))
    found = dense(model)
    for record in records_of(model.draw(200, seed=0, top_k=2)):
        for a, b in itertools.pairwise(written(record)):
            assert found[a, b] >= np.sort(found[a])[-2]


def test_a_low_temperature_prefers_what_is_likely():
    model = fitted(some_patients(30, seed=0))
    drawn = model.draw(300, seed=0), model.draw(300, seed=0, temperature=0.3)
    mean = [
        np.exp(model.log_likelihood(d).sum() / d.codes["diagnoses"].counts.sum()) for d in drawn
    ]
    assert mean[1] > 1.2 * mean[0]


def test_drawing_gives_up_where_no_record_has_a_code():
    model = fitted(histories_of([[{"diagnoses": [0]}]] + [[{}]] * 50))
    with pytest.raises(TrialError, match="top_k"):
        model.draw(3, seed=0, top_k=1)


def test_exactly_so_many_patients_where_many_records_have_no_code():
    model = fitted(histories_of([[{"diagnoses": [0]}]] + [[{}]] * 5))
    drawn = model.draw(500, seed=0)
    assert len(drawn.visits) == 500
    assert drawn.visits.min() == 1


def test_the_same_seed_draws_the_same_and_a_restored_model_too():
    model, other = fitted(some_patients(30, seed=0)), fitted(some_patients(5, seed=3))
    other.restore(model.tensors())
    first = records_of(model.draw(50, seed=4))
    assert first == records_of(model.draw(50, seed=4)) == records_of(other.draw(50, seed=4))
    assert first != records_of(model.draw(50, seed=5))
    held_out = some_patients(10, seed=1)
    np.testing.assert_array_equal(model.log_likelihood(held_out), other.log_likelihood(held_out))
