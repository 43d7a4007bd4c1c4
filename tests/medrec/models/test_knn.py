"""Neighbours found one by one, from sets of codes."""

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
import torch

from medrec import light, splits, trial
from medrec.batching import ResidentCohort
from medrec.cohort import Cohort
from medrec.knowledge.base import training_visits
from search_spaces.knn import ABLATIONS
from tests.medrec.models import reference
from tests.medrec.small import (
    VOCABULARY,
    make_spec,
    scramble,
    small_cohort,
    small_knowledge,
    to_codes,
    whole_batch,
)

DRUGS = 10
COSINE = {"similarity": "cosine"}
JACCARD = {"similarity": "jaccard"}


def likeness(a, b, similarity):
    common = len(a & b)
    if similarity == "cosine":
        return common / sqrt(len(a) * len(b)) if a and b else 0.0
    return common / len(a | b) if a | b else 0.0


def codes_of(visit):
    return {("d", code) for code in visit[0]} | {("p", code) for code in visit[1]}


def neighbours_say(visit, known, config):
    """What the neighbours were given, as a share of their summed weights."""
    found = [(likeness(codes_of(visit), codes_of(other), config.similarity), other[2])
             for other in known]  # fmt: skip
    ranked = sorted((near for near, _ in found), reverse=True)
    last = ranked[min(config.neighbours, len(ranked)) - 1]
    chosen = [(near, drugs) for near, drugs in found if near > 0 and near >= last - 1e-12]
    if not chosen:
        chosen = [(1.0, drugs) for _, drugs in found]
    weights = [near if config.weighted else 1.0 for near, _ in chosen]
    score = np.zeros(DRUGS)
    for weight, (_, drugs) in zip(weights, chosen, strict=True):
        score[drugs] += weight
    return score / sum(weights)


def expected_scores(cohort, config):
    """Per patient and visit, in plain loops."""
    everyone = reference.patients(cohort)
    known = [visit for patient, split in zip(everyone, cohort.split, strict=True)
             if split == splits.TRAIN for visit in patient]  # fmt: skip
    for patient in everyone:
        scores = []
        for number, visit in enumerate(patient):
            score = neighbours_say(visit, known, config)
            if number:
                before = np.isin(np.arange(DRUGS), patient[number - 1][2])
                share = config.weight_of_previous
                score = (1 - share) * score + share * before
            scores.append(score)
        yield scores


def expected_set(scores):
    """As many drugs as are expected, the likeliest first, of equally likely ones the lower."""
    ranked = sorted(range(DRUGS), key=lambda drug: (-round(scores[drug], 5), drug))
    return set(ranked[: round(scores.sum())])


def built(config, cohort: Cohort | None = None):
    knowledge = small_knowledge()
    if cohort is not None:
        knowledge = replace(knowledge, training_visits=training_visits(cohort))
    return trial.build(make_spec("knn", config), knowledge)


@pytest.mark.parametrize(
    "config",
    [
        *({**kind, "neighbours": count} for kind in (COSINE, JACCARD) for count in (1, 4, 10_000)),
        *(ablation.changes for ablation in ABLATIONS.values()),
        {"neighbours": 3, "weighted": False, "weight_of_previous": 0.6},
        {"neighbours": 3, "weight_of_previous": 1.0},
    ],
    ids=str,
)
@pytest.mark.parametrize("empty", [False, True])
def test_scores_equal_those_of_plain_loops(config, empty):
    cohort = without_codes_at(small_cohort(), 0) if empty else small_cohort()
    prediction = built(config, cohort).predict(whole_batch(cohort), 0.5)
    expected = expected_scores(cohort, light.model_facts("knn").config(**config))
    for row, scores in enumerate(expected):
        for visit, score in enumerate(scores):
            np.testing.assert_allclose(prediction.scores[row, visit], score, atol=1e-6)
            if abs(score.sum() % 1 - 0.5) > 1e-3:  # else rounding errors decide the size
                chosen = prediction.chosen[row, visit].nonzero()[:, 0].tolist()
                assert set(chosen) == expected_set(score)


def without_codes_at(cohort, visit):
    """One visit without any code, whose neighbours nobody can be."""
    codes = dict(cohort.codes)
    for kind in ("diagnoses", "procedures"):
        ends = zip(codes[kind].offsets[:-1], codes[kind].offsets[1:], strict=True)
        lists = [codes[kind].values[a:b].tolist() for a, b in ends]
        lists[visit] = []
        codes[kind] = to_codes(lists)
    return replace(cohort, codes=codes)


def test_a_visit_without_codes_gets_the_training_frequencies():
    cohort = without_codes_at(small_cohort(), 0)
    model = built({}, cohort)
    rows = cohort.visits_of(cohort.members(splits.TRAIN))
    frequency = cohort.codes["medications"].multi_hot(DRUGS)[rows].mean(axis=0)
    found = model.predict(whole_batch(cohort), 0.5).scores[0, 0]
    np.testing.assert_allclose(found, frequency, atol=1e-6)


def test_the_order_of_training_visits_decides_nothing():
    cohort, knowledge = small_cohort(), small_knowledge()
    visits = knowledge.training_visits
    turned = np.arange(len(visits["diagnoses"].counts))[::-1].copy()
    mixed = replace(knowledge, training_visits={k: c.take(turned) for k, c in visits.items()})
    spec = make_spec("knn", {"neighbours": 3})
    answers = [trial.build(spec, told).predict(whole_batch(cohort), 0.5).scores
               for told in (knowledge, mixed)]  # fmt: skip
    torch.testing.assert_close(*answers, rtol=0, atol=1e-6)


@pytest.mark.parametrize("split", [splits.VALIDATION, splits.TEST])
def test_only_training_patients_are_neighbours(split):
    cohort = small_cohort()
    ours = built({}, cohort).predict(whole_batch(cohort), 0.5)
    other = built({}, scramble(cohort, split)).predict(whole_batch(cohort), 0.5)
    assert torch.equal(ours.scores, other.scores)


def test_many_visits_are_answered_in_parts():
    cohort = small_cohort()
    once = whole_batch(cohort)
    often = ResidentCohort(cohort).gather(torch.arange(cohort.patients).repeat(12))
    assert int(often.visit_mask.sum()) > 500
    model = built({})
    torch.testing.assert_close(
        model.predict(often, 0.5).scores[-cohort.patients :], model.predict(once, 0.5).scores
    )


def test_the_threshold_does_not_apply():
    low, high = (built({}).predict(whole_batch(), level).chosen for level in (0.01, 0.99))
    assert torch.equal(low, high)


def test_no_training_visit_is_in_a_checkpoint():
    model = built({})
    model.fit(small_cohort(), small_cohort().members(splits.TRAIN))
    assert trial.weights(model) == {}


def test_the_weight_is_the_published_one():
    assert light.model_facts("knn").config().weight_of_previous == 0.2
    assert len(VOCABULARY["medications"]) == DRUGS
