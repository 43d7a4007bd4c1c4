"""HiSGT: its losses against plain loops, what it is told, and what each switch takes away."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from medrec.cohort import KINDS
from medrec.generation._records import Tokens
from medrec.generation._side import text_vectors, text_width
from medrec.generation.gpt import Gpt
from medrec.generation.hisgt import Hisgt, HisgtConfig
from medrec.knowledge.relations import node
from medrec.models._base import Step
from search_spaces.hisgt import ABLATIONS
from tests.medrec.generation.small_records import SMALL, batch, network
from tests.medrec.small import small_knowledge

STEP = Step(0, 0.5)


def parameters(model):
    return {name: tuple(p.shape) for name, p in model.named_parameters()}


def test_every_term_of_the_loss_equals_a_plain_loop():
    model, records = network("hisgt", semantic_weight=0.3, hierarchy_weight=0.7), batch(3, 0, 5)
    semantics = hierarchy = sequence = 0.0
    tokens = predicted = 0
    for row in range(3):
        length = int(records.mask[row].sum())
        record = records.tokens[row, :length]
        states = model.states(record[None])[0].detach().double()
        weight = {name: p.detach().double() for name, p in model.named_parameters()}
        for at, token in enumerate(record.tolist()):
            for what, table in (("semantics", model.semantics), ("hierarchy", model.hierarchy)):
                guess = weight[f"guess_{what}.weight"] @ states[at] + weight[f"guess_{what}.bias"]
                lost = sum(
                    (float(a) - float(b)) ** 2 for a, b in zip(guess, table[token], strict=True)
                )
                semantics += lost * (what == "semantics")
                hierarchy += lost * (what == "hierarchy")
            tokens += 1
            if at + 1 < length:
                logits = weight["embedding.weight"] @ states[at]
                sequence += float(logits.logsumexp(0) - logits[record[at + 1]])
                predicted += 1
    outputs = model(records)
    (beta, found_semantics), (gamma, found_hierarchy) = model.reconstruction(outputs, records)
    assert (beta, gamma) == (0.3, 0.7)
    assert float(found_semantics.detach()) == pytest.approx(semantics / tokens, rel=1e-5)
    assert float(found_hierarchy.detach()) == pytest.approx(hierarchy / tokens, rel=1e-5)
    expected = sequence / predicted + 0.3 * semantics / tokens + 0.7 * hierarchy / tokens
    found = float(model.loss(outputs, records, STEP).detach())
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("fusion", ["projection", "addition"])
def test_tokens_are_told_title_and_place(fusion):
    model = network("hisgt", fusion=fusion)
    weight = dict(model.named_parameters())
    for token in (0, 13, 27, model.tokens.end_visit):
        expected = weight["embedding.weight"][token]
        expected = expected + weight["tell_semantics.weight"] @ model.semantics[token]
        expected = expected + weight["tell_semantics.bias"]
        place = model.hierarchy[token]
        if fusion == "projection":
            place = weight["tell_hierarchy.weight"] @ place
        torch.testing.assert_close(model.vectors(torch.tensor([token]))[0], expected + place)
    assert ("tell_hierarchy.weight" in weight) == (fusion == "projection")


def test_special_tokens_have_no_place_and_codes_have_one():
    model = network("hisgt")
    assert not model.hierarchy[model.tokens.codes :].any()
    assert model.hierarchy[: model.tokens.codes].abs().sum(dim=1).min() > 0


def test_places_to_be_projected_have_length_1():
    lengths = {}
    for fusion in ("projection", "addition"):
        model = network("hisgt", fusion=fusion)
        lengths[fusion] = model.hierarchy[: model.tokens.codes].norm(dim=1)
    torch.testing.assert_close(lengths["projection"], torch.ones(28))
    assert not torch.allclose(lengths["addition"], torch.ones(28), atol=0.1)


def test_released_is_plain_addition_of_a_graph_from_parents_to_children():
    released = HisgtConfig(variant="released")
    assert (released.fusion, released.tree_edges) == ("addition", "parent_to_child")
    paper = HisgtConfig()
    assert (paper.fusion, paper.tree_edges) == ("projection", "parent_child_sibling")
    rest = {"variant", "fusion", "tree_edges"}
    assert released.model_dump(exclude=rest) == paper.model_dump(exclude=rest)


def test_ablations_remove_weights_and_nothing_else():
    full = parameters(network("hisgt"))
    guess, tell = ("guess_semantics.", "guess_hierarchy."), ("tell_semantics.", "tell_hierarchy.")
    gone = {
        "no_semantics": (guess[0], tell[0]),
        "no_hierarchy": (guess[1], tell[1]),
        "no_semantics_no_hierarchy": (*guess, *tell),
        "no_auxiliary_losses": guess,
        "no_semantic_loss": guess[:1],
        "no_hierarchy_loss": guess[1:],
        "parent_child_edges": (),
        "parent_to_child_edges": (),
        "plain_addition": tell[1:],
    }
    assert set(gone) == set(ABLATIONS)
    for name, prefixes in gone.items():
        left = {key: shape for key, shape in full.items() if not key.startswith(prefixes or "-")}
        assert parameters(network("hisgt", **ABLATIONS[name].changes)) == left, name


def test_without_both_it_is_the_gpt():
    changes = ABLATIONS["no_semantics_no_hierarchy"].changes
    plain, gpt = network("hisgt", **changes), network("gpt")
    assert type(gpt) is Gpt
    assert parameters(plain) == parameters(gpt)
    plain.load_state_dict(gpt.state_dict())
    records = batch()
    assert torch.equal(
        plain.loss(plain(records), records, STEP), gpt.loss(gpt(records), records, STEP)
    )


def test_pretraining_is_kept_by_the_state_and_repeats_for_a_seed():
    model = network("hisgt", seed=2)
    assert {"semantics", "hierarchy"} <= set(model.state_dict())
    again = network("hisgt", seed=2)
    assert torch.equal(model.hierarchy, again.hierarchy)
    assert not torch.equal(model.hierarchy, network("hisgt", seed=3).hierarchy)
    torch.manual_seed(0)
    fresh = Hisgt(HisgtConfig(**SMALL["hisgt"]), small_knowledge())
    assert not fresh.hierarchy.any()  # until it is pre-trained


def test_titles_are_those_of_the_knowledge():
    knowledge = small_knowledge()
    bundle = knowledge.bundle
    titled = tuple(
        "heart failure" if name.endswith("9:4280") else "fever" for name in bundle.nodes
    )
    told = replace(knowledge, bundle=replace(bundle, titles=titled))
    vectors = text_vectors(told, 4)
    assert vectors.shape == (34, 4)
    failure = knowledge.vocabulary["diagnoses"].index("9:4280")
    assert not np.allclose(vectors[failure], vectors[0])
    others = np.delete(vectors[:28], failure, axis=0)
    assert np.allclose(others, others[0])
    lengths = np.linalg.norm(vectors, axis=1)
    assert np.allclose(lengths[:-1], 1, atol=1e-5)
    assert lengths[Tokens.of(told).pad] == 0


def test_text_vectors_of_the_bundle_are_taken_where_it_has_some():
    knowledge = small_knowledge()
    bundle = knowledge.bundle
    text = np.random.default_rng(0).normal(size=(len(bundle.nodes), 5)).astype(np.float32)
    told = replace(knowledge, bundle=replace(bundle, text=text))
    assert text_width(told, 128) == 5
    assert text_width(knowledge, 128) == 128
    vectors = text_vectors(told, 128)
    names = [node(kind, code) for kind in KINDS for code in told.vocabulary[kind]]
    for row, name in enumerate(names):
        expected = text[bundle.nodes.index(name)] if name in bundle.nodes else np.zeros(5)
        assert np.array_equal(vectors[row], expected)
    assert not vectors[28:].any()


def test_a_code_that_the_bundle_does_not_know_has_no_title():
    knowledge = small_knowledge()
    vocabulary = {**knowledge.vocabulary, "diagnoses": ("X:1", *VOCABULARY_REST)}
    vectors = text_vectors(replace(knowledge, vocabulary=vocabulary), 4)
    assert not vectors[0].any()


VOCABULARY_REST = small_knowledge().vocabulary["diagnoses"][1:]


def test_without_a_tree_places_are_zero():
    knowledge = small_knowledge()
    flat = np.full(len(knowledge.bundle.nodes), -1, dtype=np.int32)
    told = replace(knowledge, bundle=replace(knowledge.bundle, parents=flat))
    model = Hisgt(HisgtConfig(**SMALL["hisgt"]), told)
    model.pretrain()
    assert not model.hierarchy.any()
