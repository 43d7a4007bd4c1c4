"""Graphs of visits against sets of names, one visit at a time, and by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from medrec.knowledge.relations import kind_of
from medrec.visit_graphs import (
    GraphBatch,
    NodeTable,
    VisitGraphs,
    drop_edges,
    hierarchy_edges,
    interaction_edges,
    node_table,
    observed_codes,
    readout,
    related_edges,
)
from tests.medrec.small import SEMANTIC, VOCABULARY, lists_of, small_cohort, small_knowledge

CLINICAL = ("diagnoses", "procedures")
HIERARCHY = {"diagnoses": 0, "procedures": 1}
NAMES = {"/".join(name): 10 + i for i, name in enumerate(dict.fromkeys(n for n, _, _ in SEMANTIC))}
BELONGS = {"diagnoses": 5, "procedures": 6}
DIRECTIONS = ("parent_to_child", "child_to_parent", "both")


def plain_graph(codes, bundle, triples, direction, hierarchy, belongs, ancestors=True):
    """Nodes and edges of one visit, by name.

    Args:
        codes: observed, as "diagnoses/9:4280".
        bundle: whose ancestors count.
        triples: (head, id, tail) known between any two nodes.
        direction: of edges between child and parent; none leaves them out.
        hierarchy: id of these edges by kind.
        belongs: id of edges to the patient by kind; none leaves the patient out.
        ancestors: whether ancestors are nodes.
    """
    nodes = set(codes)
    for code in codes:
        nodes |= set(bundle.ancestors(code)) if ancestors else set()
    edges = {(h, r, t) for h, r, t in triples if h in nodes and t in nodes}
    for child in nodes:
        for parent in bundle.ancestors(child)[:1]:
            if parent in nodes and direction in ("parent_to_child", "both"):
                edges.add((parent, hierarchy[kind_of(child)], child))
            if parent in nodes and direction in ("child_to_parent", "both"):
                edges.add((child, hierarchy[kind_of(child)], parent))
    if belongs is not None:
        edges |= {(code, belongs[kind_of(code)], "patient") for code in codes}
    return nodes, edges


def named(graph: GraphBatch, names, visit):
    """Nodes and edges of one visit of a batch, by name; repeats are an error."""
    nodes = [names[i] for i in graph.node[graph.visit == visit].tolist()]
    label = [names[i] for i in graph.node.tolist()] + ["patient"] * graph.visits
    at = (graph.edge_visit == visit).nonzero()[:, 0].tolist()
    place = graph.visit.tolist() + list(range(graph.visits))
    edges = []
    for i in at:
        source, target = int(graph.source[i]), int(graph.target[i])
        assert place[source] == place[target] == visit
        edges.append((label[source], int(graph.relation[i]), label[target]))
    assert len(nodes) == len(set(nodes))
    assert len(edges) == len(set(edges))
    return set(nodes), set(edges)


def clinical(direction="parent_to_child", names=NAMES, belongs=BELONGS, ancestors=True):
    knowledge = small_knowledge()
    table = node_table(knowledge.vocabulary, CLINICAL, knowledge.bundle, ancestors=ancestors)
    edges = [related_edges(table, knowledge.bundle, names)]
    if direction is not None:
        edges.append(hierarchy_edges(table, HIERARCHY, direction))
    return table, VisitGraphs(table, np.concatenate(edges), belongs)


def all_visits():
    """Observed codes of every visit of the cohort, by name and as pairs of indices."""
    cohort = small_cohort()
    diagnoses, procedures = (lists_of(cohort, kind) for kind in CLINICAL)
    first = len(VOCABULARY["diagnoses"])
    named_codes, visit, code = [], [], []
    for row, (found, done) in enumerate(zip(diagnoses, procedures, strict=True)):
        named_codes.append(
            [f"diagnoses/{VOCABULARY['diagnoses'][i]}" for i in found]
            + [f"procedures/{VOCABULARY['procedures'][i]}" for i in done]
        )
        visit += [row] * (len(found) + len(done))
        code += found + [first + i for i in done]
    return named_codes, torch.tensor(visit), torch.tensor(code)


@pytest.mark.parametrize("direction", [*DIRECTIONS, None])
@pytest.mark.parametrize("belongs", [BELONGS, None])
@pytest.mark.parametrize("ancestors", [True, False])
def test_graphs_are_those_built_one_by_one(direction, belongs, ancestors):
    bundle = small_knowledge().bundle
    table, graphs = clinical(direction, belongs=belongs, ancestors=ancestors)
    codes, visit, code = all_visits()
    together = graphs(visit, code, len(codes))
    triples = [(h, NAMES[r], t) for h, r, t in bundle.relations.names() if r in NAMES]
    related = 0
    for row, own in enumerate(codes):
        expected = plain_graph(own, bundle, triples, direction, HIERARCHY, belongs, ancestors)
        assert named(together, table.names, row) == expected
        related += len({r for _, r, _ in expected[1]} & set(NAMES.values()))
    assert related > 20  # the semantic relations of the small cohort do occur


def test_medicine_graphs_have_interactions_in_both_directions():
    knowledge = small_knowledge()
    table = node_table(knowledge.vocabulary, ("medications",), knowledge.bundle, ancestors=True)
    edges = interaction_edges(table, knowledge.interacts, 1)
    graphs = VisitGraphs(table, edges, None)
    first, second = (int(i) for i in np.argwhere(knowledge.interacts)[0])
    graph = graphs(torch.tensor([0, 0, 1]), torch.tensor([first, second, first]), 2)
    a, b = (f"medications/{VOCABULARY['medications'][i]}" for i in (first, second))
    assert named(graph, table.names, 0)[1] == {(a, 1, b), (b, 1, a)}
    assert named(graph, table.names, 1)[1] == set()


def test_codes_come_first_in_vocabulary_order():
    table, _ = clinical()
    knowledge = small_knowledge()
    start = 0
    for kind in CLINICAL:
        own = tuple(f"{kind}/{code}" for code in knowledge.vocabulary[kind])
        assert table.names[start : start + len(own)] == own
        above = table.names[start + len(own) : start + table.sizes[kind]]
        assert list(above) == sorted(above)
        assert set(above) == {n for code in own for n in knowledge.bundle.ancestors(code)}
        start += table.sizes[kind]
    assert start == len(table.names)


def test_a_code_above_another_is_one_node_and_belongs_only_where_observed():
    """9:428 is a code of its own and the parent of 9:4280."""
    vocabulary = {"diagnoses": ("9:428", "9:4280"), "procedures": ()}
    bundle = replace(
        small_knowledge().bundle,
        nodes=("diagnoses/9:428", "diagnoses/9:4280"),
        titles=("", ""),
        parents=np.array([-1, 0], np.int32),
        text=np.zeros((2, 0), np.float32),
    )
    table = node_table(vocabulary, CLINICAL, bundle, ancestors=True)
    assert table.sizes == {"diagnoses": 2, "procedures": 0}
    edges = hierarchy_edges(table, HIERARCHY, "parent_to_child")
    graph = VisitGraphs(table, edges, BELONGS)(torch.tensor([0, 1, 1]), torch.tensor([1, 0, 1]), 2)
    upper, lower = bundle.nodes
    down, to_patient = (upper, 0, lower), (lower, 5, "patient")
    assert named(graph, table.names, 0) == ({upper, lower}, {down, to_patient})
    assert named(graph, table.names, 1)[1] == {down, to_patient, (upper, 5, "patient")}


def test_a_repeated_code_counts_once():
    _, graphs = clinical()
    once = graphs(torch.tensor([0, 1]), torch.tensor([3, 4]), 2)
    twice = graphs(torch.tensor([0, 1, 0]), torch.tensor([3, 4, 3]), 2)
    for name, value in vars(once).items():
        assert torch.equal(torch.as_tensor(vars(twice)[name]), torch.as_tensor(value)), name


def test_a_visit_without_codes_has_the_patient_alone():
    _, graphs = clinical()
    graph = graphs(torch.tensor([1]), torch.tensor([0]), 3)
    assert set(graph.visit.tolist()) == set(graph.edge_visit.tolist()) == {1}
    none = graphs(torch.tensor([], dtype=torch.int64), torch.tensor([], dtype=torch.int64), 2)
    assert len(none.node) == len(none.source) == 0
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert torch.equal(readout(x, none), x)


def test_leaving_relations_out_shifts_no_id():
    codes, visit, code = all_visits()
    full = clinical()[1](visit, code, len(codes))
    bare = clinical(direction=None, names={})[1](visit, code, len(codes))
    assert set(bare.relation.tolist()) == set(BELONGS.values())
    assert set(full.relation.tolist()) >= {0, 1, 5, 6, 10}
    only = full.select((full.relation == 5) | (full.relation == 6))
    assert torch.equal(only.relation, bare.relation)
    assert torch.equal(only.source, bare.source)


def test_observed_codes_skip_padding_and_number_the_visits_that_exist():
    codes = torch.tensor([[[0, 2, 9], [9, 9, 9], [1, 9, 9]], [[3, 9, 9], [4, 9, 9], [9, 9, 9]]])
    exists = torch.tensor([[True, True, True], [True, False, False]])
    visit, code = observed_codes(codes, 9, exists)
    assert visit.tolist() == [0, 0, 2, 3]
    assert code.tolist() == [0, 2, 1, 3]


def test_readout_sums_every_node():
    whole = torch.zeros(0, dtype=torch.int64)
    graph = GraphBatch(
        node=torch.tensor([4, 7, 4]), visit=torch.tensor([0, 0, 2]), source=whole, target=whole,
        relation=whole, edge_visit=whole, visits=3,
    )  # fmt: skip
    x = torch.tensor([[1.0], [2.0], [4.0], [10.0], [20.0], [30.0]])
    assert readout(x, graph).flatten().tolist() == [13.0, 20.0, 34.0]
    assert readout(x[:3], graph).flatten().tolist() == [3.0, 0.0, 4.0]


def crowd(visits=2000, edges=20):
    """Many graphs of two nodes, with `edges` edges each."""
    nodes = torch.arange(2).repeat(visits)
    owner = torch.arange(visits).repeat_interleave(edges)
    return GraphBatch(
        node=nodes,
        visit=torch.arange(visits).repeat_interleave(2),
        source=2 * owner,
        target=2 * owner + 1,
        relation=torch.arange(edges).repeat(visits) % 4,
        edge_visit=owner,
        visits=visits,
    )


def test_a_tenth_of_the_edges_of_every_other_graph_is_dropped():
    torch.manual_seed(0)
    graph = crowd()
    fewer = drop_edges(graph, share=0.1, probability=0.5)
    lost = 20 - torch.bincount(fewer.edge_visit, minlength=graph.visits)
    # A chosen graph keeps all 20 edges with probability 0.9^20 = 0.122.
    assert (lost > 0).float().mean().item() == pytest.approx(0.5 * (1 - 0.9**20), abs=0.04)
    assert lost.sum().item() / 40_000 == pytest.approx(0.05, abs=0.004)
    assert torch.equal(fewer.node, graph.node)
    for relation in range(4):  # types are filtered alike
        share = (fewer.relation == relation).sum().item() / 10_000
        assert share == pytest.approx(0.95, abs=0.01)


def test_dropping_in_every_graph_or_in_none():
    torch.manual_seed(0)
    graph = crowd()
    assert len(drop_edges(graph, 0.1, 1.0).source) == pytest.approx(36_000, abs=250)
    assert len(drop_edges(graph, 0.1, 0.0).source) == 40_000
    assert len(drop_edges(graph, 0.0, 1.0).source) == 40_000


def test_kept_edges_keep_their_ends():
    torch.manual_seed(0)
    codes, visit, code = all_visits()
    table, graphs = clinical()
    graph = graphs(visit, code, len(codes))
    fewer = drop_edges(graph, 0.5, 1.0)
    for row in range(len(codes)):
        nodes, edges = named(graph, table.names, row)
        some_nodes, some_edges = named(fewer, table.names, row)
        assert some_nodes == nodes
        assert some_edges <= edges


def test_an_empty_table_gives_empty_graphs():
    none = np.zeros(0, np.int64)
    table = NodeTable((), {"diagnoses": 0}, none, none)
    graphs = VisitGraphs(table, np.zeros((0, 3), np.int64), {"diagnoses": 0})
    nothing = torch.zeros(0, dtype=torch.int64)
    assert len(graphs(nothing, nothing, 4).source) == 0
