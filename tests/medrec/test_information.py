"""Dependence and information against plain loops."""

import math

import numpy as np
import pytest
import torch

from medrec import information


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def as_tensor(values):
    return torch.from_numpy(np.asarray(values, dtype=np.float64)).float()


def distance_covariance(x, y):
    """Székely et al. 2007, definition 4, one pair of samples at a time: dCov², not its root."""
    n = len(x)
    a = [[abs(x[k] - x[m]) for m in range(n)] for k in range(n)]
    b = [[abs(y[k] - y[m]) for m in range(n)] for k in range(n)]

    def centred(d, k, m):
        row = sum(d[k]) / n
        column = sum(d[j][m] for j in range(n)) / n
        return d[k][m] - row - column + sum(map(sum, d)) / n**2

    return sum(centred(a, k, m) * centred(b, k, m) for k in range(n) for m in range(n)) / n**2


def test_distance_correlation_equals_its_definition():
    vectors = random(3, 9)
    vectors[2] = vectors[0] ** 2
    found = information.distance_correlation(as_tensor(vectors)).numpy()
    for i, x in enumerate(vectors):
        for j, y in enumerate(vectors):
            spread = distance_covariance(x, x) * distance_covariance(y, y)
            expected = math.sqrt(distance_covariance(x, y) / math.sqrt(spread))
            assert found[i, j] == pytest.approx(expected, abs=1e-5)


def test_distance_correlation_by_hand():
    """Of x = (0, 0, 1, 1) and (0, 1, 0, 1) every combination occurs once: they are independent.

    Centred distances are ±1/2 for x, so dVar(x) = 1/2. For z = (0, 0, 0, 1) they are -1/8 between
    the first three, 3/8 from them to the last, -9/8 for the last: dVar²(z) = 144/64/16 = 9/64.
    Their products with those of x sum to 1: dCov² = 1/16, and dCor² = (1/16) / (1/2 · 3/8) = 1/3.
    """
    vectors = as_tensor([[0, 0, 1, 1], [0, 1, 0, 1], [0, 0, 0, 1], [5, 5, 5, 5]])
    found = information.distance_correlation(vectors)
    assert found[0, 1].item() == 0.0
    assert found[0, 0].item() == pytest.approx(1.0)
    assert found[0, 2].item() == pytest.approx(math.sqrt(1 / 3))
    assert (found[3] == 0).all()


def test_distance_correlation_ignores_scale_and_shift():
    vectors = as_tensor(random(2, 12))
    tiny = torch.stack([1e-4 * vectors[0] + 1e-3, -3.0 * vectors[1]])
    found = information.distance_correlation(tiny)[0, 1]
    expected = information.distance_correlation(vectors)[0, 1]
    assert found.item() == pytest.approx(expected.item(), abs=1e-4)
    assert information.distance_correlation(torch.stack([vectors[0], -vectors[0]]))[
        0, 1
    ].item() == pytest.approx(1.0, abs=1e-5)


def test_gradients_are_finite_where_a_root_is_zero():
    vectors = as_tensor([[0, 0, 1, 1], [0, 1, 0, 1], [2, 2, 2, 2]]).requires_grad_()
    total = information.sum_over_pairs(information.distance_correlation(vectors), ordered=True)
    total.backward()
    assert torch.isfinite(vectors.grad).all()


