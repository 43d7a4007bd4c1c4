"""Which parents are hidden, how candidates are ranked, and where codes without a parent go."""

import numpy as np
import pytest
import torch

from medrec.hierarchy._hyperbolic import distance, points
from medrec.hierarchy._parents import parent_ranks, parent_scores, parent_terms, predicted
from medrec.hierarchy._skeleton import Skeleton, hold_out, skeleton
from tests.medrec.small import small_knowledge


def forest(seed: int = 0) -> Skeleton:
    """40 codes of two kinds below 8 categories below 2 tops; two codes have no parent."""
    rng = np.random.default_rng(seed)
    kinds = np.repeat([0, 1], 20)
    below = np.where(kinds == 0, 40, 44) + rng.integers(0, 4, 40)
    below[[3, 30]] = -1
    parents = np.concatenate([below, [48] * 4, [49] * 4, [-1, -1]])
    return Skeleton(
        names=tuple(f"n/{i}" for i in range(50)),
        titles=tuple("" if i % 5 == 0 else f"title {i}" for i in range(50)),
        parents=parents,
        kinds=np.concatenate([kinds, [0] * 4, [1] * 4, [0, 1]]),
        codes=40,
    )


def vectors(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return points(torch.randn(50, 3, generator=generator, dtype=torch.float64), "hyperbolic")


def test_hidden_codes_are_drawn_apart_and_every_parent_keeps_a_code():
    known = forest()
    for seed in range(20):
        validation, test = hold_out(known, 0.1, 0.3, seed)
        assert not set(validation) & set(test)
        assert len(validation) == round(0.1 * 38)
        assert len(test) == round(0.3 * 38)
        hidden = [*validation, *test]
        assert (known.parents[hidden] >= 0).all()
        left = known.without(np.array(hidden))
        assert set(left.candidates) == set(known.candidates)
    first, again = hold_out(known, 0.1, 0.3, 1), hold_out(known, 0.1, 0.3, 1)
    assert [a.tolist() for a in first] == [a.tolist() for a in again]
    assert hold_out(known, 0.1, 0.3, 2)[1].tolist() != first[1].tolist()


def test_all_that_can_be_hidden_is_the_most():
    validation, test = hold_out(forest(), 0.4, 0.9, 0)
    assert len(validation) + len(test) == 38 - 8


def test_scores_equal_a_loop():
    known, z = forest(), vectors()
    rows = np.array([1, 3, 25])
    visible = known.without(rows)
    found = parent_scores(z, visible, rows, "hyperbolic")
    for i, row in enumerate(rows.tolist()):
        for j, candidate in enumerate(visible.candidates.tolist()):
            if known.kinds[row] != known.kinds[candidate]:
                assert np.isinf(found[i, j])
                continue
            children = [c for c in range(40) if visible.parents[c] == candidate]
            near = min(distance(z[row], z[c], "hyperbolic").item() for c in children)
            own = distance(z[row], z[candidate], "hyperbolic").item()
            assert found[i, j] == pytest.approx(own + near)


def test_ranks_and_recall_equal_a_loop():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 12, size=(30, 20)).astype(float)
    candidates = np.arange(100, 140, 2)
    parents = rng.choice(candidates, 30)
    found = parent_ranks(scores, candidates, parents)
    for i in range(30):
        own = scores[i, (parents[i] - 100) // 2]
        better, equal = (scores[i] < own).sum(), (scores[i] == own).sum()
        places = [better + k for k in range(1, equal + 1)]
        assert found[i] == pytest.approx(sum(places) / len(places))
    known = forest()
    terms = parent_terms(found, np.arange(30), known)

    def mean(values):
        return pytest.approx(sum(values) / len(values))

    def ratio(name):
        return terms[name][0].sum() / terms[name][1].sum()

    assert ratio("parent_recall") == mean([r <= 10 for r in found])
    assert ratio("parent_recall_5") == mean([r <= 5 for r in found])
    assert ratio("parent_recall_1") == mean([r <= 1 for r in found])
    assert ratio("parent_rank") == mean(list(found))
    assert ratio("parent_reciprocal_rank") == mean([1 / r for r in found])
    titled = [r <= 10 for i, r in enumerate(found) if known.titles[i]]
    assert ratio("parent_recall_text") == mean(titled)
    assert terms["parent_recall"][1].tolist() == [1.0] * 30 + [0.0] * 10


def test_a_code_without_a_parent_goes_to_the_best_candidate():
    known, z = forest(), vectors()
    rows = np.array([3, 30])
    best = known.candidates[parent_scores(z, known, rows, "hyperbolic").argmin(axis=1)]
    placed = predicted(z, known, "hyperbolic")
    assert placed[rows].tolist() == best.tolist()
    others = np.setdiff1d(np.arange(50), rows)
    assert placed[others].tolist() == known.parents[others].tolist()


def test_without_any_known_parent_nothing_is_placed():
    nothing = forest().without(np.arange(50))
    assert (predicted(vectors(), nothing, "hyperbolic") == -1).all()


def test_nodes_with_children_are_not_placed_below_others():
    known = forest()
    known.parents[[5, 6]] = -1
    known.parents[7] = 5  # a code below a code
    known.parents[41] = 6  # a category below a code
    placed = predicted(vectors(), known, "hyperbolic")
    assert placed[[5, 6]].tolist() == [-1, -1]


def test_the_skeleton_has_the_codes_first_and_no_chains():
    knowledge = small_knowledge()
    known = skeleton(knowledge)
    assert known.codes == 28
    assert known.names[:2] == ("diagnoses/9:25000", "diagnoses/9:2724")
    assert known.names[18] == "medications/A02B"
    children = np.bincount(known.parents[known.parents >= 0], minlength=len(known.parents))
    inner = np.arange(len(known.parents)) >= known.codes
    assert ((children > 1) | ~inner | (known.parents < 0)).all()
    for row in range(known.codes):
        above = knowledge.bundle.ancestors(known.names[row])
        line = []
        at = known.parents[row]
        while at >= 0:
            line.append(known.names[at])
            at = known.parents[at]
        assert line == [name for name in above if name in line]
        assert line[-1] == above[-1]
        assert known.names[known.tops[row]] == above[-1]
