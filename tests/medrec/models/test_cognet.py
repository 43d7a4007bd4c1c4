"""COGNet against its equations, one visit and one step of writing at a time."""

import numpy as np
import pytest
import torch
from torch import nn

from medrec import splits, trial
from medrec.code_transformer import FeedForward, GatedPooling, Ragged, TransformerLayer
from medrec.models._base import Step
from medrec.models.cognet import COGNetConfig
from tests.medrec.models import reference
from tests.medrec.models.reference import linear, relu, sigmoid, softmax
from tests.medrec.small import (
    lists_of,
    make_spec,
    shaken,
    small_cohort,
    small_knowledge,
    whole_batch,
)

VARIANTS = [
    {},
    {"heads": 1},
    {"copy_by": "none"},
    {"copy_by": "drugs"},
    {"copy_by": "visits"},
    {"ddi_memory": False},
    {"memory": False},
]
DRUGS = small_cohort().drugs
START, END = DRUGS, DRUGS + 1


# ---- the equations


def attend(state, name, heads, query, sources):
    """Multi-head attention of one vector to a list of vectors."""
    width = len(query)
    if not sources:
        return linear(state, f"{name}.out", np.zeros(width))
    q = linear(state, f"{name}.query", query).reshape(heads, -1)
    weight = state[f"{name}.keys_values.weight"]
    both = [(weight @ each).reshape(heads, 2, -1) for each in sources]
    read = []
    for head in range(heads):
        scores = [q[head] @ each[head, 0] / np.sqrt(width / heads) for each in both]
        weights = softmax(np.array(scores))
        read.append(sum(w * each[head, 1] for w, each in zip(weights, both, strict=True)))
    return linear(state, f"{name}.out", np.concatenate(read))


def norm(state, name, x):
    centred = x - x.mean()
    spread = np.sqrt((centred**2).mean() + 1e-5)
    return centred / spread * state[f"{name}.weight"] + state.get(f"{name}.bias", 0.0)


def feed_forward(state, name, x):
    return linear(state, f"{name}.second", relu(linear(state, f"{name}.first", x)))


def transformer(state, name, heads, items):
    """Each item in view of all of its list."""
    found = []
    for item in items:
        read = attend(state, f"{name}.attention", heads, item, items)
        x = norm(state, f"{name}.norms.0", item + read)
        inner = feed_forward(state, f"{name}.feed_forward", x)
        found.append(norm(state, f"{name}.norms.1", x + inner))
    return found


def pooled(state, name, items, width):
    if not items:
        return np.zeros(width)
    hidden = [np.tanh(linear(state, f"{name}.hidden", x)) for x in items]
    weights = softmax(np.array([(state[f"{name}.gate.weight"] @ h)[0] for h in hidden]))
    return sum(w * x for w, x in zip(weights, items, strict=True))


def spread_of(adjacency):
    joined = adjacency + np.eye(len(adjacency))
    return joined / joined.sum(axis=1, keepdims=True)


def memory_of(state, config, knowledge):
    """G, and a zero row for the start."""
    if not config.memory:
        return np.zeros((DRUGS + 1, config.dim))
    name, found = "drug_memory", []
    for number, graph in enumerate((knowledge.co_prescribed, knowledge.interacts)):
        if number < len(state[f"{name}.second"]):
            spread = spread_of(graph)
            hidden = relu(spread @ state[f"{name}.first"] + state[f"{name}.first_bias"])
            found.append(
                spread @ hidden @ state[f"{name}.second"][number]
                + state[f"{name}.second_bias"][number]
            )
    memory = found[0]
    if config.ddi_memory:
        memory = memory - state[f"{name}.balance"] * found[1]
    return np.vstack([memory, np.zeros(config.dim)])


