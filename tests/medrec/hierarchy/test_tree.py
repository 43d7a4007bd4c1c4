"""A tree refuses what is none, and its published form gives it back."""

import json

import numpy as np
import pytest

from medrec.errors import KnowledgeError
from medrec.hierarchy._tree import PUBLISHED, Tree, shape
from medrec.hierarchy._tree_json import from_json, to_json


def tree_of(rows: list[tuple[str, str, str, int]]) -> Tree:
    names, titles, kinds, parents = zip(*rows, strict=True)
    return Tree(names, titles, np.array(parents, dtype=np.int32), kinds)


SMALL = tree_of(
    [
        ("category/Codes", "Codes", "category", -1),
        ("diagnoses/9:390-459", "Circulatory system (heart, vessels)", "category", 0),
        ("latent/1", "Heart failure", "latent", 1),
        ("diagnoses/9:4280", "Congestive heart failure", "code", 2),
        ("diagnoses/9:428", "", "category", 1),
        ("diagnoses/10:I50", 'Heart "failure"', "code", 2),
        ("procedures/9:3893", "Venous cath", "code", 0),
        ("procedures/10:0BH17EZ", "", "code", 0),
        ("medications/C03A", "Low-ceiling diuretics, thiazides", "code", 0),
        ("medications/ASPIRIN 81 MG #2", "aspirin\n81", "code", 0),
        ("diagnoses/pneumonia|viral", "", "code", 4),
        ("diagnoses/9:4281", "Left heart failure", "code", 3),
    ]
)


def described(tree: Tree) -> set:
    above = ["" if p < 0 else tree.names[p] for p in tree.parents]
    return set(zip(tree.names, tree.titles, tree.kinds, above, strict=True))


def test_the_published_form_gives_the_tree_back():
    assert described(from_json(to_json(SMALL))) == described(SMALL)
    assert to_json(from_json(to_json(SMALL))) == to_json(SMALL)


def test_the_published_form_is_json_of_name_and_children():
    def names(node):
        assert set(node) <= {"name", "children"}
        return [node["name"], *(n for child in node.get("children", ()) for n in names(child))]

    found = names(json.loads(to_json(SMALL)))
    assert len(found) == len(SMALL.names)
    assert "ICD9CM:4280 Congestive heart failure" in found
    assert 'ICD10CM:I50 Heart "failure"' in found
    assert "ICD9PROC:3893 Venous cath" in found
    assert "ICD10PCS:0BH17EZ" in found
    assert "ATC:C03A Low-ceiling diuretics, thiazides" in found
    assert "LatentNode:1 Heart failure" in found
    assert "Circulatory system (heart, vessels) (ICD9CM:390-459)" in found
    assert any(name.startswith("Other:medications/ASPIRIN%2081%20MG%20%232 ") for name in found)


def test_published_names_of_other_systems_are_read():
    text = """{"name": "root", "size": 3, "children": [
        {"children": [{"name": "PheCode:117.3 blastomycotic"}], "name": "LatentNode:1 x"},
        {"name": "LatentNode:1 y", "children": [{"name": "Other lab:77 urea"}]},
        {"name": "root"}]}"""
    tree = from_json(text)
    assert tree.names == (
        "category/root", "latent/1", "PheCode/117.3", "latent/1#2", "Other lab/77",
        "category/root#2",
    )  # fmt: skip
    assert tree.titles[2] == "blastomycotic"
    assert tree.parents.tolist() == [-1, 0, 1, 0, 3, 0]
    assert json.loads(to_json(tree))["children"][1]["name"] == "LatentNode:1 y"


def test_several_roots_come_below_one():
    forest = tree_of([("diagnoses/9:1", "", "code", -1), ("diagnoses/9:2", "", "code", -1)])
    assert json.loads(to_json(forest)) == {
        "name": "Codes",
        "children": [{"name": "ICD9CM:1"}, {"name": "ICD9CM:2"}],
    }


def test_depth_does_not_break_reading_and_writing():
    many = 3000
    chain = Tree(
        tuple(f"diagnoses/9:{i}" for i in range(many)),
        ("",) * many,
        np.arange(-1, many - 1).astype(np.int32),
        ("code",) * many,
    )
    assert from_json(to_json(chain)).names == chain.names


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", '{"name": "a"', '{"name": "a"}}', '{"name": "a"} {"name": "b"}',
        '{"name": "a"},{"name": "b"}', '{"name": "a", "children": {}}', '{"name": ["a"]}',
        '{"children": []}', '{"name" "a"}', '{"name": "a", "children": [{"name": "b"]}',
    ],
)  # fmt: skip
def test_what_is_no_tree_in_json_is_refused(text):
    with pytest.raises(KnowledgeError):
        from_json(text)


@pytest.mark.parametrize(
    ("parents", "named"),
    [
        ([-1, 2, 1], "b"),
        ([-1, 1, 0], "b"),
        ([-1, 3, 0], "b"),
        ([-1, -2, 0], "b"),
        ([1, 2, 0], "a"),
    ],
)
def test_what_is_no_tree_is_refused_with_the_node(parents, named):
    with pytest.raises(KnowledgeError, match=f"'{named}'"):
        Tree(("a", "b", "c"), ("",) * 3, np.array(parents, dtype=np.int32), ("code",) * 3)


def test_names_are_unique():
    with pytest.raises(KnowledgeError, match="'a' twice"):
        Tree(("a", "a"), ("", ""), np.array([-1, 0], dtype=np.int32), ("code", "code"))


def test_depth_children_and_ancestors():
    parents = SMALL.parents.tolist()
    for row in range(len(parents)):
        above = []
        while parents[above[-1] if above else row] >= 0:
            above.append(parents[above[-1] if above else row])
        assert SMALL.ancestors(row) == tuple(above)
        assert SMALL.depth[row] == len(above)
        children = tuple(i for i, parent in enumerate(parents) if parent == row)
        assert SMALL.children[row] == children
        assert SMALL.child_counts[row] == len(children)
    order = list(SMALL.preorder())
    assert sorted(order) == list(range(len(parents)))
    assert all(order.index(p) < order.index(i) for i, p in enumerate(parents) if p >= 0)


def test_shape_is_counted():
    found = shape(SMALL)
    assert (found.nodes, found.codes, found.latent, found.categories) == (12, 8, 1, 3)
    assert found.depth == 4
    assert found.leaf_depths == (1,)
    assert found.mean_branching == pytest.approx(11 / 5)
    assert found.max_branching == 5
    assert found.latent_children == (2, 2.0, 2)
    assert PUBLISHED["Lab"].nodes == PUBLISHED["Lab"].codes + 1580 + 1722
