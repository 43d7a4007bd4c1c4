"""Trees as nested JSON objects in the form that MASH published; see `medrec.hierarchy._tree`."""

import json
import re
from collections.abc import Iterator
from urllib.parse import quote, unquote

import numpy as np

from medrec import codes
from medrec.cohort import KINDS
from medrec.errors import KnowledgeError
from medrec.hierarchy._tree import NodeKind, Tree, unnumbered

# How systems are called in published names: kind and version of a code.
_SYSTEMS = {
    ("diagnoses", "9"): "ICD9CM",
    ("diagnoses", "10"): "ICD10CM",
    ("procedures", "9"): "ICD9PROC",
    ("procedures", "10"): "ICD10PCS",
}
_SPACES = {system: f"{kind}/{version}:" for (kind, version), system in _SYSTEMS.items()}
_ATC = re.compile(r"[A-Z]([0-9]{2}([A-Z]([A-Z]([0-9]{2})?)?)?)?")
_CODE = re.compile(r"([A-Za-z][A-Za-z0-9_. -]*):(\S+)(?: (.*))?", re.DOTALL)
_KNOWN = re.compile(r"(.*?) ?\(((?:ICD9CM|ICD10CM|ICD9PROC|ICD10PCS|ATC|Other):\S+)\)", re.DOTALL)
_SAFE = "/:.,;+-_*&|=@!$'~"
_TOP = "Codes"


def to_json(tree: Tree) -> str:
    """Returns the published form; several roots come below one of the name "Codes"."""
    parts: list[str] = []
    several = len(tree.roots) != 1
    if several:
        parts.append(f'{{"name": "{_TOP}", "children": [')
    waiting: list[int | str] = []
    _push(waiting, tree.roots, "")
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            parts.append(item)
            continue
        name = json.dumps(published_name(tree.names[item], tree.titles[item], tree.kinds[item]))
        if tree.children[item]:
            parts.append(f'{{"name": {name}, "children": [')
            _push(waiting, tree.children[item], "]}")
        else:
            parts.append(f'{{"name": {name}}}')
    return "".join([*parts, "]}" if several else "", "\n"])


def _push(waiting: list[int | str], rows: tuple[int, ...], end: str) -> None:
    """Puts rows, with commas between, and an end upon the stack; the first row comes up first."""
    items: list[int | str] = []
    for row in rows:
        items += [row, ", "]
    waiting += [end, *reversed(items[:-1])]


def published_name(name: str, title: str, kind: NodeKind) -> str:
    """Returns what a node is called in the published form.

    Example:
        >>> published_name("diagnoses/9:4280", "Congestive heart failure", "code")
        'ICD9CM:4280 Congestive heart failure'
        >>> published_name("medications/C03", "Diuretics", "category")
        'Diuretics (ATC:C03)'
    """
    if kind == "latent":
        return f"LatentNode:{unnumbered(name).removeprefix('latent/')} {title}".rstrip(" ")
    if name.startswith("category/"):
        return title or unnumbered(name).removeprefix("category/")
    known = _system_name(name)
    if kind == "category":
        return f"{title} ({known})" if title else f"({known})"
    return f"{known} {title}" if title else known


def _system_name(name: str) -> str:
    """Returns "ICD9CM:4280" of "diagnoses/9:4280"."""
    space, _, rest = name.partition("/")
    version, bare = codes.split(rest) if space in ("diagnoses", "procedures") else ("", rest)
    system = _SYSTEMS.get((space, version))
    if system:
        return f"{system}:{quote(bare, safe=_SAFE)}"
    if space == "medications" and _ATC.fullmatch(rest):
        return f"ATC:{rest}"
    if space in KINDS:
        return f"Other:{quote(name, safe=_SAFE)}"
    return f"{space}:{quote(rest, safe=_SAFE)}"