def test_cosine_squared_by_hand():
    found = information.cosine_squared(as_tensor([[1, 0], [1, 1], [0, -2], [0, 0]]))
    expected = [[1, 0.5, 0, 0], [0.5, 1, 0.5, 0], [0, 0.5, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_contrast_equals_the_loop():
    vectors = random(3, 5)
    unit = [x / math.sqrt(sum(v * v for v in x)) for x in vectors]
    expected = 0.0
    for x in unit:
        every = sum(math.exp(float(x @ y) / 0.2) for y in unit)
        expected -= math.log(math.exp(1 / 0.2) / every)
    assert information.contrast(as_tensor(vectors)).item() == pytest.approx(expected, abs=1e-5)
    assert information.contrast(as_tensor(vectors[:1])).item() == pytest.approx(0.0, abs=1e-6)


def test_pairs_are_counted_once_or_twice():
    values = as_tensor([[9, 1, 2], [1, 9, 4], [2, 4, 9]])
    assert information.sum_over_pairs(values, ordered=False).item() == 7.0
    assert information.sum_over_pairs(values, ordered=True).item() == 14.0
    assert information.sum_over_pairs(values[:1, :1], ordered=True).item() == 0.0


def normal_log_density(y, mean, variance):
    terms = (y - mean) ** 2 / variance + np.log(2 * math.pi * variance)
    return -0.5 * terms.sum()


@pytest.mark.parametrize("learned", [False, True])
def test_log_density_equals_the_normal_one_up_to_its_constant(learned):
    y, mean, log_variance = random(4, 3), random(4, 3, seed=1), random(4, 3, seed=2)
    given = as_tensor(log_variance) if learned else None
    found = information.log_density(as_tensor(y), as_tensor(mean), given)
    variance = np.exp(log_variance) if learned else np.ones_like(mean)
    for row in range(4):
        expected = normal_log_density(y[row], mean[row], variance[row])
        assert found[row].item() - 1.5 * math.log(2 * math.pi) == pytest.approx(expected, abs=1e-5)


VISITS = [4, 1, 2, 3]
MASK = torch.arange(4) < torch.tensor(VISITS)[:, None]


def club_inputs():
    """Values, means and log variances of four patients; what stands in padding is no number."""
    found = [random(4, 4, 3, seed=seed) + 3 for seed in range(3)]
    for each in found:
        each[~MASK.numpy()] = np.nan
    found[2] = found[2] - 3
    return found


def club_loop(values, mean, log_variance, *, floor):
    """Equation 14, one pair of visits of one patient at a time."""
    total = 0.0
    for patient, visits in enumerate(VISITS):
        of_patient = 0.0
        for s in range(visits):
            variance = np.exp(log_variance[patient, s])
            own = normal_log_density(values[patient, s], mean[patient, s], variance)
            others = [
                normal_log_density(values[patient, r], mean[patient, s], variance)
                for r in range(visits)
            ]
            term = own - sum(others) / visits
            of_patient += max(term, 0.0) if floor else term
        total += of_patient / visits
    return total / len(VISITS)


@pytest.mark.parametrize("floor", [False, True])
@pytest.mark.parametrize("learned", [False, True])
def test_club_equals_the_loop(learned, floor):
    values, mean, log_variance = club_inputs()
    given = as_tensor(log_variance) if learned else None
    terms = information.club_terms(as_tensor(values), as_tensor(mean), given, MASK)
    found = information.club(terms, MASK, floor=floor).item()
    spread = log_variance if learned else np.zeros_like(log_variance)
    assert found == pytest.approx(club_loop(values, mean, spread, floor=floor), abs=1e-5)
    assert (terms[~MASK] == 0).all()
    assert (terms[1] == 0).all()  # one visit


def test_club_is_zero_where_the_mean_ignores_the_visit():
    """If μ is the same at all visits of a patient, v_o tells nothing of v_k, and terms cancel."""
    values, mean, _ = club_inputs()
    mean[:] = mean[0, 0]
    terms = information.club_terms(as_tensor(values), as_tensor(mean), None, MASK)
    assert information.club(terms, MASK, floor=False).item() == pytest.approx(0.0, abs=1e-5)
    assert terms.abs().max() > 0.1  # of single visits they do not vanish


def test_club_grows_with_what_the_mean_knows():
    """Means equal to the values: the bound is half the mean squared distance of two visits."""
    values, _, _ = club_inputs()
    terms = information.club_terms(as_tensor(values), as_tensor(values), None, MASK)
    expected = []
    for patient, visits in enumerate(VISITS):
        own = values[patient, :visits]
        pairs = [((a - b) ** 2).sum() for a in own for b in own]
        expected.append(sum(pairs) / len(pairs) / 2)
    found = information.club(terms, MASK, floor=False).item()
    assert found == pytest.approx(np.mean(expected), abs=1e-5)


def test_gradients_of_club_are_finite_in_padding():
    values = torch.zeros(4, 4, 3).requires_grad_()
    mean = torch.zeros(4, 4, 3).requires_grad_()
    terms = information.club_terms(values + 1, mean, None, MASK)
    information.club(terms, MASK, floor=True).backward()
    assert torch.isfinite(values.grad).all()
    assert torch.isfinite(mean.grad).all()
