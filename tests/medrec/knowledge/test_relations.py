import itertools

import jaxtyping
import numpy as np
import pyarrow as pa
import pytest

from medrec.errors import KnowledgeError
from medrec.knowledge.origin import Origin
from medrec.knowledge.relations import (
    Relations,
    from_names,
    from_table,
    joined_origin,
    restrict,
    union,
)

NOWHERE = Origin("by hand", "none")
# a chain of both directions, and a pair apart
CHAIN = [
    ("cui/a", "isa", "cui/b"),
    ("cui/c", "isa", "cui/b"),
    ("cui/c", "causes", "cui/d"),
    ("cui/d", "isa", "cui/e"),
    ("cui/y", "isa", "cui/z"),
]


def test_triples_are_sorted_distinct_and_without_loops():
    rows = [("b/2", "r", "a/1"), ("a/1", "q", "b/2"), ("b/2", "r", "a/1"), ("c/3", "z", "c/3")]
    relations = from_names(NOWHERE, rows)
    assert relations.nodes == ("a/1", "b/2")
    assert relations.relations == ("q", "r")
    assert relations.triples.tolist() == [[0, 0, 1], [1, 1, 0]]
    assert relations.triples.dtype == np.int32


def test_the_order_of_the_rows_changes_nothing():
    first = from_names(NOWHERE, CHAIN)
    for rows in itertools.islice(itertools.permutations(CHAIN), 0, 120, 17):
        again = from_names(NOWHERE, rows)
        assert (again.nodes, again.relations) == (first.nodes, first.relations)
        assert np.array_equal(again.triples, first.triples)


def test_names_give_the_rows_back():
    assert sorted(from_names(NOWHERE, CHAIN).names()) == sorted(CHAIN)


def test_nodes_and_relations_without_triples_are_registered():
    relations = from_names(NOWHERE, CHAIN[:1], nodes=["cui/q"], relations=["treats"])
    assert relations.nodes == ("cui/a", "cui/b", "cui/q")
    assert relations.counts() == {"isa": 1, "treats": 0}


@pytest.mark.parametrize("nodes", [(), ("cui/a",)])
def test_nothing_at_all_is_a_value_too(nodes):
    empty = from_names(NOWHERE, [], nodes=nodes)
    assert empty.nodes == nodes
    assert empty.triples.shape == (0, 3)
    assert empty.counts() == {}
    assert restrict(union(empty, empty), ["cui/a"], 2).nodes == nodes


def test_counts():
    assert from_names(NOWHERE, CHAIN).counts() == {"causes": 1, "isa": 4}


def test_a_table_of_several_blocks_is_read_as_rows_are():
    names = ("head", "relation", "tail")
    blocks = [pa.table(dict(zip(names, ([c] for c in row), strict=True))) for row in CHAIN]
    table = from_table(NOWHERE, pa.concat_tables(blocks))
    assert np.array_equal(table.triples, from_names(NOWHERE, CHAIN).triples)


def test_union_joins_nodes_and_relations_of_one_name():
    one = from_names(NOWHERE, CHAIN[:3], relations=["treats"])
    other = from_names(NOWHERE, [*CHAIN[2:], ("cui/a", "treats", "cui/z")], nodes=["cui/alone"])
    both = union(one, other)
    assert list(both.names()) == sorted([*CHAIN, ("cui/a", "treats", "cui/z")])
    assert "cui/alone" in both.nodes
    assert np.array_equal(union(other, one).triples, both.triples)


def test_the_origin_of_a_union_does_not_depend_on_the_order():
    origins = [
        Origin("A", "free", {"x.csv": "11111111aa"}, {"hops": "1"}),
        Origin("B", "paid", {"x.csv": "22222222bb", "y.csv": "33"}, {"hops": "2", "of": "z"}),
    ]
    joined = joined_origin(origins)
    assert joined == joined_origin(origins[::-1])
    assert joined.title == "A + B"
    assert joined.licence == "free; paid"
    assert joined.inputs == {
        "x.csv (11111111)": "11111111aa",
        "x.csv (22222222)": "22222222bb",
        "y.csv": "33",
    }
    assert joined.rules == {"hops": "1 | 2", "of": "z"}


@pytest.mark.parametrize(
    ("start", "hops", "expected", "nodes"),
    [
        (["cui/a"], 0, [], ["a"]),
        (["cui/a", "cui/b", "cui/c"], 0, CHAIN[:2], ["a", "b", "c"]),
        (["cui/a"], 1, CHAIN[:1], ["a", "b"]),
        (["cui/b"], 1, CHAIN[:2], ["a", "b", "c"]),
        (["cui/a"], 2, CHAIN[:2], ["a", "b", "c"]),
        (["cui/a"], 3, CHAIN[:3], ["a", "b", "c", "d"]),
        (["cui/a"], 9, CHAIN[:4], ["a", "b", "c", "d", "e"]),
        (["cui/unknown"], 3, [], []),
    ],
)
def test_restrict(start, hops, expected, nodes):
    kept = restrict(from_names(NOWHERE, CHAIN), start, hops)
    assert list(kept.names()) == sorted(expected)
    assert kept.nodes == tuple(f"cui/{name}" for name in nodes)
    assert kept.relations == ("causes", "isa")


def test_restrict_agrees_with_a_walk_over_a_random_graph():
    ends = np.random.default_rng(5).integers(0, 80, (90, 2)).tolist()
    rows = [(f"n/{head}", "r", f"n/{tail}") for head, tail in ends]
    relations = from_names(NOWHERE, rows)
    for hops in range(1, 5):
        reached = {"n/1", "n/2"}
        for _ in range(hops):
            met = {(h, r, t) for h, r, t in rows if (h in reached or t in reached) and h != t}
            reached |= {end for h, _, t in met for end in (h, t)}
        assert set(restrict(relations, ["n/1", "n/2"], hops).names()) == met


def test_restricted_to_other_nodes_is_of_another_origin():
    relations = from_names(NOWHERE, CHAIN)
    prints = {
        restrict(relations, start, hops).origin.fingerprint
        for start, hops in [(["cui/a"], 1), (["cui/b"], 1), (["cui/a"], 2)]
    }
    assert len(prints) == 3


def test_hops_must_not_be_negative():
    with pytest.raises(KnowledgeError, match=r"`hops` must be 0 or more, but got hops=-1"):
        restrict(from_names(NOWHERE, CHAIN), [], -1)


def test_triples_have_three_columns():
    with pytest.raises(jaxtyping.TypeCheckError):
        Relations(NOWHERE, (), (), np.zeros((4, 2), np.int32))
