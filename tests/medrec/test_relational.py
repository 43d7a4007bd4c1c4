"""Relational convolution against PyTorch Geometric's own, and by hand."""

import pytest
import torch

from medrec.relational import RelationalConvolution, group_edges

# Imported for the first time, PyTorch Geometric warns; medrec.relational sees to that.
# isort: split
from torch_geometric.nn import FastRGCNConv, RGCNConv

NODES, INPUTS, OUTPUTS, RELATIONS = 40, 6, 5, 7
ABSENT = 4  # relation without an edge


def random_graph(edges, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(NODES, INPUTS, generator=generator)
    # The last nodes are no targets; several edges share source, target or relation.
    source = torch.randint(NODES, (edges,), generator=generator)
    target = torch.randint(NODES - 5, (edges,), generator=generator)
    relation = torch.randint(RELATIONS - 1, (edges,), generator=generator)
    return x, torch.stack([source, target]), relation + (relation >= ABSENT)


def ours_and(kind):
    torch.manual_seed(1)
    own = RelationalConvolution(INPUTS, OUTPUTS, RELATIONS)
    torch.nn.init.normal_(own.bias)
    theirs = kind(INPUTS, OUTPUTS, RELATIONS)
    theirs.load_state_dict(own.state_dict())
    return own, theirs


@pytest.mark.parametrize("kind", [RGCNConv, FastRGCNConv])
@pytest.mark.parametrize("edges", [1, 30, 600])
def test_result_and_gradients_are_those_of_pytorch_geometric(kind, edges):
    own, theirs = ours_and(kind)
    x, edge_index, relation = random_graph(edges)
    weigh = torch.randn(NODES, OUTPUTS, generator=torch.Generator().manual_seed(2))
    found = []
    for layer in (own, theirs):
        nodes = x.clone().requires_grad_()
        out = layer(nodes, edge_index, relation)
        (out * weigh).sum().backward()
        found.append([out, nodes.grad, *(p.grad for p in layer.parameters())])
    assert len(found[0]) == 5
    for mine, other in zip(*found, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5)


def test_a_relation_without_edges_gets_no_gradient():
    own, _ = ours_and(RGCNConv)
    x, edge_index, relation = random_graph(600)
    own(x, edge_index, relation).square().sum().backward()
    touched = own.weight.grad.abs().amax(dim=(1, 2)) > 0
    assert touched.tolist() == [r != ABSENT for r in range(RELATIONS)]


def test_without_edges_only_the_root_remains():
    own, _ = ours_and(RGCNConv)
    x, edge_index, relation = random_graph(0)
    torch.testing.assert_close(own(x, edge_index, relation), x @ own.root + own.bias)


def test_means_are_taken_by_relation_and_target():
    """Node 2 hears 1 and 3 through relation 0 (mean 2) and 3 through relation 1."""
    layer = RelationalConvolution(1, 1, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[[10.0]], [[100.0]]]))
        layer.root.fill_(1.0)
        layer.bias.fill_(0.5)
    x = torch.tensor([[1.0], [3.0], [7.0]])
    edge_index = torch.tensor([[0, 1, 1], [2, 2, 2]])
    out = layer(x, edge_index, torch.tensor([0, 0, 1]))
    assert out.flatten().tolist() == [1.5, 3.5, 7.5 + 10 * 2 + 100 * 3]


def test_groups_ascend_by_relation_then_target():
    source, target = torch.tensor([0, 1, 2, 0]), torch.tensor([2, 1, 2, 0])
    groups = group_edges(source, target, torch.tensor([2, 0, 2, 2]), 3, 4)
    assert groups.sizes == (1, 0, 2, 0)
    assert groups.target.tolist() == [1, 0, 2]
    assert groups.group.tolist() == [2, 0, 2, 1]
    assert groups.share.tolist() == [0.5, 1.0, 0.5, 1.0]