class Patient:
    """A patient up to a visit, whose drugs are about to be written."""

    def __init__(self, state, config, memory, prefix):
        self.state, self.config, self.memory = state, config, memory
        heads, dim = config.heads, config.dim
        self.codes, self.vectors = [], []
        for position, kind in enumerate(("diagnoses", "procedures")):
            table = state[f"encoders.{kind}.embedding.weight"]
            each = [
                transformer(
                    state, f"encoders.{kind}.layer", heads, [table[c] for c in visit[position]]
                )
                for visit in prefix
            ]
            self.codes.append(each[-1])
            if config.copy_by in ("both", "visits"):
                self.vectors.append([pooled(state, f"pooling.{position}", x, dim) for x in each])
        self.history = [visit[2] for visit in prefix[:-1]]
        if config.copy_by in ("both", "drugs"):
            table = state["medications.weight"]
            self.items = [
                transformer(state, "drug_layer", heads, [table[c] for c in drugs])
                for drugs in self.history
            ]

    def states(self, written):
        """Returns x of each step, from all tokens written before it."""
        state, heads = self.state, self.config.heads
        inputs = [state["medications.weight"][token] + self.memory[token] for token in written]
        found = []
        for step, last in enumerate(inputs):
            own = attend(state, "decoder.written", heads, last, inputs[: step + 1])
            x = norm(state, "decoder.norms.0", last + own)
            read = [
                attend(state, f"decoder.codes.{kind}", heads, x, self.codes[kind])
                for kind in range(2)
            ]
            y = norm(state, "decoder.norms.1", x + read[0] + read[1])
            inner = feed_forward(state, "decoder.feed_forward", y)
            found.append(norm(state, "decoder.norms.2", y + inner))
        return found

    def visit_shares(self):
        """c: attention to a zero slot and the earlier visits, each one slot later."""
        dim = self.config.dim
        scores = [0.0]
        for earlier in range(len(self.history)):
            both = [v[-1] @ v[earlier] for v in self.vectors]
            scores.append(sum(both) / np.sqrt(dim))
        return softmax(np.array(scores))[1:]

    def copied(self, x):
        """p_c: the product of both attentions, made to sum to one, by drug."""
        config, tokens = self.config, [(s, d) for s, ds in enumerate(self.history) for d in ds]
        weights = np.ones(len(tokens)) / len(tokens)
        if config.copy_by in ("both", "drugs"):
            query = linear(self.state, "copy", x)
            items = [z for visit in self.items for z in visit]
            weights = softmax(np.array([query @ z / np.sqrt(config.dim) for z in items]))
        if config.copy_by in ("both", "visits"):
            shares = self.visit_shares()
            weights = weights * [shares[visit] for visit, _ in tokens]
        weights = weights / weights.sum()
        found = np.zeros(DRUGS + 2)
        for weight, (_, drug) in zip(weights, tokens, strict=True):
            found[drug] += weight
        return found

    def distributions(self, written):
        """Returns p of the token after each of those written."""
        found = []
        for x in self.states(written):
            p = softmax(linear(self.state, "generate", x))
            if self.config.copy_by != "none" and any(self.history):
                z = sigmoid(linear(self.state, "gate", x)[0])
                p = z * p + (1 - z) * self.copied(x)
            found.append(p)
        return found


def everyone(model):
    """Each existing visit, as its patient stands when its drugs are written; and the drugs."""
    state, config = reference.state_of(model), model.config
    memory = memory_of(state, config, small_knowledge())
    for visits in reference.patients():
        for number in range(len(visits)):
            prefix = visits[: number + 1]
            yield Patient(state, config, memory, prefix), visits[number][2]


def rare_first(drugs):
    """Drugs by their number of training visits, then by their index."""
    cohort, counts = small_cohort(), dict.fromkeys(range(DRUGS), 0)
    lists = lists_of(cohort, "medications")
    for row in cohort.visits_of(cohort.members(splits.TRAIN)):
        for drug in lists[row]:
            counts[drug] += 1
    return sorted(drugs, key=lambda drug: (counts[drug], drug))


