"""KindMed against its equations, visit by visit, with PyTorch Geometric and GRU cells."""

import copy

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from medrec import plugins, trial
from medrec.demographics import AGE_BINS, age_bin
from medrec.fusion import Join, NeuralFusion
from medrec.knowledge.relations import kind_of
from medrec.knowledge.semmeddb import KINDMED_RELATIONS
from medrec.models._base import Step
from medrec.models.kindmed import (
    GraphEncoder,
    KindMed,
    KindMedConfig,
    draw_weights,
)
from medrec.visit_graphs import NodeTable, VisitGraphs
from tests.medrec.models import reference
from tests.medrec.small import (
    VOCABULARY,
    make_spec,
    shaken,
    small_cohort,
    small_knowledge,
    whole_batch,
)
from tests.medrec.test_visit_graphs import plain_graph

# Imported for the first time, PyTorch Geometric warns; medrec.relational sees to that.
# isort: split
from torch_geometric.nn import RGCNConv

ABLATIONS = plugins.load("search_spaces", "kindmed", "ABLATIONS")
SETTINGS = [
    {},
    {"variant": "released"},
    {"graph_layers": 1},
    {"graph_layers": 3},
    {"heads": 1, "keys": "all"},
    {"ontology_direction": "child_to_parent"},
    {"ontology_direction": "both"},
    {"keys": "all", "medicine_graph": False},
    {"fusion_start": "signed", "fusion": "neural"},
    *(dict(ablation.changes) for ablation in ABLATIONS.values()),
]
SOME = 8  # patients, with 1 to 5 visits
# As the paper lists them: hierarchies, 26 semantic relations, membership.
CLINICAL_IDS = {"diagnoses": 0, "procedures": 1}
SEMANTIC_IDS = {"/".join(name): 2 + i for i, name in enumerate(KINDMED_RELATIONS)}
CLINICAL_BELONGS = {"diagnoses": 28, "procedures": 29}
MEDICINE_IDS, MEDICINE_BELONGS = {"medications": 0}, {"medications": 2}


def build(changes, seed=0) -> KindMed:
    return shaken(trial.build(make_spec("kindmed", changes), small_knowledge()), seed)


def loaded(module, source, prefix=""):
    """A module with the weights of another, whose names may have a suffix more."""
    module.load_state_dict({n: source[prefix + n] for n in module.state_dict()})
    return module.eval()


def cell(gru) -> nn.GRUCell:
    own = nn.GRUCell(gru.input_size, gru.hidden_size)
    return loaded(own, {n.removesuffix("_l0"): t for n, t in gru.state_dict().items()})


