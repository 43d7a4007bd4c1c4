"""The report: one HTML file that needs no network and no script.

Question, protocol, headline, tables, figures, searches, what is missing, provenance. It is a pure
function of `StudyResults` and of the figures drawn from them.
"""

import html
from collections.abc import Mapping, Sequence

from sweeps.figures._base import Drawing, inline
from sweeps.record import Arm
from sweeps.statistics.results import StudyResults, Value
from sweeps.tables._base import (
    TableData,
    cohort_sentence,
    holes_sentence,
    interval_sentence,
)
from sweeps.tables._render import to_html

DISCLAIMER = (
    "This is research software. Its numbers compare models on recorded data; it gives no "
    "treatment advice and must not be used to choose a patient's medication."
)

_STYLE = """
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
.number { text-align: right; white-space: nowrap; }
.interval { display: block; color: var(--soft); font-size: .8rem; }
.figure svg { display: block; width: 100%; height: auto; min-width: 30rem; max-width: 46rem; }
.figure .scroll { border: 0; }
.question { font-size: 1.1rem; color: var(--soft); margin: 0; }
.note { background: var(--tint); border-left: 4px solid var(--link); padding: .6rem .9rem;
  border-radius: 0 6px 6px 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1rem; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; gap: 0; } dd { margin: 0 0 .5rem; } }
@media print { .scroll { overflow: visible; border: 0; } body { max-width: none; } }
"""


def render(
    results: StudyResults,
    tables: Mapping[str, Sequence[TableData]],
    drawings: Sequence[tuple[Drawing, str]],
) -> str:
    """Returns the report's HTML.

    Args:
        results: the study.
        tables: by plug-in, those that apply.
        drawings: figures with their SVG text.
    """
    searches = tables.get("search", ())
    others = [table for name, group in tables.items() if name != "search" for table in group]
    sections = [
        ("Headline", _headline(results)),
        ("Protocol", _protocol(results)),
        ("Tables", _tables(others)),
        ("Figures", "".join(_figure(drawing, svg) for drawing, svg in drawings)),
        ("Searches", _tables(searches)),
        ("What is missing", _missing(results)),
        ("Provenance", _provenance(results)),
    ]
    name = html.escape(results.record.name)
    body = "".join(_section(title, text) for title, text in sections if text)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{name}: report</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f'<header><h1>{name}</h1>\n<p class="question">{html.escape(results.record.question)}</p>'
        f"</header>\n<main>\n{body}</main>\n"
        f"<footer><h2>Use</h2>\n<p>{DISCLAIMER}</p></footer>\n</body>\n</html>\n"
    )


def _section(title: str, text: str) -> str:
    label = title.lower().replace(" ", "-")
    return f'<section aria-labelledby="{label}"><h2 id="{label}">{title}</h2>\n{text}</section>\n'


def headline(results: StudyResults) -> list[str]:
    """Returns sentences: the best arm in Jaccard, and which differences exclude zero."""
    found = {arm.name: results.estimate("jaccard", arm.name) for arm in results.record.arms}
    known = {name: value for name, value in found.items() if value is not None}
    if not known:
        return ["No trial is stored yet."]
    best = max(known, key=lambda name: known[name].estimate)
    lead = f"Highest Jaccard on the test split: {results.arm(best).title}, {_text(known[best])}."
    gaps = [
        (arm, gap)
        for arm in results.record.arms
        if (gap := results.difference("jaccard", arm.name)) is not None
    ]
    if not gaps:
        return [lead, "There is no second arm to compare with."]
    clear = [(arm, gap) for arm, gap in gaps if excludes_zero(gap)]
    lines = [
        f"{arm.title}: {'higher' if gap.estimate > 0 else 'lower'} than "
        f"{results.reference(arm.name).title}, difference {_text(gap, signed=True)}."
        for arm, gap in clear
    ]
    count = (
        f"The interval of the difference excludes zero for {len(clear)} of {len(gaps)} arms "
        f"({compared_to(results)}); the intervals are not adjusted for the number of arms."
    )
    return [lead, count, *lines]


