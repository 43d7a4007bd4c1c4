"""Distances and losses equal the equations; vectors follow from the seed and the geometry."""

import math
from dataclasses import replace

import geoopt
import numpy as np
import pytest
import torch

from medrec.hierarchy._batches import Batches, Known, StageTwo, Weights
from medrec.hierarchy._hyperbolic import (
    LARGEST_NORM,
    ancestor_depth,
    distance,
    distances,
    points,
    radius,
)
from medrec.hierarchy._node_vectors import nearest, node_vectors
from medrec.hierarchy._skeleton import Skeleton
from medrec.hierarchy._stage_two import (
    contrast,
    embed,
    hyphc_triplets,
    parent_margin,
    radial_order,
)

BALL = geoopt.PoincareBall(c=1.0)
WEIGHTS = Weights(1.0, 0.5, 0.5, 0.5, 0.5, 0.5)
SETTINGS = StageTwo(
    dim=3, hidden=8, geometry="hyperbolic", steps=8, batch=6, learning_rate=0.01, temperature=0.2,
    margin=0.4, gap=0.1, negatives=3, triplet_temperature=0.1, weights=WEIGHTS,
)  # fmt: skip
KNOWN = Skeleton(
    names=tuple(f"diagnoses/9:{i}" for i in range(11)),
    titles=("t",) * 11,
    parents=np.array([8, 8, 8, 9, 9, 9, -1, 9, 10, 10, -1]),
    kinds=np.zeros(11, dtype=np.int64),
    codes=8,
)


def ball(many: int, seed: int = 0, dim: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return points(torch.randn(many, dim, generator=generator, dtype=torch.float64), "hyperbolic")


def known(seed: int = 0) -> Known:
    rng = np.random.default_rng(seed)
    return Known(
        rng.normal(size=(11, 5)), KNOWN, np.array([[0, 3], [1, 4]]), np.array([[0, 1], [5, 6]])
    )


def test_distances_equal_the_closed_formula_and_geoopt():
    u, v = ball(5, 1), ball(4, 2)
    found = distances(u, v, "hyperbolic")
    for i in range(5):
        for j in range(4):
            one, other = u[i].tolist(), v[j].tolist()
            apart = sum((a - b) ** 2 for a, b in zip(one, other, strict=True))
            sides = (1 - sum(a * a for a in one)) * (1 - sum(b * b for b in other))
            assert found[i, j].item() == pytest.approx(math.acosh(1 + 2 * apart / sides), rel=1e-9)
            assert found[i, j].item() == pytest.approx(BALL.dist(u[i], v[j]).item(), rel=1e-9)
    torch.testing.assert_close(distance(u[:4], v, "hyperbolic"), found[:4].diagonal())
    torch.testing.assert_close(distances(u, v, "euclidean"), torch.cdist(u, v))


def test_points_are_the_exponential_map_within_the_ball():
    tangent = torch.tensor([[0.3, -0.2, 0.5], [40.0, 1.0, 0.0], [0.0, 0.0, 0.0]]).double()
    found = points(tangent, "hyperbolic")
    torch.testing.assert_close(
        found[0], torch.tanh(tangent[0].norm()) * tangent[0] / tangent[0].norm()
    )
    assert found[1].norm().item() == pytest.approx(LARGEST_NORM)
    assert found[2].abs().sum() == 0
    assert torch.equal(points(tangent, "euclidean"), tangent)


@pytest.mark.parametrize("geometry", ["hyperbolic", "euclidean"])
def test_depth_of_the_ancestor_is_the_nearest_point_of_the_geodesic(geometry):
    shares = torch.linspace(0, 1, 4001, dtype=torch.float64)[:, None]
    for seed in range(6):
        u, v = ball(2, seed)
        line = BALL.geodesic(shares, u, v) if geometry == "hyperbolic" else u + shares * (v - u)
        least = radius(line, geometry).min().item()
        assert ancestor_depth(u, v, geometry).item() == pytest.approx(least, abs=1e-6)


def test_infonce_equals_a_loop():
    between = torch.rand(4, 4, dtype=torch.float64)
    same = torch.eye(4, dtype=torch.bool)
    same[0, 2] = same[2, 0] = True
    total = 0.0
    for i in range(4):
        others = [j for j in range(4) if j == i or not same[i, j]]
        sums = sum(math.exp(-between[i, j].item() / 0.3) for j in others)
        total -= math.log(math.exp(-between[i, i].item() / 0.3) / sums)
    assert contrast(between, same, 0.3).item() == pytest.approx(total / 4)


def test_the_parent_margin_equals_a_loop():
    own, other = torch.tensor([0.5, 0.9]).double(), torch.tensor([[0.4, 2.0], [1.0, 1.2]]).double()
    wrong = torch.tensor([[True, True], [False, True]])
    losses = [
        max(0.0, 0.4 + own[i].item() - other[i, j].item())
        for i in range(2)
        for j in range(2)
        if wrong[i, j]
    ]
    assert parent_margin(own, other, wrong, 0.4).item() == pytest.approx(sum(losses) / 3)


def test_the_radial_order_equals_a_loop():
    parent, child = ball(5, 1), ball(5, 2)
    losses = [max(0.0, parent[i].norm().item() - child[i].norm().item() + 0.1) for i in range(5)]
    assert radial_order(parent, child, 0.1).item() == pytest.approx(sum(losses) / 5)


def test_triplets_equal_a_loop():
    depths, alike = torch.rand(3, 3, dtype=torch.float64), torch.rand(3, 3, dtype=torch.float64)
    total = 0.0
    for depth, w in zip(depths.tolist(), alike.tolist(), strict=True):
        powers = [math.exp(d / 0.2) for d in depth]
        total += sum(w) - sum(a * p / sum(powers) for a, p in zip(w, powers, strict=True))
    assert hyphc_triplets(depths, alike, 0.2).item() == pytest.approx(total / 3)


def test_the_same_seed_gives_the_same_bits_and_another_one_others():
    first = embed(known(), SETTINGS, 3)
    state = torch.random.get_rng_state()
    assert torch.equal(embed(known(), SETTINGS, 3), first)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.equal(embed(known(), SETTINGS, 4), first)


@pytest.mark.parametrize("name", list(Weights.__dataclass_fields__))
def test_every_weight_changes_the_vectors(name):
    first = embed(known(), SETTINGS, 0)
    without = replace(SETTINGS, weights=replace(WEIGHTS, **{name: 0.0}))
    assert not torch.equal(embed(known(), without, 0), first)


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0.5}, {"margin": 2.0}, {"gap": 0.0}, {"negatives": 1}, {"batch": 3},
        {"triplet_temperature": 1.0}, {"geometry": "euclidean"}, {"learning_rate": 0.02},
        {"steps": 9}, {"hidden": 9}, {"dim": 4},
    ],
)  # fmt: skip
def test_every_setting_changes_the_vectors(change):
    first, other = embed(known(), SETTINGS, 0), embed(known(), replace(SETTINGS, **change), 0)
    assert first.shape != other.shape or not torch.allclose(first, other, atol=1e-12, rtol=0)