class Plain:
    """The model once more: loops over patients, visits, layers and names of nodes."""

    def __init__(self, model: KindMed) -> None:
        self.model, self.config = model, model.config
        self.knowledge = small_knowledge()
        bundle = self.knowledge.bundle
        self.row = {}
        for kind, codes in VOCABULARY.items():
            own = [f"{kind}/{code}" for code in codes]
            above = {name for code in own for name in bundle.ancestors(code)} - set(own)
            self.row |= {name: i for i, name in enumerate([*own, *sorted(above)])}
        self.semantic = [
            (head, SEMANTIC_IDS[name], tail)
            for head, name, tail in bundle.relations.names()
            if name in SEMANTIC_IDS and self.config.semantics
        ]
        drugs = [f"medications/{code}" for code in VOCABULARY["medications"]]
        self.interacting = [
            (drugs[a], 1, drugs[b])
            for a, b in np.argwhere(self.knowledge.interacts)
            if self.config.ddi_edges
        ]
        self.layers = {30: self.layers_of(model.clinical, 30)}
        if self.config.medicine_graph and self.config.past_medications:
            self.layers[3] = self.layers_of(model.medicine, 3)

    def layers_of(self, encoder, relations):
        dim = self.config.dim
        own = encoder.layers if self.config.graphs else ()
        return [loaded(RGCNConv(dim, dim, relations), layer.state_dict()) for layer in own]

    def encode(self, codes, patient, triples, hierarchy, belongs, relations):
        config, model = self.config, self.model
        if not config.graphs:
            found = [getattr(model, kind_of(c)).weight[self.row[c]] for c in codes]
            return sum(found, torch.zeros(config.dim))
        direction = config.ontology_direction if config.ontology == "edges" else "none"
        belongs = belongs if config.demographics else None
        nodes, edges = plain_graph(
            codes, self.knowledge.bundle, triples, direction, hierarchy, belongs,
            config.ontology != "none",
        )  # fmt: skip
        order = sorted(nodes)
        x = [getattr(model, kind_of(name)).weight[self.row[name]] for name in order]
        if config.demographics:
            order.append("patient")
            x.append(patient)
        if not order:
            return torch.zeros(config.dim)
        ends = [[order.index(h), order.index(t)] for h, _, t in sorted(edges)]
        edge_index = torch.tensor(ends, dtype=torch.int64).view(-1, 2).T
        kind = torch.tensor([r for _, r, _ in sorted(edges)], dtype=torch.int64)
        x = torch.stack(x)
        for layer in self.layers[relations]:
            x = torch.relu(layer(x, edge_index, kind))
        return x.sum(dim=0)

    def patient(self, number, age):
        if not (self.config.graphs and self.config.demographics):
            return None
        cohort, model = small_cohort(), self.model
        fixed = model.gender.weight[int(cohort.gender[number])]
        fixed = fixed + model.group.weight[int(cohort.group[number])]
        place = int(age_bin(np.array([age], np.int16))[0])
        return fixed + (model.age.weight[place] if place >= 0 else 0)

    def clinical(self, visit, patient):
        codes = [f"diagnoses/{VOCABULARY['diagnoses'][i]}" for i in visit[0]]
        codes += [f"procedures/{VOCABULARY['procedures'][i]}" for i in visit[1]]
        return self.encode(codes, patient, self.semantic, CLINICAL_IDS, CLINICAL_BELONGS, 30)

    def medicine(self, visit, patient):
        codes = [f"medications/{VOCABULARY['medications'][i]}" for i in visit[2]]
        return self.encode(codes, patient, self.interacting, MEDICINE_IDS, MEDICINE_BELONGS, 3)

    def fuse(self, a, b):
        if self.config.fusion == "concatenation":
            return torch.cat([a, b])
        fusion = self.model.fusion

        def joined(join, first, second):
            weight, bias = join.mix.weight.flatten(), join.mix.bias
            return torch.relu(weight[0] * first + weight[1] * second + bias)

        v = joined(fusion.join, a, b)
        for stage in fusion.stages:
            channels = [torch.relu(stage.first(v)), torch.relu(stage.second(v))]
            v = joined(stage.join, *channels)
        return fusion.merge[2](torch.relu(fusion.merge[0](torch.cat([a * b, v]))))

    def attend(self, query, keys):
        heads = self.config.heads
        own = loaded(
            nn.MultiheadAttention(self.config.dim, heads), self.model.attention.state_dict()
        )
        keys = torch.stack(keys)
        return own(query[None], keys, keys)[0][0]

    def states(self, cell, inputs):
        found = [torch.zeros(self.config.dim)]
        for each in inputs:
            found.append(cell(each, found[-1]))
        return found

    def output(self, c, a, joint):
        """Returns o of the last of these visits; `joint` is e_0, e_1, … up to the visit before."""
        config, model = self.config, self.model
        if config.prescribing == "none":
            return a[-1]
        own, keys = c, joint[-1:] if config.keys == "last" else joint[1:] or joint
        if not config.medicine_graph:
            own, keys = a[-1], a[-1:] if config.keys == "last" else a[1:]
        if config.prescribing == "attention":
            return model.norm(own + self.attend(a[-1], keys))
        both = torch.cat([a[-1], joint[-1]])
        return model.norm(c + model.merge[2](torch.relu(model.merge[0](both))))

    def logits(self):
        """Every visit's, from its own prefix."""
        found, cohort, model = [], small_cohort(), self.model
        for number, visits in enumerate(reference.patients()[:SOME]):
            start = cohort.offsets[number]
            patients = [self.patient(number, cohort.age[start + t]) for t in range(len(visits))]
            c = [self.clinical(v, p) for v, p in zip(visits, patients, strict=True)]
            a = self.states(cell(model.clinical_gru), c)
            joint = [torch.zeros(self.config.dim)]
            if self.config.medicine_graph:
                b = [torch.zeros(self.config.dim)] * len(visits)
                if self.config.past_medications:
                    earlier = zip(visits[:-1], patients[:-1], strict=True)
                    b = self.states(cell(model.medicine_gru), [self.medicine(*e) for e in earlier])
                fused = [self.fuse(*pair) for pair in zip(a[1:-1], b[1:], strict=True)]
                joint = self.states(cell(model.joint_gru), fused)
            for t in range(len(visits)):
                o = self.output(c[t], a[: t + 2], joint[: t + 1])
                found.append(model.head[2](torch.relu(model.head[0](o))))
        return torch.stack(found)


