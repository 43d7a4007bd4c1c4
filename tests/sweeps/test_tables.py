"""What tables print, against numbers worked out apart from them."""

import csv
import io

import pytest

from sweeps.statistics.results import Value, gather
from sweeps.store import ResultsStore
from sweeps.tables import ablation, baselines, search
from sweeps.tables._base import Column, Row, TableData
from sweeps.tables._render import best_rows, number, to_csv, to_html, to_latex, to_markdown
from tests.sweeps.fabricate import ARMS, fabricate


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    fabricate(root)
    return gather(ResultsStore(root))


UP = Column("a", "A", "fraction", 2, True, numeric=True, interval=True, mark_best=True)
DOWN = Column("b", "B_%", "", 3, False, numeric=True, mark_best=True)
SMALL = TableData(
    name="small_one",
    title="Small & plain",
    columns=(Column("arm", "Arm"), UP, DOWN),
    rows=(
        Row(("x|y_<z>", Value(0.501, 0.4, 0.6), Value(0.2))),
        Row(("two", Value(0.499, 0.3, 0.7), Value(0.1))),
        Row(("missing", None, None)),
        Row(("truth", None, Value(0.0)), ranked=False),
    ),
    caption="100% of #1 $5 {a} ~ ^ \\",
)


def test_best_is_judged_as_printed_among_ranked_rows():
    assert best_rows(SMALL, 1) == {0, 1}  # both print as 0.50
    assert best_rows(SMALL, 2) == {1}
    assert best_rows(SMALL, 0) == set()


def test_markdown_csv_and_latex_text():
    text = to_markdown(SMALL)
    assert "| Arm | A ↑ | B\\_% ↓ |" in text
    assert "| x\\|y\\_\\<z\\> | **0.50** [0.40, 0.60] | 0.200 |" in text
    assert "| missing | \u2013 | \u2013 |" in text
    assert to_csv(SMALL).splitlines() == [
        "arm,a,a_low,a_high,b",
        "x|y_<z>,0.501000,0.400000,0.600000,0.200000",
        "two,0.499000,0.300000,0.700000,0.100000",
        "missing,,,,",
        "truth,,,,0.000000",
    ]
    text = to_latex(SMALL)
    assert r"Small \& plain. 100\% of \#1 \$5 \{a\} \textasciitilde{} \textasciicircum{}" in text
    assert r"\textbf{0.50} {\scriptsize [0.40, 0.60]} & 0.200 \\" in text
    assert text.count("{") == text.count("}")
    assert "x|y_<z>" not in to_html(SMALL)
    assert "x|y_&lt;z&gt;" in to_html(SMALL)


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
    assert "transitions only (first visits left out): 34 patients" in transitions.caption
    rows = list(csv.DictReader(io.StringIO(to_csv(every))))
    gap = float(rows[1]["jaccard"]) - float(rows[2]["jaccard"])
    assert float(rows[1]["difference_jaccard"]) == pytest.approx(gap, abs=2e-6)
    assert rows[2]["difference_jaccard"] == ""


def test_the_caption_says_what_the_numbers_rest_on(results):
    caption = baselines.build(results)[0].caption
    for part in (
        "Cohort synthetic (fingerprint 0123456789ab)",
        "40 patients",
        "split random 66/17/17 by patient, seed 0",
        "visit order admission_time",
        "threshold 0.5",
        "validation Jaccard",
        "DDI graph embedded",
        "13 of 66 pairs of 12 medications",
        f"density {13 / 66:.4f}",
        "training seeds (0, 1, 2)",
        "95% percentile intervals",
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
    assert rows[0]["validation_jaccard"] == "0.500000"
    assert rows[0]["best"] == "dim=16, training.learning_rate=0.002"
    assert rows[1]["best"] == "Pareto front of 2, see its table"
    # (0.45, 0.25) is worse than (0.50, 0.20) in both; the pruned (0.99, 0.00) does not count.
    assert to_csv(front).splitlines()[1:] == [
        '1,0.500000,0.200000,"dim=16, training.learning_rate=0.002"',
        '0,0.400000,0.100000,"dim=0, training.learning_rate=0.001"',
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
