"""MoleRec against its equations, one visit at a time."""

import dataclasses

import numpy as np
import pytest
import torch

from medrec import trial
from medrec.errors import KnowledgeError
from medrec.models._base import Step
from medrec.models.molerec import MoleRec, MoleRecConfig
from tests.medrec.models import reference
from tests.medrec.models.reference import linear, relu, sigmoid, softmax
from tests.medrec.small import (
    WITHOUT_STRUCTURE,
    make_spec,
    shaken,
    small_knowledge,
    whole_batch,
)

VARIANTS = [
    {},
    {"variant": "released"},
    {"substructures": "table"},
    {"self_attention": False},
    {"molecule_attention": False},
    {"molecule_layers": 1},
]


def build(changes, seed=0):
    """A model whose molecule networks have settled moments, without dropout."""
    quiet = {"dropout": 0.0, "molecule_dropout": 0.0}
    model = shaken(
        trial.build(make_spec("molerec", {**changes, **quiet}), small_knowledge()), seed
    )
    with torch.no_grad():
        for part in (model.relevance, model.hidden, model.score):
            part.weight.mul_(5)  # otherwise all visits have nearly the same scores
        for _ in range(30):
            model.train()(whole_batch())
        logits = model.eval()(whole_batch())[whole_batch().visit_mask]
        model.score.bias.sub_(logits.mean())  # so that some scores are above 0.5, some below
    return model


def layer_norm(state, name, x):
    centred = x - x.mean()
    normal = centred / np.sqrt((centred**2).mean() + 1e-5)
    return normal * state[f"{name}.weight"] + state[f"{name}.bias"]


def attended(state, x):
    """Each element reads all elements, head by head."""
    dim = x.shape[1]
    parts = np.stack([linear(state, "attend.project", row) for row in x])
    queries, values, keys = parts[:, :dim], parts[:, dim:], x @ state["attend.keys.weight"].T
    found = []
    for query in queries:
        read = []
        for head in np.split(np.arange(dim), 2):
            weights = softmax(keys[:, head] @ query[head] / np.sqrt(len(head)))
            read.append(weights @ values[:, head])
        mixed = layer_norm(state, "attend.first_norm", query + np.concatenate(read))
        fed = mixed + relu(linear(state, "attend.feed", mixed))
        found.append(layer_norm(state, "attend.second_norm", fed))
    return np.stack(found)


def shared_parts(model, knowledge):
    """Substructures, and each class's weights of them; the networks have tests of their own."""
    state, config = reference.state_of(model), model.config
    contains = knowledge.molecules.contains
    with torch.no_grad():
        x = state["table"] if model.fragments is None else model.fragments().double().numpy()
        drugs = model.molecules().double().numpy() if config.molecule_attention else None
    if config.self_attention:
        x = attended(state, x)
    weights, without = np.zeros(contains.shape), 0
    for drug, has in enumerate(contains):
        seen = np.flatnonzero(has) if has.any() else np.arange(len(has))
        scores = np.zeros(len(seen))
        if config.molecule_attention and (has.any() or config.without_structure == "learned"):
            vector = drugs[drug]
            if not has.any():
                vector, without = state["own"][without], without + 1
            query = linear(state, "from_drug", vector)
            keys = [state["to_fragment.weight"] @ x[fragment] for fragment in seen]
            scores = np.array([query @ key for key in keys]) / np.sqrt(config.dim)
        weights[drug, seen] = softmax(scores)
    return x, weights


def all_logits(model, knowledge):
    state = reference.state_of(model)
    x, weights = shared_parts(model, knowledge)
    found = []
    for patient in reference.patients():
        for visit in range(len(patient)):
            query = reference.query_of(state, patient[: visit + 1], mean=False)
            relevance = sigmoid(linear(state, "relevance", query))
            logits = []
            for row in weights:
                combined = sum(row[s] * relevance[s] * x[s] for s in range(len(x)))
                logits.append(linear(state, "score", relu(linear(state, "hidden", combined)))[0])
            found.append(np.array(logits))
    return found


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_logits_equal_the_equations(changes):
    model, batch = build(changes), whole_batch()
    found = model(batch)[batch.visit_mask].detach().double().numpy()
    np.testing.assert_allclose(found, all_logits(model, small_knowledge()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("changes", [{}, {"variant": "released"}], ids=str)
def test_training_loss_equals_the_equations(changes):
    knowledge, batch = small_knowledge(), whole_batch()
    logits = all_logits(build(changes, seed=3), knowledge)
    chosen = [np.flatnonzero(visit >= 0) for visit in logits]
    rates = [reference.rate(drugs, knowledge.interacts) for drugs in chosen]
    target = (min(rates) + max(rates)) / 2
    model = build({**changes, "ddi_target": target, "ddi_gain": 2.0}, seed=3)
    found = model.loss(model(batch), batch, Step(0, 0.5)).item()
    given = [visit[2] for patient in reference.patients() for visit in patient]
    seen = []

    def weigh(visit, rate):
        beta = 1.0 if rate <= target else min(1.0, np.exp(2.0 * (1 - rate / target)))
        seen.append(beta)
        return beta, 1 - beta

    expected = reference.loss(logits, given, knowledge.interacts, model.config, 0.0005, weigh)
    assert found == pytest.approx(expected, rel=1e-5)
    assert min(seen) < 1.0
    assert max(seen) == 1.0


def test_settings_are_those_of_the_sources():
    config = MoleRecConfig()
    assert (config.dim, config.dropout, config.molecule_dropout) == (64, 0.7, 0.7)
    assert (config.molecule_layers, config.substructures) == (4, "gin")
    assert config.hidden == config.dim // 2
    assert (config.bce_weight, config.margin_weight, config.ddi_scale) == (0.95, 0.05, 0.0005)
    assert (config.controller, config.ddi_target, config.ddi_gain) == ("molerec", 0.06, 2.5)
    assert MoleRecConfig(variant="released").without_structure == "uniform"


def two_without_structure(changes):
    structures = list(small_knowledge().structures)
    structures[0] = ()
    knowledge = dataclasses.replace(small_knowledge(), structures=tuple(structures))
    model = shaken(trial.build(make_spec("molerec", changes), knowledge))
    with torch.no_grad():
        return model(whole_batch())[whole_batch().visit_mask][:, [0, WITHOUT_STRUCTURE]]


def test_classes_without_structure_have_scores_of_their_own():
    assert torch.equal(*two_without_structure({"variant": "released"}).T)
    one, other = two_without_structure({}).T
    assert (one - other).abs().min() > 1e-5


def test_the_whole_table_may_have_structures():
    structures = [found or ("CCO",) for found in small_knowledge().structures]
    knowledge = dataclasses.replace(small_knowledge(), structures=tuple(structures))
    model = trial.build(make_spec("molerec"), knowledge)
    assert torch.isfinite(model(whole_batch())).all()
    assert "own" not in model.state_dict()


def test_changed_weights_are_seen_at_once():
    model, batch = build({}), whole_batch()
    with torch.no_grad():
        before = model.predict(batch, 0.5).scores
        model.fragments.embedding.mul_(-1)
        assert not torch.equal(model.predict(batch, 0.5).scores, before)


def test_no_structure_at_all_is_refused():
    bare = dataclasses.replace(small_knowledge(), structures=((),) * small_knowledge().drugs)
    with pytest.raises(KnowledgeError, match="at least one drug class"):
        MoleRec(MoleRecConfig(), bare)
