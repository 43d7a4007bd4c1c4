"""DKINet against its equations, one visit and one code at a time."""

import math

import numpy as np
import pytest
import torch

from medrec import trial
from medrec.cohort import KINDS
from medrec.knowledge.relations import node
from medrec.models._base import Step
from medrec.models.dkinet import RELEASED, DKINetConfig
from medrec.spec import Training
from medrec.training import train
from search_spaces.dkinet import ABLATIONS
from tests.medrec.models import reference
from tests.medrec.models.reference import linear, relu, sigmoid, softmax
from tests.medrec.small import (
    VOCABULARY,
    data_of,
    make_spec,
    shaken,
    small_cohort,
    small_knowledge,
    whole_batch,
)
from tests.medrec.test_information import distance_covariance, normal_log_density
from tests.medrec.test_knowledge_aggregation import Loop

CHANGES = {name: dict(ablation.changes) for name, ablation in ABLATIONS.items()}
ARMS = [
    *({"variant": variant, **changes}
      for variant in ("paper", "released") for changes in ({}, *CHANGES.values())),
    {"layers": 2},
    {"layers": 3, "neighbours": "aggregated"},
    {"variant": "released", "layers": 2},
    *({name: value} for name, value in RELEASED.items()),
    {"normalise": False},
    {"summed": False},
    {"information_floor": False},
    {"variant": "released", "combination": "linear"},
    {"variant": "released", "injection": "concatenated"},
]  # fmt: skip
every_arm = pytest.mark.parametrize("changes", ARMS, ids=str)


def build(changes, seed=0):
    return shaken(trial.build(make_spec("dkinet", changes), small_knowledge()), seed)


