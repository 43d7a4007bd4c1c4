"""Latent nodes are groups of near codes, within the sizes, and called like a central one."""

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import average, fcluster
from scipy.spatial.distance import squareform

from medrec.hierarchy import _clustering
from medrec.hierarchy._clustering import MOST_CHILDREN, Group, central, condensed, groups
from medrec.hierarchy._growing import Growth, as_tree, grow
from medrec.hierarchy._hyperbolic import distance, points
from medrec.hierarchy._tree import shape
from tests.medrec.hierarchy.test_parents import forest, vectors


def cloud(many: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return points(torch.randn(many, 3, generator=generator, dtype=torch.float64), "hyperbolic")


def test_distances_are_those_of_all_pairs_whatever_the_blocks(monkeypatch):
    z = cloud(23)
    expected = [
        distance(z[i], z[j], "hyperbolic").item() for i in range(23) for j in range(i + 1, 23)
    ]
    np.testing.assert_allclose(condensed(z, "hyperbolic"), expected)
    monkeypatch.setattr(_clustering, "_BLOCK", 5)
    np.testing.assert_allclose(condensed(z, "hyperbolic"), expected)


def members(unit) -> list[int]:
    return [unit] if isinstance(unit, int) else unit.codes()


def test_one_level_is_the_cut_of_average_linkage():
    z = cloud(60)
    units = groups(z, "hyperbolic", 1, 6)
    found = {frozenset(members(unit)) for unit in units}
    linkage = average(condensed(z, "hyperbolic"))
    labels = fcluster(linkage, 10, "maxclust")
    expected = {frozenset(np.flatnonzero(labels == label).tolist()) for label in set(labels)}
    assert {each for each in expected if len(each) <= MOST_CHILDREN} <= found
    for each in expected:  # what is too large is split further, never joined with others
        assert each == frozenset().union(*(part for part in found if part <= each))
    assert sorted(code for unit in units for code in members(unit)) == list(range(60))


def test_groups_have_two_to_twenty_units_at_every_level():
    def walk(unit, level):
        if isinstance(unit, int):
            return
        assert 2 <= len(unit.units) <= MOST_CHILDREN
        deepest.append(level)
        for below in unit.units:
            walk(below, level + 1)

    for seed in range(3):
        for levels in (1, 2, 3):
            deepest: list[int] = []
            units = groups(cloud(300, seed), "hyperbolic", levels, 4)
            for unit in units:
                walk(unit, 1)
            assert max(deepest) <= levels
            assert sorted(code for unit in units for code in members(unit)) == list(range(300))


def test_groups_of_higher_levels_are_made_of_lower_ones():
    z = cloud(200)
    one, two = groups(z, "hyperbolic", 1, 4), groups(z, "hyperbolic", 2, 4)
    below = {unit for top in two if isinstance(top, Group) for unit in top.units} | set(two)
    assert set(one) <= below
    assert len(two) < len(one)


def test_few_codes_and_no_levels_stay_as_they_are():
    assert groups(cloud(6), "hyperbolic", 1, 6) == tuple(range(6))
    assert groups(cloud(50), "hyperbolic", 0, 6) == tuple(range(50))


def test_the_central_code_has_the_least_mean_distance():
    z = cloud(30)
    chosen = [2, 5, 9, 17, 28]
    square = squareform(condensed(z, "hyperbolic"))
    means = [square[i, chosen].sum() for i in chosen]
    assert central(z, "hyperbolic", chosen) == chosen[int(np.argmin(means))]


@pytest.mark.parametrize("keep", ["none", "top", "parents"])
def test_the_tree_keeps_what_the_setting_says(keep):
    known, z = forest(), vectors()
    placed = known.parents
    tree = as_tree(grow(z, known, placed, "hyperbolic", Growth(keep, 1, 2, 4)), known)
    assert tree.names[:40] == known.names[:40]
    assert tree.kinds[:40] == ("code",) * 40
    kept = {name for name in tree.names if name.startswith("n/")} - set(tree.names[:40])
    tops, all_inner = {"n/48", "n/49"}, {known.names[i] for i in range(40, 50)}
    used = {known.names[i] for i in known.candidates} | tops
    assert kept == {"none": set(), "top": tops, "parents": used & all_inner}[keep]
    assert tree.names[tree.roots[0]] == "category/Codes"
    for code in range(40):
        line = [tree.names[row] for row in tree.ancestors(code)]
        above = known.names[placed[code]] if placed[code] >= 0 else ""
        assert (above in line) == (keep == "parents" and above != "")
        assert line[-2] == (
            "category/Diagnoses" if known.kinds[code] == 0 else "category/Procedures"
        )
    assert min(tree.child_counts[i] for i, kind in enumerate(tree.kinds) if kind == "latent") >= 2


def test_latent_nodes_are_called_like_a_code_below_that_has_a_title():
    known, z = forest(), vectors()
    tree = as_tree(grow(z, known, known.parents, "hyperbolic", Growth("top", 1, 1, 4)), known)
    latent = [row for row, kind in enumerate(tree.kinds) if kind == "latent"]
    assert latent
    assert [tree.names[row] for row in latent] == [f"latent/{i + 1}" for i in range(len(latent))]
    for row in latent:
        below = {tree.titles[i] for i in tree.children[row]} - {""}
        assert tree.titles[row] in below or not below


def test_latent_levels_and_sizes_change_the_shape():
    known, z = forest(), vectors()

    def made(*growth):
        return shape(as_tree(grow(z, known, known.parents, "hyperbolic", Growth(*growth)), known))

    assert made("top", 0, 0, 4).latent == 0
    assert made("top", 1, 1, 3).latent > made("top", 1, 1, 6).latent > 0
    assert made("none", 1, 2, 3).depth > made("none", 2, 1, 3).depth
