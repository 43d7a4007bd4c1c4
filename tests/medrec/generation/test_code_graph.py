"""The graph auto-encoder of the tree, against torch-geometric and plain loops."""

import warnings

import numpy as np
import pytest
import torch

from medrec.generation._code_graph import (
    Propagation,
    TreeEncoder,
    TreeSettings,
    adjacency,
    reconstruct,
    tree_vectors,
)

with warnings.catch_warnings():  # of what it imports
    warnings.simplefilter("ignore")
    from torch_geometric.nn import GCNConv

PARENTS = torch.tensor([5, 5, 6, 6, 6, 7, 7, -1, -1, 8])
EDGES = ("parent_to_child", "parent_child", "parent_child_sibling")
every_graph = pytest.mark.parametrize("edges", EDGES)


def settings(edges="parent_child_sibling", **changes):
    return TreeSettings(
        **{
            "edges": edges, "dim": 4, "hidden": 6, "epochs": 30, "learning_rate": 0.01,
            "rows": 1024, **changes,
        }
    )  # fmt: skip


def plain_edges(edges):
    """(from, to) by plain loops."""
    parents, found = PARENTS.tolist(), set()
    for child, parent in enumerate(parents):
        if parent < 0:
            continue
        found.add((parent, child))
        if edges != "parent_to_child":
            found.add((child, parent))
        if edges == "parent_child_sibling":
            found |= {(child, other) for other in range(10) if parents[other] == parent}
    return sorted((a, b) for a, b in found if a != b)


@every_graph
def test_the_adjacency_equals_plain_loops(edges):
    found = adjacency(PARENTS, torch.arange(10), edges).nonzero().tolist()
    assert [tuple(pair) for pair in found] == plain_edges(edges)
    some = torch.tensor([7, 2])
    assert torch.equal(
        adjacency(PARENTS, some, edges), adjacency(PARENTS, torch.arange(10), edges)[some]
    )


@every_graph
def test_a_layer_equals_a_graph_convolution(edges):
    torch.manual_seed(0)
    convolution = GCNConv(3, 5)
    x = torch.randn(10, 3)
    expected = convolution(x, torch.tensor(plain_edges(edges)).T)
    found = Propagation(PARENTS, edges)(convolution.lin(x)) + convolution.bias
    torch.testing.assert_close(found, expected)


@every_graph
def test_the_encoder_equals_convolutions_of_one_hot_features(edges):
    torch.manual_seed(0)
    encoder = TreeEncoder(PARENTS, settings(edges))
    first, second = GCNConv(10, 6), GCNConv(6, 4)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.copy_(torch.randn(parameter.shape))
        first.lin.weight.copy_(encoder.first.T)
        first.bias.copy_(encoder.first_bias)
        second.lin.weight.copy_(encoder.second.weight)
        second.bias.copy_(encoder.second_bias)
    index = torch.tensor(plain_edges(edges)).T
    hidden = encoder.first_norm(torch.relu(first(torch.eye(10), index)))
    expected = encoder.second_norm(second(hidden, index))
    torch.testing.assert_close(encoder(), expected, rtol=1e-3, atol=1e-4)


@every_graph
def test_the_loss_and_its_gradient_equal_plain_loops(edges):
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(10, 4, generator=generator, requires_grad=True)
    rows = torch.tensor([8, 1, 6, 3])
    found = reconstruct(vectors, PARENTS, rows, edges)
    gradient = vectors.grad
    edge = set(plain_edges(edges))
    copy = vectors.detach().requires_grad_()
    terms = [
        (torch.sigmoid((copy[i] * copy[j]).sum()) - float((i, j) in edge)) ** 2
        for i in rows.tolist()
        for j in range(10)
    ]
    expected = torch.stack(terms).mean()
    expected.backward()
    assert found == pytest.approx(float(expected.detach()), rel=1e-5)
    torch.testing.assert_close(gradient, copy.grad)


def test_blocks_of_rows_change_nothing(monkeypatch):
    vectors = torch.randn(10, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    whole = reconstruct(vectors, PARENTS, torch.arange(10), EDGES[2])
    gradient, vectors.grad = vectors.grad, None
    monkeypatch.setattr("medrec.generation._code_graph._BLOCK", 3)
    assert reconstruct(vectors, PARENTS, torch.arange(10), EDGES[2]) == pytest.approx(whole)
    torch.testing.assert_close(vectors.grad, gradient)


@every_graph
@pytest.mark.parametrize("rows", [1024, 4])
def test_training_reconstructs(edges, rows):
    torch.manual_seed(0)
    seen = []
    found = tree_vectors(PARENTS, settings(edges, rows=rows, epochs=150), seen.append)
    assert found.shape == (10, 4)
    assert len(seen) == 150
    assert np.mean(seen[-20:]) < np.mean(seen[:20])


def test_related_codes_are_closer_than_others():
    torch.manual_seed(0)
    found = tree_vectors(PARENTS, settings(epochs=300))
    products = (found @ found.T).detach()
    siblings = products[0, 1], products[2, 3], products[3, 4]
    others = products[0, 2], products[0, 3], products[1, 4]
    assert min(siblings) > max(others)


def test_the_seed_decides():
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        found.append(tree_vectors(PARENTS, settings(rows=4)))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_nodes_without_any_edge_have_zeros():
    assert not tree_vectors(torch.full((4,), -1), settings()).any()