class Reference:
    """The model on one patient, given as a list of visits, each three lists of codes."""

    def __init__(self, model):
        self.config, self.state = model.config, reference.state_of(model)
        self.tables = [self.state[f"{kind}.weight"] for kind in KINDS]
        self.sizes = [len(VOCABULARY[kind]) for kind in KINDS]
        if self.config.knowledge_graph:
            self.loop = PrunedLoop(model)
            self.knowledge = self.loop.run()

    def code(self, kind, code):
        """e, and what is injected: [K_c; ê] as (name, vector), or r."""
        e = self.tables[kind][code]
        if not self.config.knowledge_graph:
            return e, []
        parts = [("local", self.knowledge[sum(self.sizes[:kind]) + code])]
        if self.config.global_knowledge:
            parts.append(("global", softmax(self.knowledge @ e) @ self.knowledge))
        if self.config.injection == "concatenated":
            return e, parts
        return e, [("injected", np.tanh(self.joined(f"inject.{KINDS[kind]}", parts)))]

    def joined(self, name, parts):
        total = self.state[f"{name}.bias"].copy()
        for part, value in parts:
            total += self.state[f"{name}.parts.{part}.weight"] @ value
        return total

    def sums(self, codes, kind):
        """Σ e and Σ of each injected part over some codes of one kind."""
        dim, total = self.config.dim, {}
        names = [name for name, _ in self.code(kind, 0)[1]]
        for name in ["observed", *names]:
            total[name] = np.zeros(dim)
        for code in codes:
            e, parts = self.code(kind, code)
            total["observed"] += e
            for name, vector in parts:
                total[name] += vector
        return total

    def visit(self, visits, t):
        """v_o, v_k and v of visit t, and the sums over the medications of the one before."""
        given = visits[t - 1][2] if t else []
        kinds = [self.sums(visits[t][0], 0), self.sums(visits[t][1], 1), self.sums(given, 2)]
        wide = {name: np.concatenate([sums[name] for sums in kinds]) for name in kinds[0]}
        observed = wide.pop("observed")
        if self.config.combination == "linear":
            v = self.joined("combine", [*wide.items(), ("observed", observed)])
            v_k = np.concatenate(list(wide.values())) if wide else None
            return observed, v_k, v, kinds[2]
        v_o = linear(self.state, "observe", observed)
        if not wide:
            return v_o, None, v_o, kinds[2]
        v_k = np.tanh(self.joined("know", list(wide.items())))
        return v_o, v_k, v_o + v_k, kinds[2]

    def attend(self, found, t):
        """v̂ of visit t."""
        v = found[t][2]
        if not self.config.history_attention:
            memory = [each[2] for each in found[: t + 1]]
        elif self.config.history == "residual":
            memory = [each[3]["observed"] for each in found[1 : t + 1]]
        else:
            memory = [self.joined("remember", list(each[3].items())) for each in found[: t + 1]]
        if self.config.history == "residual":
            return v + self.read(v, memory, memory)
        query = self.state["attend.query.weight"] @ v
        keys = [self.state["attend.key.weight"] @ m for m in memory]
        values = [self.state["attend.value.weight"] @ m for m in memory]
        x = self.state["attend.out.weight"] @ self.read(query, keys, values) + v
        normal = (x - x.mean()) / np.sqrt(x.var() + 1e-6)
        return normal * self.state["attend.norm.weight"] + self.state["attend.norm.bias"]

    def read(self, query, keys, values):
        if not keys:
            return np.zeros_like(query)
        weights = softmax(np.array([key @ query for key in keys]) / math.sqrt(len(query)))
        return sum(w * value for w, value in zip(weights, values, strict=True))

    def logits(self, visits):
        found = [self.visit(visits, t) for t in range(len(visits))]
        states = [self.attend(found, t) for t in range(len(visits))]
        if self.config.head == "linear":
            return [linear(self.state, "head", state) for state in states]
        return [self.tables[2][:-1] @ state for state in states]

    def density(self, v_o):
        def network(hidden, out):
            inner = relu(linear(self.state, hidden, v_o))
            names = [name.split(".")[-2] for name in self.state
                     if name.startswith(f"{out}.") and name.endswith(".weight")]  # fmt: skip
            return np.concatenate([linear(self.state, f"{out}.{n}", inner) for n in names])

        mean = network("density.hidden", "density.mean")
        if self.config.variance == "identity":
            return mean, np.ones_like(mean)
        spread = network("density.variance_hidden", "density.variance")
        return mean, np.exp(np.tanh(spread))

    def information(self, visits):
        """L_mi of one patient, and Σ over visits of log f without its constant, by element."""
        found = [self.visit(visits, t)[:2] for t in range(len(visits))]
        bound, likelihood = 0.0, 0.0
        for v_o, v_k in found:
            mean, variance = self.density(v_o)
            own = normal_log_density(v_k, mean, variance)
            others = [normal_log_density(other, mean, variance) for _, other in found]
            term = own - sum(others) / len(found)
            floor = self.config.information_floor
            bound += (max(term, 0.0) if floor else term) / len(found)
            likelihood += (own + len(v_k) / 2 * math.log(2 * math.pi)) / len(v_k)
        return bound, likelihood

    def dependence(self):
        config = self.config
        own = self.loop.filters if config.independence_of == "filters" else list(
            self.state["graph.filter_logits"]
        )  # fmt: skip
        total = 0.0
        for i, x in enumerate(own):
            for j, y in enumerate(own):
                if i == j or (config.independence_pairs == "unordered" and j < i):
                    continue
                spread = distance_covariance(x, x) * distance_covariance(y, y)
                total += math.sqrt(distance_covariance(x, y) / math.sqrt(spread))
        return total

    def loss(self, patients):
        config, visits = self.config, sum(map(len, patients))
        entropy, bound, likelihood = 0.0, 0.0, 0.0
        for patient in patients:
            for logits, (_, _, given) in zip(self.logits(patient), patient, strict=True):
                truth = np.isin(np.arange(len(logits)), given)
                chance = np.where(truth, sigmoid(logits), sigmoid(-logits))
                entropy -= np.log(chance).mean() / visits
            if config.knowledge_graph and config.information_weight > 0:
                one, other = self.information(patient)
                bound += one / len(patients)
                likelihood += other / visits
        total = entropy + config.information_weight * bound
        if config.density_training == "likelihood":
            total -= likelihood
        if config.knowledge_graph and config.filter_graph and config.independence_weight > 0:
            total += config.independence_weight * self.dependence()
        return total


