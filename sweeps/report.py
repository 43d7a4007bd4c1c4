"""The report: one HTML file that needs no network and no script.

Question, protocol, headline, tables, figures, searches, what is missing, provenance. It is a pure
function of `StudyResults` and of the figures drawn from them.
"""

import html
from collections.abc import Mapping, Sequence

from medrec import plugins
from sweeps.figures._base import Drawing, inline
from sweeps.page import document, section
from sweeps.record import Arm
from sweeps.statistics.results import StudyResults, Value
from sweeps.tables._base import (
    TableData,
    cohort_sentence,
    holes_sentence,
    interval_sentence,
)
from sweeps.tables._render import to_html


def render(
    results: StudyResults,
    tables: Mapping[str, Sequence[TableData]],
    drawings: Sequence[tuple[Drawing, str]],
    cases: str,
) -> str:
    """Returns the report's HTML.

    Args:
        results: the study.
        tables: by plug-in, those that apply.
        drawings: figures with their SVG text.
        cases: why there is no page of cases; empty where there is one.
    """
    searches = tables.get("search", ())
    others = [table for name, group in tables.items() if name != "search" for table in group]
    sections = [
        ("Headline", _headline(results)),
        ("Protocol", _protocol(results)),
        ("Tables", _tables(others)),
        ("Figures", "".join(_figure(drawing, svg) for drawing, svg in drawings)),
        ("Cases", _cases(cases)),
        ("Searches", _tables(searches)),
        ("What is missing", _missing(results, tables)),
        ("Provenance", _provenance(results)),
    ]
    record = results.record
    question = f'<p class="question">{html.escape(record.question)}</p>'
    header = f"<h1>{html.escape(record.name)}</h1>\n{question}"
    body = "".join(section(title, text) for title, text in sections if text)
    return document(f"{record.name}: report", header, body)


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


def _cases(why_not: str) -> str:
    if why_not:
        return f"<p>{html.escape(why_not)}</p>\n"
    return (
        '<p><a href="cases.html">Single visits</a>: what each model recommended, got right and '
        "missed where the reference does best and worst.</p>\n"
    )


def _absent(results: StudyResults, tables: Mapping[str, Sequence[TableData]]) -> list[str]:
    """Returns a sentence for each table that the study names and that does not apply."""
    names = [name for name in results.record.tables if name not in tables]
    known = [(name, plugins.load("sweeps.tables", name, "TABLE")) for name in names]
    return [f"Table {name}: not made, for it needs {table.needs}." for name, table in known]


def _missing(results: StudyResults, tables: Mapping[str, Sequence[TableData]]) -> str:
    holes = holes_sentence(results, results.record.arms).strip()
    items = [html.escape(holes)] if holes else []
    items += [html.escape(line) for line in _absent(results, tables)]
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
