"""G-BERT against its equations, one visit at a time."""

import math

import numpy as np
import pytest
import torch

from medrec import trial
from medrec.batching import ResidentCohort
from medrec.models._base import Step
from medrec.models.gbert import GBertConfig
from medrec.visit_transformer import token_sets
from tests.medrec.models import reference
from tests.medrec.models.reference import linear, relu, sigmoid, softmax
from tests.medrec.small import (
    VISITS,
    make_spec,
    shaken,
    small_cohort,
    small_knowledge,
    whole_batch,
)

VARIANTS = [
    {},
    {"variant": "released"},
    {"pooling": "halves"},
    {"cls_masked": True},
    {"layers": 1, "heads": 2},
    {"layers": 3},
    {"ontology": False},
    {"pretraining": "none"},
    {"history": False},
]
QUIET = {"dropout": 0.0, "attention_dropout": 0.0, "masked": 0.0}


def build(changes):
    return shaken(trial.build(make_spec("gbert", {**QUIET, **changes}), small_knowledge()))


def norm(state, name, x):
    centred = x - x.mean()
    return (
        state[f"{name}.weight"] * centred / np.sqrt((centred**2).mean() + 1e-5)
        + state[f"{name}.bias"]
    )


def gelu(x):
    return np.array([each * (1 + math.erf(each / math.sqrt(2))) / 2 for each in x])


def attention(state, name, xs, heads, allowed):
    """What each token reads of those at the allowed places."""
    queries, keys, values = np.split(state[f"{name}.project.weight"], 3)
    part = len(xs[0]) // heads
    read = [np.zeros(len(xs[0])) for _ in xs]
    for head in range(heads):
        rows = slice(head * part, (head + 1) * part)
        for place, x in enumerate(xs):
            q = queries[rows] @ x
            scores = np.array([q @ (keys[rows] @ xs[a]) / math.sqrt(part) for a in allowed])
            for weight, a in zip(softmax(scores), allowed, strict=True):
                read[place][rows] += weight * (values[rows] @ xs[a])
    return read


def visit_vector(state, config, tokens):
    """The vector of [CLS], the first of the tokens, after all layers."""
    xs = list(tokens)
    allowed = [a for a in range(len(xs)) if a or not config.cls_masked or len(xs) == 1]
    for layer in range(config.layers):
        name = f"transformer.layers.{layer}"
        normed = [norm(state, f"{name}.attention_norm", x) for x in xs]
        read = attention(state, name, normed, config.heads, allowed)
        xs = [x + linear(state, f"{name}.join", r) for x, r in zip(xs, read, strict=True)]
        wide = [linear(state, f"{name}.widen", norm(state, f"{name}.forward_norm", x)) for x in xs]
        xs = [x + linear(state, f"{name}.narrow", gelu(w)) for x, w in zip(xs, wide, strict=True)]
    return xs[0]


def tables(state, config):
    if not config.ontology:
        return [state[f"{kind}.weight"] for kind in ("diagnoses", "medications")]
    return [
        reference.ontology_vectors(state, f"{kind}.", small_knowledge(), kind, config.heads)
        for kind in ("diagnoses", "medications")
    ]


def visit_vectors(state, config, vectors, visit):
    """The vectors dx and rx of one visit."""
    codes = (visit[0], visit[2])
    return [
        visit_vector(
            state,
            config,
            [state["special"][0] + state["kind"][k]]
            + [vectors[k][code] + state["kind"][k] for code in codes[k]],
        )
        for k in (0, 1)
    ]


def mlp(state, name, x, activation=relu):
    return linear(state, f"{name}.2", activation(linear(state, f"{name}.0", x)))


def features(config, encoded, target):
    """Of the target visit, from the pairs (dx, rx) of all visits."""
    dx, rx = [pair[0] for pair in encoded], [pair[1] for pair in encoded]
    if config.pooling == "halves":
        rows = [vector for pair in encoded for vector in pair]
        dx, rx = rows[: len(encoded)], rows[len(encoded) :]
    else:
        rx = rx[:target]  # nobody may ask for more
    if not config.history:
        return dx[target]
    means = [np.mean(rows[:target], axis=0) for rows in (dx, rx)]
    return np.concatenate([*means, dx[target]])


def all_logits(model):
    """Of each visit; none of a first one."""
    state, config = reference.state_of(model), model.config
    vectors, found = tables(state, config), []
    for patient in reference.patients():
        encoded = [visit_vectors(state, config, vectors, visit) for visit in patient]
        found += [None]
        found += [
            mlp(state, "head", features(config, encoded, target))
            for target in range(1, len(patient))
        ]
    return found


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_logits_equal_the_equations(changes):
    model, batch = build(changes), whole_batch()
    found = model(batch)[batch.visit_mask].detach().double().numpy()
    for one, other in zip(found, all_logits(model), strict=True):
        if other is None:
            assert not one.any()
        else:
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_the_loss_of_fine_tuning_equals_the_equations():
    model, batch = build({"round_epochs": 2}), whole_batch()
    given = [visit[2] for patient in reference.patients() for visit in patient]
    expected = [
        reference.cross_entropy(sigmoid(logits), drugs)
        for logits, drugs in zip(all_logits(model), given, strict=True)
        if logits is not None
    ]
    for epoch in (2, 3, 6):
        found = model.loss(model(batch), batch, Step(epoch, 0.5)).item()
        assert found == pytest.approx(sum(expected) / len(given), rel=1e-4)


