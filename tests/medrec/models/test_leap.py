"""LEAP against its equations, one visit and one step at a time."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from medrec import trial
from medrec.decoding import IGNORED
from medrec.models._base import Step
from medrec.models.leap import LEAPConfig
from tests.medrec.models import reference
from tests.medrec.models.reference import linear, relu, sigmoid, softmax
from tests.medrec.small import make_spec, shaken, small_knowledge, whole_batch

VARIANTS = [{}, {"variant": "released"}]
ORDERS = [{}, {"order": "frequency"}, {"order": "rare"}]
DECODING = [{}, {"most_drugs": 3}, {"decoding": "beam", "beam": 3}]
DRUGS = 10
START, END = DRUGS, DRUGS + 1
TUNING = {"fine_tune_from": 1}


def build(changes, seed=0):
    spec = make_spec("leap", {"dropout": 0.0, **changes})
    return shaken(trial.build(spec, small_knowledge()), seed)


def all_visits():
    return [visit for patient in reference.patients() for visit in patient]


class Writer:
    """One visit's decoder, step by step, with what was read kept as the released code does."""

    def __init__(self, model, visit, overwritten=None):
        self.state, self.config = reference.state_of(model), model.config
        self.memory = [self.state["diagnoses.weight"][code] for code in visit[0]]
        self.h = self.state["tokens.weight"][START]
        released = self.config.attention == "released"
        self.overwritten = released if overwritten is None else overwritten
        rng = np.random.default_rng(0)
        self.of_state = rng.normal(size=len(self.h))  # released: whatever it is, it cancels

    def score(self, vector):
        state = self.state
        if self.config.attention == "released":
            return state["score"] @ vector + self.of_state @ self.h
        hidden = linear(state, "of_codes", vector) + state["of_state.weight"] @ self.h
        return state["score"] @ np.tanh(hidden)

    def step(self, token):
        """Logits of the token that follows."""
        context = np.zeros(len(self.h))
        if self.memory:
            weights = softmax(np.array([self.score(vector) for vector in self.memory]))
            context = sum(w * e for w, e in zip(weights, self.memory, strict=True))
            if self.overwritten:
                self.memory = [context]
        x = np.concatenate([context, self.state["tokens.weight"][token]])
        s = self.state
        from_x = np.split(s["gru.weight_ih_l0"] @ x + s["gru.bias_ih_l0"], 3)
        from_h = np.split(s["gru.weight_hh_l0"] @ self.h + s["gru.bias_hh_l0"], 3)
        reset, update = sigmoid(from_x[0] + from_h[0]), sigmoid(from_x[1] + from_h[1])
        new = np.tanh(from_x[2] + reset * from_h[2])
        self.h = (1 - update) * new + update * self.h
        return linear(s, "output", relu(self.h))


def sequence_of(visit, order="stored"):
    counts = np.zeros(DRUGS)
    codes = small_knowledge().training_visits["medications"]
    for drug in codes.values:
        counts[drug] += 1
    rank = {
        "stored": lambda drug: drug,
        "frequency": lambda drug: (-counts[drug], drug),
        "rare": lambda drug: (counts[drug], drug),
    }[order]
    return [*sorted(visit[2], key=rank), END]


def forced_logits(model, visit, sequence, **writer):
    one = Writer(model, visit, **writer)
    return np.array([one.step(token) for token in [START, *sequence[:-1]]])


def logarithms(logits):
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("changes", VARIANTS + ORDERS[1:], ids=str)
def test_logits_and_loss_equal_the_equations(changes):
    model, batch = build(changes).train(), whole_batch()
    found = model(batch)
    total = 0.0
    for row, visit in enumerate(all_visits()):
        sequence = sequence_of(visit, model.config.order)
        expected = forced_logits(model, visit, sequence)
        logits = found[row, : len(sequence)].detach().numpy()
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
        assert not found[row, len(sequence) :].any()
        steps = logarithms(expected)[range(len(sequence)), sequence]
        total -= steps.mean() / len(found)
    assert model.loss(found, batch, Step(0, 0.5)).item() == pytest.approx(total, abs=1e-5)


def test_without_a_hidden_layer_the_overwritten_memory_changes_nothing():
    """Why `released` stands for both: a linear score makes all steps read the same anyway."""
    model = build({"attention": "released"})
    for visit in all_visits()[:10]:
        sequence = sequence_of(visit)
        kept = forced_logits(model, visit, sequence, overwritten=False)
        overwritten = forced_logits(model, visit, sequence, overwritten=True)
        np.testing.assert_allclose(kept, overwritten, rtol=1e-12)
    mended = build({})
    kept, overwritten = (
        forced_logits(mended, all_visits()[0], [1, 2, END], overwritten=each)
        for each in (False, True)
    )
    np.testing.assert_allclose(kept[0], overwritten[0])
    assert np.abs(kept - overwritten)[1:].max() > 1e-3


