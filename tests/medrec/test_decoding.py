"""Decoders against enumerating every sequence of a tiny vocabulary, and label sequences."""

from itertools import product

import numpy as np
import pytest
import torch

from medrec.decoding import (
    IGNORED,
    Rules,
    decode,
    emitted_before,
    label_sequences,
    sample,
    written_before,
)

DRUGS, VISITS = 3, 5
START, END = DRUGS, DRUGS + 1
TOKENS = DRUGS + 2
RULES = Rules(start=START, stops=(END, START), longest=4)


class Grammar:
    """A made-up model: the next token depends on the visit and on all tokens so far."""

    def __init__(self, visits=VISITS, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.visit = torch.randn(visits, TOKENS, generator=generator)
        self.mix = torch.randn(TOKENS, TOKENS, generator=generator)
        self.steps = 0

    def state(self):
        """The visit's own vector, and a sum over the tokens so far."""
        return self.visit, torch.zeros(len(self.visit), TOKENS)

    def step(self, state, last):
        self.steps += 1
        visit, memory = state
        memory = 0.5 * memory + self.mix[last]
        return torch.log_softmax(visit + torch.sin(3 * memory), dim=1), (visit, memory)

    def distributions(self, visit, prefix):
        """Log-probabilities of each next token along a sequence, one token at a time."""
        memory, found = np.zeros(TOKENS), []
        for token in (START, *prefix):
            memory = 0.5 * memory + self.mix[token].double().numpy()
            raw = self.visit[visit].double().numpy() + np.sin(3 * memory)
            found.append(raw - np.log(np.exp(raw).sum()))
        return found

    def total(self, visit, sequence):
        steps = self.distributions(visit, sequence[:-1])
        return sum(step[token] for step, token in zip(steps, sequence, strict=True))


def complete_sequences(rules):
    """Every sequence that a decoder may return, without what follows a stop."""
    for length in range(1, rules.longest + 1):
        for sequence in product(range(TOKENS), repeat=length):
            early = any(token in rules.stops for token in sequence[:-1])
            ended = sequence[-1] in rules.stops or length == rules.longest
            repeated = rules.distinct and len(set(sequence)) < length
            if ended and not early and not repeated:
                yield sequence


def read(written, visit):
    return tuple(written.tokens[visit, : written.lengths[visit]].tolist())


def plain_beam(grammar, visit, rules, width):
    """Beam search with lists of (total, sequence)."""
    beams = [(0.0, ())]
    for _ in range(rules.longest):
        grown = []
        for total, sequence in beams:
            if sequence and sequence[-1] in rules.stops:
                grown.append((total, sequence))
                continue
            step = grammar.distributions(visit, sequence)[-1]
            free = [t for t in range(TOKENS) if not (rules.distinct and t in sequence)]
            grown += [(total + step[token], (*sequence, token)) for token in free]
        beams = sorted(grown, reverse=True)[:width]
    return beams[0]


@pytest.mark.parametrize("distinct", [True, False])
def test_a_wide_beam_finds_the_best_of_all_sequences(distinct):
    rules = Rules(START, (END, START), longest=4, distinct=distinct)
    grammar, every = Grammar(), list(complete_sequences(rules))
    written = decode(grammar.step, grammar.state(), rules, width=5**4)
    for visit in range(VISITS):
        totals = {sequence: grammar.total(visit, sequence) for sequence in every}
        best = max(totals, key=totals.get)
        assert read(written, visit) == best
        assert float(written.log_probability[visit]) == pytest.approx(totals[best], abs=1e-5)


@pytest.mark.parametrize("width", [1, 2, 3, 7])
@pytest.mark.parametrize("distinct", [True, False])
@pytest.mark.parametrize("stops", [(END,), (END, START)])
def test_every_width_equals_a_search_with_lists(width, distinct, stops):
    rules = Rules(START, stops, longest=4, distinct=distinct)
    grammar = Grammar(visits=40, seed=1)
    written = decode(grammar.step, grammar.state(), rules, width)
    for visit in range(40):
        total, sequence = plain_beam(grammar, visit, rules, width)
        assert read(written, visit) == sequence
        assert float(written.log_probability[visit]) == pytest.approx(total, abs=1e-5)
        steps = np.exp(grammar.distributions(visit, sequence[:-1])).mean(axis=0)
        np.testing.assert_allclose(written.mean_probability[visit], steps, atol=1e-6)
        drugs = sorted(token for token in sequence if token < DRUGS)
        assert written.chosen(DRUGS)[visit].nonzero()[:, 0].tolist() == sorted(set(drugs))
        ended = [*sequence, *[IGNORED] * (written.tokens.shape[1] - len(sequence))]
        assert written.labels()[visit].tolist() == ended
    found = {len(plain_beam(grammar, visit, rules, width)[1]) for visit in range(40)}
    assert len(found) > 1, "the example must show sequences that end early"


def test_decoding_ends_when_all_sequences_have():
    grammar = Grammar()
    grammar.visit[:, END] += 50.0
    written = decode(grammar.step, grammar.state(), RULES)
    assert (grammar.steps, written.tokens.tolist()) == (1, [[END]] * VISITS)
    assert not written.chosen(DRUGS).any()


def test_no_visits_give_no_sequences():
    grammar = Grammar(visits=0)
    assert decode(grammar.step, grammar.state(), RULES).chosen(DRUGS).shape == (0, DRUGS)


def test_samples_are_drawn_with_the_probabilities_of_what_is_allowed():
    grammar, many = Grammar(), 20_000
    visit = grammar.visit[:1].expand(many, -1)
    torch.manual_seed(0)
    written = sample(grammar.step, (visit, torch.zeros(many, TOKENS)), RULES)
    total = 0.0
    for sequence in complete_sequences(RULES):
        expected, steps = 1.0, np.exp(grammar.distributions(0, sequence[:-1]))
        for position, (token, step) in enumerate(zip(sequence, steps, strict=True)):
            left = [t for t in range(TOKENS) if t not in sequence[:position]]
            expected *= step[token] / step[left].sum()
        total += expected
        rows = (written.lengths == len(sequence)) & (
            written.tokens[:, : len(sequence)] == torch.tensor(sequence)[: written.tokens.shape[1]]
        ).all(dim=1)
        spread = 5 * (expected * (1 - expected) / many) ** 0.5 + 1e-4
        assert abs(float(rows.float().mean()) - expected) < spread
        if rows.any():
            assert torch.allclose(
                written.log_probability[rows].exp(), torch.tensor(expected).float()
            )
    assert total == pytest.approx(1.0)


def test_label_sequences_by_hand():
    target = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1]]).float()
    labels = label_sequences(target, torch.tensor([2, 0, 1]), END)
    none = IGNORED
    assert labels.tolist() == [
        [2, 0, END, none],
        [END, none, none, none],
        [2, 0, 1, END],
    ]
    assert written_before(labels, START, filler=END).tolist() == [
        [START, 2, 0, END],
        [START, END, END, END],
        [START, 2, 0, 1],
    ]
    before = emitted_before(labels, TOKENS)
    assert before[0, :3].nonzero().tolist() == [[1, 2], [2, 0], [2, 2]]
    assert before[2, 3].nonzero()[:, 0].tolist() == [0, 1, 2]


def test_label_sequences_of_no_visits():
    assert label_sequences(torch.zeros(0, 3), torch.arange(3), END).shape == (0, 1)