def build(changes):
    quiet = {"dropout": 0.0, "code_dropout": 0.0, "graph_dropout": 0.0}
    return shaken(trial.build(make_spec("cognet", {**changes, **quiet}), small_knowledge()))


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_probabilities_and_loss_equal_the_equations(changes):
    model, batch = build(changes), whole_batch()
    model.train()  # without dropout the same
    with torch.no_grad():
        log_probs = model(batch)
        loss = model.loss(log_probs, batch, Step(0, 0.5)).item()
    nll, visits = 0.0, 0
    for row, (patient, drugs) in enumerate(everyone(model)):
        ordered = rare_first(drugs)
        expected = np.array(patient.distributions([START, *ordered]))
        found = log_probs[row, : len(expected)].exp().double().numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
        assert (log_probs[row, len(expected) :] == 0).all()
        nll -= sum(np.log(p[t]) for p, t in zip(expected, [*ordered, END], strict=True))
        visits += 1
    cohort = small_cohort()
    lists = lists_of(cohort, "medications")
    training_tokens = [
        len(lists[row]) + 1 for row in cohort.visits_of(cohort.members(splits.TRAIN))
    ]
    assert loss == pytest.approx(nll / visits / np.mean(training_tokens), rel=1e-4)


def search(patient, width, longest):
    """Beam search, hypotheses as plain lists."""
    beams = [(0.0, [], False)]
    for _ in range(longest):
        grown = []
        for total, tokens, done in beams:
            if done:
                grown.append((total, tokens, True))
                continue
            p = patient.distributions([START, *tokens])[-1]
            grown += [
                (total + np.log(p[token]), [*tokens, token], token >= DRUGS)
                for token in range(DRUGS + 2)
                if token not in tokens
            ]
        beams = sorted(grown, key=lambda beam: -beam[0])[:width]
        if all(done for _, _, done in beams):
            break
    return beams[0][1]


@pytest.mark.parametrize(
    ("changes", "width"),
    [({}, 1), ({"decoding": "beam", "beam": 3, "most_drugs": 5}, 3), ({"copy_by": "none"}, 1)],
    ids=str,
)
def test_decoding_equals_full_decodes_of_growing_prefixes(changes, width):
    model, batch = build(changes), whole_batch()
    with torch.no_grad():
        answer = model.predict(batch, 0.5)
    chosen, scores = answer.chosen[batch.visit_mask], answer.scores[batch.visit_mask]
    for row, (patient, _) in enumerate(everyone(model)):
        if row % 3:  # a third of the visits will do
            continue
        tokens = search(patient, width, model.config.most_drugs)
        expected = {token for token in tokens if token < DRUGS}
        assert set(chosen[row].nonzero()[:, 0].tolist()) == expected
        steps = patient.distributions([START, *tokens[:-1]])
        np.testing.assert_allclose(
            scores[row].double().numpy(), np.mean(steps, axis=0)[:DRUGS], rtol=1e-3, atol=1e-5
        )


def test_a_beam_finds_sequences_at_least_as_probable(monkeypatch):
    from medrec.models import cognet

    totals = {}

    def spy(step, state, rules, width):
        totals[width] = original(step, state, rules, width).log_probability
        return original(step, state, rules, width)

    original = cognet.decode
    monkeypatch.setattr(cognet, "decode", spy)
    for changes in ({}, {"decoding": "beam", "beam": 4}):
        with torch.no_grad():
            build(changes).predict(whole_batch(), 0.5)
    better = totals[4] - totals[1]
    assert better.mean() > 0
    assert (better > -1e-4).float().mean() > 0.9


def test_drugs_are_written_rare_first_by_training_visits_alone():
    model = build({})
    assert model.order.tolist() == rare_first(range(DRUGS))


