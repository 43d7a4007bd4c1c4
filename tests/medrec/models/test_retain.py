"""RETAIN, without and with the current visit, against its equations, one visit at a time."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from medrec import trial
from medrec.models._base import Step
from medrec.models.most_popular import popular_set
from medrec.models.retain import RETAINConfig
from medrec.models.retain_current import RETAINCurrentConfig
from tests.medrec.models import reference
from tests.medrec.models.reference import bag, linear, sigmoid, softmax
from tests.medrec.small import make_spec, shaken, small_cohort, small_knowledge, whole_batch

MODELS = ["retain", "retain_current"]
VARIANTS = [
    {},
    {"variant": "released"},
    {"code_attention": False},
    {"direction": "reverse"},
    {"direction": "reverse", "visit_attention": False},
    {"visit_attention": False, "code_attention": False},
]


def states(state, name, inputs):
    """The state of a GRU after each input."""
    steps = range(1, len(inputs) + 1)
    return [reference.last_state(state, f"encoder.grus.{name}", inputs[:step]) for step in steps]


def context(state, config, visits, *, current):
    """Returns c of the last of some visits, from the vectors of what is read before it."""
    tables = [state[f"encoder.{kind}.embedding.weight"] for kind in ("diagnoses", "procedures")]
    tables.append(state["encoder.medications.weight"])
    read = [sum(bag(table, codes, False) for table, codes in zip(tables, visit, strict=True))
            for visit in visits[:-1]]  # fmt: skip
    if current:
        read.append(bag(tables[0], visits[-1][0], False) + bag(tables[1], visits[-1][1], False))
    if config.direction == "reverse":
        read = read[::-1]
    total = np.zeros(config.dim)
    if not read:
        return total
    alpha = np.ones(len(read))
    if config.visit_attention:
        score = state["encoder.visit_score.weight"][0]
        alpha = softmax(np.array([score @ g for g in states(state, "visit", read)]))
    beta = [np.ones(config.dim)] * len(read)
    if config.code_attention:
        gates = states(state, "code", read)
        beta = [np.tanh(linear(state, "encoder.code_gate", h)) for h in gates]
    for weight, gate, vector in zip(alpha, beta, read, strict=True):
        total = total + weight * gate * vector
    return total


def all_logits(model, *, current):
    state, config = reference.state_of(model), model.encoder.config
    return [
        linear(state, "head", context(state, config, patient[: t + 1], current=current))
        for patient in reference.patients()
        for t in range(len(patient))
    ]


def build(name, changes=None):
    spec = make_spec(name, {**(changes or {}), "dropout": 0.0})
    return shaken(trial.build(spec, small_knowledge()))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_logits_equal_the_equations(name, changes):
    model, batch = build(name, changes), whole_batch()
    found = model(batch)[batch.visit_mask].detach().double().numpy()
    expected = all_logits(model, current=name == "retain_current")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("name", MODELS)
def test_training_loss_equals_the_equations(name):
    model, batch = build(name).train(), whole_batch()
    found = model.loss(model(batch), batch, Step(0, 0.5)).item()
    current = name == "retain_current"
    logits = iter(all_logits(model, current=current))
    total, visits = 0.0, 0
    for patient in reference.patients():
        for t, visit in enumerate(patient):
            own = reference.cross_entropy(sigmoid(next(logits)), visit[2])
            total += own if current or t > 0 else 0.0
            visits += 1
    assert found == pytest.approx(total / visits, abs=1e-5)


def test_first_visits_get_the_most_popular_drugs_and_do_not_train():
    model, batch = build("retain"), whole_batch()
    cohort = small_cohort()
    rows = cohort.visits_of(cohort.members(0))
    frequency = torch.from_numpy(
        cohort.codes["medications"].multi_hot(cohort.drugs)[rows].mean(axis=0)
    ).float()
    found = model.predict(batch, 0.5)
    for patient in range(len(batch.patients)):
        torch.testing.assert_close(found.scores[patient, 0], frequency)
        assert torch.equal(found.chosen[patient, 0], popular_set(frequency))
    singles = torch.from_numpy(np.flatnonzero(cohort.visits == 1))
    alone = type(batch)(**{name: value[singles] for name, value in vars(batch).items()})
    loss = model.loss(model(alone), alone, Step(0, 0.5))
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is None or p.grad.abs().max() == 0 for p in model.parameters())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    "changes", [{}, {"variant": "released"}, {"direction": "reverse"}], ids=str
)
def test_a_batch_of_first_visits_alone_is_answered_as_in_company_and_can_be_learned(name, changes):
    model, batch = build(name, changes), whole_batch()
    patients = ("patients", "gender", "group")
    first = type(batch)(
        **{key: value if key in patients else value[:, :1] for key, value in vars(batch).items()}
    )
    logits = model(first)
    torch.testing.assert_close(logits, model(batch)[:, :1])
    model.loss(logits, first, Step(0, 0.5)).backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_without_attention_over_visits_its_network_is_not_there(name):
    names = build(name, {"variant": "released"}).state_dict()
    assert not [key for key in names if "visit_score" in key or "grus.visit" in key]
    assert [key for key in build(name).state_dict() if "grus.visit" in key]


def test_large_scores_stay_finite():
    """A softmax that raised e to the scores themselves would overflow."""
    model, batch = build("retain"), whole_batch()
    with torch.no_grad():
        model.encoder.visit_score.weight *= 1e4
    assert torch.isfinite(model(batch)).all()


@pytest.mark.parametrize("changes", [{}, {"direction": "reverse"}], ids=str)
def test_only_the_current_variant_reads_the_visit_itself(changes):
    batch = whole_batch()
    codes = batch.diagnoses.clone()
    size = small_knowledge().diagnoses
    codes[:, 1] = torch.where(codes[:, 1] < size, (codes[:, 1] + 5) % size, codes[:, 1])
    other = replace(batch, diagnoses=codes)  # the second visit alone differs
    own, later = {}, {}
    for name in MODELS:
        model = build(name, changes)
        moved = (model(other) - model(batch)).abs().amax(dim=2)
        own[name], later[name] = (moved[:, at][batch.visit_mask[:, at]] for at in (1, 2))
    assert own["retain"].max() == 0
    for seen in (own["retain_current"], later["retain"], later["retain_current"]):
        assert (seen > 1e-4).all()


def test_settings_are_those_of_the_sources():
    paper, released = RETAINConfig(), RETAINConfig(variant="released")
    assert (paper.dim, paper.dropout, paper.direction) == (64, 0.5, "forward")
    assert (paper.visit_attention, released.visit_attention) == (True, False)
    assert paper.first_visit
    assert not RETAINCurrentConfig().first_visit
    assert RETAINCurrentConfig(variant="released").visit_attention is False
