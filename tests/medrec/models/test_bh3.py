"""BH3-MedRec against its equations: sets of visits, parents and molecules, and PyG's layer."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from medrec import plugins, splits, trial
from medrec.cohort import KINDS
from medrec.controllers import PUBLISHED_GAIN
from medrec.knowledge.base import load_knowledge
from medrec.knowledge.functional_groups import functional_groups
from medrec.knowledge.relations import node
from medrec.models._base import Step
from medrec.models.bh3 import RELEASED, BH3Config
from medrec.spec import KnowledgeSpec
from tests.medrec.models import reference
from tests.medrec.models.reference import linear, relu, sigmoid, softmax
from tests.medrec.models.test_gamenet import graph_convolution, read_history
from tests.medrec.small import (
    VOCABULARY,
    make_spec,
    scramble,
    shaken,
    small_cohort,
    small_knowledge,
    whole_batch,
)

# Imported for the first time, PyTorch Geometric warns; medrec.hypergraphs sees to that.
# isort: split
from torch_geometric.nn import HypergraphConv

ABLATIONS = plugins.load("search_spaces", "bh3", "ABLATIONS")
CHANGES = {name: dict(ablation.changes) for name, ablation in ABLATIONS.items()}
ARMS = [
    {},
    {"variant": "released"},
    *CHANGES.values(),
    {"hypergraph_attention": True},
    {"hypergraph_attention": True, "hypergraph_heads": 4, "hierarchy_depth": 3},
    {"variant": "released", "hypergraph_attention": True},
    {"hierarchy_depth": 3},
    {"hierarchy_depth": 4, "hypergraph": "pairwise"},
    {"hypergraph_depth": 1},
    {"hypergraph_depth": 3, "bilateral": False},
    {"ddi_memory": False},
]
every_arm = pytest.mark.parametrize("changes", ARMS, ids=str)
every_ablation = pytest.mark.parametrize("name", list(CHANGES))
SIZES = [len(VOCABULARY[kind]) for kind in KINDS]
NAMES = [node(kind, code) for kind in KINDS for code in VOCABULARY[kind]]


def build(changes, seed=0):
    return shaken(trial.build(make_spec("bh3", changes), small_knowledge()), seed)


def fresh(changes, knowledge=None):
    """A model after pre-training, seeded as a trial does."""
    model = trial.build(make_spec("bh3", changes), knowledge or small_knowledge())
    model.pretrain()
    return model.eval()


# ---- the model once more: hyperedges are sets


def training_visits():
    cohort, people = small_cohort(), reference.patients()
    return [visit for patient in cohort.members(splits.TRAIN) for visit in people[patient]]


def numbered(visit):
    """All codes of a visit, numbered kind after kind."""
    first = np.cumsum([0, *SIZES])
    return {int(first[kind]) + code for kind in range(3) for code in visit[kind]}


def ancestor(name, height):
    return [name, *small_knowledge().bundle.ancestors(name)][: height + 1][-1]


def molecular_edges():
    """Of each drug class: which groups and fragments any of its molecules has."""
    knowledge = small_knowledge()
    edges = []
    for drug, smiles in enumerate(knowledge.structures):
        groups = {int(g) for text in smiles for g in functional_groups([text])[0].nonzero()[0]}
        edges.append(
            groups | {10 + int(f) for f in knowledge.molecules.contains[drug].nonzero()[0]}
        )
    return edges


def mean(rows, dim):
    return sum(rows) / len(rows) if rows else np.zeros(dim)


class Plain:
    """The model's equations in double precision; node by node, visit by visit."""

    def __init__(self, model):
        self.model, self.config, self.state = model, model.config, reference.state_of(model)
        self.dim = self.config.dim
        self.molecules = molecular_edges()
        visits = training_visits()
        self.edges = [numbered(visit) for visit in visits]
        self.typed = {k: [set(visit[i]) for visit in visits] for i, k in enumerate(KINDS)}
        if self.config.hypergraph == "path":
            last = len(NAMES) - 1
            self.edges = [{i, min(i + 1, last)} for i in range(len(NAMES))]
        if self.config.hypergraph != "visits":
            self.typed = {}

    def convolve(self, x, edges, name):
        """PyTorch Geometric's layer with the model's weights; its attributes are edge means."""
        config, attends = self.config, self.config.hypergraph_attention
        heads = config.hypergraph_heads if attends else 1
        layer = HypergraphConv(self.dim, self.dim // heads, attends, heads=heads).double()
        prefix = f"{name}.layer."
        layer.load_state_dict({n: torch.from_numpy(np.asarray(self.state[prefix + n]))
                               for n in layer.state_dict()})  # fmt: skip
        pairs = [(i, e) for e, edge in enumerate(edges) for i in sorted(edge)]
        means = np.array([mean([x[i] for i in sorted(edge)], self.dim) for edge in edges])
        with torch.no_grad():
            return layer(
                torch.from_numpy(x), torch.tensor(pairs).T, num_edges=len(edges),
                hyperedge_attr=torch.from_numpy(means) if attends else None,
            ).numpy()  # fmt: skip

    def pairwise(self, x, edges, name):
        out = []
        for i in range(len(x)):
            near = {i}.union(*(edge for edge in edges if i in edge))
            out.append(linear(self.state, f"{name}.linear", mean([x[j] for j in near], self.dim)))
        return np.array(out)

    def ehr(self, x, depth):
        """Σ over types, and over levels of the hierarchy."""
        convolve = self.pairwise if self.config.hypergraph == "pairwise" else self.convolve
        total = convolve(x, self.edges, f"layers.{depth}.levels.0")
        parts = np.split(x, np.cumsum(SIZES)[:-1])
        if self.typed:
            total = total + np.concatenate([
                self.convolve(part, self.typed[kind], f"layers.{depth}.typed.{kind}")
                for part, kind in zip(parts, KINDS, strict=True)
            ])  # fmt: skip
        for height in range(1, self.config.hierarchy_depth):
            above = [ancestor(name, height) for name in NAMES]
            names = list(dict.fromkeys(above))
            pooled = np.array([
                mean([x[i] for i, own in enumerate(above) if own == name], self.dim)
                for name in names
            ])  # fmt: skip
            edges = [{names.index(above[i]) for i in edge} for edge in self.edges]
            upper = convolve(pooled, edges, f"layers.{depth}.levels.{height}")
            total = total + np.array([upper[names.index(name)] for name in above])
        return total

    def of_drugs(self, parts):
        return np.array([mean([parts[i] for i in edge], self.dim) for edge in self.molecules])

    def exchange(self, ehr, view, name):
        """What both views of the drugs take from each other."""
        gains = []
        for d, m in zip(ehr, view, strict=True):
            both = np.concatenate([d, m])
            to_ehr = sigmoid(linear(self.state, f"{name}.ehr_gate", both))
            to_view = sigmoid(linear(self.state, f"{name}.molecular_gate", both))
            gains.append((to_ehr * (self.state[f"{name}.to_ehr.weight"] @ m),
                          to_view * (self.state[f"{name}.to_molecular.weight"] @ d)))  # fmt: skip
        return (np.array(part) for part in zip(*gains, strict=True))

    def nodes(self):
        """Vectors of diagnoses and procedures, and M."""
        first, depth = sum(SIZES[:2]), self.config.hypergraph_depth
        x0 = np.concatenate([self.state[f"tables.{kind}"] for kind in KINDS])
        view = np.zeros((SIZES[2], self.dim))
        if self.config.molecular:
            y = self.state["molecular.parts"]
            x0[first:] += self.of_drugs(y)
        x = x0
        for layer in range(depth):
            activate = relu if layer < depth - 1 else np.asarray
            x = activate(self.ehr(x, layer))
            if not self.config.molecular:
                continue
            y = activate(self.convolve(y, self.molecules, f"molecular.layers.{layer}"))
            view = self.of_drugs(y)
            if self.config.bilateral:
                to_ehr, to_view = self.exchange(x[first:], view, f"bilateral.{layer}")
                x, view = np.concatenate([x[:first], x[first:] + to_ehr]), view + to_view
                for part in range(len(y)):
                    owners = [d for d, edge in enumerate(self.molecules) if part in edge]
                    y[part] = y[part] + mean([to_view[d] for d in owners], self.dim)
        x = x0 + x
        return x[: SIZES[0]], x[SIZES[0] : first], x[first:] + view

    def logits(self, people):
        *tables, bank = self.nodes()
        if self.config.ddi_memory:
            interacts = small_knowledge().interacts
            graph = graph_convolution(self.state, "interaction_graph", interacts)
            bank = bank - self.state["beta"] * graph
        return [self.visit(patient[: t + 1], tables, bank)
                for patient in people for t in range(len(patient))]  # fmt: skip

    def query(self, prefix, tables):
        states = [
            reference.last_state(
                self.state,
                name,
                [mean([table[c] for c in visit[i]], self.dim) for visit in prefix],
            )
            for i, (name, table) in enumerate(
                zip(("diagnosis_gru", "procedure_gru"), tables, strict=True)
            )
        ]
        return linear(self.state, "query", relu(np.concatenate(states)))

    def visit(self, prefix, tables, bank):
        queries = [self.query(prefix[: t + 1], tables) for t in range(len(prefix))]
        fact = softmax(bank @ queries[-1]) @ bank
        past = read_history(queries, prefix[:-1], bank) if len(prefix) > 1 else fact
        mixed = self.state["alpha"] * fact + (1 - self.state["alpha"]) * past
        hidden = linear(self.state, "head.1", relu(np.concatenate([queries[-1], mixed])))
        return linear(self.state, "head.3", relu(hidden))


@every_arm
def test_logits_equal_the_equations(changes):
    model, batch = build(changes), whole_batch()
    with torch.no_grad():
        found = model(batch)[batch.visit_mask].double().numpy()
    expected = np.array(Plain(model).logits(reference.patients()))
    size = np.abs(expected).max()
    np.testing.assert_allclose(found / size, expected / size, atol=1e-5)


@pytest.mark.parametrize("epoch", [0, 8])
def test_the_loss_equals_the_equations(epoch):
    """Above the target a draw decides, and interactions are averaged over drug pairs."""
    knowledge, batch = small_knowledge(), whole_batch()
    model = build({})
    torch.manual_seed(5)
    logits = model(batch)
    found = model.loss(logits, batch, Step(epoch, 0.5)).item()
    torch.manual_seed(5)
    given = [visit[2] for patient in reference.patients() for visit in patient]
    draws, outcomes = torch.rand(len(given)).tolist(), set()

    def weigh(visit, rate):
        chance = np.exp((0.04 - rate) / (3.0 * 0.85**epoch))
        outcomes.add(instead := bool(rate > 0.04 and draws[visit] < chance))
        return (0.0, 1.0) if instead else (1.0, 0.0)

    rows = logits[batch.visit_mask].detach().double().numpy()
    scale = 1 / knowledge.drugs**2
    expected = reference.loss(rows, given, knowledge.interacts, model.config, scale, weigh)
    assert found == pytest.approx(expected, rel=1e-5)
    assert outcomes == {True, False}, "the example must show both branches"


# ---- what it is told, and what a checkpoint holds


def answer(model, batch=None):
    with torch.no_grad():
        return model(batch or whole_batch())


@pytest.mark.parametrize("changes", [{}, CHANGES["no_ehr_hypergraph"]], ids=str)
@pytest.mark.parametrize(
    ("split", "moves"), [(splits.TEST, False), (splits.VALIDATION, False), (splits.TRAIN, True)]
)
def test_hypergraphs_and_pre_training_use_training_visits_only(changes, split, moves):
    other = load_knowledge(scramble(small_cohort(), split), KnowledgeSpec())
    one, changed = fresh(changes), fresh(changes, other)
    same = all(
        torch.equal(tensor, changed.state_dict()[name])
        for name, tensor in one.state_dict().items()
    )
    assert same is not moves  # the vectors of pre-training
    changed.load_state_dict(one.state_dict())
    assert torch.equal(answer(one), answer(changed)) is not moves  # the hypergraphs


def test_a_restored_model_needs_no_pre_training(monkeypatch):
    model = fresh({})
    other = trial.build(make_spec("bh3", seed=9), small_knowledge()).eval()
    assert not torch.equal(answer(other), answer(model))

    def pretrain(self):
        raise AssertionError("a restored model ran pre-training")

    monkeypatch.setattr(type(other), "pretrain", pretrain)
    trial.restore(other, {name: t.clone() for name, t in trial.weights(model).items()})
    assert torch.equal(answer(other), answer(model))


# ---- pre-training in the model


def tables_of(changes):
    """Tables of a model as built, and after pre-training."""
    model = trial.build(make_spec("bh3", {"dim": 64, **changes}), small_knowledge())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.pretrain()
    return before, model.state_dict()


@pytest.mark.parametrize("start", ["none", "random"])
def test_without_pre_training_nothing_moves(start):
    before, after = tables_of({"icd_pretrain": start})
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    icd = torch.cat([after["tables.diagnoses"], after["tables.procedures"]])
    if start == "none":
        assert icd.abs().max() <= 0.1
        assert icd.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.05)
    else:
        assert icd.std().item() == pytest.approx(1.0, rel=0.05)
    assert after["tables.medications"].abs().max() <= 0.1


