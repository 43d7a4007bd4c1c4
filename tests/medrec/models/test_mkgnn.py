"""MK-GNN against its equations, one visit at a time, each from its own growing prefix."""

import math
from dataclasses import replace

import numpy as np
import pytest

from medrec import splits, trial
from medrec.knowledge.base import load_knowledge
from medrec.models._base import Step
from medrec.models.mkgnn import MKGNNConfig, prior_drugs
from medrec.spec import KnowledgeSpec
from tests.medrec.models import reference
from tests.medrec.models.reference import linear, relu, softmax
from tests.medrec.models.test_gamenet import graph_convolution, read_history
from tests.medrec.small import (
    lists_of,
    make_spec,
    scramble,
    shaken,
    small_cohort,
    small_knowledge,
    whole_batch,
)

VARIANTS = [
    {},
    {"variant": "released"},
    {"history_keys": "causal"},
    {"history": False},
    {"prior": False},
    {"code_positions": "none"},
    {"code_scale": "root", "heads": 4, "attention_scale": "divided_twice"},
]


def norm(state, name, x):
    scaled = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]


def position(place, width):
    """Sinusoids of a place: sine and cosine in turn."""
    rates = [1e-4 ** (2 * i / width) for i in range(width // 2)]
    return np.array([f(place * rate) for rate in rates for f in (math.sin, math.cos)])


def visit_vector(table, codes, config):
    """Mean of the scaled vectors of the codes, each with its position in the list."""
    width = table.shape[1]
    factor = width if config.code_scale == "width" else math.sqrt(width)
    place = {"listed": lambda i: i, "first": lambda i: 0}.get(config.code_positions)
    total = np.zeros(width)
    for i, code in enumerate(codes):
        total += factor * table[code] + (0 if place is None else position(place(i), width))
    return total / len(codes) if codes else total


def attend(state, name, xs, at, config):
    """Row `at` of multi-head self-attention over all the visits given."""
    width = len(xs[0])
    head = width // config.heads
    scale = head if config.attention_scale == "head" else head // config.heads
    query = linear(state, f"{name}.query", xs[at])
    keys = [linear(state, f"{name}.key", x) for x in xs]
    values = np.array([linear(state, f"{name}.value", x) for x in xs])
    parts = []
    for start in range(0, width, head):
        own = slice(start, start + head)
        weights = softmax(np.array([query[own] @ key[own] for key in keys]) / math.sqrt(scale))
        parts.append(weights @ values[:, own])
    mixed = linear(state, f"{name}.mix", np.concatenate(parts))
    return norm(state, f"{name}.norm", xs[at] + mixed)


def states_of(state, config, prefix, at):
    """[o1, o2] of the visit `at`, where every visit of the prefix is attended to."""
    found = []
    for kind, (bag, name) in enumerate(
        [("diagnoses", "diagnosis_attention"), ("procedures", "procedure_attention")]
    ):
        table = state[f"{bag}.embedding.weight"]
        xs = [visit_vector(table, visit[kind], config) for visit in prefix]
        found.append(attend(state, name, xs, at, config))
    return found


def visit_logits(state, config, knowledge, prefix):
    bank = graph_convolution(state, "memory", knowledge.co_prescribed)
    now = len(prefix) - 1
    states = states_of(state, config, prefix, now)
    queries = []
    for at in range(len(prefix)):
        seen = prefix if config.history_keys == "prefix" else prefix[: at + 1]
        queries.append(
            linear(state, "query", relu(np.concatenate(states_of(state, config, seen, at))))
        )
    from_bank = softmax(bank @ queries[-1]) @ bank
    from_history = from_bank
    if config.history and now:
        from_history = read_history(queries, prefix[:-1], bank)
    parts = states
    if config.prior:
        usual = prior_drugs(knowledge, config.prior_ratio, config.prior_count)
        drugs = sorted({int(m) for code in prefix[-1][0] for m in usual[code].nonzero()[0]})
        x = visit_vector(state["prior.weight"], drugs, config)
        value = linear(state, "prior_mix", linear(state, "prior_value", x))
        parts = [*parts, norm(state, "prior_norm", x + value)]
    joined = np.concatenate([*parts, from_bank, from_history])
    return linear(state, "head.3", relu(linear(state, "head.1", relu(joined))))


def all_logits(model, knowledge):
    state = reference.state_of(model)
    return [
        visit_logits(state, model.config, knowledge, patient[: visit + 1])
        for patient in reference.patients()
        for visit in range(len(patient))
    ]


def build(changes):
    changes = {**changes, "dropout": 0.0, "graph_dropout": 0.0, "dim": 8}
    return shaken(trial.build(make_spec("mkgnn", changes), small_knowledge()))


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_logits_equal_the_equations(changes):
    model, batch = build(changes), whole_batch()
    found = model(batch)[batch.visit_mask].detach().double().numpy()
    np.testing.assert_allclose(found, all_logits(model, small_knowledge()), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("changes", [{}, {"controller": "threshold", "ddi_target": 0.4}], ids=str)
def test_training_loss_equals_the_equations(changes):
    knowledge, batch = small_knowledge(), whole_batch()
    model = build(changes).train()
    found = model.loss(model(batch), batch, Step(0, 0.5)).item()
    config, outcomes = model.config, set()

    def weigh(visit, rate):
        above = config.controller == "threshold" and rate > config.ddi_target
        outcomes.add(above)
        return 1.0, config.ddi_gain if above else 0.0

    given = [visit[2] for patient in reference.patients() for visit in patient]
    logits = all_logits(model, knowledge)
    scale = 1 / knowledge.drugs**2
    expected = reference.loss(logits, given, knowledge.interacts, config, scale, weigh)
    assert found == pytest.approx(expected, abs=1e-5)
    assert len(outcomes) == (2 if changes else 1)


@pytest.mark.parametrize(("ratio", "count"), [(0.5, 1), (0.3, 3), (1.0, 1), (0.01, 2)])
def test_priors_count_training_visits(ratio, count):
    cohort, knowledge = small_cohort(), small_knowledge()
    rows = cohort.visits_of(cohort.members(splits.TRAIN)).tolist()
    ill, given = lists_of(cohort, "diagnoses"), lists_of(cohort, "medications")
    found = prior_drugs(knowledge, ratio, count)
    for code in range(knowledge.diagnoses):
        having = [row for row in rows if code in ill[row]]
        for drug in range(knowledge.drugs):
            both = sum(drug in given[row] for row in having)
            assert found[code, drug] == (both >= ratio * len(having) and both >= count)
    assert 0 < found.mean() < 1


def test_a_diagnosis_that_training_does_not_have_has_no_prior():
    knowledge = small_knowledge()
    visits = knowledge.training_visits
    never = replace(knowledge, diagnoses=knowledge.diagnoses + 1, training_visits=visits)
    assert not prior_drugs(never, 0.5, 1)[-1].any()


@pytest.mark.parametrize("split", [splits.VALIDATION, splits.TEST])
def test_priors_see_no_other_patients(split):
    other = load_knowledge(scramble(small_cohort(), split), KnowledgeSpec())
    assert (prior_drugs(other, 0.5, 1) == prior_drugs(small_knowledge(), 0.5, 1)).all()


def test_keys_of_history_differ_where_later_visits_are_seen():
    batch = whole_batch()
    found = {keys: build({"history_keys": keys})(batch) for keys in ("prefix", "causal")}
    moved = (found["prefix"] - found["causal"]).abs().amax(dim=2)
    two = moved[:, :2][batch.visit_mask[:, :2]]
    assert (two < 1e-5).all()  # one earlier visit has the whole weight, whatever its key
    assert (moved[:, 2:][batch.visit_mask[:, 2:]] > 1e-4).any()


def test_settings_are_those_of_the_sources():
    paper, released = MKGNNConfig(), MKGNNConfig(variant="released")
    assert (paper.dim, released.dim) == (64, 128)
    assert (paper.heads, paper.graph_dropout) == (2, 0.3)
    assert (paper.bce_weight, paper.margin_weight, paper.controller) == (0.8, 0.01, "none")
    assert (paper.prior_ratio, paper.prior_count, paper.history_keys) == (0.5, 1, "prefix")
    assert (paper.code_positions, released.code_positions) == ("listed", "first")
    assert (paper.attention_scale, released.attention_scale) == ("head", "divided_twice")