@pytest.mark.parametrize("changes", [{}, {"ontology": False}], ids=str)
def test_the_loss_of_pre_training_equals_the_equations(changes):
    model, batch = build({"round_epochs": 2, **changes}), whole_batch()
    state, config = reference.state_of(model), model.config
    vectors, total, visits = tables(state, config), 0.0, 0
    for patient in reference.patients():
        for visit in patient:
            encoded = visit_vectors(state, config, vectors, visit)
            visits += 1
            for s, source in enumerate(("diagnoses", "medications")):
                for target, codes in (("diagnoses", visit[0]), ("medications", visit[2])):
                    name = f"heads.{source}_to_{target}"
                    p = sigmoid(mlp(state, name, encoded[s], gelu))
                    total += reference.cross_entropy(p, codes)
    for epoch in (0, 1, 4):
        found = model.loss(model(batch), batch, Step(epoch, 0.5)).item()
        assert found == pytest.approx(total / visits, rel=1e-4)


def test_hidden_codes_become_masks_and_first_tokens_stay():
    model = build({})
    codes = torch.arange(22)  # 12 diagnoses, 10 drugs
    firsts = torch.tensor([22, 23])
    torch.manual_seed(0)
    tokens = torch.cat([codes, firsts]).repeat(500)
    hidden = model._hide(tokens, 0.15)
    moved = hidden != tokens
    assert not moved[tokens >= 22].any()
    assert moved[tokens < 22].float().mean().item() == pytest.approx(0.15, abs=0.01)
    assert (hidden[moved & (tokens < 12)] == 24).all()
    assert (hidden[moved & (tokens >= 12)] == 25).all()


def test_hiding_codes_moves_the_loss_of_pre_training_alone():
    model, batch = build({"masked": 0.5, "round_epochs": 1}), whole_batch()
    losses = {0: set(), 1: set()}
    for seed in range(3):
        for epoch, found in losses.items():
            torch.manual_seed(seed)
            found.add(model.loss(model(batch), batch, Step(epoch, 0.5)).item())
    assert (len(losses[0]), len(losses[1])) == (3, 1)


@pytest.mark.parametrize("epoch", [0, 5])
def test_patients_with_one_visit_alone_give_a_loss(epoch):
    model = build({}).train()
    single = torch.from_numpy(np.flatnonzero(VISITS == 1))
    batch = ResidentCohort(small_cohort()).gather(single)
    loss = model.loss(model(batch), batch, Step(epoch, 0.5))
    loss.backward()
    assert (loss.item() == 0) == (epoch == 5)


def test_first_visits_get_the_most_popular_drugs():
    model, batch = build({}), whole_batch()
    prediction = model.predict(batch, 0.5)
    assert torch.equal(prediction.scores[0, 0], model.first.frequency)
    assert (prediction.scores[:, 0] == model.first.frequency).all()
    assert GBertConfig().first_visit


def test_halves_alone_leak():
    assert GBertConfig().leak == ""
    assert GBertConfig(cls_masked=True).leak == ""
    assert GBertConfig(pooling="halves").leak
    assert GBertConfig(variant="released").leak
    assert GBertConfig(variant="released", pooling="interleaved").leak == ""


@pytest.mark.parametrize(
    ("pooling", "count", "expected"),
    [
        ("interleaved", 2, [1, 2, 3]),
        ("halves", 2, [1, 3, 2]),  # a permutation of the right features
        ("interleaved", 3, [1, 2, 3]),
        ("halves", 3, [1, 4, 2]),  # 4 is rx_2, what is to be predicted
    ],
)
def test_features_of_the_second_visit_by_hand(pooling, count, expected):
    rows = torch.arange(1.0, 2 * count + 1)  # dx_1, rx_1, dx_2, rx_2, ...
    exists = torch.ones(1, count, dtype=torch.bool)
    found = build({"pooling": pooling})._features(rows.view(1, count, 2, 1), exists)
    assert found[0, 1].tolist() == expected


def test_settings_are_those_of_the_sources():
    paper, released = GBertConfig(), GBertConfig(variant="released")
    assert (paper.dim, paper.heads, paper.layers, paper.feed_forward) == (300, 4, 2, 300)
    assert (paper.dropout, paper.attention_dropout, paper.masked) == (0.4, 0.1, 0.15)
    assert (paper.pretraining, paper.round_epochs) == ("alternating", 5)
    assert (paper.pooling, paper.cls_masked) == ("interleaved", False)
    assert (released.pooling, released.cls_masked) == ("halves", True)
    with pytest.raises(ValueError, match="no multiple"):
        GBertConfig(dim=6)


def test_sets_are_laid_out_in_blocks():
    sets = token_sets(torch.arange(10), torch.tensor([1, 5, 4]), first_hidden=True)
    assert [tuple(keys.shape) for keys in sets.keys] == [(2, 4), (1, 8)]
    assert sets.tokens[sets.first].tolist() == [0, 6, 1]
    assert sets.order.tolist() == [0, 2, 1]
    assert sets.keys[0].tolist() == [[True, False, False, False], [False, True, True, True]]
    assert sets.tokens[8:13].tolist() == [1, 2, 3, 4, 5]