def test_pre_training_fills_the_tables_of_icd_codes_alone():
    before, after = tables_of({})
    moved = {name for name, tensor in before.items() if not torch.equal(after[name], tensor)}
    assert moved == {"tables.diagnoses", "tables.procedures"}
    icd = torch.cat([after["tables.diagnoses"], after["tables.procedures"]])
    # As large as the uniform tables that it replaces.
    assert icd.square().mean().sqrt().item() == pytest.approx(0.1 / 3**0.5, rel=1e-5)


def test_the_same_seed_gives_the_same_vectors():
    (_, one), (_, same) = tables_of({}), tables_of({})
    assert torch.equal(one["tables.diagnoses"], same["tables.diagnoses"])
    other = trial.build(make_spec("bh3", {"dim": 64}, seed=1), small_knowledge())
    other.pretrain()
    assert not torch.equal(one["tables.diagnoses"], other.state_dict()["tables.diagnoses"])


# ---- ablations: what goes, and that nothing else changes

GONE = {
    "no_pretraining": (),
    "no_ehr_hypergraph": ("layers.",),
    "no_molecular_hypergraph": ("molecular.", "bilateral."),
    "no_bilateral": ("bilateral.",),
    "no_hierarchy": ("layers.0.levels.1.", "layers.1.levels.1."),
    "no_ddi_loss": (),
}
PAIRWISE = {f"layers.{depth}.levels.{level}.linear.{part}"
            for depth in (0, 1) for level in (0, 1) for part in ("weight", "bias")}  # fmt: skip


