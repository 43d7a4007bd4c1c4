"""SafeDrug against its equations, one visit and one atom at a time."""

import dataclasses

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from medrec import trial
from medrec.errors import KnowledgeError
from medrec.models._base import Step
from medrec.models.safedrug import SafeDrug, SafeDrugConfig
from tests.medrec.models import reference
from tests.medrec.models.reference import linear, relu, sigmoid
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
    {"readout": "mean"},
    {"molecule_layers": 1},
    {"molecule_layers": 3},
    {"global_match": False},
    {"local_match": False},
]


def drug_vectors(state, config, knowledge):
    """Message passing over each molecule's dense adjacency, then the mean over a drug class."""
    molecules = knowledge.molecules
    found = np.zeros((knowledge.drugs, config.dim))
    for drug in range(knowledge.drugs):
        vectors = []
        for molecule in np.flatnonzero(molecules.drug == drug):
            atoms = np.flatnonzero(molecules.molecule == molecule)
            adjacency = np.zeros((len(atoms), len(atoms)))
            for a, b in molecules.bonds:
                if a in atoms:
                    adjacency[np.searchsorted(atoms, a), np.searchsorted(atoms, b)] = 1
            x = state["molecules.embedding.weight"][molecules.fingerprint[atoms]]
            for layer in range(config.molecule_layers):
                y = np.stack([relu(linear(state, f"molecules.updates.{layer}", row)) for row in x])
                x = y + adjacency @ y
            vectors.append(x.mean(axis=0) if config.readout == "mean" else x.sum(axis=0))
        if vectors:
            found[drug] = np.mean(vectors, axis=0)
    return found


def global_match(state, query, drugs):
    match = sigmoid(drugs @ query)
    mixed = match + linear(state, "mix", match)
    centred = mixed - mixed.mean()
    normal = centred / np.sqrt((centred**2).mean() + 1e-5)
    return normal * state["norm.weight"] + state["norm.bias"]


def local_match(state, query, contains):
    fragments = sigmoid(linear(state, "fragments", query))
    total = np.zeros(len(contains))
    for drug, has in enumerate(contains):
        for fragment, weight in enumerate(state["bipartite"][:, drug]):
            if has[fragment] or not has.any():
                total[drug] += fragments[fragment] * weight
    return total


def all_logits(model, knowledge):
    state, config = reference.state_of(model), model.config
    if config.global_match:
        frozen = config.molecule_encoder == "frozen"
        drugs = state["frozen_drugs"] if frozen else drug_vectors(state, config, knowledge)
    found = []
    for patient in reference.patients():
        for visit in range(len(patient)):
            query = reference.query_of(state, patient[: visit + 1], mean=False)
            logits = 1.0
            if config.global_match:
                logits = logits * global_match(state, query, drugs)
            if config.local_match:
                logits = logits * local_match(state, query, knowledge.molecules.contains)
            found.append(logits)
    return found


def build(changes, seed=0):
    spec = make_spec("safedrug", {**changes, "dropout": 0.0})
    return shaken(trial.build(spec, small_knowledge()), seed)


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_logits_equal_the_equations(changes):
    model, batch = build(changes), whole_batch()
    found = model(batch)[batch.visit_mask].detach().double().numpy()
    np.testing.assert_allclose(found, all_logits(model, small_knowledge()), rtol=1e-5, atol=1e-5)


def paper_weights(config, rate):
    beta = min(1.0, max(0.0, 1 - (rate - config.ddi_target) / config.ddi_gain))
    return beta, 1 - beta


def released_weights(config, rate):
    """The released line: above the target, `min` stands for `max`."""
    beta = 1.0
    if rate > config.ddi_target:
        beta = min(0.0, 1 + (config.ddi_target - rate) / config.ddi_gain)
    return beta, 1 - beta


# Weights and a band such that visits lie below, within and above it.
@pytest.mark.parametrize(
    ("variant", "rule", "seed", "target", "gain"),
    [("paper", paper_weights, 4, 0.3, 0.15), ("released", released_weights, 5, 0.12, 0.1)],
)
def test_training_loss_equals_the_equations(variant, rule, seed, target, gain):
    knowledge, batch = small_knowledge(), whole_batch()
    changes = {"variant": variant, "ddi_target": target, "ddi_gain": gain}
    model = build(changes, seed).train()
    found = model.loss(model(batch), batch, Step(0, 0.5)).item()
    given = [visit[2] for patient in reference.patients() for visit in patient]
    seen = []

    def weigh(visit, rate):
        seen.append(rule(model.config, rate))
        return seen[-1]

    expected = reference.loss(
        all_logits(model, knowledge), given, knowledge.interacts, model.config, 0.0005, weigh
    )
    assert found == pytest.approx(expected, abs=1e-5)
    betas = {round(beta, 6) for beta, _ in seen}
    assert len(betas) > 2
    assert max(betas) == 1.0
    assert min(betas) == 0.0 if variant == "paper" else min(betas) < 0.0


def test_settings_are_those_of_the_sources():
    paper, released = SafeDrugConfig(), SafeDrugConfig(variant="released")
    assert (paper.bce_weight, paper.margin_weight) == (0.95, 0.05)
    assert (paper.ddi_target, paper.ddi_gain) == (0.06, 0.05)
    assert paper.molecule_encoder == "trained"
    assert released.controller == "safedrug_released"
    assert released.molecule_encoder == "frozen"


def test_the_released_molecules_never_train():
    spec, batch = make_spec("safedrug", {"variant": "released"}), whole_batch()
    model = trial.build(spec, small_knowledge())
    before = model.frozen_drugs.clone()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.1)
    model.loss(model(batch), batch, Step(0, 0.5)).backward()
    optimiser.step()
    assert torch.equal(model.frozen_drugs, before)
    assert before.abs().max() > 0


def test_a_class_without_structure_can_still_be_recommended():
    model, batch = build({}), whole_batch()
    logits = model(batch)[batch.visit_mask][:, WITHOUT_STRUCTURE]
    assert logits.abs().min() > 0


def test_one_match_must_remain():
    with pytest.raises(ValidationError, match="cannot both be false"):
        SafeDrugConfig(global_match=False, local_match=False)


def test_no_structure_at_all_is_refused():
    bare = dataclasses.replace(small_knowledge(), structures=((),) * small_knowledge().drugs)
    with pytest.raises(KnowledgeError, match="at least one drug class"):
        SafeDrug(SafeDrugConfig(), bare)
