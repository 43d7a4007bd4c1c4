"""`cases.html`: single visits for people, of cohorts that are open data.

The page is for cohorts that anyone may see. What was prescribed at a visit of a credentialed
patient must not travel with tables, however little it says of the person.
"""

import functools
import html
from collections.abc import Sequence

import numpy as np

from medrec.knowledge import tables
from sweeps.cases import FEWEST_DRUGS, Case, Cases, Recommendation, interacting_pairs
from sweeps.page import document, section
from sweeps.record import StudyRecord

NO_RECOMMENDER = "No single visits are shown: nothing is recommended in this study."
NOT_OPEN = (
    "There is no page of single visits: this cohort is not known to be open data, and what was "
    "prescribed at visits of credentialed patients stays on their machine."
)
NONE_COUNT = (
    "There is no page of single visits: no trial of the reference arm is stored, or no test visit "
    f"has both a predecessor and {FEWEST_DRUGS} drugs."
)
_titles = functools.cache(tables.titles)
_MARK = '<abbr title="interacts with another drug of this set">⇄</abbr>'
_SCORES = {"f1": "F1", "jaccard": "Jaccard", "ddi_rate": "DDI rate"}


def render_cases(cases: Cases, record: StudyRecord) -> str:
    """Returns the page's HTML: for each case what was prescribed, and a card an arm."""
    header = (
        f"<h1>{html.escape(record.name)}: single visits</h1>\n"
        '<p class="question"><a href="report.html">Report of the study</a></p>'
    )
    groups = []
    for best, title in ((True, "Best visits"), (False, "Worst visits")):
        members = [
            _case(number, case, record)
            for number, case in enumerate(cases.cases, start=1)
            if case.best == best
        ]
        if members:
            groups.append(section(title, "".join(members)))
    return document(f"{record.name}: single visits", header, _intro(cases) + "".join(groups))


def _intro(cases: Cases) -> str:
    shown = ", ".join(
        title if seed is None else f"{title} (seed {seed})" for title, seed in cases.seeds
    )
    lines = [
        f"Test visits at which {cases.reference} has its highest and its lowest Jaccard, mean "
        f"over its stored seeds, among visits with a predecessor and at least {FEWEST_DRUGS} "
        "drugs. They are extremes, not typical visits, and they were chosen by this one arm.",
        f"Each arm shows the recommendation of one trained model, its first stored seed: {shown}. "
        "Its scores differ from the mean that chose the visit.",
    ]
    if cases.left_out:
        lines.append(f"Left out for space: {', '.join(cases.left_out)}.")
    if cases.missing:
        lines.append(f"No trial is stored of: {', '.join(cases.missing)}.")
    paragraphs = "".join(f"<p>{html.escape(line)}</p>\n" for line in lines)
    return (
        f"{paragraphs}<p>Correct: recommended and prescribed. Missed: prescribed, not "
        "recommended. Unseen: recommended, not prescribed, which need not be wrong. "
        f"{_MARK} marks a drug that interacts with another drug of the same set.</p>\n"
    )


def _case(number: int, case: Case, record: StudyRecord) -> str:
    drugs = int(case.truth.sum())
    cards = "".join(_card(each, case.truth, record) for each in case.shown)
    return (
        f"<h3>Case {number}</h3>\n"
        f'<p class="scores">Mean Jaccard of the reference {case.jaccard:.4f}. Prescribed: {drugs} '
        f"drugs, DDI rate {case.ddi_rate:.4f}.</p>\n"
        f"{_list(case.truth, case.truth, record, 'drugs columns')}"
        f"{_pairs(case.truth, record)}"
        f'<div class="cards">\n{cards}</div>\n'
    )


def _card(made: Recommendation, truth: np.ndarray, record: StudyRecord) -> str:
    scores = ", ".join(f"{title} {made.scores[name]:.4f}" for name, title in _SCORES.items())
    parts = (
        ("correct", "✓ Correct", made.chosen & truth),
        ("missed", "\u2212 Missed", truth & ~made.chosen),
        ("unseen", "+ Unseen", made.chosen & ~truth),
    )
    lists = "".join(
        f'<div class="{kind}"><h5>{title}, {int(drugs.sum())}</h5>\n'
        f"{_list(drugs, made.chosen, record, 'drugs')}</div>\n"
        for kind, title, drugs in parts
    )
    return (
        f'<article class="card"><h4>{html.escape(made.arm)}</h4>\n<p class="scores">{scores}</p>\n'
        f"{lists}{_pairs(made.chosen, record)}</article>\n"
    )


def _list(drugs: np.ndarray, whole: np.ndarray, record: StudyRecord, kind: str) -> str:
    """Returns the drugs by name; those are marked that interact with another one of `whole`."""
    if not drugs.any():
        return "<p>none</p>\n"
    marked = {drug for pair in interacting_pairs(whole, record.ddi.pairs) for drug in pair}
    items = "".join(
        f"<li>{_drug(record.medications[drug])}{' ' + _MARK if drug in marked else ''}</li>"
        for drug in np.flatnonzero(drugs).tolist()
    )
    return f'<ul class="{kind}">{items}</ul>\n'


def _drug(code: str) -> str:
    title = _titles().get(code, "")
    return f"{html.escape(title)} <code>{html.escape(code)}</code>".strip()


def _pairs(drugs: np.ndarray, record: StudyRecord) -> str:
    found = interacting_pairs(drugs, record.ddi.pairs)
    if not found:
        return '<p class="pairs">No interacting pair.</p>\n'
    named = _named(found, record.medications)
    return f'<p class="pairs">Interacting pairs, {len(found)}: {named}.</p>\n'


def _named(pairs: Sequence[tuple[int, int]], codes: Sequence[str]) -> str:
    return ", ".join(
        f"<code>{html.escape(codes[a])}</code>\u202f⇄\u202f<code>{html.escape(codes[b])}</code>"
        for a, b in pairs
    )