class PrunedLoop(Loop):
    """The graph's equations on the small cohort's bundle."""

    def __init__(self, model):
        graph, relations = model.graph, small_knowledge().bundle.relations
        codes = [node(kind, code) for kind in KINDS for code in VOCABULARY[kind]]
        super().__init__(graph, graph.options, tuple(relations.names()), codes, relations)


def state_after(model, changes):
    """Copies the weights that an ablation keeps."""
    other = build(changes, seed=5)
    own = model.state_dict()
    kept = other.state_dict()
    assert set(kept) <= set(own)
    assert {name: value.shape for name, value in kept.items()} == {
        name: own[name].shape for name in kept
    }
    other.load_state_dict({name: own[name] for name in kept})
    return other


@every_arm
def test_logits_equal_the_equations(changes):
    model, batch = build(changes), whole_batch()
    found = model(batch)[batch.visit_mask].detach().double().numpy()
    plain = Reference(model)
    expected = [row for patient in reference.patients() for row in plain.logits(patient)]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@every_arm
def test_the_loss_equals_the_equations(changes):
    model, batch = build(changes), whole_batch()
    found = model.loss(model(batch), batch, Step(0, 0.5)).item()
    expected = Reference(model).loss(reference.patients())
    assert found == pytest.approx(expected, rel=1e-4)


def test_one_patient_with_one_visit_has_no_information_loss():
    model, batch = build({"density_training": "bound", "independence_weight": 0.0}), whole_batch()
    alone = type(batch)(**{name: value[4:5, :1] if value.dim() > 1 else value[4:5]
                           for name, value in vars(batch).items()})  # fmt: skip
    logits = model(alone)
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, alone.medications)
    assert model.loss(logits, alone, Step(0, 0.5)).item() == entropy.item()


# ---- ablations: what goes, and that nothing else changes


ABSENT = {
    "no_knowledge_graph": ("graph.", "combine.parts.local", "combine.parts.global", "density."),
    "no_filter_graph": ("graph.relations", "graph.filter_logits"),
    "no_injection": ("combine.parts.global", "density.mean.global"),
    "no_history_attention": (),  # the paper's attention has no weights
    "no_mutual_information": ("density.",),
    "no_independence": (),
}


@pytest.mark.parametrize("name", list(CHANGES))
def test_an_ablation_removes_its_own_weights_and_no_others(name):
    full = build({})
    other = state_after(full, CHANGES[name])
    gone = {weight for weight, _ in full.named_parameters()} - {
        weight for weight, _ in other.named_parameters()
    }
    expected = {w for w, _ in full.named_parameters() if w.startswith(ABSENT[name])}
    assert gone == expected


def parts_of(model):
    """What a pass computes before the history is read."""
    batch = whole_batch()
    with torch.no_grad():
        logits = model(batch)
        observed, knowledge = model._visits
    return logits, observed, knowledge


@pytest.mark.parametrize("name", list(CHANGES))
def test_what_comes_before_the_removed_part_is_the_same(name):
    full = build({})
    other = state_after(full, CHANGES[name])
    logits, observed, knowledge = parts_of(full)
    changed, same, less = parts_of(other)
    assert torch.equal(same, observed)
    if name in ("no_mutual_information", "no_independence"):
        assert torch.equal(changed, logits)  # only the loss differs
    else:
        assert not torch.allclose(changed, logits)
    if name in ("no_history_attention", "no_injection"):
        assert all(torch.equal(part, knowledge[key]) for key, part in less.items())
    if name == "no_history_attention":
        first = whole_batch().visit_mask[:, 0]
        # The first visit has no medications to attend to: the full model leaves v as it is.
        doubled = full.head(2 * full._combine(observed, knowledge))[first, 0]
        torch.testing.assert_close(changed[first, 0], doubled, rtol=1e-4, atol=1e-4)
    if name == "no_filter_graph":
        with torch.no_grad():
            assert torch.equal(other.graph.nodes, full.graph.nodes)