def keeping(full, changes):
    """The ablated model with the weights that it shares with the full one."""
    other = build(changes, seed=5)
    kept = {name: t for name, t in full.state_dict().items() if name in other.state_dict()}
    other.load_state_dict({**other.state_dict(), **kept})
    return other


@every_ablation
def test_an_ablation_removes_its_own_weights_and_no_others(name):
    own, other = ({n: p.shape for n, p in m.named_parameters()}
                  for m in (build({}), build(CHANGES[name])))  # fmt: skip
    assert own.keys() - other.keys() == {n for n in own if GONE[name] and n.startswith(GONE[name])}
    assert other.keys() - own.keys() == (PAIRWISE if name == "no_ehr_hypergraph" else set())
    assert all(own[n] == other[n] for n in own.keys() & other.keys())


@every_ablation
def test_what_comes_before_the_removed_part_is_the_same(name):
    full, batch = build({}), whole_batch()
    other = keeping(full, CHANGES[name])
    assert other.config == full.config.model_copy(update=CHANGES[name] | own_gain(name))
    same = name in ("no_pretraining", "no_ddi_loss")  # they change the start, and the loss
    assert torch.equal(answer(full, batch), answer(other, batch)) is same
    with torch.no_grad():
        # Steps after the node vectors are the same functions of them.
        codes, drugs = full.nodes()
        assert torch.equal(full.memory(drugs), other.memory(drugs))
        assert torch.equal(full.queries(batch, codes), other.queries(batch, codes))
        if name in ("no_hierarchy", "no_bilateral", "no_pretraining", "no_ddi_loss"):
            parts = full.molecular.parts
            one, same_part = (m.molecular.layers[0](parts) for m in (full, other))
            assert torch.equal(one, same_part)
        if name in ("no_molecular_hypergraph", "no_bilateral"):
            assert torch.equal(full.layers[0](codes), other.layers[0](codes))
        if name == "no_hierarchy":
            assert torch.equal(full.layers[0].levels[0](codes), other.layers[0].levels[0](codes))


