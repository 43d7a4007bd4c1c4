"""The card as Markdown."""

import re
from collections.abc import Iterable

from medrec.card.parts import Section, Table

_MARKS = re.compile(r"[\\|*`\[]|<(?=[A-Za-z/!?])")  # what Markdown would not print as it stands


def markdown(title: str, fingerprint: str, story: str, sections: Iterable[Section]) -> str:
    """Returns the page; plots are left out."""
    lead = [f"# {_cell(title)}", f"Fingerprint: `{fingerprint}`", story]
    parts = [*lead, "The same with plots stands in card.html."]
    for section in sections:
        if section.texts or section.tables:
            parts += [f"## {section.title}", *section.texts, *map(_table, section.tables)]
    return "\n\n".join(parts) + "\n"


def _table(table: Table) -> str:
    title = [f"**{_cell(table.title)}**", ""] if table.title else []
    rule = "| " + " | ".join("---:" if n else "---" for n in table.numeric()) + " |"
    rows = ["| " + " | ".join(map(_cell, row)) + " |" for row in (table.head, *table.rows)]
    return "\n".join([*title, rows[0], rule, *rows[1:]])


def _cell(text: str) -> str:
    return _MARKS.sub(lambda mark: "\\" + mark[0], " ".join(text.split()))
