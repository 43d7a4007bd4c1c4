"""Sets without forbidden pairs, against a visit-by-visit rule and against all subsets."""

from itertools import combinations

import numpy as np
import pytest
import torch

from medrec.two_sat import forbidden_pairs, satisfy
from tests.medrec.small import lists_of, small_cohort, small_knowledge

DRUGS = 7


def example(seed, visits=40):
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.random((DRUGS, DRUGS)) < 0.35, 1)
    scores = torch.from_numpy(np.round(rng.random((visits, DRUGS)), 1))  # with ties
    return scores, scores >= 0.4, torch.from_numpy(upper | upper.T)


def one_visit(scores, chosen, forbidden):
    """The rule in words: surest first, keep what no kept drug forbids."""
    kept: list[int] = []
    for drug in sorted(range(len(scores)), key=lambda drug: (-scores[drug], drug)):
        if chosen[drug] and not any(forbidden[drug, other] for other in kept):
            kept.append(drug)
    return set(kept)


def satisfied(members, forbidden):
    return not any(forbidden[i, j] for i, j in combinations(sorted(members), 2))


@pytest.mark.parametrize("seed", range(5))
def test_all_visits_at_once_are_as_one_by_one(seed):
    scores, chosen, forbidden = example(seed)
    found = satisfy(scores, chosen, forbidden)
    for visit in range(len(scores)):
        expected = one_visit(scores[visit].tolist(), chosen[visit], forbidden)
        assert set(found[visit].nonzero()[:, 0].tolist()) == expected
    shaped = satisfy(*(each.view(8, 5, DRUGS) for each in (scores, chosen)), forbidden)
    assert torch.equal(shaped.view(-1, DRUGS), found)


@pytest.mark.parametrize("seed", range(5))
def test_no_clause_is_broken_and_no_more_is_dropped_than_needed(seed):
    scores, chosen, forbidden = example(seed)
    found = satisfy(scores, chosen, forbidden)
    assert not ((found.float() @ forbidden.float()) * found).any()
    assert not (found & ~chosen).any()
    assert (found != chosen).any(), "the example must need it"
    for visit in range(len(scores)):
        kept = set(found[visit].nonzero()[:, 0].tolist())
        offered = chosen[visit].nonzero()[:, 0].tolist()
        # Of all allowed subsets, the one whose drugs, surest first, are the surest.
        rank = {drug: i for i, drug in enumerate(sorted(offered, key=lambda d: -scores[visit, d]))}
        allowed = [
            set(some)
            for size in range(len(offered) + 1)
            for some in combinations(offered, size)
            if satisfied(some, forbidden)
        ]
        surest = max(allowed, key=lambda some: sum(2.0 ** -rank[drug] for drug in some))
        assert kept == surest


def test_an_allowed_set_and_an_empty_one_stay():
    scores, chosen, forbidden = example(0)
    assert torch.equal(satisfy(scores, chosen, torch.zeros_like(forbidden)), chosen)
    nothing = torch.zeros_like(chosen)
    assert torch.equal(satisfy(scores, nothing, forbidden), nothing)
    assert satisfy(scores[:0], chosen[:0], forbidden).shape == (0, DRUGS)


@pytest.mark.parametrize("at_least", [0.0, 0.05, 0.1, 1.0])
def test_forbidden_pairs_interact_and_are_rarely_given_together_in_training(at_least):
    cohort, knowledge = small_cohort(), small_knowledge()
    rows = cohort.visits_of(cohort.members(0)).tolist()
    given = [set(lists_of(cohort, "medications")[row]) for row in rows]
    found = forbidden_pairs(
        knowledge.interacts, knowledge.training_visits["medications"], at_least
    )
    for i in range(knowledge.drugs):
        for j in range(knowledge.drugs):
            together = sum({i, j} <= drugs for drugs in given)
            assert found[i, j] == (
                bool(knowledge.interacts[i, j]) and together < at_least * len(rows)
            )
    shares = [
        forbidden_pairs(knowledge.interacts, knowledge.training_visits["medications"], n).sum()
        for n in (0.0, 0.1, 1.0)
    ]
    assert shares[0] == 0 < shares[1] < shares[2] == knowledge.interacts.sum()