def own_gain(name):
    return {"ddi_gain": PUBLISHED_GAIN["none"]} if name == "no_ddi_loss" else {}


def test_without_the_exchange_both_views_come_out_as_they_went_in():
    """A gate that is shut is the ablation."""
    full = build({})
    with torch.no_grad():
        for layer in full.bilateral:
            layer.to_ehr.weight.zero_()
            layer.to_molecular.weight.zero_()
    other = keeping(full, CHANGES["no_bilateral"])
    torch.testing.assert_close(answer(full), answer(other), rtol=0, atol=0)


def test_without_molecules_their_vectors_count_nothing():
    """Molecules whose vectors and convolutions are zero are the ablation, once the gates shut."""
    full = build({})
    with torch.no_grad():
        for name, weight in full.named_parameters():
            if name.startswith(GONE["no_molecular_hypergraph"]):
                weight.zero_()
    other = keeping(full, CHANGES["no_molecular_hypergraph"])
    torch.testing.assert_close(answer(full), answer(other), rtol=0, atol=0)


def test_without_the_hierarchy_no_ancestor_counts():
    full = build({})
    with torch.no_grad():
        for name, weight in full.named_parameters():
            if name.startswith(GONE["no_hierarchy"]):
                weight.zero_()
    other = keeping(full, CHANGES["no_hierarchy"])
    torch.testing.assert_close(answer(full), answer(other), rtol=0, atol=0)