def test_losses_without_a_weight_are_left_out():
    full, batch = build({}), whole_batch()
    step = Step(0, 0.5)
    with torch.no_grad():
        whole = full.loss(full(batch), batch, step)
        other = state_after(full, CHANGES["no_independence"])
        without = other.loss(other(batch), batch, step)
        torch.testing.assert_close(whole - without, full.dependence(), rtol=1e-4, atol=1e-4)


# ---- who learns from what


def gradients(model, loss):
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    names = [name for name, _ in model.named_parameters()]
    return {
        name for name, g in zip(names, found, strict=True) if g is not None and g.abs().max() > 0
    }


def density_of(model):
    return {name for name, _ in model.named_parameters() if name.startswith("density.")}


def test_the_bound_moves_no_density_under_likelihood():
    """Its weights' gradient is that of the likelihood, whatever the bound weighs."""
    found = []
    for weight in (1.0, 50.0):
        model, batch = build({"information_weight": weight}), whole_batch()
        model(batch)
        loss = model._information(batch.visit_mask, Step(0, 0.5))
        found.append(torch.autograd.grad(loss, list(model.density.parameters())))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
        assert one.abs().max() > 0


def test_the_likelihood_moves_nothing_but_the_density():
    """The rest of the model gets the same gradient times the weight: no share of it is fixed."""
    found = []
    for weight in (1.0, 4.0):
        model, batch = build({"information_weight": weight}), whole_batch()
        model(batch)
        loss = model._information(batch.visit_mask, Step(0, 0.5))
        found.append(torch.autograd.grad(loss, [model.diagnoses.weight, model.graph.nodes]))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, 4.0 * one, rtol=1e-4, atol=1e-6)


def test_the_released_bound_trains_its_density():
    model, batch = build({"variant": "released"}), whole_batch()
    model(batch)
    assert density_of(model) <= gradients(
        model, model._information(batch.visit_mask, Step(0, 0.5))
    )


def test_local_knowledge_is_frozen_as_released():
    changes = {"independence_weight": 0.0, "global_knowledge": False, "information_weight": 0.0}
    batch = whole_batch()
    for local, reached in (("trained", True), ("frozen", False)):
        model = build({**changes, "local_knowledge": local})
        found = gradients(model, model.loss(model(batch), batch, Step(0, 0.5)))
        assert ("graph.nodes" in found) == reached


# ---- dropout


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_evaluation_is_the_same_every_time_and_training_is_not(variant):
    model, batch = build({"variant": variant}), whole_batch()
    assert torch.equal(model(batch), model(batch))
    model.train()
    assert not torch.equal(model(batch), model(batch))


def test_without_dropout_training_computes_what_evaluation_does():
    """Also where training handles every occurrence and evaluation every distinct code."""
    none = {"dropout": 1e-9, "edge_dropout": 0.0, "message_dropout": 0.0}
    model, batch = build({"variant": "released", **none}), whole_batch()
    expected = model(batch)
    found = model.train()(batch)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_settings_are_those_of_the_sources():
    paper, released = DKINetConfig(), DKINetConfig(variant="released")
    assert (paper.dim, paper.filters, paper.layers) == (256, 4, 1)
    assert (paper.independence_weight, paper.information_weight) == (1.0, 1.0)
    assert (released.dropout, released.edge_dropout, released.message_dropout) == (0.3, 0.5, 0.1)
    differs = {
        name
        for name, value in released.model_dump().items()
        if value != getattr(paper, name) and name != "variant"
    }
    assert differs == set(RELEASED)


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_knowledge_weighs_on_recommendations_after_training(variant):
    cohort = small_cohort()
    spec = make_spec(
        "dkinet",
        {"variant": variant, "dim": 32},
        training=Training(epochs=6, batch_size=4, learning_rate=3e-3),
    )
    model = trial.build(spec, small_knowledge())
    train(model, data_of(cohort), spec, lambda row: None, None)
    model.eval()
    with torch.no_grad():
        before = torch.sigmoid(model(whole_batch()))
        for weight in model.graph.parameters():
            weight.zero_()
        after = torch.sigmoid(model(whole_batch()))
    assert (after - before).abs().max() > 0.05
