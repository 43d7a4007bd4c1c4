"""ManyDG against its equations, one visit and one pair at a time."""

import numpy as np
import pytest
import torch

from medrec import trial
from medrec.models._base import Step
from medrec.models.gamenet import GAMENetConfig
from medrec.models.manydg import ManyDGConfig, mean_distance, ring_pairs, trained_visits
from tests.medrec.models import reference
from tests.medrec.models.reference import bag, linear, relu, sigmoid, softmax
from tests.medrec.models.test_gamenet import graph_convolution
from tests.medrec.models.test_retain import states
from tests.medrec.small import make_spec, shaken, small_knowledge, whole_batch

VARIANTS = [
    {},
    {"variant": "released"},
    {"encoder": "gamenet"},
    {"encoder": "gamenet", "variant": "released"},
    {"projection": False},
    {"temperature": 0.2},
]
LOSSES = [
    {},
    {"variant": "released"},
    {"encoder": "gamenet"},
    {"similarity_weight": 2.0, "reconstruction_weight": 0.0, "matching_weight": 0.0},
    {"similarity_weight": 0.0, "reconstruction_weight": 3.0, "matching_weight": 0.0},
    {"similarity_weight": 0.0, "reconstruction_weight": 0.0, "matching_weight": 0.5},
    {"similarity_weight": 0.0, "reconstruction_weight": 0.0, "matching_weight": 0.0},
]


def history_of(config, visit, drugs):
    """What the history holds for each drug of a visit that is over."""
    absent = drugs if config.medication_fill == "drugs" else 0
    return np.array([1.0 if drug in visit[2] else absent for drug in range(drugs)])


def retain_features(state, config, visits, drugs):
    tables = [state[f"encoder.{kind}.embedding.weight"] for kind in ("diagnoses", "procedures")]
    known = [bag(tables[0], visit[0], False) + bag(tables[1], visit[1], False) for visit in visits]
    given = [history_of(config, v, drugs) @ state["encoder.medications.weight"] for v in visits]
    read = [a + b for a, b in zip(known[:-1], given[:-1], strict=True)] + [known[-1]]
    score = state["encoder.visit_score.weight"][0]
    alpha = softmax(np.array([score @ g for g in states(state, "visit", read)]))
    beta = [np.tanh(linear(state, "encoder.code_gate", h)) for h in states(state, "code", read)]
    return sum(a * b * x for a, b, x in zip(alpha, beta, read, strict=True))


def gamenet_features(state, config, visits, drugs):
    inner = {name.removeprefix("encoder."): t for name, t in state.items()}
    queries = [reference.query_of(inner, visits[: t + 1], True) for t in range(len(visits))]
    knowledge = small_knowledge()
    bank = graph_convolution(inner, "prescription_graph", knowledge.co_prescribed)
    bank = bank - inner["beta"] * graph_convolution(
        inner, "interaction_graph", knowledge.interacts
    )
    from_bank = from_history = softmax(bank @ queries[-1]) @ bank
    if len(visits) > 1:
        attention = softmax(np.array([queries[-1] @ query for query in queries[:-1]]))
        earlier = [history_of(config, visit, drugs) for visit in visits[:-1]]
        from_history = sum(a * y for a, y in zip(attention, earlier, strict=True)) @ bank
    return linear(state, "features", relu(np.concatenate([queries[-1], from_bank, from_history])))


def domain_of(state, v):
    return linear(state, "domain.3", relu(linear(state, "domain.1", relu(v))))


def cosine(a, b):
    return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))


def features(model):
    """Returns v of every visit of every patient."""
    state, config = reference.state_of(model), model.config
    of = retain_features if config.encoder == "retain" else gamenet_features
    drugs = small_knowledge().drugs
    return [
        [of(state, config, patient[: t + 1], drugs) for t in range(len(patient))]
        for patient in reference.patients()
    ]


def logits_of(model, v):
    state, config = reference.state_of(model), model.config
    rest = v
    if config.projection:
        z = domain_of(state, v)
        unit = z / np.linalg.norm(z)
        rest = v - (v @ unit) * unit
    return np.array([cosine(rest, w) for w in state["prototypes"]]) / config.temperature


def build(changes):
    spec = make_spec("manydg", {**changes, "dropout": 0.0, "graph_dropout": 0.0})
    return shaken(trial.build(spec, small_knowledge()))


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_logits_equal_the_equations(changes):
    model, batch = build(changes), whole_batch()
    found = model(batch)[batch.visit_mask].detach().double().numpy()
    expected = [logits_of(model, v) for patient in features(model) for v in patient]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=5e-5)


def pair_loss(state, config, one, other):
    """The terms of one pair besides cross-entropy and means; a side is (v, drugs)."""
    (v_i, given_i), (v_j, given_j) = one, other
    z_i, z_j = domain_of(state, v_i), domain_of(state, v_j)
    total = -config.similarity_weight * cosine(z_i, z_j)
    if config.reconstruction_weight == 0:
        return total
    for z, given, v in ((z_i, given_j, v_j), (z_j, given_i, v_i)):
        told = np.concatenate([z, bag(state["prototypes"], given, False)])
        rebuilt = linear(state, "rebuild.2", relu(linear(state, "rebuild.0", told)))
        total -= config.reconstruction_weight * cosine(rebuilt, v)
    return total