@pytest.mark.parametrize("changes", SETTINGS, ids=str)
def test_logits_equal_the_equations_visit_by_visit(changes):
    model, batch = build(changes), whole_batch()
    with torch.no_grad():
        found, expected = model(batch)[:SOME][batch.visit_mask[:SOME]], Plain(model).logits()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-5)
    assert expected.std(dim=0).min() > 2e-3  # the visits differ


def test_a_graph_by_hand():
    """Code 0 (vector 1) below node 1 (vector 2); patient 3; W_root 1, b 0.5, W_0 2, W_28 -1.

    Code: 1 + 0.5 + 2 * 2 = 5.5. Node above: 2.5. Patient: 3 + 0.5 - 1 = 2.5. Sum: 10.5.
    """
    table = NodeTable(("a", "b"), {"diagnoses": 2}, np.array([0]), np.array([1, -1]))
    graphs = VisitGraphs(table, np.array([[1, 0, 0]]), {"diagnoses": 28})
    encoder = GraphEncoder(graphs, 30, KindMedConfig(dim=1, heads=1, graph_layers=1)).eval()
    with torch.no_grad():
        encoder.layers[0].weight.zero_()
        encoder.layers[0].weight[0] = 2.0
        encoder.layers[0].weight[28] = -1.0
        encoder.layers[0].root.fill_(1.0)
        encoder.layers[0].bias.fill_(0.5)
    one = torch.tensor([0])
    found = encoder(torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0]]), one, one, 1)
    assert found.tolist() == [[10.5]]


def test_training_loss_equals_the_equations():
    knowledge, batch = small_knowledge(), whole_batch()
    # Weights whose visits have rates below, within and above the band.
    model = build({"ddi_target": 0.385, "ddi_gain": 0.05}, seed=4)
    logits = model(batch)
    expected_logits = logits[batch.visit_mask].detach().double().numpy()
    given = [visit[2] for patient in reference.patients() for visit in patient]
    seen = []

    def weigh(visit, rate):
        beta = min(1.0, max(0.0, 1 - (rate - 0.385) / 0.05))
        seen.append(round(beta, 6))
        return beta, 1 - beta

    expected = reference.loss(
        expected_logits, given, knowledge.interacts, model.config, 0.0005, weigh
    )
    assert model.loss(logits, batch, Step(0, 0.5)).item() == pytest.approx(expected, abs=1e-5)
    assert len(set(seen)) == 3
    assert {0.0, 1.0} < set(seen)


# ---- what an ablation takes away

MEDICINE = ("medications.", "medicine.", "medicine_gru.", "fusion.", "joint_gru.")
PATIENT = ("gender.", "group.", "age.")
# Parameters that are gone, by the start of their names.
GONE = {
    "no_medicine_graph": MEDICINE,
    "no_medicine_graph_no_attention": (*MEDICINE, "attention.", "norm."),
    "no_past_medications": MEDICINE[:3],
    "no_demographics": PATIENT,
    "no_fusion": ("fusion.",),
    "no_attention": ("attention.",),
    "no_relations": (*PATIENT, "clinical.", "medicine."),
}
ADDED = {"no_attention": ("merge.",)}
# Blocks of relations that are never multiplied: clinical, medicine.
SILENT = {
    "no_demographics": ((28, 29), (2,)),
    "no_ontology_edges": ((0, 1), (0,)),
    "no_semantics": (tuple(range(2, 28)), ()),
    "no_ddi_edges": ((), (1,)),
    "no_ontology": ((0, 1), (0,)),
}
SHORTER = {"no_relations", "no_ontology"}  # tables of nodes, which lose the ancestors' rows
# What comes before the removed part, and so stays as it is in the full model.
SAME = {
    "no_medicine_graph": ("clinical",),
    "no_medicine_graph_no_attention": ("clinical",),
    "no_past_medications": ("clinical",),
    "no_fusion": ("clinical", "medicine"),
    "no_attention": ("clinical", "medicine", "joint"),
    "no_semantics": ("medicine",),
    "no_ddi_edges": ("clinical",),
    "keys_all": ("clinical", "medicine", "joint"),
    "no_edge_dropping": ("clinical", "medicine", "joint", "logits"),
    "no_ddi_loss": ("clinical", "medicine", "joint", "logits"),
}
every_ablation = pytest.mark.parametrize("name", list(ABLATIONS))


def shapes(model):
    return {name: tuple(p.shape) for name, p in model.named_parameters()}