def test_a_first_visit_generates_and_others_copy_from_earlier_visits_alone():
    model, batch = build({}), whole_batch()
    with torch.no_grad():
        before = model.predict(batch, 0.5).scores
        model.gate.bias += 5.0
        moved = (model.predict(batch, 0.5).scores - before).abs().amax(dim=2)
    later = batch.visit_mask.clone()
    later[:, 0] = False
    assert moved[:, 0].max() == 0
    assert (moved[later] > 1e-4).float().mean() > 0.7


def test_settings_are_those_of_the_sources():
    paper = COGNetConfig()
    assert (paper.dim, paper.heads, paper.feed_forward, paper.dropout) == (64, 2, 2048, 0.2)
    assert (paper.beam, paper.most_drugs) == (4, 45)
    assert not paper.comparable_scores


# ---- blocks


def torch_layer(layer, heads):
    """Returns torch's own encoder layer with the same weights."""
    dim = layer.attention.query.in_features
    inner = layer.feed_forward.first.out_features
    twin = nn.TransformerEncoderLayer(dim, heads, inner, dropout=0.0, batch_first=True)
    both = layer.attention.keys_values.weight.unflatten(0, (heads, 2, dim // heads))
    query = layer.attention.query
    keys, values = both[:, 0].flatten(0, 1), both[:, 1].flatten(0, 1)
    with torch.no_grad():
        twin.self_attn.in_proj_weight.copy_(torch.cat([query.weight, keys, values]))
        twin.self_attn.in_proj_bias.zero_()[:dim].copy_(query.bias)
        for ours, theirs in (
            (layer.attention.out, twin.self_attn.out_proj),
            (layer.feed_forward.first, twin.linear1),
            (layer.feed_forward.second, twin.linear2),
            (layer.norms[0], twin.norm1),
            (layer.norms[1], twin.norm2),
        ):
            theirs.load_state_dict(ours.state_dict())
    return twin


def test_a_layer_over_flat_lists_is_that_of_torch_list_by_list():
    torch.manual_seed(0)
    layer, counts = TransformerLayer(8, 2, 600, 0.0), torch.tensor([3, 0, 1, 300])
    twin = torch_layer(layer, 2)
    x = torch.randn(304, 8, requires_grad=True)
    ours = layer(x, Ragged(counts))
    theirs = torch.cat([twin(part[None])[0] for part in x.split([3, 1, 300])])
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    weights = torch.randn_like(ours)
    (wanted,) = torch.autograd.grad((theirs * weights).sum(), x, retain_graph=True)
    (found,) = torch.autograd.grad((ours * weights).sum(), x, retain_graph=True)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    (theirs * weights).sum().backward()
    (ours * weights).sum().backward()
    torch.testing.assert_close(
        layer.feed_forward.first.weight.grad, twin.linear1.weight.grad, rtol=1e-4, atol=1e-3
    )
    torch.testing.assert_close(
        layer.feed_forward.second.weight.grad, twin.linear2.weight.grad, rtol=1e-4, atol=1e-3
    )
    torch.testing.assert_close(
        layer.feed_forward.first.bias.grad, twin.linear1.bias.grad, rtol=1e-4, atol=1e-3
    )


def test_dropout_inside_the_feed_forward_part_is_inverted_and_its_gradient_is_right():
    torch.manual_seed(0)
    part = FeedForward(3, 400, 0.25).double().train()
    x = torch.randn(7, 3, dtype=torch.double, requires_grad=True)

    def run(x):
        torch.manual_seed(1)  # the same elements dropped
        return part(x)

    assert torch.autograd.gradcheck(run, x)
    with torch.no_grad():
        mean = torch.stack([part(x) for _ in range(2000)]).mean(dim=0)
        torch.testing.assert_close(mean, part.eval()(x), rtol=0, atol=0.02)


def test_pooling_gives_an_empty_list_zero():
    pool = GatedPooling(4, 5)
    found = pool(torch.randn(3, 4), Ragged(torch.tensor([0, 3, 0])))
    assert (found[[0, 2]] == 0).all()
    assert (found[1] != 0).all()