def _node_name(system: str, rest: str) -> str:
    """Returns "diagnoses/9:4280" of "ICD9CM", "4280"."""
    if system in _SPACES:
        return _SPACES[system] + unquote(rest)
    if system == "ATC":
        return f"medications/{rest}"
    if system == "Other" and rest.partition("/")[0] in KINDS:
        return unquote(rest)
    return f"{system}/{unquote(rest)}"


def _described(published: str) -> tuple[str, str, NodeKind]:
    """Returns name, title and kind of a node from its published name."""
    code = _CODE.fullmatch(published)
    if code and code[1] == "LatentNode":
        return f"latent/{code[2]}", code[3] or "", "latent"
    if code:
        return _node_name(code[1], code[2]), code[3] or "", "code"
    known = _KNOWN.fullmatch(published)
    if known:
        return _node_name(*known[2].split(":", 1)), known[1], "category"
    return f"category/{published}", published, "category"


def from_json(text: str) -> Tree:
    """Returns the tree, rows in preorder.

    Latent nodes and categories may share a published name (numbers of latent nodes are reused in
    the published lab tree); from the second on "#2", "#3" and so on is added to their name.
    Entries besides name and children are ignored.

    Raises:
        KnowledgeError: the text is not of this form; a code occurs twice.
    """
    published, parents = _parsed(text)
    seen: dict[str, int] = {}
    names, titles, kinds = [], [], []
    for each in published:
        name, title, kind = _described(each)
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1 and kind != "code":
            name = f"{name}#{seen[name]}"
        names.append(name)
        titles.append(title)
        kinds.append(kind)
    return Tree(tuple(names), tuple(titles), np.array(parents, dtype=np.int32), tuple(kinds))


_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+)', re.DOTALL)
# What may follow what: s a string, n another scalar.
_FOLLOWERS = {
    "": "{", "{": "s", "}": ",]", "[": "{]", "]": ",}", ",": "s{", ":": "sn[", "s": ":,}",
    "n": ",}",
}  # fmt: skip


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """Yields kind and text of each token; a kind is the token itself, s or n."""
    at, before, end = 0, "", len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        piece = match[1] if match else ""
        kind = "s" if piece[:1] == '"' else piece if piece in "{}[],:" else "n"
        if not match or kind not in _FOLLOWERS[before]:
            raise KnowledgeError(f"This is no tree in JSON: unexpected text at character {at}.")
        yield kind, piece
        at, before = match.end(), kind


def _parsed(text: str) -> tuple[list[str], list[int]]:
    """Returns the published names and the parents' rows, in preorder."""
    names: list[str] = []
    parents: list[int] = []
    open_nodes: list[int] = []
    brackets: list[str] = []
    key = ""
    value = False
    for kind, token in _tokens(text):
        if names and not brackets:
            raise KnowledgeError("This is no tree in JSON: there is text after its end.")
        if kind == "{":
            parents.append(open_nodes[-1] if open_nodes else -1)
            open_nodes.append(len(names))
            names.append("")
        elif kind == "s" and not value:
            key = json.loads(token)
        elif kind == "s" and key == "name":
            names[open_nodes[-1]] = json.loads(token)
        if kind in "{}[]":
            _balance(brackets, kind, key)
        if kind == "}":
            open_nodes.pop()
        value = kind == ":"
    if brackets or not names:
        raise KnowledgeError("This is no tree in JSON: the text ends too early.")
    if "" in names:
        raise KnowledgeError(f"Node {names.index('')} of the tree in JSON has no name.")
    return names, parents


def _balance(brackets: list[str], kind: str, key: str) -> None:
    """Keeps the stack of open brackets; only children are lists."""
    if kind in "{[":
        if kind == "[" and key != "children":
            raise KnowledgeError(f"This is no tree in JSON: {key!r} is a list.")
        brackets.append(kind)
    elif not brackets or brackets.pop() + kind not in ("{}", "[]"):
        raise KnowledgeError(f"This is no tree in JSON: {kind!r} closes nothing.")