def test_without_anything_to_learn_from_the_vectors_are_those_of_the_start():
    nothing = replace(SETTINGS, weights=Weights(*[0.0] * 6))
    assert torch.equal(embed(known(), nothing, 0), embed(known(), replace(nothing, steps=1), 0))


def test_training_brings_children_near_their_parents():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(11, 5))
    settings = replace(SETTINGS, steps=150, batch=16)
    z = embed(Known(x, KNOWN, np.empty((0, 2), np.int64), np.empty((0, 2), np.int64)), settings, 0)
    apart = distances(z[:8], z[8:10], "hyperbolic")
    assert apart.argmin(dim=1)[[0, 1, 2, 3, 4, 5, 7]].tolist() == [0, 0, 0, 1, 1, 1, 1]


def test_siblings_share_a_visible_parent_and_are_never_the_code_itself():
    batches = Batches(known(), SETTINGS, 0)
    seen = set()
    for _ in range(60):
        rows, parts = batches.draw()
        first, second = rows[parts["siblings"]].chunk(2)
        seen |= set(zip(first.tolist(), second.tolist(), strict=True))
        child, parent = rows[parts["edges"]].chunk(2)
        assert KNOWN.parents[child].tolist() == parent.tolist()
    below = [[0, 1, 2], [3, 4, 5, 7]]
    assert seen == {(a, b) for group in below for a in group for b in group if a != b}


def test_known_nodes_get_their_childrens_mean_and_their_title():
    rng = np.random.default_rng(1)
    codes, titles = rng.normal(size=(8, 4)), rng.normal(size=(3, 4))
    titles[1] = 0.0

    def unit(v):
        return v / np.linalg.norm(v)

    found = node_vectors(codes, titles, KNOWN)
    eight = unit(unit(sum(unit(codes[i]) for i in (0, 1, 2))) + unit(titles[0]))
    nine = unit(sum(unit(codes[i]) for i in (3, 4, 5, 7)))
    np.testing.assert_allclose(found[8], eight)
    np.testing.assert_allclose(found[9], nine)
    np.testing.assert_allclose(found[10], unit(unit(eight + nine) + unit(titles[2])))
    np.testing.assert_allclose(found[:8], [unit(v) for v in codes])


def test_nearest_codes_are_of_the_same_kind():
    rng = np.random.default_rng(0)
    x, kinds = rng.normal(size=(9, 4)), np.array([0, 0, 0, 0, 1, 1, 1, 2, 0])
    x[8] = 0.0
    found = nearest(x, kinds, 2)
    expected = []
    for i in range(8):
        cosine = {
            j: x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j])
            for j in range(8)
            if j != i and kinds[j] == kinds[i]
        }
        expected += [[i, j] for j in sorted(cosine, key=lambda j: -cosine[j])[:2]]
    assert sorted(found.tolist()) == sorted(expected)
