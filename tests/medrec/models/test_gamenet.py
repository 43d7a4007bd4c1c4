"""GAMENet against its equations, one visit at a time."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from medrec import trial
from medrec.models._base import Step
from medrec.models.gamenet import GAMENetConfig
from tests.medrec.models import reference
from tests.medrec.models.reference import linear, relu, softmax
from tests.medrec.small import make_spec, shaken, small_knowledge, whole_batch

VARIANTS = [
    {},
    {"variant": "released"},
    {"memory": False},
    {"history": False},
    {"ddi_memory": False},
]


def graph_convolution(state, name, adjacency):
    """Ã relu(Ã W1 + b1) W2 + b2 with Ã = A + I, each row divided by its sum."""
    nodes = len(adjacency)
    spread = np.zeros((nodes, nodes))
    for i in range(nodes):
        joined = [j for j in range(nodes) if adjacency[i, j] or i == j]
        for j in joined:
            spread[i, j] = 1 / len(joined)
    hidden = relu(spread @ state[f"{name}.first"] + state[f"{name}.first_bias"])
    return spread @ hidden @ state[f"{name}.second"] + state[f"{name}.second_bias"]


def memory_bank(state, config, knowledge):
    bank = graph_convolution(state, "prescription_graph", knowledge.co_prescribed)
    if config.ddi_memory:
        interactions = graph_convolution(state, "interaction_graph", knowledge.interacts)
        bank = bank - state["beta"] * interactions
    return bank


def read_history(queries, earlier, bank):
    """Attention over earlier queries, to their drugs, to the memory."""
    attention = softmax(np.array([queries[-1] @ query for query in queries[:-1]]))
    mixed = np.zeros(len(bank))
    for weight, visit in zip(attention, earlier, strict=True):
        for drug in visit[2]:
            mixed[drug] += weight
    return mixed @ bank


def visit_logits(state, config, bank, prefix):
    queries = [reference.query_of(state, prefix[: t + 1], True) for t in range(len(prefix))]
    parts = [queries[-1]]
    if config.memory:
        from_bank = softmax(bank @ queries[-1]) @ bank
        from_history = from_bank
        if config.history and len(prefix) > 1:
            from_history = read_history(queries, prefix[:-1], bank)
        parts += [from_bank, from_history]
    hidden = linear(state, "head.1", relu(np.concatenate(parts)))
    return linear(state, "head.3", relu(hidden))


def all_logits(model, knowledge):
    state, config = reference.state_of(model), model.config
    bank = memory_bank(state, config, knowledge) if config.memory else None
    return [
        visit_logits(state, config, bank, patient[: visit + 1])
        for patient in reference.patients()
        for visit in range(len(patient))
    ]


def build(changes):
    changes = {**changes, "dropout": 0.0, "graph_dropout": 0.0}
    return shaken(trial.build(make_spec("gamenet", changes), small_knowledge()))


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_logits_equal_the_equations(changes):
    model, batch = build(changes), whole_batch()
    found = model(batch)[batch.visit_mask].detach().double().numpy()
    np.testing.assert_allclose(found, all_logits(model, small_knowledge()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("epoch", [0, 8])
def test_training_loss_equals_the_equations(variant, epoch):
    knowledge, batch = small_knowledge(), whole_batch()
    model = build({"variant": variant}).train()
    config = model.config
    torch.manual_seed(5)
    found = model.loss(model(batch), batch, Step(epoch, 0.5)).item()
    torch.manual_seed(5)
    given = [visit[2] for patient in reference.patients() for visit in patient]
    draws = torch.rand(len(given)).tolist()
    outcomes = set()

    def weigh(visit, rate):
        temperature = config.ddi_gain * config.ddi_decay**epoch
        instead = rate > config.ddi_target and draws[visit] < np.exp(
            (config.ddi_target - rate) / temperature
        )
        outcomes.add(bool(instead))
        return (0.0, 1.0) if instead else (1.0, 0.0)

    scale = 1 / knowledge.drugs**2
    logits = all_logits(model, knowledge)
    expected = reference.loss(logits, given, knowledge.interacts, config, scale, weigh)
    assert found == pytest.approx(expected, abs=1e-5)
    assert outcomes == {True, False}, "the example must show both branches"


def test_settings_are_those_of_the_sources():
    paper, released = GAMENetConfig(), GAMENetConfig(variant="released")
    assert (paper.bce_weight, paper.margin_weight) == (0.9, 0.01)
    assert (paper.ddi_target, paper.ddi_gain, paper.ddi_decay) == (0.05, 0.5, 0.85)
    assert (released.bce_weight, released.margin_weight) == (0.9, 0.1)
    assert (released.ddi_target, released.ddi_gain, released.ddi_decay) == (0.06, 2.0, 0.85)
    assert GAMENetConfig(variant="released", dropout=0.1).dropout == 0.1


@pytest.mark.parametrize(("changes", "moves"), [({}, True), ({"history": False}, False)])
def test_earlier_medications_matter_only_with_history(changes, moves):
    model, batch = build(changes), whole_batch()
    other = replace(batch, medications=batch.medications.flip(2))
    change = (model(other) - model(batch)).abs().amax(dim=2)
    later = batch.visit_mask.clone()
    later[:, 0] = False
    assert (change[later].mean().item() > 1e-3) is moves
    assert change[:, 0].max() == 0
