"""The pages of a card: their text escaped, their plots named, their bytes the same."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np

from medrec.card.pages import pages
from medrec.cohort import KINDS, Provenance
from tests.medrec.card.reading import Page, rows, values
from tests.medrec.small import VISITS, lists_of, small_cohort, to_codes

ROOT = Path(__file__).resolve().parents[3]
TITLES = ("Visits per patient", "Days between visits", "Codes per visit", "Age at admission")


@cache
def small_pages():
    return pages(small_cohort())


def test_no_number_of_a_masked_row_is_on_the_page():
    """Age 95 is that of one patient alone; neither its visits nor its bar are drawn."""
    cohort = small_cohort()
    age = np.full(63, 50, np.int16)
    age[:2] = 95
    html = pages(replace(cohort, age=age))["card.html"]
    assert "Visits by age at admission. 50-54: 96.8%." in html
    assert re.search(r'90\+</th><td class="number">&lt;5</td><td class="number">\u2013</td>', html)


NASTY = 'a|b <script>alert("1")</script> & \\| *x* `y` [z](u)\nnext $x_1$ %s {0}'


def nasty_cohort():
    cohort = small_cohort()
    made = Provenance(
        dataset=NASTY,
        options={NASTY: NASTY, "preset": None},
        inputs={NASTY: "1" * 64},
        dropped={NASTY: 1},
        mapped={NASTY: 1},
        unmapped={NASTY: {NASTY: 5}},
    )
    names = {kind: (NASTY, *cohort.vocabulary[kind][1:]) for kind in KINDS}
    others = {name: (NASTY, *getattr(cohort, name)[1:]) for name in ("genders", "services")}
    return replace(cohort, vocabulary=names, groups=(NASTY, "b", "c"), provenance=made, **others)


def test_text_is_escaped():
    made = pages(nasty_cohort())
    page = Page(made["card.html"])
    assert "script" not in page.tags
    assert " ".join(NASTY.split()) in " ".join(" ".join(page.words).split())
    for line in made["card.md"].splitlines():
        if line.startswith("|"):
            assert line.endswith("|")
            assert "<script" not in line.replace("\\<script", "")
    widths = {len(row) for row in rows(made["card.md"].replace("\\\\", ""), "Options")}
    assert widths == {2}


def test_the_page_stands_alone_and_is_named():
    page = Page(small_pages()["card.html"])
    assert len(page.ids) == len(set(page.ids))
    assert set(page.references) <= set(page.ids)
    assert page.tags.count("svg") == len(TITLES) + 1
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert set(TITLES) <= {word.strip() for word in page.words}
    text = small_pages()["card.html"]
    for svg in re.findall(r"<svg[^>]*>.{0,40}", text):
        assert 'role="img" aria-labelledby=' in svg
        assert "<title id=" in svg
    assert "Visits</text>" in text  # text stays text
    assert "@import" not in text


def test_plots_take_their_colours_from_the_page():
    text = small_pages()["card.html"]
    drawn = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL))
    assert "currentColor" in drawn
    assert "var(--one)" in drawn
    assert not set(re.findall(r"#[0-9a-f]{6}\b", drawn)) - {"#ffffff"}


def test_what_the_plots_say():
    text = small_pages()["card.html"]
    share = {k: 100 * float((k == VISITS).mean()) for k in range(1, 6)}
    bars = ", ".join(f"{k}: {share[k]:.1f}%" for k in share)
    assert f"Patients by number of visits. {bars}." in text
    # Visits are 30 days apart.
    assert "39 pairs of admissions that follow one another; median 30 days, 100.0% within" in text
    assert "unknown at 0.0% of the visits" in text


def test_gaps_where_visits_are_not_in_the_order_of_time():
    cohort = small_cohort()
    admitted = cohort.admitted.copy()
    admitted[:2] = admitted[1::-1]
    before = pages(cohort)["card.html"].split("Days between visits. ")[1].split("<")[0]
    after = pages(replace(cohort, admitted=admitted))["card.html"]
    assert f"Days between visits. {before}<" in after


def only_first_visits(cohort):
    first = cohort.offsets[:-1]
    lists = {kind: [lists_of(cohort, kind)[v] for v in first] for kind in KINDS}
    return replace(
        cohort,
        visits=np.ones(24, np.int64),
        admitted=cohort.admitted[first],
        age=np.full(24, -1, np.int16),
        service=cohort.service[first],
        codes={kind: to_codes(lists[kind]) for kind in KINDS},
    )


def test_one_visit_each_and_unknown_ages():
    made = pages(only_first_visits(small_cohort()))
    page = Page(made["card.html"])
    assert "Days between visits" not in {word.strip() for word in page.words}
    assert page.tags.count("svg") == 3  # no gaps, no ages
    found = {row[0]: row[1:] for row in rows(made["card.md"], "Demographics")}
    assert "90+" not in found
    assert ["unknown", "24", "100.0%", "24"] in rows(made["card.md"], "Demographics")


def without(cohort, *kinds):
    empty = to_codes([[] for _ in range(63)])
    return replace(
        cohort,
        vocabulary={**cohort.vocabulary, **dict.fromkeys(kinds, ())},
        codes={**cohort.codes, **dict.fromkeys(kinds, empty)},
    )


def test_no_procedures_at_all():
    made = pages(without(small_cohort(), "procedures"))
    found = values(made["card.md"], "Counts")
    assert found["different procedures"] == "0"
    assert found["visits without procedures"] == "100.0%"
    assert not any("9:3893" in text for text in made.values())
    assert Page(made["card.html"]).tags.count("svg") == 5


def test_no_two_medications_at_a_visit():
    made = pages(without(small_cohort(), "medications"))
    found = values(made["card.md"], "Drug interactions")
    assert found["DDI rate of the prescriptions"] == "\u2013"
    assert found["pairs of classes at one visit"] == "0"
    Page(made["card.html"])


def test_a_very_long_patient_is_pooled_in_the_plot():
    cohort = small_cohort()
    visits = np.ones(24, np.int64)
    visits[0] = 40
    html = pages(replace(cohort, visits=visits))["card.html"]
    assert "1: 95.8%" in html
    assert "15+: 4.2%" in html


def test_the_same_bytes_and_no_trace_in_matplotlib(tmp_path):
    before = dict(matplotlib.rcParams)
    made = small_pages()
    with matplotlib.rc_context({"font.size": 31.0, "svg.fonttype": "path"}):
        assert pages(small_cohort()) == made
    assert dict(matplotlib.rcParams) == before
    small_cohort().save(tmp_path / "cohort", made)
    code = (
        "import sys; from pathlib import Path; from medrec.card.pages import pages;"
        "from medrec.cohort import Cohort; cohort = Cohort.open(Path(sys.argv[1]));"
        "assert 'matplotlib' not in sys.modules;"
        "sys.stdout.buffer.write('\\0'.join(pages(cohort).values()).encode())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "cohort")],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "77", "MPLCONFIGDIR": str(tmp_path / "none")},
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode() == "\0".join(made.values())
    assert (tmp_path / "cohort" / "card.md").read_text() == made["card.md"]
    assert (tmp_path / "cohort" / "card.html").read_text() == made["card.html"]
