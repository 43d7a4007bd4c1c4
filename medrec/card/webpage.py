"""The card as a web page: one file, without script or network, light or dark as the reader's."""

import html
import re
from collections.abc import Iterable, Sequence

from medrec.card.parts import Plot, Section, Table
from medrec.card.plots import COLOURS, INK, RULE

_STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #57606a; --faint: #6e7781;
  --paper: #ffffff; --rule: #d0d7de; --tint: #f3f5f7;
  --one: #0072b2; --two: #d55e00; --three: #009e73; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --soft: #a5afba; --faint: #8b949e;
  --paper: #14181d; --rule: #3a424c; --tint: #1d232a;
  --one: #56b4e9; --two: #f08c4a; --three: #35c39a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 68rem; color: var(--ink);
  background: var(--paper); font: 1rem/1.55 system-ui, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .25rem; }
h2 { font-size: 1.25rem; margin: 2.25rem 0 .75rem; padding-bottom: .25rem;
  border-bottom: 1px solid var(--rule); }
h3 { font-size: 1rem; margin: 0 0 .4rem; }
p { max-width: 46rem; margin: .5rem 0 .75rem; overflow-wrap: anywhere; }
code, .sum { font: .85em/1.4 ui-monospace, Consolas, "DejaVu Sans Mono", monospace;
  overflow-wrap: anywhere; }
.soft, footer, figcaption { color: var(--soft); }
footer { margin-top: 2.5rem; font-size: .85rem; }
.row { display: flex; flex-wrap: wrap; gap: 1.25rem 2rem; align-items: flex-start; }
.block { max-width: 100%; overflow-x: auto; }
.block:focus-visible { outline: 2px solid var(--one); }
table { border-collapse: collapse; font-size: .9rem; min-width: 16rem; }
caption { text-align: left; font-weight: 600; padding-bottom: .35rem; }
th, td { padding: .3rem .7rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--rule); font-variant-numeric: tabular-nums; }
thead th { background: var(--tint); white-space: nowrap; }
tbody th { font-weight: 400; }
.number { text-align: right; white-space: nowrap; }
.faint > * { color: var(--faint); }
figure { margin: 0 0 .5rem; flex: 1 1 26rem; max-width: 31rem; }
figure.wide { flex-basis: 100%; max-width: 100%; }
figure svg { display: block; width: 100%; height: auto; }
figure svg text { font-family: system-ui, "Segoe UI", Roboto, sans-serif !important; }
figcaption { font-size: .85rem; }
@media print { body { max-width: none; padding: 0; font-size: 10pt; } .block { overflow: visible; }
  h2, h3, caption { break-after: avoid; } tr, figure { break-inside: avoid; } }
"""
_PAGE_COLOURS = {
    INK: "currentColor",
    RULE: "var(--rule)",
    **dict(zip(COLOURS, ("var(--one)", "var(--two)", "var(--three)"), strict=True)),
}


def webpage(title: str, fingerprint: str, story: str, sections: Iterable[Section]) -> str:
    """Returns the page."""
    title = html.escape(title)
    body = "".join(map(_section, sections))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f'<header><h1>{title}</h1>\n<p class="soft">Fingerprint '
        f"<code>{fingerprint}</code></p></header>\n<main>\n"
        f"<p>{html.escape(story)}</p>\n{body}</main>\n"
        "<footer>For research alone; it gives no treatment advice.</footer>\n</body>\n</html>\n"
    )


def _section(section: Section) -> str:
    if not (section.texts or section.tables or section.plots):
        return ""
    label = section.title.lower().replace(" ", "-")
    texts = "".join(f"<p>{html.escape(text)}</p>\n" for text in section.texts)
    blocks = [*map(_table, section.tables), *map(_plot, section.plots)]
    row = f'<div class="row">\n{"".join(blocks)}</div>\n' if blocks else ""
    head = f'<h2 id="{label}">{section.title}</h2>'
    return f'<section aria-labelledby="{label}">{head}\n{texts}{row}</section>\n'


def _table(table: Table) -> str:
    numeric = table.numeric()
    caption = f"<caption>{html.escape(table.title)}</caption>" if table.title else ""
    head = "".join(
        f'<th scope="col"{_number_class(n)}>{html.escape(name)}</th>'
        for name, n in zip(table.head, numeric, strict=True)
    )
    rows = "".join(_row(row, numeric, table.faint) for row in table.rows)
    return (
        f'<div class="block"><table>{caption}<thead><tr>{head}</tr></thead>\n'
        f"<tbody>{rows}</tbody></table></div>\n"
    )


def _row(row: Sequence[str], numeric: Sequence[bool], faint: bool) -> str:
    grey = ' class="faint"' if faint and row[1] == "0" else ""
    cells = [
        f"<td{_number_class(n)}>{html.escape(cell)}</td>"
        for cell, n in zip(row[1:], numeric[1:], strict=True)
    ]
    return f'<tr{grey}><th scope="row">{html.escape(row[0])}</th>{"".join(cells)}</tr>\n'


def _number_class(number: bool) -> str:
    return ' class="number"' if number else ""


def _plot(plot: Plot) -> str:
    """Returns the figure: its SVG named, its ids its own, its colours those of the page."""
    svg = plot.svg[plot.svg.index("<svg") :]
    svg = re.sub(r'\bid="', f'id="{plot.name}-', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{plot.name}-", svg)
    for colour, name in _PAGE_COLOURS.items():
        svg = svg.replace(colour, name)
    label = f"{plot.name}-title"
    svg = svg.replace("<svg ", f'<svg role="img" aria-labelledby="{label}" ', 1)
    end = svg.index(">") + 1
    named = f'{svg[:end]}<title id="{label}">{html.escape(plot.description)}</title>{svg[end:]}'
    wide = ' class="wide"' if plot.name == "codes" else ""
    return (
        f"<figure{wide}><h3>{html.escape(plot.title)}</h3>\n{named}"
        f"<figcaption>{html.escape(plot.caption)}</figcaption></figure>\n"
    )
