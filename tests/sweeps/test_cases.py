"""The page of single visits, against sets and loops; and that it shows nobody who must not be."""

import itertools
import re
import shutil

import numpy as np
import pytest

from medrec.knowledge import tables
from medrec.predictions import Predictions
from sweeps.cases import EACH, find_cases
from sweeps.cases_page import render_cases
from sweeps.regenerate import regenerate
from sweeps.store import ResultsStore
from tests.sweeps.fabricate import ARMS, fabricate
from tests.sweeps.test_report import Page

FAR = 918_273  # added to patients' rows, so that one on a page would be noticed


def opened(root, record, **changes):
    """Says that the cohort is open data, and names its drugs by real classes."""
    titles = sorted(tables.titles())
    cohort = record.cohort.model_copy(update={"open_data": True})
    named = tuple(titles[: len(record.medications)])
    changed = record.model_copy(update={"cohort": cohort, "medications": named, **changes})
    ResultsStore(root).write_study(changed)
    return changed


def rewrite(root, record, change) -> None:
    """Replaces each stored trial's predictions by what `change` makes of them."""
    store = ResultsStore(root)
    for key in sorted({key for arm in record.arms for key in arm.trials.values()}):
        old = store.load(key)
        shutil.rmtree(root / "trials" / key)
        rows = [{"epoch": 1.0, "loss": 1.0, "jaccard": 0.5, "seconds": 1.0}]
        store.save(key, old.summary, rows, change(old.predictions), b"")


def far(old: Predictions) -> Predictions:
    return Predictions(old.patient + FAR, old.visit, old.truth, old.chosen, old.scores)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("cases")
    record = opened(root, fabricate(root, resamples=20))
    rewrite(root, record, far)
    return ResultsStore(root), record


@pytest.fixture(scope="module")
def page(study):
    store, record = study
    return render_cases(find_cases(store, record), record)


def sets(matrix):
    return [set(np.flatnonzero(row).tolist()) for row in matrix]


def test_cases_are_the_extremes_of_the_mean_over_seeds(study):
    store, record = study
    found = find_cases(store, record)
    trials = [store.load(key).predictions for key in record.arms[2].trials.values()]
    truth, scored = sets(trials[0].truth), []
    for row, true in enumerate(truth):
        if trials[0].visit[row] == 0 or len(true) < 3:
            continue
        each = [sets(t.chosen)[row] for t in trials]
        scored.append((np.mean([len(true & c) / len(true | c) for c in each]), row))
    best = sorted(scored, key=lambda pair: (-pair[0], pair[1]))[:3]
    worst = sorted(scored)[:3]
    assert [case.best for case in found.cases] == [True] * 3 + [False] * 3
    for case, (value, row) in zip(found.cases, [*best, *worst], strict=True):
        assert case.jaccard == pytest.approx(value)
        assert sets([case.truth])[0] == truth[row]
        first = sets(trials[0].chosen)[row]
        assert sets([case.shown[0].chosen])[0] == first
        both = len(first & truth[row])
        pairs = [(i, j) for i in first for j in first if i < j]
        known = set(record.ddi.pairs)
        assert case.shown[0].scores == {
            "f1": pytest.approx(2 * both / (len(first) + len(truth[row]))),
            "jaccard": pytest.approx(both / len(first | truth[row])),
            "ddi_rate": pytest.approx(sum(p in known for p in pairs) / len(pairs)),
        }


def test_the_reference_comes_first_and_ablations_last(study):
    found = find_cases(*study)
    titles = {arm[0]: arm[1] for arm in ARMS}
    order = ["full", "popular", "gamenet", "no_ddi", "no_graph"]
    assert [each.arm for each in found.cases[0].shown] == [titles[name] for name in order]
    assert dict(found.seeds)[titles["popular"]] is None
    assert dict(found.seeds)[titles["full"]] == 0
    assert (found.left_out, found.missing) == ((), ())


def test_equal_visits_are_taken_in_order_and_never_twice(tmp_path):
    record = opened(tmp_path, fabricate(tmp_path, resamples=20))
    rewrite(
        tmp_path,
        record,
        lambda old: Predictions(old.patient, old.visit, old.truth, old.truth, old.scores),
    )
    store = ResultsStore(tmp_path)
    layout = store.load(record.arms[2].trials["0"]).predictions
    counts = layout.truth.sum(axis=1)
    rows = [r for r in range(len(counts)) if layout.visit[r] > 0 and counts[r] >= 3]
    expected = sets(layout.truth[rows[: 2 * EACH]])
    assert [sets([case.truth])[0] for case in find_cases(store, record).cases] == expected


