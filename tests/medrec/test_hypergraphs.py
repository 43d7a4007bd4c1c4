"""Hypergraphs by hand; convolution against PyTorch Geometric and plain loops."""

import numpy as np
import pytest
import torch
from scipy import sparse

from medrec import hypergraphs, splits
from medrec.cohort import KINDS, Codes
from medrec.hypergraphs import HypergraphConvolution, Incidence, PairwiseConvolution
from medrec.knowledge.base import load_knowledge
from medrec.knowledge.molecules import build_molecules
from medrec.spec import KnowledgeSpec
from tests.medrec.small import lists_of, scramble, small_cohort, small_knowledge, to_codes

SIZES = {kind: len(codes) for kind, codes in small_cohort().vocabulary.items()}


def sets_of(graph):
    """Hyperedges as sets of nodes."""
    found = [set() for _ in range(graph.edges)]
    for node, edge in zip(graph.node.tolist(), graph.edge.tolist(), strict=True):
        found[edge].add(node)
    return found


def test_visits_are_hyperedges_over_their_codes():
    visits = {
        "diagnoses": to_codes([[0, 2], [1]]),
        "procedures": to_codes([[], [1]]),
        "medications": to_codes([[0], [0, 1]]),
    }
    sizes = {"diagnoses": 3, "procedures": 2, "medications": 2}
    joint = hypergraphs.joint_hypergraph(visits, sizes)
    assert (joint.nodes, joint.edges) == (7, 2)
    assert sets_of(joint) == [{0, 2, 5}, {1, 4, 5, 6}]
    typed = hypergraphs.typed_hypergraph(visits["procedures"], 2)
    assert (typed.nodes, typed.edges) == (2, 2)
    assert sets_of(typed) == [set(), {1}]


def test_hyperedges_are_the_training_visits_of_the_cohort():
    cohort = small_cohort()
    joint = hypergraphs.joint_hypergraph(small_knowledge().training_visits, SIZES)
    rows = cohort.visits_of(cohort.members(splits.TRAIN))
    expected, first = [set() for _ in rows], 0
    for kind in KINDS:
        lists = lists_of(cohort, kind)
        for place, row in enumerate(rows):
            expected[place] |= {first + code for code in lists[row]}
        first += SIZES[kind]
    assert sets_of(joint) == expected


@pytest.mark.parametrize("split", [splits.TRAIN, splits.VALIDATION, splits.TEST])
def test_only_training_visits_matter(split):
    other = load_knowledge(scramble(small_cohort(), split), KnowledgeSpec())
    mine = hypergraphs.joint_hypergraph(small_knowledge().training_visits, SIZES)
    theirs = hypergraphs.joint_hypergraph(other.training_visits, SIZES)
    assert (sets_of(mine) == sets_of(theirs)) == (split != splits.TRAIN)


def test_the_released_path():
    assert sets_of(hypergraphs.path_hypergraph(3)) == [{0, 1}, {1, 2}, {2}]


def test_molecules_give_groups_and_fragments():
    # Ethanol: a hydroxyl. Benzoic acid: that of the acid, carboxyl, a carbonyl, aromatic.
    structures = (("CCO",), (), ("OC(=O)c1ccccc1", "CCO"))
    molecules = build_molecules(structures)
    graph = hypergraphs.molecular_hypergraph(structures, molecules)
    assert (graph.nodes, graph.edges) == (10 + len(molecules.fragments), 3)
    edges = sets_of(graph)
    assert [{part for part in edge if part < 10} for edge in edges] == [{0}, set(), {0, 1, 5, 6}]
    for drug, edge in enumerate(edges):
        held = {part - 10 for part in edge if part >= 10}
        assert held == set(np.flatnonzero(molecules.contains[drug]).tolist())
    assert molecules.contains[2].sum() >= 2


def test_ancestors_by_hand():
    bundle = small_knowledge().bundle
    vocabulary = {
        "diagnoses": ("9:25000", "9:2724", "9:486", "local"),
        "procedures": (),
        "medications": ("C03C", "C07A"),
    }
    assert hypergraphs.ancestor_of(bundle, vocabulary, 0).tolist() == [0, 1, 2, 3, 4, 5]
    # 2500, 272, the block of 486, local (no ancestor), C03, C07: by name within a kind.
    one = hypergraphs.ancestor_of(bundle, vocabulary, 1)
    assert one.tolist() == [0, 1, 2, 3, 4, 5]
    # 250 is below the block 249-259, 272 below 270-279; C03 and C07 are both below C.
    two = hypergraphs.ancestor_of(bundle, vocabulary, 2)
    assert two[4] == two[5]
    assert len(set(two.tolist())) == 5
    far, farther = (hypergraphs.ancestor_of(bundle, vocabulary, height) for height in (8, 9))
    assert far.tolist() == farther.tolist()
    assert far[0] == far[1]  # one chapter
    assert far[3] not in np.delete(far, 3)


def test_coarse_graphs_hold_the_ancestors_of_each_edge():
    graph = hypergraphs.hypergraph(4, 2, np.array([0, 1, 2, 3]), np.array([0, 0, 0, 1]))
    above = np.array([0, 0, 1, 1])
    assert sets_of(hypergraphs.coarse(graph, above)) == [{0, 1}, {1}]
    np.testing.assert_allclose(
        hypergraphs.pooling(above).toarray(), [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]
    )