@every_ablation
def test_an_ablation_removes_its_parameters_and_no_others(name):
    full, arm = shapes(build({})), shapes(build(ABLATIONS[name].changes))
    gone = set(full) - set(arm)
    assert gone == {p for p in full if p.startswith(GONE.get(name, ("none",)))}
    assert set(arm) - set(full) == {p for p in arm if p.startswith(ADDED.get(name, ("none",)))}
    for parameter in set(full) & set(arm):
        if name in SHORTER and parameter.split(".")[0] in VOCABULARY:
            rows = len(VOCABULARY[parameter.split(".")[0]])
            assert arm[parameter] == (rows, *full[parameter][1:])
            assert rows < full[parameter][0]
        else:
            assert arm[parameter] == full[parameter]


def block_gradients(model):
    """Which relations get a gradient in some layer: clinical, medicine."""
    batch = whole_batch()
    model.zero_grad()
    model.loss(model(batch), batch, Step(0, 0.5)).backward()
    found = []
    for encoder in (model.clinical, model.medicine):
        layers = [layer.weight.grad.abs().amax(dim=(1, 2)) for layer in encoder.layers]
        found.append({i for i, most in enumerate(torch.stack(layers).amax(dim=0)) if most > 0})
    return found


@pytest.mark.parametrize("name", list(SILENT))
def test_removed_relations_get_no_gradient_and_all_others_theirs(name):
    full, arm = block_gradients(build({})), block_gradients(build(ABLATIONS[name].changes))
    for before, after, silent in zip(full, arm, SILENT[name], strict=True):
        assert after == before - set(silent)
        assert not silent or before & set(silent)


def test_every_relation_that_occurs_has_its_own_block():
    clinical, medicine = block_gradients(build({}))
    named = {name for _, name, _ in small_knowledge().bundle.relations.names()}
    expected = {SEMANTIC_IDS[name] for name in named if name in SEMANTIC_IDS}
    assert len(expected) > 5
    assert clinical == {0, 1, 28, 29} | expected
    assert medicine == {0, 1, 2}


def quantities(model):
    """What the model computes on its way, in order."""
    batch, found = whole_batch(), {}
    with torch.no_grad():
        found["clinical"] = clinical = model.clinical_readout(batch)
        if model.config.medicine_graph and model.config.past_medications:
            found["medicine"] = model.medicine_readout(batch)
        if model.config.medicine_graph:
            found["joint"] = model.joint_states(model.clinical_gru(clinical)[0], batch)
        found["logits"] = model(batch)[batch.visit_mask]
    return found


@every_ablation
def test_an_ablation_leaves_alone_what_comes_before_it(name):
    full, arm = build({}), build(ABLATIONS[name].changes, seed=1)
    weights = full.state_dict()
    with torch.no_grad():
        for parameter, tensor in arm.state_dict().items():
            if parameter in weights:
                tensor.copy_(weights[parameter][: len(tensor)])
    before, after = quantities(full), quantities(arm)
    for quantity, value in after.items():
        same = torch.allclose(value, before[quantity], rtol=0, atol=1e-5)
        assert same == (quantity in SAME.get(name, ())), quantity


# ---- attention, dropping, start


@pytest.mark.parametrize(("keys", "matter"), [("last", False), ("all", True)])
def test_heads_matter_only_where_there_are_several_keys(keys, matter):
    batch, found = whole_batch(), []
    for heads in (1, 4):
        with torch.no_grad():
            found.append(build({"keys": keys, "heads": heads})(batch)[batch.visit_mask])
    first = batch.visit_mask.nonzero()[:, 1] <= 1  # one key: e_0, or e_1
    assert matter or torch.equal(*found)
    torch.testing.assert_close(found[0][first], found[1][first], rtol=0, atol=1e-5)
    assert torch.allclose(*found, rtol=0, atol=1e-5) != matter


@pytest.mark.parametrize(("keys", "learn"), [("last", False), ("all", True)])
def test_one_key_leaves_query_and_key_projections_untrained(keys, learn):
    model, batch = build({"keys": keys}), whole_batch()
    model.loss(model(batch), batch, Step(0, 0.5)).backward()
    queries, values = model.attention.in_proj_weight.grad.split([16, 8])
    assert bool(queries.abs().max() > 1e-6 * values.abs().max()) == learn
    assert values.abs().max() > 0


def test_the_first_visit_attends_to_zero():
    """o_1 = LayerNorm(c_1 + output projection of the value bias)."""
    for keys in ("last", "all"):
        model, batch = build({"keys": keys}), whole_batch()
        attention = model.attention
        with torch.no_grad():
            said = attention.out_proj(attention.in_proj_bias[16:])
            expected = model.head(model.norm(model.clinical_readout(batch)[:, 0] + said))
            torch.testing.assert_close(model(batch)[:, 0], expected, rtol=0, atol=1e-5)


