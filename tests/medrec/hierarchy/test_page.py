"""The page of a tree is one file that asks no network, and no title can break out of its data."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from medrec.hierarchy import _page
from medrec.hierarchy._page import page
from medrec.hierarchy._tree import Tree

HOSTILE = "</script><b>&\"'<!--<script>\u2028\\@TITLE@"


def tree(titles=("Codes", "Heart", "Heart failure"), parents=(-1, 0, 1)):
    names = ("category/Codes", "latent/1", "diagnoses/9:4280")
    return Tree(names, tuple(titles), np.array(parents, dtype=np.int32),
                ("category", "latent", "code"))  # fmt: skip


def large(nodes=14_000):
    rng = np.random.default_rng(0)
    parents = [-1, *(int(rng.integers(0, max(1, i // 3))) for i in range(1, nodes))]
    kinds = ("category",) + ("code",) * (nodes - 1)
    names = tuple(f"diagnoses/10:{i}" for i in range(nodes))
    return Tree(
        names, tuple(f"title {i}" for i in range(nodes)), np.array(parents, np.int32), kinds
    )


class Parts(HTMLParser):
    """Texts by tag, and every attribute."""

    def __init__(self, text):
        super().__init__()
        self.now, self.texts, self.attributes, self.ids = None, {}, [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.now = dict(attrs).get("id") or tag
        self.texts[self.now] = ""
        self.attributes += attrs
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        self.now = None

    def handle_data(self, data):
        if self.now:
            self.texts[self.now] += data


def data(text):
    return json.loads(Parts(text).texts["data"])


def test_every_node_is_in_the_page():
    made = large()
    found = data(page(made, "Large", ""))
    assert found["names"] == list(made.names)
    assert found["titles"] == list(made.titles)
    assert found["parents"] == made.parents.tolist()
    assert [_page.KINDS[kind] for kind in found["kinds"]] == list(made.kinds)


def test_kinds_have_the_numbers_that_the_script_gives_them():
    stated = re.search(r"const KINDS = (\[.*?\]);", page(tree(), "", ""))
    assert tuple(json.loads(stated[1])) == _page.KINDS


@pytest.mark.parametrize("hostile", [HOSTILE, "@DATA@@SCRIPT@@STYLE@", "]]>--></title>"])
def test_titles_cannot_break_out(hostile):
    plain = page(tree(), "Title", "Note")
    text = page(tree((hostile, hostile, hostile)), hostile, hostile)
    assert data(text)["titles"] == [hostile] * 3
    assert Parts(text).texts["title"] == hostile
    assert Parts(text).ids == Parts(plain).ids
    for tag in ("<script", "</script", "<b>", "<!--"):
        assert text.count(tag) == plain.count(tag)


def test_bytes_are_those_of_the_arguments():
    assert page(large(50), "Title", "Note").encode() == page(large(50), "Title", "Note").encode()
    assert page(tree(), "Title", "Note") != page(tree(), "Title", "Another note")


def test_nothing_is_asked_of_a_network():
    text = page(tree(), "Title", "Note")
    attributes = Parts(text).attributes
    assert not [name for name, _ in attributes if name in ("src", "href", "srcset", "action")]
    # The namespace of SVG is a name, and the one address.
    assert set(re.findall(r"[a-z]+://[^\s\"'`<)]+", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|import)\b\s*\(|@import|url\(", text)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", text)


def test_the_policy_lets_its_own_script_and_style_alone_run():
    text = page(tree(), "Title", "Note")
    policy = _policy(text)
    assert policy["default-src"] == "'none'"
    for tag, rule in (("script", "script-src"), ("style", "style-src")):
        body = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert policy[rule] == f"'sha256-{digest}'"


def _policy(text):
    stated = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    return dict(rule.strip().split(" ", 1) for rule in stated.split(";"))


def test_readers_without_a_script_are_told():
    assert re.search(r"<noscript><p>[^<]+</p></noscript>", page(tree(), "Title", "Note"))


def test_the_script_finds_every_element_that_it_names():
    text = page(tree(), "Title", "Note")
    named = set(re.findall(r'element\("([a-z]+)"\)', text))
    assert named
    assert named <= set(Parts(text).ids)
