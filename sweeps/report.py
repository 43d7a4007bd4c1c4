"""The report: one HTML file that needs no network and no script.

Question, verdicts, protocol, tables, figures, searches, costs, what was not done, provenance: a
pure function of `StudyResults` and of the figures drawn from them.
"""

import html
from collections.abc import Mapping, Sequence

from medrec import plugins
from sweeps.figures._base import Drawing, inline
from sweeps.page import contents, document, section
from sweeps.provenance import provenance
from sweeps.record import Arm
from sweeps.statistics.inference import Value
from sweeps.statistics.results import StudyResults
from sweeps.tables._base import (
    TableData,
    cohort_sentence,
    holes_sentence,
    interval_sentence,
)
from sweeps.tables._render import to_html

_CHAPTERS: Mapping[str, tuple[str, ...]] = {
    "Verdicts": ("verdicts",),
    "Searches": ("search", "budget", "importances"),
    "Costs": ("cost",),
    "Provenance": ("data_card",),
}
"""Tables that stand in a section of their own; the others stand under Tables."""
_NAMES = {
    "code": "Code of the trials (digest)",
    "git": "Commit",
    "cpu": "Processor",
    "cores": "Cores",
    "memory_gib": "Memory, GiB",
    "gpu": "GPU",
    "device": "Device",
    "started": "First start",
    "ended": "Last end",
}


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
    placed = {name for names in _CHAPTERS.values() for name in names}
    others = [table for name, group in tables.items() if name not in placed for table in group]
    chapters = {
        title: [table for name in names for table in tables.get(name, ())]
        for title, names in _CHAPTERS.items()
    }
    shown = [(drawing, svg) for drawing, svg in drawings if drawing.name != "forest"]
    forest = [(drawing, svg) for drawing, svg in drawings if drawing.name == "forest"]
    sections = [
        ("Verdicts", _verdicts(results) + _figures(forest) + _tables(chapters["Verdicts"])),
        ("Protocol", _protocol(results)),
        ("Tables", _tables(others)),
        ("Figures", _figures(shown)),
        ("Trees", _trees(results)),
        ("Cases", _cases(cases) if results.record.task == "recommendation" else ""),
        ("Searches", _tables(chapters["Searches"])),
        ("Costs", _tables(chapters["Costs"])),
        ("What was not done", _missing(results, tables)),
        ("Provenance", _tables(chapters["Provenance"]) + _provenance(results)),
    ]
    sections = [(title, text) for title, text in sections if text]
    record = results.record
    question = f'<p class="question">{html.escape(record.question)}</p>'
    header = f"<h1>{html.escape(record.name)}</h1>\n{question}"
    body = contents([title for title, _ in sections])
    body += "".join(section(title, text) for title, text in sections)
    return document(f"{record.name}: report", header, body)


_WORDS = (
    ("helps", "Better than the reference"),
    ("hurts", "Worse than the reference"),
    ("equivalent", "Equivalent to the reference"),
    ("undecided", "Undecided"),
)


def headline(results: StudyResults) -> list[str]:
    """Returns sentences: what is compared, then the arms of each verdict with differences."""
    primary = results.record.analysis.primary
    title = results.metrics[primary].title
    compared = [
        (arm, found)
        for arm in results.record.arms
        if (found := results.comparison(arm.name)) is not None
    ]
    if not any(results.stored(arm.name) for arm in results.record.arms):
        return ["No trial is stored yet."]
    if not compared:
        return ["There is no second arm to compare with."]
    lead = (
        f"Verdicts on {title}, {compared_to(results)}; corrected for the number of arms that "
        "have the same reference."
    )
    lines = []
    for word, text in _WORDS:
        mine = [
            f"{arm.title} ({_text(found.difference, results, signed=True)})"
            for arm, found in compared
            if found.verdict is not None and found.verdict.word == word
        ]
        if mine:
            lines.append(f"{text}: {'; '.join(mine)}.")
    leaking = [arm.title for arm, _ in compared if arm.leak]
    if leaking:
        lines.append(f"No verdict, since it reads its target: {'; '.join(leaking)}.")
    without = [arm.title for arm, found in compared if found.verdict is None and not arm.leak]
    if without:
        lines.append(
            f"No verdict, since that takes three training seeds of each arm: {'; '.join(without)}."
        )
    return [lead, *lines]


def compared_to(results: StudyResults) -> str:
    """Returns what arms are compared with."""
    reference = f"compared with {results.arm(results.record.reference).title}"
    parts = any(arm.full is not None for arm in results.record.arms)
    return f"{reference}, ablations with their full model" if parts else reference


def _text(value: Value, results: StudyResults, signed: bool = False) -> str:
    decimals = results.metrics[results.record.analysis.primary].decimals
    form = f"{'+' if signed else ''}.{decimals}f"
    text = f"{value.estimate + 0.0:{form}}"
    if value.low is not None and value.high is not None:
        text += f" [{value.low + 0.0:{form}}, {value.high + 0.0:{form}}]"
    return text.replace("-", "\u2212")


