"""A tree as one HTML page that opens from disk: interactive, zoomable, without a network.

The page is put together from the files in `web/`. It draws on a canvas what is in view and no
more, so that 14,000 nodes, as the published tree of laboratory codes has (celehs/MASH, docs/),
are as quick as 100. Names and titles reach it as JSON and are only ever shown as text; its
content security policy lets no script run but its own, and no address be asked.
"""

import base64
import hashlib
import html
import json
import re
from importlib.resources import files

from medrec.hierarchy._tree import Tree

KINDS = ("category", "latent", "code")
"""Kinds of node by the number that the page's data give them, as in `web/common.js`."""

_SCRIPTS = ("common", "model", "labels", "view", "pointer", "search", "page", "start")


def page(tree: Tree, title: str, note: str) -> str:
    """Returns the page; the same bytes for the same arguments.

    Args:
        tree: up to some tens of thousands of nodes.
        title: heading and title of the window, as text.
        note: what the tree is and where it comes from, as text.
    """
    style = _part("tree.css")
    script = "".join(_part(f"{name}.js") for name in _SCRIPTS)
    fields = {
        "POLICY": f"default-src 'none'; style-src '{_digest(style)}'; "
        f"script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'",
        "TITLE": html.escape(title),
        "NOTE": html.escape(note),
        "STYLE": style,
        "SCRIPT": script,
        "DATA": _data(tree),
    }
    return re.sub("@([A-Z]+)@", lambda field: fields[field[1]], _part("tree.html"))


def _part(name: str) -> str:
    return (files("medrec.hierarchy") / "web" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """Returns a text's hash as a content security policy names it."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _data(tree: Tree) -> str:
    """Returns the nodes as JSON in which no tag, and so no end of a script, can begin."""
    columns = {
        "names": tree.names,
        "titles": tree.titles,
        "parents": tree.parents.tolist(),
        "kinds": [KINDS.index(kind) for kind in tree.kinds],
    }
    return json.dumps(columns, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
