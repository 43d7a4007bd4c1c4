"""Reading a card back: cells of its Markdown, structure of its web page."""

import re
from dataclasses import replace
from html.parser import HTMLParser

from medrec.cohort import Provenance
from tests.medrec.small import small_cohort

VOID = {"meta", "br"}


def described(**changed):
    """The small cohort with another provenance."""
    made = {"dataset": "small", "options": {"seed": 0}, **changed}
    return replace(small_cohort(), provenance=Provenance(**made))


def rows(text, heading):
    """Cells of the Markdown table rows below a heading, unescaped."""
    body = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in body.splitlines() if line.startswith("| ")]
    return [
        [cell.replace("\\|", "|") for cell in re.split(r"(?<!\\) ?\| ?", line)[1:-1]]
        for line in lines
        if not line.startswith("| ---")
    ]


def values(text, heading):
    """First and second cell of these rows."""
    return {row[0]: row[1] for row in rows(text, heading)}


class Page(HTMLParser):
    """Checks that tags close in order; collects ids, references, addresses and tags."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.references, self.tags, self.words = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.note(attrs)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.note(attrs)

    def note(self, attrs):
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name.endswith("href") or name == "src":
                assert value.startswith("#"), f"{name}={value} needs a network"
                self.references.append(value[1:])
            if name == "aria-labelledby":
                self.references.append(value)
            self.references += re.findall(r"url\(#([^)]*)\)", value or "")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)