def test_without_the_ddi_loss_interactions_do_not_count():
    batch, losses = whole_batch(), []
    for interacts in (False, True):
        model = build(CHANGES["no_ddi_loss"])
        model.interacts.fill_(float(interacts))
        losses.append(model.loss(model(batch).detach(), batch, Step(0, 0.5)))
    assert torch.equal(*losses)


def test_pre_training_changes_the_start_of_icd_codes_alone():
    before, after = (fresh(changes).state_dict() for changes in (CHANGES["no_pretraining"], {}))
    moved = {name for name, tensor in before.items() if not torch.equal(after[name], tensor)}
    assert moved == {"tables.diagnoses", "tables.procedures"}


# ---- settings


def test_settings_are_those_of_the_sources():
    paper, released = BH3Config(), BH3Config(variant="released")
    assert (paper.dim, paper.dropout, paper.graph_dropout) == (64, 0.5, 0.3)
    assert (paper.bce_weight, paper.margin_weight) == (0.9, 0.1)
    assert (paper.ddi_target, paper.ddi_gain, paper.ddi_decay) == (0.04, 3.0, 0.85)
    assert (paper.hypergraph_depth, paper.pretrain_heads) == (2, 4)
    differs = {
        name
        for name, value in released.model_dump().items()
        if value != getattr(paper, name) and name != "variant"
    }
    assert differs == set(RELEASED)


@pytest.mark.parametrize("rule", sorted(PUBLISHED_GAIN))
def test_the_gain_is_the_models_own_with_its_own_rule(rule):
    expected = 3.0 if rule == "gamenet" else PUBLISHED_GAIN[rule]
    assert BH3Config(controller=rule).ddi_gain == expected
    assert BH3Config(controller=rule, ddi_gain=1.25).ddi_gain == 1.25


def test_heads_divide_the_vectors():
    with pytest.raises(
        ValidationError, match="`pretrain_heads` must divide `dim`, but 4 does not"
    ):
        BH3Config(dim=6)
    with pytest.raises(ValidationError, match="`hypergraph_heads` must divide `dim`, but 3 does"):
        BH3Config(dim=8, hypergraph_attention=True, hypergraph_heads=3)
    # Heads of an attention that is not there do not matter.
    assert BH3Config(dim=6, icd_pretrain="none", hypergraph_heads=4).dim == 6
