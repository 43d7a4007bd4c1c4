"""What every network that predicts the next token promises."""

import numpy as np
import pytest
import torch

from medrec.generation._histories import Histories
from medrec.generation._records import Sequences, Tokens
from medrec.models._base import Step
from tests.medrec.generation.small_records import NETWORKS, OVER, batch, network
from tests.medrec.generation.test_records import equal
from tests.medrec.small import small_knowledge

STEP = Step(0, 0.5)
every_network = pytest.mark.parametrize("name", NETWORKS)
every_sum = pytest.mark.parametrize("over", OVER)


def logits_of(model, tokens):
    """Logits after every token, without batching by length."""
    return model.states(tokens) @ model.embedding.weight.T


@every_network
@every_sum
def test_the_cross_entropy_equals_a_plain_loop(name, over):
    model, records = network(name, normalised_over=over), batch()
    lost = model.negative_log_probabilities(model(records), records, over)
    expected = []
    for row in range(10):
        length = int(records.mask[row].sum())
        record = records.tokens[row : row + 1, :length]
        logits = logits_of(model, record)[0].detach().double()
        for at in range(length - 1):
            allowed = range(model.tokens.size)
            if over == "grammar":
                allowed = model.tokens.allowed(record[0, at]).nonzero()[:, 0].tolist()
            total = sum(np.exp(float(logits[at, token])) for token in allowed)
            expected.append(np.log(total) - float(logits[at, record[0, at + 1]]))
    np.testing.assert_allclose(lost.detach(), expected, rtol=1e-4, atol=1e-5)
    if name != "hisgt":
        loss = float(model.loss(model(records), records, STEP).detach())
        assert loss == pytest.approx(np.mean(expected), rel=1e-5)


@every_network
@every_sum
def test_the_log_likelihood_is_the_sum_over_a_records_steps(name, over):
    model, records = network(name, normalised_over=over), batch()
    found = model.log_likelihood(model(records), records)
    lost = model.negative_log_probabilities(model(records), records, "grammar")
    steps = (records.mask.sum(dim=1) - 1).tolist()
    expected = [-part.sum() for part in lost.split(steps)]
    torch.testing.assert_close(found, torch.stack(expected))


@every_network
def test_what_the_sum_is_over_in_training_does_not_change_a_likelihood(name):
    one, other = (network(name, normalised_over=over) for over in OVER)
    other.load_state_dict(one.state_dict())
    found = [model.log_likelihood(model(batch()), batch()) for model in (one, other)]
    torch.testing.assert_close(*found)


@every_network
def test_likelihoods_of_all_records_of_a_length_sum_to_one(name):
    """Records cut after so many tokens are exhaustive: their probabilities sum to 1."""
    model = network(name)
    t = model.tokens = Tokens(2, 1, 1)
    model.embedding.weight.data = model.embedding.weight[: t.size]
    for table in ("semantics", "hierarchy"):
        if hasattr(model, table):
            setattr(model, table, getattr(model, table)[: t.size])
    prefixes = [[t.start]]
    for _ in range(7):
        allowed = [t.allowed(torch.tensor(record[-1])).nonzero()[:, 0] for record in prefixes]
        prefixes = [
            [*record, int(token)]
            for record, some in zip(prefixes, allowed, strict=True)
            for token in some
            if token != t.pad
        ] + [record for record in prefixes if record[-1] == t.end_record]
    assert len(prefixes) > 30
    width = max(map(len, prefixes))
    tokens = torch.tensor([record + [t.pad] * (width - len(record)) for record in prefixes])
    records = Sequences(tokens, tokens != t.pad)
    total = model.log_likelihood(model(records), records).double().exp().sum()
    assert float(total.detach()) == pytest.approx(1.0, abs=1e-5)


@every_network
@every_sum
def test_padding_changes_nothing(name, over):
    model, wide = network(name, normalised_over=over), batch(3, 0, 5)
    together = model.log_likelihood(model(wide), wide)
    padded = Sequences(
        torch.nn.functional.pad(wide.tokens, (0, 9), value=model.tokens.pad),
        torch.nn.functional.pad(wide.mask, (0, 9)),
    )
    torch.testing.assert_close(model.log_likelihood(model(padded), padded), together)
    torch.testing.assert_close(
        model.loss(model(padded), padded, STEP), model.loss(model(wide), wide, STEP)
    )
    alone = [model.log_likelihood(model(batch(p)), batch(p))[0] for p in (3, 0, 5)]
    torch.testing.assert_close(torch.stack(alone), together)


