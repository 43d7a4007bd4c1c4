"""What tables print, against numbers worked out apart from them."""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest

from sweeps.statistics.inference import Value
from sweeps.statistics.results import gather
from sweeps.store import ResultsStore
from sweeps.tables import ablation, baselines, search
from sweeps.tables._base import Column, Row, TableData
from sweeps.tables._render import number, to_csv, to_html, to_latex, to_markdown
from tests.sweeps.fabricate import ARMS, fabricate


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    fabricate(root, patients=150)  # enough for the bootstrap
    return gather(ResultsStore(root))


UP = Column("a", "A", "fraction", 2, True, numeric=True, interval=True)
DOWN = Column("b", "B_%", "", 3, False, numeric=True)
SMALL = TableData(
    name="small_one",
    title="Small & plain",
    columns=(Column("arm", "Arm"), UP, DOWN),
    rows=(
        Row(("x|y_<z>", Value(0.501, 0.4, 0.6), Value(0.2)), marks={"a": "better"}),
        Row(("two", Value(0.499, 0.3, 0.7), Value(0.1)), marks={"a": "worse", "b": "equivalent"}),
        Row(("missing", None, None)),
        Row(("[truth", Value(0.9), Value(0.0))),
    ),
    caption="100% of #1 $5 {a} ~ ^ \\",
)


def test_marks_are_verdicts_in_words_and_signs_and_never_the_largest_number():
    lines = to_markdown(SMALL).splitlines()
    assert lines[4] == "| x\\|y\\_\\<z\\> | **0.50** ▲ [0.40, 0.60] | 0.200 |"
    assert lines[5] == "| two | 0.50 ▼ [0.30, 0.70] | 0.100 ≈ |"
    assert lines[7] == "| [truth | 0.90 | 0.000 |"  # the largest number, without a verdict
    rows = to_latex(SMALL).splitlines()[10:14]
    assert rows[0].endswith(
        r"& \textbf{0.50} $\bigtriangleup$ {\scriptsize [0.40, 0.60]} & 0.200 \\"
    )
    assert rows[1] == (
        r"two & 0.50 $\bigtriangledown$ {\scriptsize [0.30, 0.70]} & 0.100 $\approx$ \\"
    )
    assert rows[3] == r"{}[truth & 0.90 & 0.000 \\"  # no argument of the line before
    page = to_html(SMALL)
    assert page.count("<strong>") == 1
    assert '<strong>0.50</strong> <span class="mark" role="img"' in page
    for words, sign in (("better than", "▲"), ("worse than", "▼"), ("equivalent to", "≈")):
        assert f'aria-label="{words} the reference"' in page
        assert f">{sign}</span>" in page
    assert not any(sign in to_csv(SMALL) for sign in "▲▼≈")


def test_markdown_csv_and_latex_text():
    text = to_markdown(SMALL)
    assert "| Arm | A ↑ | B\\_% ↓ |" in text
    assert "| missing | \u2013 | \u2013 |" in text
    assert to_csv(SMALL).splitlines() == [
        "arm,a,a_low,a_high,b",
        "x|y_<z>,0.501,0.4,0.6,0.2",
        "two,0.499,0.3,0.7,0.1",
        "missing,,,,",
        "[truth,0.9,,,0.0",
    ]
    text = to_latex(SMALL)
    assert r"Small \& plain. 100\% of \#1 \$5 \{a\} \textasciitilde{} \textasciicircum{}" in text
    assert text.count("{") == text.count("}")
    assert "x|y_<z>" not in to_html(SMALL)
    assert "x|y_&lt;z&gt;" in to_html(SMALL)


def test_numbers_of_csv_are_read_back_to_the_last_bit():
    values = [1 / 3, -1e-17, 5e-324, 1e300, 0.1 + 0.2, np.float64(2 / 3), 7.0]
    rows = tuple(Row(("x", Value(value, value / 7, value * 1.1), None)) for value in values)
    text = to_csv(replace(SMALL, rows=rows))
    for value, row in zip(values, csv.DictReader(io.StringIO(text)), strict=True):
        found = [float(row[key]).hex() for key in ("a", "a_low", "a_high")]
        assert found == [float(each).hex() for each in (value, value / 7, value * 1.1)]


@pytest.mark.parametrize(
    ("value", "signed", "text"),
    [
        (-0.0001, True, "0.00"),
        (0.125, False, "0.12"),
        (-0.5, False, "\u22120.50"),
        (1, True, "+1.00"),
    ],
)
def test_numbers(value, signed, text):
    assert number(value, Column("k", "K", decimals=2, signed=signed)) == text


def test_baselines_have_a_row_an_arm_and_the_prescriptions(results):
    every, transitions = baselines.build(results)
    assert [row.cells[0] for row in every.rows] == [
        "Most popular",
        "GAMENet",
        "Full model (reference)",
        "True prescriptions",
    ]
    assert [row.cells[1] for row in every.rows] == ["no seed", "3", "3", ""]
    truth = dict(zip([c.key for c in every.columns], every.rows[-1].cells, strict=True))
    assert truth["ddi_rate"] == Value(results.record.true_ddi_rate)
    assert truth["medications"] == Value(results.record.true_medications)
    assert truth["jaccard"] is None
    assert len(transitions.rows) == 3
    assert "transitions only (first visits left out): 115 patients" in transitions.caption
    rows = list(csv.DictReader(io.StringIO(to_csv(every))))
    gap = float(rows[1]["jaccard"]) - float(rows[2]["jaccard"])
    assert float(rows[1]["difference_jaccard"]) == pytest.approx(gap, abs=1e-9)
    assert rows[2]["difference_jaccard"] == ""