def _verdicts(results: StudyResults) -> str:
    lead, *rest = headline(results)
    text = f'<p class="note">{html.escape(lead)}</p>\n'
    if rest:
        items = "".join(f"<li>{html.escape(line)}</li>" for line in rest)
        text += f"<ul>{items}</ul>\n"
    return text


def _protocol(results: StudyResults) -> str:
    return (
        f"<p>{html.escape(cohort_sentence(results))}</p>\n"
        f"<p>{html.escape(interval_sentence(results, 'its reference'))}</p>\n"
    )


def _tables(tables: Sequence[TableData]) -> str:
    return "".join(f"<h3>{html.escape(t.title)}</h3>\n{to_html(t)}" for t in tables)


def _figures(drawings: Sequence[tuple[Drawing, str]]) -> str:
    return "".join(_figure(drawing, svg) for drawing, svg in drawings)


def _figure(drawing: Drawing, svg: str) -> str:
    title = html.escape(drawing.title)
    return (
        f'<h3>{title}</h3>\n<figure class="figure" id="figure-{drawing.name}">'
        f'<div class="scroll" role="region" aria-label="{title}" tabindex="0">'
        f"{inline(svg, drawing)}</div>"
        f"<figcaption>{html.escape(drawing.caption)}</figcaption></figure>\n"
    )


def _trees(results: StudyResults) -> str:
    """Returns links to the pages of learned hierarchies; empty in other studies."""
    if results.record.task != "hierarchy":
        return ""
    items = "".join(
        f'<li><a href="trees/{html.escape(arm.name)}.html">{html.escape(arm.title)}</a></li>'
        for arm in results.record.arms
        if any(key in results.summaries for key in arm.trials.values())
    )
    return f"<p>The tree of each arm's first seed, to look at:</p>\n<ul>{items}</ul>\n"


def _cases(why_not: str) -> str:
    if why_not:
        return f"<p>{html.escape(why_not)}</p>\n"
    return (
        '<p><a href="cases.html">Single visits</a>: what each model recommended, got right and '
        "missed where the reference does best and worst.</p>\n"
    )


def _absent(results: StudyResults, tables: Mapping[str, Sequence[TableData]]) -> list[str]:
    """Returns each table that the study names and that does not apply, with what it needs."""
    names = [name for name in results.record.tables if name not in tables]
    known = [(name, plugins.load("sweeps.tables", name, "TABLE")) for name in names]
    return [f"{name} (needs {table.needs})" for name, table in known]


def _missing(results: StudyResults, tables: Mapping[str, Sequence[TableData]]) -> str:
    holes = holes_sentence(results, results.record.arms).strip()
    items = [holes] if holes else []
    arms = {key: arm for arm in results.record.arms for key in arm.trials.values()}
    items += [_damage(key, why, arms.get(key)) for key, why in sorted(results.damaged.items())]
    asked = {str(r["key"]) for records in results.searches.values() for r in records} | set(arms)
    items += [
        _failure(key, note, arms.get(key))
        for key, note in results.failures.items()
        if key in asked
    ]
    if not items:
        items = ["Every trial that the study asks for is stored, and none failed."]
    if results.record.analysis.margin is None:
        items.append(
            "No margin of equivalence was fixed in the study file (analysis.margin), so no arm is "
            "called equivalent."
        )
    absent = _absent(results, tables)
    if absent:
        items.append(f"Tables that do not apply: {'; '.join(absent)}.")
    items += [
        f"{design.title}: {note}" for design in results.record.designs for note in design.notes
    ]
    return "<ul>" + "".join(f"<li>{html.escape(item)}</li>" for item in items) + "</ul>\n"


def _damage(key: str, why: str, arm: Arm | None) -> str:
    whose = f" ({arm.title})" if arm else ""
    return f"Trial {key}{whose} counts as missing. {why}"


def _failure(key: str, note: Mapping[str, object], arm: Arm | None) -> str:
    whose = f" ({arm.title})" if arm else ""
    text = f"Trial {key}{whose} failed, attempts {note.get('attempts', '?')}: "
    return text + str(note.get("reason", "no reason was recorded"))


def _provenance(results: StudyResults) -> str:
    record = results.record
    facts = {
        "Results": f"{len(results.summaries):,} trials of {len(record.arms)} arms",
        "Cohort": f"{record.cohort.name}, fingerprint {record.cohort.fingerprint}",
        "DDI graph": f"{record.ddi.name}, fingerprint {record.ddi.fingerprint}",
        "Bootstrap": f"{record.resamples:,} resamples, seed {record.bootstrap_seed}",
        "Study schema": str(record.schema_version),
        **{
            _NAMES.get(name, name): ", ".join(values)
            for name, values in provenance(results.summaries.values()).items()
        },
    }
    rows = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>"
        for name, value in facts.items()
    )
    return f"<dl>{rows}</dl>\n"