def compared_to(results: StudyResults) -> str:
    """Returns what arms are compared with."""
    reference = f"compared with {results.arm(results.record.reference).title}"
    parts = any(arm.full is not None for arm in results.record.arms)
    return f"{reference}, ablations with their full model" if parts else reference


def excludes_zero(gap: Value) -> bool:
    """Returns whether a difference has an interval and zero is outside it."""
    return gap.low is not None and gap.high is not None and (gap.low > 0 or gap.high < 0)


def _text(value: Value, signed: bool = False) -> str:
    form = "+.4f" if signed else ".4f"
    text = f"{value.estimate + 0.0:{form}}"
    if value.low is not None and value.high is not None:
        text += f" [{value.low + 0.0:{form}}, {value.high + 0.0:{form}}]"
    return text.replace("-", "\u2212")


def _headline(results: StudyResults) -> str:
    lead, *rest = headline(results)
    text = f'<p class="note">{html.escape(lead)}</p>\n'
    if rest:
        text += f"<p>{html.escape(rest[0])}</p>\n"
    if rest[1:]:
        items = "".join(f"<li>{html.escape(line)}</li>" for line in rest[1:])
        text += f"<ul>{items}</ul>\n"
    return text


def _protocol(results: StudyResults) -> str:
    return (
        f"<p>{html.escape(cohort_sentence(results))}</p>\n"
        f"<p>{html.escape(interval_sentence(results, 'its reference'))}</p>\n"
    )


def _tables(tables: Sequence[TableData]) -> str:
    return "".join(f"<h3>{html.escape(t.title)}</h3>\n{to_html(t)}" for t in tables)


def _figure(drawing: Drawing, svg: str) -> str:
    title = html.escape(drawing.title)
    return (
        f'<h3>{title}</h3>\n<figure class="figure" id="figure-{drawing.name}">'
        f'<div class="scroll" role="region" aria-label="{title}" tabindex="0">'
        f"{inline(svg, drawing)}</div>"
        f"<figcaption>{html.escape(drawing.caption)}</figcaption></figure>\n"
    )


def _missing(results: StudyResults) -> str:
    holes = holes_sentence(results, results.record.arms).strip()
    items = [html.escape(holes)] if holes else []
    arms = {key: arm for arm in results.record.arms for key in arm.trials.values()}
    asked = {str(r["key"]) for records in results.searches.values() for r in records} | set(arms)
    for key, note in results.failures.items():
        if key in asked:
            items.append(_failure(key, note, arms.get(key)))
    if not items:
        return "<p>Every trial that the study asks for is stored, and none failed.</p>\n"
    return "<ul>" + "".join(f"<li>{item}</li>" for item in items) + "</ul>\n"


def _failure(key: str, note: Mapping[str, object], arm: Arm | None) -> str:
    whose = f" ({arm.title})" if arm else ""
    text = f"Trial {key}{whose} failed, attempts {note.get('attempts', '?')}: "
    return html.escape(text + str(note.get("reason", "no reason was recorded")))


def _provenance(results: StudyResults) -> str:
    record = results.record
    facts = {
        "Results": f"{len(results.summaries):,} trials of {len(record.arms)} arms",
        "Cohort": f"{record.cohort.name}, fingerprint {record.cohort.fingerprint}",
        **{
            f"Cohort: {name.replace('_', ' ')}": f"{value:,.6g}"
            for name, value in sorted(record.cohort.counts.items())
        },
        "DDI graph": f"{record.ddi.name}, fingerprint {record.ddi.fingerprint}",
        "Study schema": str(record.schema_version),
        **versions(results),
    }
    rows = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>"
        for name, value in facts.items()
    )
    return f"<dl>{rows}</dl>\n"


def versions(results: StudyResults) -> dict[str, str]:
    """Returns what the trials ran on; every value where trials differ."""
    found: dict[str, set[str]] = {}
    for summary in results.summaries.values():
        stated = summary.get("versions") or summary.get("environment") or {}
        for name, value in stated.items():
            found.setdefault(str(name), set()).add(str(value))
    return {name: ", ".join(sorted(values)) for name, values in sorted(found.items())}