@every_network
def test_later_tokens_change_nothing(name):
    model, tokens = network(name), batch(3).tokens
    changed = tokens.clone()
    at = tokens.shape[1] // 2
    changed[0, at:] = (changed[0, at:] + 7) % model.tokens.size
    before, after = logits_of(model, tokens), logits_of(model, changed)
    torch.testing.assert_close(before[:, :at], after[:, :at])
    assert not torch.allclose(before[:, at:], after[:, at:], atol=1e-3)


@every_network
def test_drawing_step_by_step_gives_the_logits_of_the_whole_pass(name):
    model, tokens = network(name), batch(3, 4, 5).tokens
    assert tokens.shape[1] > 64  # a cache grows there
    whole = logits_of(model, tokens)
    state = model.begin(3)
    for at in range(tokens.shape[1]):
        if at == 20:  # one leaves
            state.keep(torch.tensor([0, 2]))
            tokens, whole = tokens[[0, 2]], whole[[0, 2]]
        found = model.advance(tokens[:, at], state)
        torch.testing.assert_close(found, whole[:, at], rtol=1e-5, atol=1e-5)


@every_network
@every_sum
def test_every_weight_is_trained(name, over):
    model = network(name, normalised_over=over).train()
    model.loss(model(batch()), batch(), STEP).backward()
    for what, parameter in model.named_parameters():
        assert parameter.grad is not None, what
        assert parameter.grad.abs().max() > 0, what


@every_network
def test_training_lowers_the_loss(name):
    model, records = network(name).train(), batch()
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    losses = []
    for _ in range(60):
        loss = model.loss(model(records), records, STEP)
        losses.append(float(loss.detach()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < 0.7 * losses[0]


@every_network
def test_a_state_dict_says_everything(name):
    one, other = network(name), network(name, seed=1)
    records = batch()
    first = one.log_likelihood(one(records), records)
    assert not torch.equal(other.log_likelihood(other(records), records), first)
    other.load_state_dict(one.state_dict())
    assert torch.equal(other.log_likelihood(other(records), records), first)
    assert equal(one.draw(5, 0), other.draw(5, 0))


@every_network
def test_the_same_seed_builds_the_same_network(name):
    states = [network(name, seed=seed).state_dict() for seed in (3, 3, 4)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not all(torch.equal(states[0][key], states[2][key]) for key in states[0])


@every_network
def test_losses_of_two_workers_parts_add_up(name):
    """As `medrec.steps` weights them: by their share of the tokens."""
    model, whole = network(name), batch()
    tokens = whole.mask.sum(dim=1)
    total = 0.0
    for own in (range(0, 10, 3), [i for i in range(10) if i % 3]):
        share = float(tokens[list(own)].sum() / tokens.sum())
        part = batch(*own)
        step = Step(0, 0.5, patient_weight=len(own) / 10 / share)
        total += share * float(model.loss(model(part), part, step).detach())
    assert total == pytest.approx(float(model.loss(model(whole), whole, STEP).detach()), rel=1e-5)


@every_network
def test_drawing_leaves_the_mode_and_needs_no_gradient(name):
    model = network(name).train()
    found = model.draw(3, 0)
    assert isinstance(found, Histories)
    assert model.training
    assert equal(found, model.eval().draw(3, 0))


@every_network
def test_drawn_patients_survive_records(name):
    """Drawn patients are written as records, and these obey the grammar."""
    model = network(name)
    drawn = model.draw(40, 0)
    assert len(drawn.visits) == 40
    offsets, values, cut = model.tokens.encode(drawn, 10_000)
    assert cut == 0
    assert equal(model.tokens.decode(offsets, values), drawn)
    sizes = {"diagnoses": 12, "procedures": 6, "medications": 10}
    for kind, codes in drawn.codes.items():
        assert codes.values.max() < sizes[kind]
        visit = np.repeat(np.arange(len(codes.counts)), codes.counts)
        same = visit[1:] == visit[:-1]
        assert (np.diff(codes.values)[same] > 0).all()  # ascending, none repeated


@every_network
def test_mixed_precision_gives_nearly_the_same_loss(name):
    model, records = network(name), batch()
    exact = model.loss(model(records), records, STEP)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = model(records)
    found = model.loss(outputs, records, STEP)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, rtol=0.05, atol=0.05)


def test_tokens_of_the_networks_are_those_of_the_cohort():
    assert network("gpt").tokens == Tokens.of(small_knowledge())
