"""Aggregation of a knowledge graph against plain loops over names."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
import torch

from medrec.errors import KnowledgeError
from medrec.knowledge.origin import Origin
from medrec.knowledge.relations import from_names
from medrec.knowledge.umls import CO_OCCUR
from medrec.knowledge_aggregation import (
    AggregationOptions,
    KnowledgeGraph,
    mean_of_products,
    neighbourhood,
)
from tests.medrec.models.reference import softmax

CODES = ("diagnoses/9:1", "diagnoses/9:2", "procedures/9:3", "medications/A", "medications/B")
# 9:1 stands for a concept, 9:2 for two; 9:3 has a parent and treats 9:1; A interacts with 9:2; B
# has nothing. Concept c is two hops away, d three, e four; f reaches nobody.
TRIPLES = (
    ("diagnoses/9:1", CO_OCCUR, "cui/a"),
    ("diagnoses/9:2", CO_OCCUR, "cui/a"),
    ("diagnoses/9:2", CO_OCCUR, "cui/b"),
    ("procedures/9:3", "has_parent", "procedures/above"),
    ("procedures/9:3", "treats", "diagnoses/9:1"),
    ("medications/A", "interacts", "diagnoses/9:2"),
    ("cui/a", "isa", "cui/b"),
    ("cui/a", "isa", "cui/c"),
    ("cui/a", "treats", "cui/c"),
    ("cui/b", "isa", "medications/B"),
    ("cui/c", "isa", "cui/d"),
    ("cui/d", "isa", "cui/e"),
    ("procedures/above", "has_parent", "procedures/top"),
    ("cui/f", "causes", "cui/a"),
)
PAPER = AggregationOptions(
    dim=4, layers=1, filters=3, filter_keys="filters", neighbours="previous",
    filter_residual=False, normalise=False, summed=False, edge_dropout=0.5, message_dropout=0.1,
)  # fmt: skip
RELEASED = dataclasses.replace(
    PAPER, filter_keys="latent", neighbours="aggregated", filter_residual=True, normalise=True,
    summed=True,
)  # fmt: skip
VARIANTS = [
    dataclasses.replace(base, **changes)
    for base in (PAPER, RELEASED)
    for changes in (
        {}, {"layers": 2}, {"layers": 3}, {"filters": 0}, {"filters": 0, "layers": 2},
        {"filters": 1}, {"neighbours": "aggregated"}, {"neighbours": "previous", "layers": 2},
    )
]  # fmt: skip
every_variant = pytest.mark.parametrize("options", VARIANTS, ids=range(len(VARIANTS)))


def graph(triples=TRIPLES):
    return from_names(Origin("made up", ""), triples, nodes=CODES[:4])


def field(options, triples=TRIPLES):
    aggregated = options.neighbours == "aggregated"
    return neighbourhood(graph(triples), CODES, options.layers, aggregated=aggregated)


def build(options, seed=0, triples=TRIPLES):
    torch.manual_seed(seed)
    model = KnowledgeGraph(field(options, triples), options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    return model.eval()


class Loop:
    """The equations by name, for every node and without pruning."""

    def __init__(self, model, options, triples=TRIPLES, codes=CODES, relations=None):
        self.options, self.codes = options, codes
        self.out = {name: [] for name in codes}
        for head, relation, tail in triples:
            self.out.setdefault(head, []).append((relation, tail))
        aggregated = options.neighbours == "aggregated"
        whole = relations or graph(triples)
        found = neighbourhood(whole, codes, options.layers, aggregated=aggregated)
        state = {name: value.double().numpy() for name, value in model.state_dict().items()}
        every = sorted({name for h, _, t in triples for name in (h, t)} | set(codes))
        # A node beyond reach has no weights; whatever it had, no code's vector would change.
        far = np.random.default_rng(9).normal(size=(len(every), options.dim))
        self.nodes = dict(zip(every, far, strict=True))
        self.nodes.update(zip(found.names, state["nodes"], strict=True))
        vectors = state.get("relations", np.full((len(found.relations), options.dim), np.nan))
        self.relations = dict(zip(found.relations, vectors, strict=True))
        self.filters = [softmax(row) @ vectors for row in state.get("filter_logits", [])]
        self.keys = list(state.get("latent", self.filters))

    def aggregate(self, node, nodes):
        """Equations 3 and 6."""
        own = [(r, t) for r, t in self.out.get(node, []) if r != CO_OCCUR]
        products = [self.relations[r] * nodes[t] for r, t in own]
        return np.mean(products, axis=0) if own else np.zeros(self.options.dim)

    def finish(self, vector):
        length = np.sqrt((vector**2).sum())
        return vector / length if self.options.normalise and length > 0 else vector

    def message(self, code, nodes):
        """Equations 5 and 7, link by link and filter by filter."""
        links = [t for _, t in self.out[code]]
        total = np.zeros(self.options.dim)
        for u in links:
            aggregated = self.options.neighbours == "aggregated"
            vector = self.aggregate(u, nodes) if aggregated else nodes[u]
            if not self.filters:
                total += vector / len(links)
                continue
            attention = softmax(np.array([key @ nodes[code] for key in self.keys]))
            for weight, own in zip(attention, self.filters, strict=True):
                total += weight * own * vector / len(links)
            if self.options.filter_residual:
                total += vector / len(links)
        return self.finish(total)

    def run(self):
        nodes, total = self.nodes, {code: self.nodes[code] for code in self.codes}
        for _ in range(self.options.layers):
            nodes = {
                name: self.message(name, nodes)
                if name in self.codes
                else self.finish(self.aggregate(name, nodes))
                for name in nodes
            }
            total = {code: total[code] + nodes[code] for code in self.codes}
        chosen = total if self.options.summed else nodes
        return np.stack([chosen[code] for code in self.codes])


@every_variant
def test_knowledge_equals_the_equations(options):
    model = build(options)
    expected = Loop(model, options).run()
    found = model().detach().double().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert np.abs(expected[:3]).max() > 0.01


def test_a_code_without_links_has_no_knowledge():
    without = CODES.index("medications/B")
    assert (build(PAPER)()[without] == 0).all()
    own = build(RELEASED)
    assert torch.equal(own()[without], own.nodes[without])  # u⁰ alone


def reach(options):
    return set(field(options).names) - set(CODES)


def test_only_what_reaches_a_code_has_weights():
    above = {"procedures/above"}
    assert reach(PAPER) == {"cui/a", "cui/b"} | above
    two = dataclasses.replace(PAPER, layers=2)
    assert reach(two) == {"cui/a", "cui/b", "cui/c", "procedures/top"} | above
    # The released form aggregates first: what codes link to is itself no input of one layer, but
    # for b, to which a is related.
    assert reach(RELEASED) == {"cui/b", "cui/c", "procedures/top"}
    four = dataclasses.replace(PAPER, layers=4)
    assert reach(four) == {f"cui/{c}" for c in "abcde"} | above | {"procedures/top"}


@pytest.mark.parametrize("options", [v for v in VARIANTS if v.filters > 1])
def test_every_row_that_is_kept_matters(options):
    model = build(options)
    (model() * torch.randn(len(CODES), options.dim)).sum().backward()
    entities = model.nodes.grad[len(CODES) :]
    assert (entities.abs().sum(dim=1) > 0).all()


def test_relations_keep_their_vectors_when_their_triples_are_out_of_reach():
    """Filters are mixtures of all relations of the graph; `co_occur` has no meaning."""
    assert field(PAPER).relations == ("causes", "has_parent", "interacts", "isa", "treats")


def test_the_first_vectors_are_drawn_as_if_all_nodes_were_there():
    found = field(PAPER)
    assert found.nodes == 5 + 8
    bound = (6 / (13 + 4)) ** 0.5
    drawn = torch.cat([KnowledgeGraph(found, PAPER).nodes.flatten() for _ in range(200)])
    assert drawn.abs().max() <= bound
    assert drawn.abs().max() > 0.99 * bound


def test_parts_that_are_not_used_are_absent():
    names = {name for name, _ in build(dataclasses.replace(PAPER, filters=0)).named_parameters()}
    assert names == {"nodes"}
    names = {
        name for name, _ in build(dataclasses.replace(RELEASED, filters=0)).named_parameters()
    }
    assert names == {"nodes", "relations"}
    names = {name for name, _ in build(RELEASED).named_parameters()}
    assert names == {"nodes", "relations", "filter_logits", "latent"}


def random_triples(seed, triples, heads, relations, nodes):
    rng = np.random.default_rng(seed)
    return [torch.from_numpy(rng.integers(0, n, triples)) for n in (heads, relations, nodes)]


def test_products_and_their_gradients_equal_the_plain_form():
    """More triples than are handled at once, some heads without any."""
    head, relation, tail = random_triples(0, 1500, 40, 6, 90)
    head[head == 7] = 8
    nodes = torch.randn(90, 5, requires_grad=True)
    relations = torch.randn(6, 5, requires_grad=True)
    found = mean_of_products(nodes, relations, head, relation, tail, 40)
    hot = torch.nn.functional.one_hot(head, 40).float()
    plain = (hot.T @ (relations[relation] * nodes[tail])) / hot.sum(dim=0).clamp(min=1)[:, None]
    torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-5)
    assert (found[7] == 0).all()
    weights = torch.randn(40, 5)
    expected = torch.autograd.grad((plain * weights).sum(), (nodes, relations))
    gradients = torch.autograd.grad((found * weights).sum(), (nodes, relations))
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_evaluation_drops_nothing_and_training_samples_edges():
    options = dataclasses.replace(RELEASED, message_dropout=0.0, normalise=False, filters=0)
    model = build(options)
    assert torch.equal(model(), model())
    exact = model().detach()
    model.train()
    torch.manual_seed(0)
    # 9:1 links to a alone, whose mean is over the triples kept of (isa b), (isa c), (treats c).
    rows = model.nodes.detach()
    names = list(field(options).names)
    isa, treats = (model.relations.detach()[field(options).relations.index(r)]
                   for r in ("isa", "treats"))  # fmt: skip
    b, c = rows[names.index("cui/b")], rows[names.index("cui/c")]
    seen = Counter()
    possible = {"none": torch.zeros(4)}
    for mask in range(1, 8):
        parts = [p for i, p in enumerate((isa * b, isa * c, treats * c)) if mask >> i & 1]
        possible[str(mask)] = 2.0 * torch.stack(parts).mean(dim=0)
    for _ in range(400):
        message = model().detach()[0] - rows[0]
        match = [n for n, p in possible.items() if torch.allclose(message, p, atol=1e-5)]
        assert match
        seen[match[0]] += 1
    assert set(seen) == set(possible)
    assert 0.44 < seen["none"] / 400 < 0.69  # the link is left out, or all triples: 9/16
    torch.testing.assert_close(exact[0] - rows[0], possible["7"] / 2)


def test_a_graph_that_says_nothing_about_the_codes_is_refused():
    with pytest.raises(KnowledgeError, match="none starts at one of the cohort's codes"):
        field(PAPER, (("cui/a", "isa", "cui/b"),))
    with pytest.raises(KnowledgeError, match="none carries a meaning"):
        field(PAPER, ((CODES[0], CO_OCCUR, "cui/b"),))