def test_pairs_of_hyperedges():
    graph = hypergraphs.hypergraph(4, 2, np.array([0, 1, 1, 2]), np.array([0, 0, 1, 1]))
    expected = [[1 / 2, 1 / 2, 0, 0], [1 / 3] * 3 + [0], [0, 1 / 2, 1 / 2, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(hypergraphs.pairwise(graph).toarray(), expected, rtol=1e-6)


def random_graph(nodes, edges, share, seed=0):
    """A hypergraph with one node in no edge and one edge without nodes."""
    hot = np.random.default_rng(seed).random((nodes, edges)) < share
    hot[3], hot[:, 2] = False, False
    node, edge = hot.nonzero()
    return hypergraphs.hypergraph(nodes, edges, node, edge)


# Few and many nodes a hyperedge: products from node to node, dense and sparse, and half-steps.
GRAPHS = {
    "dense": random_graph(9, 40, 0.4),
    "sparse": random_graph(60, 60, 0.02),
    "half-steps": random_graph(60, 5, 0.6),
}
HANDLING = {"dense": "DenseProduct", "sparse": "SparseProduct", "half-steps": "NoneType"}


@pytest.mark.parametrize("heads", [None, 1, 4])
@pytest.mark.parametrize("name", GRAPHS)
def test_convolution_equals_pytorch_geometric(name, heads):
    graph = GRAPHS[name]
    torch.manual_seed(0)
    incidence = Incidence(graph)
    assert type(incidence.between).__name__ == HANDLING[name]
    mine = HypergraphConvolution(incidence, 8, heads)
    torch.nn.init.normal_(mine.layer.bias)
    x = torch.randn(graph.nodes, 8, requires_grad=True)
    pairs = torch.from_numpy(np.stack([graph.node, graph.edge]))
    means = torch.stack(
        [x[sorted(nodes)].mean(dim=0) if nodes else torch.zeros(8) for nodes in sets_of(graph)]
    )
    weighing = torch.randn(graph.nodes, 8)
    wanted = mine.layer(x, pairs, hyperedge_attr=means, num_edges=graph.edges)
    leaves = [x, *mine.parameters()]
    gradients = torch.autograd.grad((wanted * weighing).sum(), leaves)
    found = mine(x)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
    for mine_, theirs in zip(
        torch.autograd.grad((found * weighing).sum(), leaves), gradients, strict=True
    ):
        torch.testing.assert_close(mine_, theirs, rtol=1e-4, atol=1e-5)


def test_convolution_equals_the_equation():
    graph = GRAPHS["sparse"]
    mine = HypergraphConvolution(Incidence(graph), 4, None)
    x = torch.randn(graph.nodes, 4, generator=torch.Generator().manual_seed(0))
    moved = (x @ mine.layer.lin.weight.T).detach().double().numpy()
    edges = sets_of(graph)
    means = [moved[sorted(nodes)].mean(axis=0) if nodes else np.zeros(4) for nodes in edges]
    found = mine(x).detach().numpy()
    for node in range(graph.nodes):
        around = [means[e] for e, nodes in enumerate(edges) if node in nodes]
        expected = np.mean(around, axis=0) if around else np.zeros(4)
        np.testing.assert_allclose(found[node], expected, atol=1e-6)


def test_pairwise_convolution_equals_the_equation():
    matrix = hypergraphs.pairwise(GRAPHS["sparse"])
    mine = PairwiseConvolution(hypergraphs.fixed_product(matrix), 4)
    x = torch.randn(matrix.shape[0], 4, generator=torch.Generator().manual_seed(0))
    weight, bias = (p.detach().double().numpy() for p in mine.linear.parameters())
    expected = matrix.toarray() @ (x.double().numpy() @ weight.T) + bias
    np.testing.assert_allclose(mine(x).detach().numpy(), expected, atol=1e-5)


def test_an_empty_hypergraph_gives_the_bias():
    none = hypergraphs.typed_hypergraph(Codes(np.zeros(4, np.int32), np.empty(0, np.int32)), 5)
    for heads in (None, 2):
        layer = HypergraphConvolution(Incidence(none), 4, heads)
        torch.nn.init.normal_(layer.layer.bias)
        x = torch.ones(5, 4, requires_grad=True)
        found = layer(x)
        found.sum().backward()
        assert torch.equal(found, layer.layer.bias.expand(5, 4))


def test_incidences_may_come_in_any_order_and_twice():
    graph = hypergraphs.hypergraph(3, 2, np.array([2, 0, 2, 1]), np.array([1, 0, 1, 0]))
    assert (graph.node.tolist(), graph.edge.tolist()) == ([0, 1, 2], [0, 0, 1])
    expected = sparse.csr_matrix([[1, 0], [1, 0], [0, 1]])
    assert (graph.incidence != expected).nnz == 0


def test_fixed_matrices_are_not_stored():
    assert not Incidence(GRAPHS["sparse"]).state_dict()
