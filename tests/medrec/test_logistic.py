"""Many regressions at once reach what each reaches alone."""

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from medrec.logistic import solve
from medrec.visit_features import sparse_rows

ROWS, COLUMNS, TARGETS = 400, 60, 7


@pytest.fixture(scope="module")
def problem():
    """Codes from everywhere to hardly anywhere, and drugs from frequent to rare."""
    rng = np.random.default_rng(0)
    share = np.geomspace(0.9, 0.005, COLUMNS)
    rows = rng.random((ROWS, COLUMNS)) < share
    rows[:, -1] = False
    logits = rows @ rng.normal(0, 3, (COLUMNS, TARGETS)) + np.linspace(-6, 3, TARGETS)
    target = rng.random((ROWS, TARGETS)) < 1 / (1 + np.exp(-logits))
    assert target.any(axis=0).all()
    assert not target.all(axis=0).any()
    return rows, target


def solved(problem, strength, allowed=None, iterations=100):
    rows, target = problem
    free = torch.ones(COLUMNS, TARGETS, dtype=torch.bool)
    told = sparse_rows(sparse.csr_matrix(rows))
    return solve(told, target, strength, iterations, free if allowed is None else allowed).numpy()


@pytest.mark.parametrize("strength", [0.01, 1.0, 100.0])
def test_each_target_reaches_its_own_optimum(problem, strength):
    rows, target = problem
    found = solved(problem, strength)
    for column in range(TARGETS):
        alone = LogisticRegression(C=strength, tol=1e-8, max_iter=100_000)
        alone.fit(rows.astype(float), target[:, column])
        ours = 1 / (1 + np.exp(-(rows @ found[:-1, column] + found[-1, column])))
        expected = alone.predict_proba(rows.astype(float))[:, 1]
        np.testing.assert_allclose(ours, expected, atol=2e-3)


@pytest.mark.parametrize("strength", [1.0, 100.0])
def test_the_gradient_vanishes_where_weights_are_free_and_the_others_stay_zero(problem, strength):
    rows, target = problem
    allowed = np.random.default_rng(1).random((COLUMNS, TARGETS)) < 0.5
    found = solved(problem, strength, torch.from_numpy(allowed)).astype(np.float64)
    assert (found[:-1][~allowed] == 0).all()
    residual = 1 / (1 + np.exp(-(rows @ found[:-1] + found[-1]))) - target
    gradient = rows.T @ residual + found[:-1] / strength
    assert np.abs(gradient[allowed]).max() < 2e-6 * ROWS
    assert np.abs(residual.sum(axis=0)).max() < 2e-6 * ROWS  # the intercept is not penalised


def test_a_target_does_not_depend_on_its_company(problem):
    rows, target = problem
    together = solved(problem, 1.0)
    told, free = sparse_rows(sparse.csr_matrix(rows)), torch.ones(COLUMNS, 1, dtype=torch.bool)
    for column in range(TARGETS):
        alone = solve(told, target[:, [column]], 1.0, 100, free).numpy()
        np.testing.assert_allclose(alone[:, 0], together[:, column], atol=1e-3)


def test_iterations_end_it(problem):
    assert np.abs(solved(problem, 1.0, iterations=1) - solved(problem, 1.0)).max() > 0.1