def test_the_caption_says_what_the_numbers_rest_on(results):
    caption = baselines.build(results)[0].caption
    for part in (
        "Cohort synthetic (fingerprint 0123456789ab)",
        "150 patients",
        "split random 66/17/17 by patient, seed 0",
        "visit order admission_time",
        "threshold 0.5",
        "validation Jaccard",
        "DDI graph embedded",
        "13 of 66 pairs of 12 medications",
        f"density {13 / 66:.4f}",
        "training seeds (0, 1, 2)",
        "95% intervals over training seeds and test patients",
        "200 resamples, bootstrap seed 11",
    ):
        assert part in caption
    assert "Missing" not in caption


def test_the_ablation_table_begins_with_the_reference(results):
    (table,) = ablation.build(results)
    assert table.rows[0].cells[0] == "Full model (reference)"
    assert [row.cells[0] for row in table.rows[1:]] == [ARMS[3][1], ARMS[4][1]]


def test_one_seed_is_marked_conditional(tmp_path):
    fabricate(tmp_path, seeds=1, resamples=20)
    every = baselines.build(gather(ResultsStore(tmp_path)))[0]
    assert [row.cells[0] for row in every.rows[:3]] == [
        "Most popular",
        "GAMENet †",
        "Full model (reference) †",
    ]
    assert "† One seed: the interval is conditional on this trained model." in every.caption


def test_tables_that_do_not_apply_are_none(tmp_path):
    record = fabricate(tmp_path, resamples=20, arms=ARMS[:3])
    store = ResultsStore(tmp_path)
    assert ablation.build(gather(store)) is None
    store.write_study(record.model_copy(update={"searches": ()}))
    assert search.build(gather(store)) is None


def test_the_search_table_counts_states_and_ignores_trials_stopped_early(results):
    overview, front = search.build(results)
    rows = list(csv.DictReader(io.StringIO(to_csv(overview))))
    assert [rows[0][k] for k in ("asked", "complete", "pruned", "failed", "running")] == [*"63111"]
    assert rows[0]["validation_jaccard"] == "0.5"
    assert rows[0]["best"] == "dim=16, training.learning_rate=0.002"
    assert rows[1]["best"] == "Pareto front of 2, see its table"
    # (0.45, 0.25) is worse than (0.50, 0.20) in both; the pruned (0.99, 0.00) does not count.
    assert to_csv(front).splitlines()[1:] == [
        '1,0.5,0.2,"dim=16, training.learning_rate=0.002"',
        '0,0.4,0.1,"dim=0, training.learning_rate=0.001"',
    ]


def test_bounds_admit_only_trials_known_to_keep_them(tmp_path):
    record, store = fabricate(tmp_path, resamples=20), ResultsStore(tmp_path)
    changes = {"ddi_ceiling": 0.06, "medication_floor": 2.0}
    plan = record.searches[0].model_copy(update=changes)
    store.write_study(record.model_copy(update={"searches": (plan,)}))
    # Trials 0 and 1 exceed the ceiling; 4 keeps it, and is worse in Jaccard than 1.
    assert [trial["number"] for trial in search.best_trials(gather(store), plan)] == [4]
    (overview,) = search.build(gather(store))
    assert overview.rows[0].cells[2] == (
        "Jaccard, DDI rate at most 0.06, at least 2 drugs per visit"
    )
    path = tmp_path / "searches" / "tune" / "00004.json"
    path.write_text(path.read_text().replace("medication_floor", "forgotten"))
    assert search.best_trials(gather(store), plan) == []


def test_a_repeated_suggestion_is_on_the_front_once(tmp_path):
    fabricate(tmp_path, resamples=20)
    folder = tmp_path / "searches" / "pareto"
    again = (folder / "00001.json").read_text().replace('"number": 1', '"number": 9')
    (folder / "00009.json").write_text(again)
    results = gather(ResultsStore(tmp_path))
    front = search.best_trials(results, results.record.searches[1])
    assert [trial["number"] for trial in front] == [1, 0]


def test_an_ablation_is_compared_with_its_own_full_model(tmp_path):
    arms = (*ARMS, ("gamenet-x", "GAMENet without x", "gamenet", "x", True, 0.2))
    record = fabricate(tmp_path, arms=arms)
    made = [
        arm.model_copy(update={"full": "gamenet"}) if arm.name == "gamenet-x" else arm
        for arm in record.arms
    ]
    store = ResultsStore(tmp_path)
    store.write_study(record.model_copy(update={"arms": tuple(made)}))
    results = gather(store)

    first, second = ablation.build(results)
    assert [row.cells[0] for row in second.rows] == ["GAMENet (reference)", "GAMENet without x"]
    assert first.rows[0].cells[0] == "Full model (reference)"
    gap = results.difference("jaccard", "gamenet-x")
    expected = (
        results.estimate("jaccard", "gamenet-x").estimate
        - results.estimate("jaccard", "gamenet").estimate
    )
    assert gap.estimate == pytest.approx(expected)
