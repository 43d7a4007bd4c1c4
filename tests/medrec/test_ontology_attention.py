"""Attention over an ontology against its equations, one node at a time."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from medrec.ontology_attention import OntologyAttention, OntologyBag
from tests.medrec.models.reference import ontology_vectors, state_of
from tests.medrec.small import shaken, small_knowledge, whole_batch

KINDS = ["diagnoses", "procedures", "medications"]


def built(kind, knowledge=None):
    return shaken(OntologyAttention(knowledge or small_knowledge(), kind, 8, 2))


def nested():
    """Knowledge where one code stands above another."""
    knowledge = small_knowledge()
    names = knowledge.vocabulary["diagnoses"]
    assert "9:4280" in names
    vocabulary = {
        **knowledge.vocabulary,
        "diagnoses": tuple("9:428" if name == "9:4019" else name for name in names),
    }
    return replace(knowledge, vocabulary=vocabulary)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("knowledge", [small_knowledge, nested])
def test_vectors_equal_the_equations(kind, knowledge):
    knowledge = knowledge()
    attention = built(kind, knowledge)
    expected = ontology_vectors(state_of(attention), "", knowledge, kind, heads=2)
    found = attention(torch.arange(len(expected))).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_some_codes_alone_have_the_vectors_that_all_have():
    attention, some = built("diagnoses"), torch.tensor([7, 2, 3])
    torch.testing.assert_close(attention(some), attention(torch.arange(12))[some])


def test_a_relative_moves_a_code_and_a_stranger_does_not():
    knowledge, attention = small_knowledge(), built("diagnoses")
    row = {name: i for i, name in enumerate(knowledge.vocabulary["diagnoses"])}
    before = attention(torch.arange(12))
    with torch.no_grad():  # 9:5849 and 9:5990 are both diseases of the genitourinary system
        attention.embedding.weight[12:] = attention.embedding.weight[12:].flip(0)
        moved = attention(torch.arange(12)) - before
        assert (moved.abs().amax(dim=1) > 1e-3).all()
        attention.embedding.weight[12:] = attention.embedding.weight[12:].flip(0)
        attention.embedding.weight[row["9:486"]] += 1.0
        moved = (attention(torch.arange(12)) - before).abs().amax(dim=1)
    assert moved[row["9:486"]] > 1e-3
    assert moved[row["9:25000"]] == 0


def test_a_kind_without_codes_has_no_vectors():
    knowledge = small_knowledge()
    none = replace(knowledge, vocabulary={**knowledge.vocabulary, "procedures": ()})
    assert built("procedures", none)(torch.arange(0)).shape == (0, 8)


def test_a_bag_is_the_mean_or_sum_of_its_codes():
    batch, knowledge = whole_batch(), small_knowledge()
    settings = {"heads": 2, "dropout": 0.0}
    bag = shaken(OntologyBag(knowledge, "diagnoses", 8, **settings, mean=True))
    vectors = bag.attention(torch.arange(12))
    found = bag(batch.diagnoses)
    for patient, visit in batch.visit_mask.nonzero().tolist():
        codes = [c for c in batch.diagnoses[patient, visit].tolist() if c < 12]
        torch.testing.assert_close(found[patient, visit], vectors[codes].mean(dim=0))
    bag.mean = False
    codes = [c for c in batch.diagnoses[2, 1].tolist() if c < 12]
    torch.testing.assert_close(bag(batch.diagnoses)[2, 1], vectors[codes].sum(dim=0))