@pytest.mark.parametrize("changes", LOSSES, ids=str)
@pytest.mark.parametrize("epoch", [0, 5])
def test_training_loss_equals_the_equations(changes, epoch):
    model, batch = build(changes).train(), whole_batch()
    state, config = reference.state_of(model), model.config
    found = model.loss(model(batch), batch, Step(epoch, 0.5)).item()
    total, visits = 0.0, 0
    for patient, vectors in zip(reference.patients(), features(model), strict=True):
        visits += len(patient)
        count = len(patient)
        if not config.pair_last and count > 1:
            count -= 1
        for t in range(count):
            p = sigmoid(logits_of(model, vectors[t]))
            total += reference.cross_entropy(p, patient[t][2])
        if len(patient) == 1 or not model.paired:
            continue
        sides = [(vectors[t], patient[t][2]) for t in range(count)]
        shift = 0 if count == 1 else 1 + epoch % (count - 1)
        v_mean = np.mean([v for v, _ in sides], axis=0)
        z_mean = np.mean([domain_of(state, v) for v, _ in sides], axis=0)
        apart = ((z_mean - v_mean) @ (z_mean - v_mean)) / (v_mean @ v_mean)
        for t in range(count):
            pair = pair_loss(state, config, sides[t], sides[(t + shift) % count])
            total += (pair + config.matching_weight * apart) / 2
    assert found == pytest.approx(total / visits, rel=1e-4)


def test_pairs_go_round_until_every_pair_had_its_turn():
    exists = torch.tensor([[True] * 4, [True, True, False, False], [True] + [False] * 3])
    several = exists.sum(dim=1) > 1
    seen = [list(zip(*(x.tolist() for x in ring_pairs(exists, several, epoch)), strict=True))
            for epoch in range(3)]  # fmt: skip
    assert seen[0] == [(0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 4)]
    assert seen[1][:4] == [(0, 2), (1, 3), (2, 0), (3, 1)]
    assert all(pairs[4:] == [(4, 5), (5, 4)] for pairs in seen)
    found = {pair for pairs in seen for pair in pairs[:4]}
    assert found == {(i, j) for i in range(4) for j in range(4) if i != j}


def test_released_pairs_leave_out_last_visits():
    exists = torch.tensor([[True] * 3, [True, True, False], [True, False, False]])
    trained = trained_visits(exists, last=False)
    assert trained.sum(dim=1).tolist() == [2, 1, 1]
    i, j = ring_pairs(trained, exists.sum(dim=1) > 1, 0)
    assert i.tolist() == [0, 1, 3]
    assert j.tolist() == [1, 0, 3]  # one of two is paired with itself
    assert torch.equal(trained_visits(exists, last=True), exists)


def test_means_are_compared_over_the_visits_counted_and_not_where_there_is_no_code():
    v = torch.tensor([[[2.0, 0.0], [0.0, 2.0], [9.0, 9.0]], [[0.0, 0.0]] * 3])
    z = torch.tensor([[[1.0, 1.0], [3.0, 1.0], [5.0, 5.0]], [[1.0, 1.0]] * 3])
    v.requires_grad_(True)
    found = mean_distance(z, v, torch.tensor([[True, True, False], [True, True, False]]))
    assert found.tolist() == pytest.approx([1 / 2, 0.0])  # (2, 1) from (1, 1)
    found.sum().backward()
    assert torch.isfinite(v.grad).all()


def test_a_patient_with_one_visit_adds_cross_entropy_alone():
    model, batch = build({}), whole_batch()
    singles = batch.visit_mask.sum(dim=1) == 1
    alone = type(batch)(**{name: value[singles] for name, value in vars(batch).items()})
    logits = model(alone)
    found = model.loss(logits, alone, Step(0, 0.5))
    given = alone.medications[alone.visit_mask]
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        logits[alone.visit_mask], given
    )
    torch.testing.assert_close(found, expected)


def test_nothing_of_the_patients_own_part_is_classified():
    model, batch = build({}), whole_batch()
    model(batch)
    v, z = (x[batch.visit_mask] for x in model._latest)
    unit = torch.nn.functional.normalize(z, dim=1)
    own = (v * unit).sum(dim=1, keepdim=True) * unit
    with torch.no_grad():
        rest = torch.nn.functional.normalize(v - own, dim=1)
    assert (rest * unit).sum(dim=1).abs().max() < 1e-4


def test_settings_are_those_of_the_sources():
    paper, released = ManyDGConfig(), ManyDGConfig(variant="released")
    assert (paper.dim, paper.temperature) == (64, 0.5)
    weights = (paper.similarity_weight, paper.reconstruction_weight, paper.matching_weight)
    assert weights == (1.0, 1.0, 1.0)
    assert (paper.medication_fill, paper.pair_last) == ("zero", True)
    assert (released.medication_fill, released.pair_last) == ("drugs", False)
    assert paper.graph_dropout == GAMENetConfig().graph_dropout
