"""Drawing: the rule of one token against plain computations, and the loop over records."""

import numpy as np
import pytest
import torch

from medrec.errors import TrialError
from medrec.generation import _sampling
from medrec.generation._records import Tokens
from medrec.generation._sampling import Rule, draw, next_tokens
from tests.medrec.generation.small_records import NETWORKS, network
from tests.medrec.generation.test_records import equal

TOKENS = Tokens(4, 2, 3)


class Bigram:
    """A network that looks at the last token alone."""

    device = torch.device("cpu")

    def __init__(self, logits: torch.Tensor) -> None:
        self.logits = logits
        self.alive: list[int] = []

    def begin(self, patients):
        self.rows = patients
        return self

    def keep(self, patients):
        self.rows = len(patients)

    def advance(self, last, state):
        assert len(last) == self.rows
        self.alive.append(self.rows)
        return self.logits[last]


def bigram(seed: int = 0) -> Bigram:
    generator = torch.Generator().manual_seed(seed)
    return Bigram(torch.randn(TOKENS.size, TOKENS.size, generator=generator))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("temperature", "top_k"), [(1.0, None), (0.5, None), (3.0, None), (1.0, 2), (2.0, 3)]
)
def test_tokens_are_drawn_with_their_probabilities(temperature, top_k):
    logits = torch.tensor([2.0, 0.5, 1.0, -1.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 1.5, 9, 9, 9, 9])
    rule = Rule(TOKENS, 20, temperature, top_k)
    count = 40_000
    last = torch.full((count,), TOKENS.start)
    drawn = next_tokens(logits.expand(count, -1), last, rule, seeded())
    possible = [0, 1, 2, 3, TOKENS.procedures_token]
    ranked = sorted(possible, key=lambda token: -float(logits[token]))[:top_k]
    weights = {token: np.exp(float(logits[token]) / temperature) for token in ranked}
    for token in range(TOKENS.size):
        expected = weights.get(token, 0.0) / sum(weights.values())
        share = float((drawn == token).float().mean())
        assert abs(share - expected) <= 4 * np.sqrt(expected * (1 - expected) / count)


@pytest.mark.parametrize(("temperature", "top_k"), [(1e-6, None), (1.0, 1)])
def test_cold_or_top_1_is_greedy(temperature, top_k):
    logits = torch.randn(50, TOKENS.size, generator=seeded(1))
    last = torch.arange(50) % (TOKENS.end_record)
    drawn = next_tokens(logits, last, Rule(TOKENS, 20, temperature, top_k), seeded())
    for row in range(50):
        allowed = TOKENS.allowed(last[row]).nonzero()[:, 0].tolist()
        assert int(drawn[row]) == max(allowed, key=lambda token: float(logits[row, token]))


def test_top_1_takes_one_of_equal_tokens():
    drawn = next_tokens(
        torch.zeros(99, TOKENS.size),
        torch.full((99,), TOKENS.start),
        Rule(TOKENS, 20, 1.0, 1),
        seeded(),
    )
    assert len(set(drawn.tolist())) == 1


def test_the_grammar_holds_against_every_logit():
    """Forbidden tokens have by far the greatest logits."""
    logits = torch.zeros(TOKENS.size, TOKENS.size)
    logits[~TOKENS.allowed(torch.arange(TOKENS.size))] = 1e4
    found = _sampling._records(Bigram(logits), Rule(TOKENS, 30), 64, seeded())
    follows = TOKENS.allowed(found[:, :-1]).gather(2, found[:, 1:, None])[..., 0]
    unfinished = found[:, -1] != TOKENS.pad
    assert follows[~unfinished].all()
    assert follows[:, :-1].all()


def test_records_end_with_the_context():
    logits = torch.zeros(TOKENS.size, TOKENS.size)
    logits[:, TOKENS.end_record] = -torch.inf  # never by themselves
    rule = Rule(TOKENS, 25)
    found = _sampling._records(Bigram(logits), rule, 8, seeded())
    assert found.shape == (8, 25)
    assert (found != TOKENS.pad).all()
    drawn = draw(Bigram(logits), rule, 8, 0)
    assert len(drawn.visits) == 8
    offsets, _, cut = TOKENS.encode(drawn, 26)  # and an END_RECORD
    assert cut == 0
    assert np.diff(offsets).max() <= 26


def test_finished_records_leave():
    """They are never a quarter of the batch for longer than the step in which they end."""
    looked = bigram()
    found = _sampling._records(looked, Rule(TOKENS, 200), 100, seeded())
    unfinished = [int((found[:, at] < TOKENS.end_record).sum()) for at in range(200)]
    left = 100
    for at, rows in enumerate(looked.alive):
        left = unfinished[at] if unfinished[at] <= 0.75 * left else left
        assert rows == left
    assert looked.alive[-1] < 20


def test_leaving_changes_no_record_of_another(monkeypatch):
    """A greedy draw is the same whether finished records leave or stay."""
    rule = Rule(TOKENS, 60, 1.0, 1)
    one = _sampling._records(bigram(), rule, 20, seeded())
    monkeypatch.setattr(_sampling, "_KEPT", -1.0)
    assert torch.equal(one, _sampling._records(bigram(), rule, 20, seeded()))


@pytest.mark.parametrize("patients", [0, 1, 300])
def test_exactly_so_many_patients_are_drawn(patients):
    """Half of the records here have no visit with a code, and are drawn again."""
    logits = torch.zeros(TOKENS.size, TOKENS.size)
    for token, probability in ((TOKENS.start, 4), (TOKENS.end_visit, 4)):
        logits[token, TOKENS.procedures_token] = probability
    logits[TOKENS.procedures_token, TOKENS.medications_token] = 2
    logits[TOKENS.medications_token, TOKENS.end_visit] = 2
    drawn = draw(Bigram(logits), Rule(TOKENS, 60), patients, 0)
    assert len(drawn.visits) == patients
    held = sum(codes.counts for codes in drawn.codes.values())
    assert (held > 0).all()
    assert len(held) == drawn.visits.sum()


def test_a_network_that_draws_nobody_is_told_of():
    logits = torch.full((TOKENS.size, TOKENS.size), -1e9)
    logits[:, TOKENS.procedures_token :] = 0.0  # no codes at all
    with pytest.raises(TrialError, match="temperature"):
        draw(Bigram(logits), Rule(TOKENS, 30), 3, 0)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_seed_decides(name):
    model = network(name)
    assert equal(model.draw(30, 5), model.draw(30, 5))
    assert not equal(model.draw(30, 5), model.draw(30, 6))


@pytest.mark.parametrize("name", NETWORKS)
def test_greedy_patients_are_all_alike_whatever_the_seed(name):
    model = network(name)
    cold, top = model.draw(4, 1, temperature=1e-6), model.draw(4, 2, top_k=1)
    assert equal(cold, top)
    assert len(set(top.visits.tolist())) == 1
