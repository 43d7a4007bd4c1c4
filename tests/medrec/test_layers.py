"""Shared blocks against loops."""

import numpy as np
import pytest
import torch

from medrec.layers import (
    CausalEncoder,
    CodeBag,
    Dropout,
    GraphConvolution,
    SparseProduct,
    keep_mask,
    masked_softmax,
    row_normalised,
    strictly_earlier,
)
from tests.medrec.models import reference
from tests.medrec.small import shaken, whole_batch


@pytest.mark.parametrize("mean", [False, True])
def test_a_bag_is_the_sum_or_mean_of_its_codes(mean):
    torch.manual_seed(0)
    layer = shaken(CodeBag(6, 4, dropout=0.0, mean=mean))
    table = layer.embedding.weight.detach().numpy()
    lists = [[[0, 5], [3]], [[], [1, 2, 4]]]
    codes = torch.full((2, 2, 3), 6)
    for i, visits in enumerate(lists):
        for j, visit in enumerate(visits):
            codes[i, j, : len(visit)] = torch.tensor(visit, dtype=torch.long)
    found = layer(codes).detach().numpy()
    for i, visits in enumerate(lists):
        for j, visit in enumerate(visits):
            np.testing.assert_allclose(
                found[i, j], reference.bag(table, visit, mean), rtol=1e-5, atol=1e-6
            )


def test_a_batch_without_any_code_is_zero():
    found = CodeBag(6, 4, dropout=0.0, mean=True)(torch.full((2, 3, 1), 6))
    assert found.shape == (2, 3, 4)
    assert found.abs().max() == 0


def test_padding_codes_never_learn():
    layer = CodeBag(6, 4, dropout=0.0, mean=False)
    layer(torch.tensor([[[0, 1, 6]]])).sum().backward()
    gradient = layer.embedding.weight.grad
    assert gradient[6].abs().max() == 0
    assert gradient[0].tolist() == gradient[1].tolist() == [1.0] * 4


@pytest.mark.parametrize("mean", [False, True])
def test_the_encoder_is_two_recurrences(mean):
    encoder = shaken(CausalEncoder(12, 6, dim=4, hidden=5, dropout=0.0, mean=mean))
    state = {f"encoder.{name}": value for name, value in reference.state_of(encoder).items()}
    batch = whole_batch()
    found = encoder(batch.diagnoses, batch.procedures).detach().numpy()
    for row, patient in enumerate(reference.patients()):
        for visit in range(len(patient)):
            expected = []
            for position, kind in enumerate(("diagnoses", "procedures")):
                table = state[f"encoder.{kind}.embedding.weight"]
                inputs = [reference.bag(table, v[position], mean) for v in patient[: visit + 1]]
                name = {"diagnoses": "diagnosis_gru", "procedures": "procedure_gru"}[kind]
                expected.append(reference.last_state(state, f"encoder.{name}", inputs))
            np.testing.assert_allclose(found[row, visit], np.concatenate(expected), atol=1e-5)


def test_rows_are_normalised_with_a_loop_at_each_node():
    adjacency = torch.tensor([[0, 1, 1], [1, 0, 0], [0, 0, 0]], dtype=torch.bool)
    expected = [[1 / 3, 1 / 3, 1 / 3], [1 / 2, 1 / 2, 0], [0, 0, 1]]
    torch.testing.assert_close(row_normalised(adjacency), torch.tensor(expected))


def test_graph_convolution_by_loop():
    adjacency = torch.tensor([[0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=torch.bool)
    layer = shaken(GraphConvolution(adjacency, 4, dropout=0.3))
    state = reference.state_of(layer)
    near = [[0, 1], [0, 1, 2], [1, 2]]

    def spread(values):
        return np.stack([np.mean([values[j] for j in nodes], axis=0) for nodes in near])

    hidden = reference.relu(spread(state["first"]) + state["first_bias"])
    expected = spread(hidden @ state["second"]) + state["second_bias"]
    np.testing.assert_allclose(layer().detach().numpy(), expected, atol=1e-6)


def test_sparse_product_equals_dense_in_both_directions():
    rng = np.random.default_rng(0)
    dense = torch.from_numpy(rng.normal(size=(7, 5)) * (rng.random((7, 5)) < 0.4)).float()
    dense[3] = 0.0
    x = torch.from_numpy(rng.normal(size=(5, 3))).float().requires_grad_()
    weight = torch.from_numpy(rng.normal(size=(7, 3))).float()
    mine = SparseProduct(dense.to_sparse_coo())(x)
    torch.testing.assert_close(mine, dense @ x)
    (found,) = torch.autograd.grad((mine * weight).sum(), x)
    torch.testing.assert_close(found, dense.T @ weight)


def test_a_gradient_that_is_not_contiguous_is_right():
    dense = torch.tensor([[1.0, 2.0], [0.0, 3.0], [4.0, 0.0]])
    x = torch.ones(2, 3, requires_grad=True)
    y = SparseProduct(dense.to_sparse_coo())(x)
    (y.T * torch.arange(9.0).reshape(3, 3)).sum().backward()
    expected = dense.T @ torch.arange(9.0).reshape(3, 3).T
    torch.testing.assert_close(x.grad, expected)


def test_strictly_earlier_by_hand():
    expected = [[False, False, False], [True, False, False], [True, True, False]]
    assert strictly_earlier(3, torch.device("cpu")).tolist() == expected


def test_masked_softmax_by_loop():
    scores = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 4, 4))).float() * 30
    allowed = strictly_earlier(4, torch.device("cpu"))
    found = masked_softmax(scores, allowed)
    for batch in range(2):
        assert found[batch, 0].tolist() == [0.0] * 4  # nothing is allowed
        for t in range(1, 4):
            expected = reference.softmax(scores[batch, t, :t].double().numpy())
            np.testing.assert_allclose(found[batch, t, :t], expected, atol=1e-6)
            assert found[batch, t, t:].abs().sum() == 0


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
def test_dropout_keeps_its_share_and_the_mean(p):
    """200,000 elements: the kept share lies within five standard errors."""
    torch.manual_seed(0)
    size = 200_000
    kept = Dropout(p).train()(torch.ones(size))
    share = (kept != 0).float().mean().item()
    assert share == pytest.approx(1 - p, abs=5 * (p * (1 - p) / size) ** 0.5)
    assert kept.max().item() == pytest.approx(1 / (1 - p))


def test_dropout_does_nothing_in_evaluation_or_at_0():
    x = torch.randn(3, 4)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(Dropout(0.0).train()(x), x)


def test_dropout_masks_are_independent_and_follow_the_seed():
    def drawn(seed):
        torch.manual_seed(seed)
        return keep_mask((101, 7), 0.5, torch.device("cpu"))

    assert drawn(0).shape == (101, 7)
    assert torch.equal(drawn(0), drawn(0))
    agreement = (drawn(0) == drawn(1)).float().mean().item()
    assert agreement == pytest.approx(0.5, abs=0.1)
