"""Med-Tree (reconstruction) is GAMENet with code vectors from the trees."""

import numpy as np
import pytest
import torch

from medrec import trial
from medrec.models import gamenet, medtree
from medrec.models._base import Step
from tests.medrec.models import reference
from tests.medrec.models.test_gamenet import memory_bank, visit_logits
from tests.medrec.small import make_spec, shaken, small_knowledge, whole_batch

VARIANTS = [{}, {"heads": 2}, {"memory": False}, {"history": False}, {"ddi_memory": False}]


def build(changes):
    changes = {**changes, "dropout": 0.0, "graph_dropout": 0.0}
    return shaken(trial.build(make_spec("medtree", changes), small_knowledge()))


def state_of(model):
    """Weights, and the vectors of the trees in the places of GAMENet's tables."""
    state, knowledge = reference.state_of(model), small_knowledge()
    for kind in ("diagnoses", "procedures"):
        prefix = f"encoder.{kind}.attention."
        vectors = reference.ontology_vectors(state, prefix, knowledge, kind, model.config.heads)
        state[f"encoder.{kind}.embedding.weight"] = vectors
    return state


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_logits_equal_the_equations(changes):
    model, batch, knowledge = build(changes), whole_batch(), small_knowledge()
    state, config = state_of(model), model.config
    bank = memory_bank(state, config, knowledge) if config.memory else None
    expected = [
        visit_logits(state, config, bank, patient[: visit + 1])
        for patient in reference.patients()
        for visit in range(len(patient))
    ]
    found = model(batch)[batch.visit_mask].detach().double().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_the_loss_is_that_of_gamenet():
    model, batch = build({}), whole_batch()
    other = shaken(trial.build(make_spec("gamenet"), small_knowledge()))
    logits, losses = model(batch).detach(), []
    for each in (model, other):
        torch.manual_seed(0)
        losses.append(each.loss(logits, batch, Step(0, 0.5)))
    assert torch.equal(*losses)


def test_settings_are_those_of_gamenet_and_nothing_is_released():
    own, base = medtree.MedTreeConfig().model_dump(), gamenet.GAMENetConfig().model_dump()
    assert own == {**base, "heads": 4}
    released = medtree.MedTreeConfig(variant="released").model_dump()
    assert released == {**own, "variant": "released"}
    assert "reconstruction" in medtree.MODEL.title
    assert "reconstruction" in medtree.MODEL.source


def test_heads_divide_the_width():
    with pytest.raises(ValueError, match="no multiple"):
        medtree.MedTreeConfig(dim=6)
