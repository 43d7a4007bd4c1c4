"""Drivers on one cluster: even shares, named limits, and nobody waits for the dead."""

import pytest

from cluster.shares import FORGOTTEN, Board, shared


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def board(clock) -> Board:
    return Board(clock=clock)


def settled(board: Board, *drivers: tuple) -> list[int]:
    """What each is allowed once all have told."""
    for driver in drivers:
        board.tell(*driver)
    return [board.tell(*driver) for driver in drivers]


def test_alone_it_may_have_all_that_it_wants(board):
    assert board.tell("a", 5, 8, {}) == 5
    assert board.tell("a", 50, 8, {}) == 8


def test_two_get_half_each_and_what_one_does_not_want_goes_to_the_other(board):
    assert settled(board, ("a", 50, 8, {}), ("b", 50, 8, {})) == [4, 4]
    assert settled(board, ("a", 1, 8, {}), ("b", 50, 8, {})) == [1, 7]


def test_everyone_may_have_one_trial_however_small_the_cluster(board):
    assert settled(board, *((name, 9, 2, {}) for name in "abc")) == [1, 1, 1]


def test_shares_are_of_the_cluster_and_not_of_trials(board):
    # Four small trials fill as much of the cluster as one large one.
    assert settled(board, ("large", 9, 2, {}), ("small", 90, 8, {})) == [1, 4]


def test_one_that_left_or_says_nothing_more_is_forgotten(board, clock):
    settled(board, ("a", 9, 8, {}), ("b", 9, 8, {}))
    assert board.leave("b") == 1
    assert board.tell("a", 9, 8, {}) == 8
    settled(board, ("a", 9, 8, {}), ("b", 9, 8, {}))
    clock.now += FORGOTTEN + 1
    assert board.tell("a", 9, 8, {}) == 8


@pytest.mark.parametrize(("most", "expected"), [(4, [2, 2]), (5, [3, 2]), (2, [1, 1])])
def test_studies_of_one_name_keep_to_its_limit_together(board, most, expected):
    team = {"team": most}
    assert settled(board, ("a", 9, 16, team), ("b", 9, 16, team)) == expected
    assert board.tell("c", 9, 16, {}) >= 5  # of no name, so only the cluster bounds it


def test_of_several_numbers_for_a_name_the_lowest_counts(board):
    assert settled(board, ("a", 9, 16, {"team": 2}), ("b", 9, 16, {"team": 8})) == [1, 1]


def test_a_limit_below_the_number_of_studies_lets_the_later_ones_wait(board):
    team = {"team": 2}
    allowed = settled(board, *((name, 9, 16, team) for name in "abc"))
    assert sorted(allowed) == [0, 1, 1]


@pytest.mark.parametrize("wants", [{}, {"a": 3.0}, {"a": 1.0, "b": 9.0, "c": 2.5}])
def test_shares_add_up_and_nobody_gets_more_than_it_wants(wants):
    parts = shared(6.0, wants)
    assert sum(parts.values()) == pytest.approx(min(6.0, sum(wants.values())))
    assert all(parts[name] <= wants[name] for name in wants)
