"""The frame of every page that a study yields: one file, no network, no script."""

import html
from collections.abc import Sequence

DISCLAIMER = (
    "This is research software. Its numbers compare models on recorded data; it gives no "
    "treatment advice and must not be used to choose a patient's medication."
)

STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #57606a; --paper: #ffffff;
  --rule: #d0d7de; --tint: #f3f5f7; --link: #0b5cad; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --soft: #a5afba; --paper: #14181d;
  --rule: #3a424c; --tint: #1d232a; --link: #79b8ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 76rem; color: var(--ink);
  background: var(--paper); font: 1rem/1.55 system-ui, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .25rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .75rem; padding-bottom: .25rem;
  border-bottom: 1px solid var(--rule); }
h3 { font-size: 1.05rem; margin: 1.75rem 0 .5rem; }
p, li, dd { max-width: 46rem; overflow-wrap: anywhere; }
a { color: var(--link); }
figure { margin: 0 0 1.5rem; }
figcaption { color: var(--soft); font-size: .85rem; max-width: 60rem; margin-top: .5rem;
  overflow-wrap: anywhere; }
.scroll { overflow-x: auto; border: 1px solid var(--rule); border-radius: 6px; }
.scroll:focus-visible { outline: 2px solid var(--link); }
table { border-collapse: separate; border-spacing: 0; font-size: .9rem; min-width: 100%; }
th, td { padding: .45rem .7rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--rule); font-variant-numeric: tabular-nums; }
tbody tr:last-child > * { border-bottom: 0; }
thead th { background: var(--tint); white-space: nowrap; }
tbody th { font-weight: 500; min-width: 8rem; background: var(--paper); }
th:first-child { position: sticky; left: 0; }
td:nth-child(2) { white-space: nowrap; }
.block > * { border-top: 2px solid var(--soft); }
.number { text-align: right; white-space: nowrap; }
.interval { display: block; color: var(--soft); font-size: .8rem; }
.figure svg { display: block; width: 100%; height: auto; min-width: 30rem; max-width: 46rem; }
.figure .scroll { border: 0; }
.contents { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; list-style: none; padding: 0; }
.question { font-size: 1.1rem; color: var(--soft); margin: 0; }
.note { background: var(--tint); border-left: 4px solid var(--link); padding: .6rem .9rem;
  border-radius: 0 6px 6px 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1rem; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr));
  gap: 1rem; }
.card { border: 1px solid var(--rule); border-radius: 6px; padding: .8rem 1rem; min-width: 0; }
.card h4 { font-size: 1rem; margin: 0 0 .2rem; overflow-wrap: anywhere; }
.card h5 { font-size: .85rem; font-weight: 600; margin: .8rem 0 .2rem; }
.card p { margin: 0; font-size: .9rem; } .card .pairs { margin-top: .8rem; }
.correct { --tone: #1a7f4b; } .missed { --tone: #a15c00; } .unseen { --tone: #0b5cad; }
@media (prefers-color-scheme: dark) { .correct { --tone: #63c995; } .missed { --tone: #e3a24e; }
  .unseen { --tone: #79b8ff; } }
.card h5 { color: var(--tone); }
.card ul { border-left: 3px solid var(--tone); padding-left: .6rem; }
.drugs { list-style: none; margin: 0; padding: 0; font-size: .9rem; line-height: 1.4; }
.drugs li { padding: .15rem 0; }
.columns { columns: 21rem; column-gap: 2rem; } .columns li { break-inside: avoid; }
code { color: var(--soft); font: .85em ui-monospace, "DejaVu Sans Mono", monospace; }
.scores { font-variant-numeric: tabular-nums; color: var(--soft); }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; gap: 0; } dd { margin: 0 0 .5rem; } }
@media (min-width: 60rem) { tbody .long { min-width: 13rem; } }
@media print { .scroll { overflow: visible; border: 0; } body { max-width: none; } }
"""


def document(title: str, header: str, body: str) -> str:
    """Returns the page.

    Args:
        title: of the window, as text.
        header: HTML above the body.
        body: HTML.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<header>{header}</header>\n<main>\n{body}</main>\n"
        f"<footer><h2>Use</h2>\n<p>{DISCLAIMER}</p></footer>\n</body>\n</html>\n"
    )


def contents(titles: Sequence[str]) -> str:
    """Returns links to the sections of these titles."""
    links = "".join(f'<li><a href="#{_label(title)}">{title}</a></li>' for title in titles)
    return f'<nav aria-label="Contents"><ul class="contents">{links}</ul></nav>\n'


def section(title: str, text: str) -> str:
    """Returns a section with its heading; the heading's id is the title in lower case."""
    label = _label(title)
    return f'<section aria-labelledby="{label}"><h2 id="{label}">{title}</h2>\n{text}</section>\n'


def _label(title: str) -> str:
    return title.lower().replace(" ", "-")
