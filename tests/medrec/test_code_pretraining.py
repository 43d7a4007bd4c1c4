"""Pre-training of ICD codes: the tree by hand, attention and losses by loops, what it learns."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from medrec.code_pretraining import (
    GroupAttention,
    TreeAttention,
    code_tree,
    masked_loss,
    padded,
    parent_loss,
    pretrain_codes,
)
from medrec.knowledge.built_in import built_in_bundle
from tests.medrec.small import small_cohort, small_knowledge, to_codes

# ICD-9 and ICD-10, an E code, and one that is none of ICD.
DIAGNOSES = (
    "10:E1121", "10:E1122", "10:I10", "9:25000", "9:25001", "9:25012", "9:486", "9:E8120", "own",
)  # fmt: skip
PROCEDURES = ("9:3961",)
ABOVE = {
    "9:25000": "9:2500", "9:25001": "9:2500", "9:25012": "9:2501", "9:2500": "9:250",
    "9:2501": "9:250", "9:E8120": "9:E812", "10:E1121": "10:E112", "10:E1122": "10:E112",
    "10:E112": "10:E11", "9:3961": "9:396",
}  # fmt: skip
CHANCE = 3  # times chance is what the tests ask for


def tree_of(diagnoses, procedures=()):
    """The tree of a few codes under the built-in hierarchies."""
    cohort, words = small_cohort(), {"diagnoses": diagnoses, "procedures": procedures}
    empty = to_codes([[]] * int(cohort.visits.sum()))
    codes = {**cohort.codes, "diagnoses": empty, "procedures": empty}
    words["medications"] = cohort.vocabulary["medications"]
    bundle = built_in_bundle(replace(cohort, vocabulary=words, codes=codes), (), {})
    return code_tree(bundle, words)


def small_tree():
    knowledge = small_knowledge()
    return code_tree(knowledge.bundle, knowledge.vocabulary)


def train(tree=None, visits=None, sizes=(12, 6), seed=0, **settings):
    torch.manual_seed(seed)
    settings = {"dim": 16, "heads": 4, "steps": 30, **settings}
    visits = small_knowledge().training_visits if visits is None else visits
    return pretrain_codes(tree or small_tree(), visits, sizes, **settings)


def cosine(a, b):
    return float(a @ b / (a.norm() * b.norm()))


# ---- the tree


def test_parents_are_prefixes_of_three_characters_and_more():
    tree = tree_of(DIAGNOSES, PROCEDURES)
    assert tree.codes == len(DIAGNOSES) + len(PROCEDURES)
    bare = [name.partition("/")[2] for name in tree.names]
    assert tuple(bare[: tree.codes]) == DIAGNOSES + PROCEDURES
    above = {n: bare[p] for n, p in zip(bare, tree.parent, strict=True) if p >= 0}
    assert above == ABOVE
    assert [bare[row] for row in tree.path(bare.index("9:25000"))] == ["9:2500", "9:250"]
    assert tree.path(bare.index("own")) == []


# ---- attention and losses, by loops


def test_attention_is_torchs_within_each_sequence():
    torch.manual_seed(0)
    own, plain = GroupAttention(8, 2).eval(), nn.MultiheadAttention(8, 2, batch_first=True)
    plain.load_state_dict({
        "in_proj_weight": own.project.weight, "in_proj_bias": own.project.bias,
        "out_proj.weight": own.join.weight, "out_proj.bias": own.join.bias,
    })  # fmt: skip
    x, sequences = torch.randn(9, 8), [[4], [0, 7, 2], [8, 1, 3, 5]]  # 6 lies in none
    expected = x.clone()
    for rows in sequences:
        mixed = plain(x[rows][None], x[rows][None], x[rows][None])[0][0]
        expected[rows] = own.norm(x[rows] + mixed)
    torch.testing.assert_close(own(x, padded(sequences)), expected, rtol=1e-5, atol=1e-5)


def test_attention_goes_up_the_tree_and_down_again():
    torch.manual_seed(0)
    tree = tree_of(DIAGNOSES, PROCEDURES)
    network = TreeAttention(tree, 8, 2)
    paths = [tree.path(row) for row in range(len(tree.parent))]
    groups = {}
    for row, path in enumerate(paths):
        groups.setdefault([row, *path][-1], []).append(row)
    x = list(network.embedding.weight)

    def visit(level, side):
        for rows in groups.values():
            lower = [r for r in rows if len(paths[r]) == level]
            upper = [r for r in rows if len(paths[r]) == level - 1]
            if not lower:
                continue
            for r, h in zip(lower, alone(network.intra, [x[r] for r in lower]), strict=True):
                x[r] = h
            both = upper + lower
            new = dict(zip(both, alone(network.inter, [x[r] for r in both]), strict=True))
            for r in upper if side == "upper" else lower:
                x[r] = new[r]

    def alone(attention, rows):
        return attention(torch.stack(rows), padded([range(len(rows))]))

    for level, side in [(2, "upper"), (1, "upper"), (1, "lower"), (2, "lower")]:
        visit(level, side)
    torch.testing.assert_close(network(), torch.stack(x), rtol=1e-5, atol=1e-5)
    h = network()
    v = [h[r] + (h[path].mean(dim=0) if path else 0) for r, path in enumerate(paths)]
    torch.testing.assert_close(network.with_ancestors(h), torch.stack(v))


def test_losses_are_cross_entropies_of_cosines():
    torch.manual_seed(0)
    h = torch.randn(6, 4)
    children, own, candidates = [0, 3, 5], [1, 0, 1], [2, 4]
    terms = []
    for child, place in zip(children, own, strict=True):
        scores = [math.exp(cosine(h[child], h[p]) / 0.1) for p in candidates]
        terms.append(-math.log(scores[place] / sum(scores)))
    found = parent_loss(h, *(torch.tensor(each) for each in (children, own, candidates)))
    assert found.item() == pytest.approx(sum(terms) / 3, rel=1e-4)

    visits, hidden, terms = [[0, 2], [5, 1, 3]], [4, 0], []
    for seen, code in zip(visits, hidden, strict=True):
        context = h[seen].mean(dim=0)
        scores = [math.exp(cosine(context, each) / 0.1) for each in h]
        terms.append(-math.log(scores[code] / sum(scores)))
    found = masked_loss(h, torch.tensor([0, 0, 1, 1, 1]), torch.tensor([0, 2, 5, 1, 3]),
                        torch.tensor(hidden))  # fmt: skip
    assert found.item() == pytest.approx(sum(terms) / 2, rel=1e-4)


# ---- what training gives


def found_parents(tree, nodes, rows):
    """Share of rows whose parent is nearer than all others of its level, and that of chance."""
    depth = [len(tree.path(row)) for row in range(len(tree.parent))]
    hits, chance = [], []
    for row in rows:
        level = [p for p, own in enumerate(depth) if own == depth[row] - 1]
        near = max(level, key=lambda p: cosine(nodes[row], nodes[p]))
        hits.append(near == tree.parent[row])
        chance.append(1 / len(level))
    return np.mean(hits), np.mean(chance)


def test_the_objective_falls_and_parents_are_found():
    tree = small_tree()
    found = train()
    first, last = np.array(found.losses[:3]).mean(axis=0), np.array(found.losses[-3:]).mean(axis=0)
    assert len(found.losses) == 30
    assert (last < 0.8 * first).all()
    children = np.flatnonzero(tree.parent >= 0).tolist()
    share, chance = found_parents(tree, found.nodes, children)
    assert share > 0.9 > CHANCE * chance
    before, _ = found_parents(tree, train(steps=0).nodes, children)
    assert before < share


def test_parents_that_were_held_out_are_found_above_chance():
    """Ten categories with six codes each; one of each is never trained on."""
    diagnoses = tuple(sorted(f"9:{c}{i}" for c in range(401, 411) for i in range(6)))
    tree = tree_of(diagnoses)
    held_out = [row for row, code in enumerate(diagnoses) if code.endswith("5")]
    none = {"diagnoses": to_codes([[]] * 4), "procedures": to_codes([[]] * 4)}
    found = train(tree, none, (len(diagnoses), 0), held_out=held_out, steps=60)
    share, chance = found_parents(tree, found.nodes, held_out)
    assert chance == pytest.approx(0.1)
    assert share >= CHANCE * chance


def test_every_level_has_vectors():
    tree, found = small_tree(), train()
    assert found.nodes.shape == (len(tree.names), 16)
    assert found.codes.shape == (tree.codes, 16)
    for row in range(tree.codes):
        path = tree.path(row)
        expected = found.nodes[row] + (found.nodes[path].mean(dim=0) if path else 0)
        torch.testing.assert_close(found.codes[row], expected)
    start = train(steps=0)
    moved = (found.nodes - start.nodes).abs().amax(dim=1)
    assert moved.min() > 1e-3  # categories learn too
    assert not start.losses


def test_icd_10_and_codes_without_parents_are_trained():
    tree = tree_of(DIAGNOSES, PROCEDURES)
    visits = {
        "diagnoses": to_codes([[0, 8], [1, 3, 8], [2, 4], [5, 6, 7]]),
        "procedures": to_codes([[0], [], [0], []]),
    }
    found, start = (train(tree, visits, (9, 1), steps=steps) for steps in (40, 0))
    assert found.losses[-1][1] < found.losses[0][1]
    assert (found.codes - start.codes).abs().amax(dim=1).min() > 1e-3
    children = [0, 1, 3, 4, 5]
    share, _ = found_parents(tree, found.nodes, children)
    assert share == 1.0


@pytest.mark.parametrize("codes", [("own",), ()], ids=str)
def test_with_nothing_to_learn_vectors_stay_as_drawn(codes):
    none = {"diagnoses": to_codes([[], []]), "procedures": to_codes([[], []])}
    found = train(tree_of(codes), none, (len(codes), 0))
    assert found.losses == ()
    assert found.codes.shape == (len(codes), 16)
    assert torch.isfinite(found.codes).all()


def test_the_same_seed_gives_the_same_numbers():
    one, same, other = train(), train(), train(seed=1)
    assert one.losses == same.losses
    assert torch.equal(one.nodes, same.nodes)
    assert not torch.equal(one.nodes, other.nodes)