def search(model, visit):
    """The best sequence of a beam of (log-probability, sequence, distributions)."""
    config = model.config
    width = config.beam if config.decoding == "beam" else 1
    beams = [(0.0, (), ())]
    for _ in range(config.most_drugs):
        grown = []
        for total, sequence, steps in beams:
            if sequence and sequence[-1] in (START, END):
                grown.append((total, sequence, steps))
                continue
            one = Writer(model, visit)
            logits = [one.step(token) for token in (START, *sequence)][-1]
            step = logarithms(logits)
            free = [token for token in range(DRUGS + 2) if token not in sequence]
            new_steps = (*steps, np.exp(step))
            grown += [(total + step[t], (*sequence, t), new_steps) for t in free]
        beams = sorted(grown, key=lambda beam: -beam[0])[:width]
        if all(sequence[-1] in (START, END) for _, sequence, _ in beams):
            break
    return beams[0][1:]


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("changes", DECODING, ids=str)
def test_predictions_equal_a_search_with_lists(changes, variant):
    model, batch = build({**changes, "variant": variant}, seed=2), whole_batch()
    found = model.predict(batch, 0.5)
    places = batch.visit_mask.nonzero().tolist()
    for (row, column), visit in list(zip(places, all_visits(), strict=True))[::3]:
        sequence, steps = search(model, visit)
        chosen = found.chosen[row, column].nonzero()[:, 0].tolist()
        assert chosen == sorted(token for token in sequence if token < DRUGS)
        scores = found.scores[row, column].detach().numpy()
        np.testing.assert_allclose(scores, np.mean(steps, axis=0)[:DRUGS], atol=1e-5)
    assert not found.chosen[~batch.visit_mask].any()


def jaccard(chosen, given):
    union = set(chosen) | set(given)
    return len(set(chosen) & set(given)) / len(union) if union else 1.0


def drugs_of(sequence):
    return {token for token in sequence if token < DRUGS}


def unsafe(chosen):
    interacts = small_knowledge().interacts
    return any(interacts[i, j] for i in chosen for j in chosen)


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_released_fine_tuning_equals_its_equation(variant):
    changes = {"fine_tuning": "released", "variant": variant, "most_drugs": 3, **TUNING}
    model = build(changes, seed=1).train()
    batch, total, visits = whole_batch(), 0.0, all_visits()
    outcomes = set()
    for visit in visits:
        sequence, _ = search(model, visit)
        steps = logarithms(forced_logits(model, visit, list(sequence)))
        chosen = drugs_of(sequence)
        outcomes.add(unsafe(chosen))
        total -= jaccard(chosen, visit[2]) * unsafe(chosen) * steps.mean() / len(visits)
    assert model.loss(model(batch), batch, Step(1, 0.5)).item() == pytest.approx(total, abs=1e-5)
    assert outcomes == {True, False}


@pytest.mark.parametrize("reward_ddi", [False, True])
def test_reinforce_equals_its_equation_on_the_drawn_sequences(reward_ddi, monkeypatch):
    changes = {"fine_tuning": "reinforce", "reward_ddi": reward_ddi, **TUNING}
    model, batch = build(changes).train(), whole_batch()
    drawn, judge = [], model._judge

    def keep(written, target):
        drawn.append(written)
        return judge(written, target)

    monkeypatch.setattr(model, "_judge", keep)
    found = model.loss(model(batch), batch, Step(1, 0.5))
    greedy, sampled = drawn
    total, visits = 0.0, all_visits()
    for row, visit in enumerate(visits):
        labels = sampled.labels()[row]
        sequence = labels[labels != IGNORED].tolist()
        logits = forced_logits(model, visit, sequence)
        probability = 0.0
        for position, token in enumerate(sequence):
            left = [t for t in range(DRUGS + 2) if t not in sequence[:position]]
            probability += logarithms(logits[position][left])[left.index(token)]
        best = drugs_of(greedy.tokens[row].tolist())
        assert best == drugs_of(search(model, visit)[0])
        rewards = [
            jaccard(chosen, visit[2]) * (1 - reward_ddi * unsafe(chosen))
            for chosen in (drugs_of(sequence), best)
        ]
        total -= (rewards[0] - rewards[1]) * probability / len(visits)
    assert found.item() == pytest.approx(total, abs=1e-4)
    found.backward()
    assert model.score.grad.abs().max() > 0


def test_reinforce_raises_the_reward():
    changes = {"fine_tuning": "reinforce", "most_drugs": 6, **TUNING}
    model, batch = build(changes), whole_batch()
    target = batch.medications[batch.visit_mask] > 0

    def reward():
        with torch.no_grad():
            written = model._write(batch.diagnoses[batch.visit_mask], 1)
            return model._judge(written, target)[0].mean().item()

    before = reward()
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-2)
    torch.manual_seed(0)
    for _ in range(12):
        optimiser.zero_grad()
        model.loss(model(batch), batch, Step(1, 0.5)).backward()
        optimiser.step()
    assert reward() > before + 0.05


def test_fine_tuning_begins_at_its_epoch():
    model, batch = build({"fine_tuning": "reinforce", **TUNING}).train(), whole_batch()
    plain = build({}).train()
    logits = model(batch)
    for epoch, same in ((0, True), (1, False)):
        losses = [each.loss(logits, batch, Step(epoch, 0.5)).item() for each in (model, plain)]
        assert (losses[0] == losses[1]) is same


def test_nothing_but_current_diagnoses_is_read():
    model, batch = build({}), whole_batch()
    other = replace(batch, procedures=batch.procedures.flip(2), medications=1 - batch.medications)
    found, changed = (model.predict(each, 0.5) for each in (batch, other))
    exists = batch.visit_mask
    assert torch.equal(found.scores[exists], changed.scores[exists])


def test_settings_are_those_of_the_sources():
    paper, released = LEAPConfig(), LEAPConfig(variant="released")
    assert (paper.dim, paper.dropout, paper.most_drugs) == (64, 0.3, 20)
    assert (paper.decoding, paper.fine_tuning, paper.order) == ("greedy", "none", "stored")
    assert (paper.attention, released.attention) == ("fixed", "released")
    assert not paper.comparable_scores
