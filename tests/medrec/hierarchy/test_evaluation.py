"""Measures of a hierarchy equal plain loops."""

import numpy as np
import pytest
from scipy import sparse

from medrec.hierarchy import _evaluation
from medrec.hierarchy._evaluation import (
    cophenetic,
    distortion,
    pair_auc,
    purity,
    sampled,
    siblings,
)
from medrec.hierarchy._growing import Growth, grow
from medrec.hierarchy._hyperbolic import distance
from medrec.hierarchy._measures import MEASURES
from medrec.hierarchy._paths import path_lengths, paths
from tests.medrec.hierarchy.test_parents import forest, vectors

ROWS = np.array([0, 1, 7, 12, 21, 28, 33, 39])


def line(parents, row) -> list[int]:
    found = [row]
    while parents[found[-1]] >= 0:
        found.append(int(parents[found[-1]]))
    return found


def learned(seed: int = 0) -> np.ndarray:
    known = forest(seed)
    growth = Growth("none", 1, 2, 4)
    return grow(vectors(seed), known, known.parents, "hyperbolic", growth).parents


@pytest.fixture(params=["blocks", "whole"], autouse=True)
def _block_size(request, monkeypatch):
    if request.param == "blocks":
        monkeypatch.setattr(_evaluation, "_BLOCK", 3)


def test_path_lengths_equal_a_walk():
    parents = learned()
    path = paths(parents, 40)
    first, second = np.meshgrid(np.arange(40), np.arange(40))
    found = path_lengths(path, first.ravel(), second.ravel())
    for a, b, length in zip(first.ravel(), second.ravel(), found, strict=True):
        one, other = line(parents, a), line(parents, b)
        shared = len(set(one) & set(other))
        assert length == len(one) + len(other) - 2 * shared


def test_paths_of_a_forest_meet_above_its_roots():
    parents = np.array([2, 3, -1, -1, -1])
    path = paths(parents, 2)
    assert path.tolist() == [[2, 0], [3, 1]]
    assert path_lengths(path, np.array([0]), np.array([1])).tolist() == [4]


def test_purity_equals_a_loop():
    known = forest()
    for parents in (learned(), np.where(np.arange(50) < 40, known.parents, -1), known.parents):
        numerator, denominator = purity(parents, known, ROWS)
        labelled = [c for c in range(40) if known.parents[c] >= 0]
        lines = {c: line(parents, c) for c in labelled}
        for row in ROWS.tolist():
            own = [c for c in labelled if known.parents[c] == known.parents[row] and c != row]
            total = 0.0
            for other in own:
                met = [node for node in lines[row] if node in lines[other]]
                below = [c for c in labelled if not met or met[0] in lines[c]]
                total += np.mean([known.parents[c] == known.parents[row] for c in below])
            assert numerator[row] == pytest.approx(total)
            assert denominator[row] == len(own)
        rest = np.setdiff1d(np.arange(40), ROWS)
        assert not denominator[rest].any()


def test_the_known_tree_is_pure():
    known = forest()
    numerator, denominator = purity(known.parents, known, ROWS)
    np.testing.assert_allclose(numerator, denominator)


def test_auc_of_pairs_equals_a_loop():
    known, z = forest(), vectors()
    rng = np.random.default_rng(0)
    related = rng.random((40, 40)) < 0.2
    related = np.triu(related, 1) | np.triu(related, 1).T
    matrix = sparse.csr_array(related.astype(float))
    numerator, denominator = pair_auc(z[:40], known, matrix, ROWS, "hyperbolic")
    for row in ROWS.tolist():
        right = count = 0.0
        for kind in (0, 1):
            codes = [c for c in range(40) if known.kinds[c] == kind and c != row]
            near = [c for c in codes if related[row, c]]
            far = [c for c in codes if not related[row, c]]
            for one in near:
                own = distance(z[row], z[one], "hyperbolic").item()
                apart = [distance(z[row], z[c], "hyperbolic").item() for c in far]
                right += np.mean([own < d for d in apart])
                count += 1
        assert numerator[row] == pytest.approx(right)
        assert denominator[row] == count


def test_siblings_are_codes_of_one_parent():
    known = forest()
    found = siblings(known).toarray() != 0
    for a in range(40):
        for b in range(40):
            together = known.parents[a] == known.parents[b] >= 0
            assert found[a, b] == (together and a != b)


def test_pairs_are_of_one_kind_and_never_of_a_code_with_itself():
    known = forest()
    pairs = sampled(known, ROWS, 0)
    assert (ROWS[pairs.first] != pairs.second).all()
    assert (known.kinds[ROWS[pairs.first]] == known.kinds[pairs.second]).all()
    assert set(pairs.first) == set(range(len(ROWS)))
    assert sampled(known, ROWS, 0).second.tolist() == pairs.second.tolist()
    assert sampled(known, ROWS, 1).second.tolist() != pairs.second.tolist()
    every = {(a, b) for a, b in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)}
    assert len(every) > 100


def test_the_cophenetic_correlation_equals_numpy_and_its_influence_the_jackknife():
    known, parents = forest(), learned()
    pairs = sampled(known, ROWS, 0)
    numerator, denominator = cophenetic(parents, known, ROWS, pairs)

    def lengths(tree):
        found = []
        for a, b in zip(ROWS[pairs.first].tolist(), pairs.second.tolist(), strict=True):
            one, other = line(tree, a), line(tree, b)
            found.append(len(one) + len(other) - 2 * len(set(one) & set(other)))
        return np.array(found, dtype=float)

    one, other = lengths(parents), lengths(known.parents)
    value = np.corrcoef(one, other)[0, 1]
    assert numerator.sum() / denominator.sum() == pytest.approx(value)
    weight = np.ones(len(ROWS))
    for i in range(len(ROWS)):
        moved = weight.copy()
        moved[i] += 1e-5
        w = moved[pairs.first]
        cov = np.cov(np.stack([one, other]), aweights=w)
        slope = (cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1]) - value) / 1e-5 * len(ROWS)
        assert numerator[ROWS[i]] - value == pytest.approx(slope, abs=1e-3)


def test_distortion_equals_a_loop_and_does_not_know_the_scale():
    known, z = forest(), vectors()
    pairs = sampled(known, ROWS, 0)
    numerator, denominator = distortion(z[:40], known, ROWS, pairs, "euclidean")
    ratios: list[tuple[int, float]] = []
    for a, b in zip(ROWS[pairs.first].tolist(), pairs.second.tolist(), strict=True):
        if known.parents[a] < 0 or known.parents[b] < 0:
            continue
        one, other = line(known.parents, a), line(known.parents, b)
        true = len(one) + len(other) - 2 * len(set(one) & set(other))
        ratios.append((a, (z[a] - z[b]).norm().item() / true))
    values = np.array([r for _, r in ratios])
    scales = np.linspace(0.1, 10, 20001)
    errors = [((s * values - 1) ** 2).sum() for s in scales]
    scale = scales[int(np.argmin(errors))]
    for row in ROWS.tolist():
        own = [abs(scale * r - 1) for a, r in ratios if a == row]
        assert numerator[row] == pytest.approx(sum(own), abs=1e-2)
        assert denominator[row] == len(own)
    again, _ = distortion(3.0 * z[:40], known, ROWS, pairs, "euclidean")
    np.testing.assert_allclose(again, numerator)


def test_measures_have_titles_of_their_own():
    titles = [measure.title for measure in MEASURES.values()]
    assert len(set(titles)) == len(titles)
