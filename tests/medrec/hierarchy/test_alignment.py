"""Maps between two institutions' vectors, on small cases whose answer is known."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import ot
import pytest
import torch
from scipy.linalg import orthogonal_procrustes
from torch import nn

from medrec.hierarchy import _alignment, _neural_ot
from medrec.hierarchy._alignment import ALIGNMENTS, Vectors, blocks, draw_anchors, transport_plan
from medrec.hierarchy._cooccurrence import normalised
from medrec.hierarchy._matching import hits, ranks

NONE = np.empty((0, 2), dtype=np.int64)


def pair(seed: int = 0, codes: int = 60, dim: int = 5) -> tuple[Vectors, Vectors, np.ndarray]:
    """Returns vectors, the same ones rotated and permuted within kinds, and the truth."""
    rng = np.random.default_rng(seed)
    together = normalised(rng.standard_normal((codes, dim)) * np.arange(dim, 0, -1))
    text = normalised(rng.standard_normal((codes, 4)))
    kinds = np.repeat(np.arange(3), codes // 3)
    frequency = rng.integers(1, 200, codes)
    rotation, _ = np.linalg.qr(rng.standard_normal((dim, dim)))
    truth = np.concatenate([k * (codes // 3) + rng.permutation(codes // 3) for k in range(3)])
    back = np.argsort(truth)
    target = Vectors(text[back], (together @ rotation)[back], kinds, frequency[back])
    return Vectors(text, together, kinds, frequency), target, truth


def without_text(side: Vectors) -> Vectors:
    return Vectors(np.zeros_like(side.text), side.together, side.kinds, side.frequency)


def matched(name: str, source: Vectors, target: Vectors, truth: np.ndarray) -> float:
    mapped = ALIGNMENTS[name](source, target, NONE, 0)
    rank = ranks(mapped, target.joined, truth, blocks(source, target))
    right, counted = hits(rank, np.ones(len(truth), dtype=bool), 1)
    return float(right.sum() / counted.sum())


def test_procrustes_finds_the_rotation_from_titles() -> None:
    source, target, truth = pair()
    mapped = ALIGNMENTS["procrustes"](source, target, NONE, 0)
    expected, _ = orthogonal_procrustes(source.together, target.together[truth])
    np.testing.assert_allclose(mapped[:, 4:], source.together @ expected, atol=1e-9)
    assert np.array_equal(mapped[:, :4], source.text)


def test_procrustes_finds_the_rotation_from_anchors() -> None:
    source, target, truth = (part for part in pair())
    anchors = draw_anchors(truth, 0.2, 0)
    mapped = ALIGNMENTS["procrustes"](without_text(source), without_text(target), anchors, 0)
    np.testing.assert_allclose(mapped, without_text(target).joined[truth], atol=1e-9)


def test_procrustes_finds_the_rotation_from_nothing_but_structure() -> None:
    source, target, truth = pair()
    assert matched("identity", without_text(source), without_text(target), truth) < 0.3
    assert matched("procrustes", without_text(source), without_text(target), truth) == 1.0


def test_anchors_outweigh_titles() -> None:
    source, target, truth = pair()
    wrong = truth[[1, 0, *range(2, len(truth))]]
    anchors = np.stack([np.arange(2), wrong[:2]], axis=1)
    mapped = ALIGNMENTS["sinkhorn"](source, target, anchors, 0)
    assert np.array_equal(mapped[:2], target.joined[wrong[:2]])


def test_without_anything_in_common_nothing_fails() -> None:
    source, target, _ = pair()
    other = Vectors(target.text, target.together, target.kinds, np.zeros_like(target.frequency))
    for name in ALIGNMENTS:
        assert np.array_equal(ALIGNMENTS[name](source, other, NONE, 0), source.joined)


def test_codes_meet_only_their_own_kind_with_visits() -> None:
    source, target, _ = pair()
    source.frequency[3] = 0
    found = blocks(source, target)
    assert [block.target.tolist() for block in found] == [
        list(range(first, first + 20)) for first in (0, 20, 40)
    ]
    assert found[0].source.tolist() == [code for code in range(20) if code != 3]


def test_the_plan_minimises_what_its_docstring_says() -> None:
    rng = np.random.default_rng(1)
    source, target = rng.standard_normal((4, 3)), rng.standard_normal((5, 3))
    ours, theirs = np.array([1, 2, 3, 4]), np.array([5, 1, 1, 2, 1])
    plan = transport_plan(source, target, ours, theirs, 0.1, 0.5)
    cost = ((source[:, None] - target[None]) ** 2).sum(axis=2)
    a, b = ours / ours.sum(), theirs / theirs.sum()

    def divergence(p: np.ndarray, q: np.ndarray) -> float:
        return float((p * np.log(p / q) - p + q).sum())

    def objective(p: np.ndarray) -> float:
        balance = divergence(p.sum(axis=1), a) + divergence(p.sum(axis=0), b)
        return (
            float((p * cost).sum() / cost.mean())
            + 0.1 * divergence(p, a[:, None] * b)
            + 0.5 * balance
        )

    least = objective(plan)
    for _ in range(50):
        assert objective(plan * np.exp(0.02 * rng.standard_normal(plan.shape))) > least


def test_marginals_are_the_frequencies_where_balance_is_dear() -> None:
    rng = np.random.default_rng(2)
    source, target = rng.standard_normal((6, 3)), rng.standard_normal((7, 3))
    ours, theirs = rng.integers(1, 50, 6), rng.integers(1, 50, 7)
    plan = transport_plan(source, target, ours, theirs, 0.1, 1e4)
    np.testing.assert_allclose(plan.sum(axis=1), ours / ours.sum(), rtol=2e-3)
    np.testing.assert_allclose(plan.sum(axis=0), theirs / theirs.sum(), rtol=2e-3)
    cost = ot.dist(source, target)
    expected = ot.sinkhorn(ours / ours.sum(), theirs / theirs.sum(), cost / cost.mean(), 0.1)
    np.testing.assert_allclose(plan, expected, atol=1e-4)


def test_the_plan_does_not_depend_on_the_scale_of_vectors() -> None:
    source, target, _ = pair()
    args = (source.frequency, target.frequency)
    small = transport_plan(source.joined, target.joined, *args)
    large = transport_plan(100 * source.joined, 100 * target.joined, *args)
    np.testing.assert_allclose(small, large, atol=1e-9)


def test_frequencies_tell_codes_apart_that_vectors_do_not() -> None:
    """Two codes have the same vector; only how often they are used differs."""
    vectors = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    plan = transport_plan(vectors, vectors, np.array([90, 10, 50]), np.array([10, 90, 50]), 0.02)
    np.testing.assert_allclose(plan[0, 1] / plan[0, 0], 9.0, rtol=1e-6)
    assert plan[2].argmax() == 2


def test_neural_objective_is_that_of_a_plain_loop() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(4, 3), torch.randn(5, 3)
    mapping, f = _neural_ot.Map(3), _neural_ot.potential(3)
    nn.init.normal_(mapping.network[-1].weight, std=0.1)
    with torch.no_grad():
        expected, apart = plain_objective(mapping, f, x, y), plain_apart(mapping, x, y)
    assert float(_neural_ot.objective(mapping, f, x, y).detach()) == pytest.approx(
        expected, abs=1e-5
    )
    assert float(_neural_ot.anchor_loss(mapping, x, y[:4]).detach()) == pytest.approx(apart)
    assert float(_neural_ot.anchor_loss(mapping, x[:0], y[:0])) == 0.0


def plain_objective(mapping: nn.Module, f: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    total = 0.0
    for row in x:
        moved = mapping(row[None])[0]
        square = sum(float(row[d] - moved[d]) ** 2 for d in range(3))
        total += (0.5 * square - float(f(moved[None]))) / 4
    for row in y:
        total += float(f(row[None])) / 5
    assert float(_neural_ot.objective(mapping, f, x, y)) == pytest.approx(total, abs=1e-5)
    return total


def plain_apart(mapping: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    moved = [mapping(row[None])[0] for row in x]
    return sum(float(moved[i][d] - y[i, d]) ** 2 for i in range(4) for d in range(3)) / 4


def test_the_map_begins_at_the_identity_and_leaves_the_callers_seed_alone() -> None:
    source, target, _ = pair()
    samples = [samples_of(side) for side in (source, target)]
    torch.manual_seed(5)
    before = torch.get_rng_state()
    mapped = _neural_ot.transport(samples[0], samples[1], NONE, 0, steps=0)
    np.testing.assert_allclose(mapped, source.joined, atol=1e-6)
    assert torch.equal(before, torch.get_rng_state())


def samples_of(side: Vectors) -> _neural_ot.Samples:
    return _neural_ot.Samples(side.joined, side.frequency / side.frequency.sum())


@pytest.mark.slow
def test_neural_transport_learns_a_shift() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 2))
    mass = np.full(200, 1 / 200)
    moved = _neural_ot.transport(
        _neural_ot.Samples(x, mass),
        _neural_ot.Samples(x + np.array([0.5, -0.5]), mass),
        NONE,
        0,
        steps=150,
    )
    np.testing.assert_allclose((moved - x).mean(axis=0), [0.5, -0.5], atol=0.15)


def test_anchors_lead_the_neural_map() -> None:
    source, target, truth = pair()
    anchors = draw_anchors(truth, 0.5, 0)
    samples = [samples_of(side) for side in (source, target)]
    near = [
        _neural_ot.transport(samples[0], samples[1], pairs, 0, steps=30)[anchors[:, 0]]
        for pairs in (NONE, anchors)
    ]
    apart = [((moved - target.joined[anchors[:, 1]]) ** 2).sum() for moved in near]
    assert apart[1] < 0.8 * apart[0]


def test_anchors_are_a_share_of_the_known_matches() -> None:
    truth = np.array([4, -1, 2, 0, -1, 1, 3])
    anchors = draw_anchors(truth, 0.4, 0)
    assert len(anchors) == 2
    assert np.array_equal(truth[anchors[:, 0]], anchors[:, 1])
    assert np.array_equal(anchors, draw_anchors(truth, 0.4, 0))
    assert draw_anchors(truth, 0.0, 0).shape == (0, 2)
    assert len(draw_anchors(truth, 1.0, 3)) == 5


def aligned(name, steps=3):
    """An alignment of the made-up pair; neural transport with few steps."""
    source, target, truth = pair()
    anchors = draw_anchors(truth, 0.1, 0)
    if name == "neural_ot":
        return _alignment.neural_ot(source, target, anchors, 7, steps)
    return ALIGNMENTS[name](source, target, anchors, 7)


@pytest.mark.slow
def test_alignments_are_the_same_in_another_process(tmp_path: Path) -> None:
    code = f"""
import numpy as np, torch
torch.set_num_threads({torch.get_num_threads()})
from tests.medrec.hierarchy import test_alignment as t
for name in t.ALIGNMENTS:
    np.save(r"{tmp_path}/" + name, t.aligned(name))
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
    for name in ALIGNMENTS:
        assert np.array_equal(np.load(tmp_path / f"{name}.npy"), aligned(name))
    assert not np.array_equal(aligned("neural_ot"), aligned("neural_ot", steps=4))
