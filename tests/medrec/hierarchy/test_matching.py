"""Ranks of true targets, codes matched first, and codes to merge."""

import numpy as np
import pytest

from medrec.hierarchy._matching import (
    Block,
    cosines,
    csls,
    hits,
    merged,
    mutual,
    ranks,
    reciprocal_ranks,
)

RNG = np.random.default_rng(0)
SOURCE, TARGET = RNG.standard_normal((9, 3)), RNG.standard_normal((11, 3))
BLOCKS = [
    Block(np.array([0, 1, 2, 4]), np.array([0, 2, 3, 4, 5])),
    Block(np.array([5, 6, 7, 8]), np.array([6, 7, 8, 10])),
]
TRUTH = np.array([5, 0, -1, 2, 3, 10, 9, 6, 8])
"""Code 2 has no truth, code 3 is in no block, the target of 6 is not in its block."""


def plain_rank(code: int, block: Block, scaled: bool) -> float:
    """Returns the rank of a code without ties, by plain loops."""

    def cosine(i: int, j: int) -> float:
        a, b = SOURCE[i], TARGET[j]
        return float(a @ b / np.sqrt(a @ a) / np.sqrt(b @ b))

    def score(i: int, j: int) -> float:
        if not scaled:
            return cosine(i, j)
        mine = sorted((cosine(i, other) for other in block.target), reverse=True)[:10]
        its = sorted((cosine(other, j) for other in block.source), reverse=True)[:10]
        return 2 * cosine(i, j) - sum(mine) / len(mine) - sum(its) / len(its)

    own = score(code, int(TRUTH[code]))
    return 1 + sum(score(code, int(j)) > own for j in block.target)


@pytest.mark.parametrize("scaled", [False, True])
def test_ranks_are_those_of_a_plain_loop(scaled: bool) -> None:
    found = ranks(SOURCE, TARGET, TRUTH, BLOCKS, scaled=scaled)
    assert np.flatnonzero(np.isnan(found)).tolist() == [2, 3, 6]
    for block in BLOCKS:
        for code in block.source.tolist():
            if code not in (2, 6):
                assert found[code] == plain_rank(code, block, scaled)


def test_equal_codes_share_their_places() -> None:
    block = [Block(np.arange(2), np.arange(4))]
    zeros = np.zeros((2, 3))
    assert ranks(zeros, TARGET[:4], np.array([0, 3]), block).tolist() == [2.5, 2.5]


def test_csls_of_a_plain_loop() -> None:
    similarity = cosines(SOURCE, TARGET)
    found = csls(similarity, neighbours=4)
    for i in range(len(SOURCE)):
        for j in range(len(TARGET)):
            ours = np.sort(similarity[i])[-4:].mean()
            theirs = np.sort(similarity[:, j])[-4:].mean()
            assert found[i, j] == pytest.approx(2 * similarity[i, j] - ours - theirs)


def test_a_hub_is_no_longer_nearest() -> None:
    similarity = np.array([[0.9, 0.8, 0.1], [0.9, 0.2, 0.85], [0.95, 0.3, 0.2]])
    assert similarity.argmax(axis=1).tolist() == [0, 0, 0]
    assert csls(similarity, 2).argmax(axis=1).tolist() == [1, 2, 0]


def test_units_without_truth_or_that_do_not_count_have_denominator_0() -> None:
    rank = np.array([1.0, 2.0, 10.0, 11.0, np.nan, 1.0])
    scored = np.array([True, True, True, True, True, False])
    first, counted = hits(rank, scored, 1)
    assert first.tolist() == [1, 0, 0, 0, 0, 0]
    assert counted.tolist() == [1, 1, 1, 1, 0, 0]
    assert hits(rank, scored, 10)[0].tolist() == [1, 1, 1, 0, 0, 0]
    reciprocal, counted = reciprocal_ranks(rank, scored)
    np.testing.assert_allclose(reciprocal, [1, 0.5, 0.1, 1 / 11, 0, 0])
    assert counted.tolist() == [1, 1, 1, 1, 0, 0]


def test_mutual_nearest_neighbours_of_a_plain_loop() -> None:
    similarity = RNG.standard_normal((7, 5))
    expected = [
        [i, j]
        for i in range(7)
        for j in range(5)
        if similarity[i, j] == similarity[i].max() == similarity[:, j].max()
    ]
    assert mutual(similarity).tolist() == expected


def test_merging_takes_mutual_neighbours_within_the_threshold() -> None:
    near = [merged(SOURCE, TARGET, BLOCKS, threshold) for threshold in (-1.0, 0.9, 1.1)]
    cosine = cosines(SOURCE, TARGET)
    assert len(near[0]) > len(near[1])
    assert np.all(cosine[near[1][:, 0], near[1][:, 1]] >= 0.9)
    assert near[2].shape == (0, 2)
    for source, target in near[0].tolist():
        block = next(block for block in BLOCKS if source in block.source)
        assert cosine[source, target] == cosine[source, block.target].max()
        assert cosine[source, target] == cosine[block.source, target].max()