def readouts(model):
    torch.manual_seed(0)
    with torch.no_grad():
        return [model.clinical_readout(whole_batch()) for _ in range(2)]


def test_edges_are_dropped_in_training_only():
    changes = {"dropout": 0.0, "edge_drop": 0.3, "edge_drop_probability": 1.0}
    model = build(changes)
    assert torch.equal(*readouts(model))
    assert torch.equal(readouts(model)[0], readouts(build({"dropout": 0.0}))[0])
    assert not torch.equal(*readouts(model.train()))
    assert torch.equal(*readouts(build({**changes, "edge_drop": 0.0}).train()))
    assert torch.equal(*readouts(build({**changes, "edge_drop_probability": 0.0}).train()))


def test_dropout_acts_between_layers_and_on_history():
    no_drop = {"edge_drop": 0.0, "dropout": 0.5}
    assert not torch.equal(*readouts(build(no_drop).train()))
    assert torch.equal(*readouts(build({**no_drop, "graph_layers": 1}).train()))


def test_weights_start_in_their_ranges():
    model = trial.build(make_spec("kindmed", {"dim": 64}), small_knowledge())
    for name, weight in model.named_parameters():
        if weight.dim() > 1:
            table = name.split(".")[0] in (*VOCABULARY, "gender", "group", "age")
            bound = 0.1 if table else weight.shape[1] ** -0.5
            assert weight.abs().max() <= bound
            if weight.numel() > 500:
                assert weight.abs().max() > 0.98 * bound
                assert weight.mean().abs() < 0.1 * bound
    assert not model.age.weight[len(AGE_BINS)].any()


@pytest.mark.parametrize(("positive", "least", "most"), [(True, 0, 0), (False, 25, 55)])
def test_a_signed_start_kills_the_deep_fusion_in_four_of_ten_draws(positive, least, most):
    a, b = torch.rand(2, 20, 64, generator=torch.Generator().manual_seed(0)) - 0.5
    dead = 0
    for seed in range(100):
        torch.manual_seed(seed)
        fusion = NeuralFusion(64)
        draw_weights(fusion, positive_joins=positive)
        dead += not fusion.deep(a, b).any()
    assert least <= dead <= most


def test_the_start_of_the_fusion_is_a_setting():
    for start, positive in (("positive", True), ("signed", False)):
        model = trial.build(make_spec("kindmed", {"fusion_start": start}), small_knowledge())
        joins = [part.mix for part in model.modules() if isinstance(part, Join)]
        assert len(joins) == 4
        assert all((join.weight >= 0).all() for join in joins) == positive
        assert all((join.bias == 0).all() for join in joins) == positive


def test_an_unknown_age_adds_nothing():
    model, batch = build({}), whole_batch()
    known = model.patients(batch, batch.visit_mask)
    patient = batch.visit_mask.nonzero()[:, 0]
    unknown = copy.copy(vars(batch)) | {"age": torch.full_like(batch.age, len(AGE_BINS))}
    found = model.patients(type(batch)(**unknown), batch.visit_mask)
    fixed = model.gender.weight[batch.gender[patient]] + model.group.weight[batch.group[patient]]
    assert torch.equal(found, fixed)
    assert not torch.equal(known, found)


# ---- settings


def test_settings_are_those_of_the_sources():
    paper, released = KindMedConfig(), KindMedConfig(variant="released")
    assert (paper.bce_weight, paper.margin_weight, paper.ddi_scale) == (0.95, 0.05, 0.0005)
    assert (paper.ddi_target, paper.ddi_gain) == (0.08, 0.05)
    assert (paper.dim, paper.heads, paper.dropout, paper.graph_layers) == (64, 4, 0.5, 2)
    assert (paper.edge_drop, paper.edge_drop_probability) == (0.1, 0.5)
    assert paper.controller == "safedrug_paper"
    assert released.controller == "safedrug_released"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": 64, "heads": 3}, "heads=3 and dim=64"),
        ({"prescribing": "none"}, "Set medicine_graph to false"),
        ({"medicine_graph": False, "prescribing": "feed_forward"}, "Take attention or none"),
        ({"medicine_graph": False, "past_medications": False}, "Leave past_medications out"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        KindMedConfig(**changes)


def test_pictures_show_the_vectors_of_the_codes():
    model, plugin = build({}), plugins.load("medrec.models", "kindmed", "MODEL")
    for kind, name in plugin.embeddings.items():
        assert len(model.state_dict()[name]) > len(VOCABULARY[kind])  # ancestors follow
    assert set(plugin.embeddings) == set(VOCABULARY)