def test_few_visits_and_missing_seeds(tmp_path):
    record = opened(tmp_path, fabricate(tmp_path, resamples=20))

    def four(old: Predictions) -> Predictions:
        return old.select(np.flatnonzero((old.visit > 0) & (old.truth.sum(axis=1) >= 3))[:4])

    rewrite(tmp_path, record, four)
    store = ResultsStore(tmp_path)
    shutil.rmtree(tmp_path / "trials" / record.arms[1].trials["0"])
    shutil.rmtree(tmp_path / "trials" / record.arms[0].trials["0"])
    found = find_cases(store, record)
    assert [case.best for case in found.cases] == [True, True, True, False]
    assert dict(found.seeds)["GAMENet"] == 1
    assert found.missing == ("Most popular",)
    assert "No trial is stored of: Most popular." in render_cases(found, record)
    for key in record.arms[2].trials.values():
        shutil.rmtree(tmp_path / "trials" / key)
    assert find_cases(store, record) is None
    regenerate(tmp_path, ("html",))
    assert "no trial of the reference arm is stored" in (tmp_path / "report.html").read_text()


def test_more_than_eight_arms_are_told(tmp_path):
    arms = [ARMS[0], ARMS[2], ARMS[3]]
    arms += [(f"a{i}", f"Arm {i}", f"m{i}", None, True, 0.3) for i in range(7)]
    record = opened(tmp_path, fabricate(tmp_path, seeds=1, resamples=20, arms=arms))
    found = find_cases(ResultsStore(tmp_path), record)
    assert [title for title, _ in found.seeds] == [
        "Full model",
        "Most popular",
        *(f"Arm {i}" for i in range(6)),
    ]
    assert found.left_out == ("Arm 6", "Full model without DDI loss_&")
    text = render_cases(found, record)
    assert "Left out for space: Arm 6, Full model without DDI loss_&amp;." in text
    assert text.count('class="card"') == 6 * 8


def test_drugs_are_named_and_interactions_marked(study, page):
    store, record = study
    case = find_cases(store, record).cases[0]
    first = page[page.index("<h3>Case 1</h3>") : page.index("<h3>Case 2</h3>")]
    card = first[first.index("<article") : first.index("</article>")]
    chosen, true = sets([case.shown[0].chosen])[0], sets([case.truth])[0]
    groups = {"Correct": chosen & true, "Missed": true - chosen, "Unseen": chosen - true}
    names = tables.titles()
    inside = [pair for pair in record.ddi.pairs if set(pair) <= chosen]
    marked = {drug for pair in inside for drug in pair}
    assert inside
    for title, drugs in groups.items():
        part = card[card.index(title) :].split("</div>")[0]
        assert part.startswith(f"{title}, {len(drugs)}<")
        items = re.findall(r"<li>(.*?)</li>", part)
        for item, drug in zip(items, sorted(drugs), strict=True):
            code = record.medications[drug]
            assert item.startswith(f"{names[code]} <code>{code}</code>")
            assert ("⇄" in item) == (drug in marked)
    assert f"Interacting pairs, {len(inside)}: " in card
    for name, value in case.shown[0].scores.items():
        assert (
            f"{ {'f1': 'F1', 'jaccard': 'Jaccard', 'ddi_rate': 'DDI rate'}[name] } {value:.4f}"
            in card
        )


def test_no_row_of_a_patient_is_on_the_page(study, page):
    store, record = study
    patients = store.load(record.arms[0].trials["0"]).predictions.patient
    assert patients.min() >= FAR
    assert not {str(number) for number in patients.tolist()} & set(re.findall(r"\d+", page))
    assert [int(n) for n in re.findall(r"<h3>Case (\d+)</h3>", page)] == [1, 2, 3, 4, 5, 6]


def test_the_page_is_well_formed_and_needs_nothing_from_outside(page):
    parsed = Page()
    parsed.feed(page)
    assert parsed.open == []
    assert len(parsed.ids) == len(set(parsed.ids))
    assert parsed.links == ["report.html"]
    assert "<script" not in page
    levels = [int(tag[1]) for tag in parsed.headings]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert "gives no treatment advice" in page


def test_open_data_has_the_page_and_the_report_links_to_it(study):
    store, _ = study
    paths = regenerate(store.root)
    assert [path.name for path in paths[-2:]] == ["cases.html", "report.html"]
    assert 'href="cases.html"' in (store.root / "report.html").read_text()
    before = paths[-2].read_bytes()
    assert regenerate(store.root)[-2].read_bytes() == before


def test_other_cohorts_have_none_and_an_old_one_is_removed(tmp_path):
    record = fabricate(tmp_path, resamples=20)
    assert not record.cohort.open_data
    opened(tmp_path, record)
    regenerate(tmp_path)
    assert (tmp_path / "cases.html").is_file()
    ResultsStore(tmp_path).write_study(record)
    assert "cases.html" not in [path.name for path in regenerate(tmp_path)]
    assert not (tmp_path / "cases.html").exists()
    text = (tmp_path / "report.html").read_text()
    assert "cases.html" not in text
    assert "not known to be open data" in text
