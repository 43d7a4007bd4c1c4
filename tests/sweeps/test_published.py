"""Published numbers: as printed, named where wrong, and beside ours only row by row."""

import csv
import dataclasses
import io
import json

import pytest
import yaml

from medrec import plugins
from sweeps import published
from sweeps.errors import StudyError
from sweeps.plan import make_plan
from sweeps.record import PublishedValue, StudyRecord
from sweeps.statistics.results import gather
from sweeps.store import ResultsStore
from sweeps.study import PublishedRequest, Study
from sweeps.tables import published as plugin
from sweeps.tables._render import to_csv, to_html, to_latex, to_markdown
from tests.sweeps import tiny
from tests.sweeps.fabricate import fabricate, with_published

# ------------------------------------------------------------------ the files


def tables():
    return [
        published.table(document, name)
        for document in map(published.read_document, published.documents())
        for name in document.tables
    ]


def cell(document: str, table: str, row: str, metric: str) -> tuple[float, float | None]:
    found = published.table(published.read_document(document), table)
    value = published.row(found, row).values[metric]
    return value.mean, value.spread


ROWS = {
    ("kindmed", "V"): 6,
    ("kindmed", "VI"): 11,
    ("kindmed", "VII MIMIC-III"): 9,
    ("kindmed", "VII MIMIC-IV"): 9,
    ("dkinet", "2"): 13,
    ("dkinet", "3"): 13,
    ("dkinet", "4"): 13,
    ("dkinet", "5 MIMIC-III"): 5,
    ("dkinet", "5 MIMIC-IV"): 5,
    ("dkinet", "5 eICU"): 5,
}


def test_every_table_is_there_with_every_row():
    assert {(t.document, t.table): len(t.rows) for t in tables()} == ROWS


# Typed by hand, one by one.
PRINTED = [
    ("kindmed", "V", "1", "medications", 20.5364, 0.1516),
    ("kindmed", "V", "4", "jaccard", 0.5427, 0.0033),
    ("kindmed", "V", "8", "prauc", 0.7853, 0.0024),
    ("kindmed", "V", "32", "ddi_rate", 0.0666, 0.0007),
    ("kindmed", "VI", "2", "medications", 22.0806, 0.2000),
    ("kindmed", "VI", "6", "f1", 0.6899, 0.0020),
    ("kindmed", "VI", "8", "jaccard", 0.5424, 0.0034),
    ("kindmed", "VI", "10", "ddi_rate", 0.0644, 0.0005),
    ("kindmed", "VI", "11", "f1", 0.6950, 0.0029),
    ("kindmed", "VII MIMIC-III", "Ground truth", "ddi_rate", 0.0753, 0.0010),
    ("kindmed", "VII MIMIC-III", "COGNet", "medications", 31.3660, 0.2823),
    ("kindmed", "VII MIMIC-III", "SafeDrug", "jaccard", 0.5227, 0.0025),
    ("kindmed", "VII MIMIC-IV", "Ground truth", "medications", 13.7821, 0.0540),
    ("kindmed", "VII MIMIC-IV", "Med-Tree", "prauc", 0.7552, 0.0017),
    ("kindmed", "VII MIMIC-IV", "KindMed", "jaccard", 0.5073, 0.0016),
    ("kindmed", "VII MIMIC-IV", "LR", "medications", 10.9786, 0.0312),
    ("dkinet", "2", "LR", "jaccard", 0.4896, 0.0025),
    ("dkinet", "2", "DKINet", "prauc", 0.7896, 0.0010),
    ("dkinet", "2", "DrugRec", "ddi_rate", 0.0597, 0.0006),
    ("dkinet", "3", "DKINet", "ddi_rate", 0.0404, 0.0002),
    ("dkinet", "3", "LEAP", "prauc", 0.5314, 0.0038),
    ("dkinet", "3", "ManyDG", "f1", 0.4718, 0.0049),
    ("dkinet", "4", "GAMENet", "jaccard", 0.4519, 0.0023),
    ("dkinet", "4", "DKINet", "f1", 0.6209, 0.0018),
    ("dkinet", "5 MIMIC-III", "full", "jaccard", 0.5345, None),
    ("dkinet", "5 MIMIC-IV", "w/o KI", "prauc", 0.6833, None),
    ("dkinet", "5 eICU", "w/o HMA", "f1", 0.5811, None),
]


@pytest.mark.parametrize(("document", "table", "row", "metric", "mean", "spread"), PRINTED)
def test_a_number_is_as_printed(document, table, row, metric, mean, spread):
    assert cell(document, table, row, metric) == (mean, spread)


def test_every_number_is_one_that_its_metric_can_have():
    for table in tables():
        for row in table.rows:
            assert set(row.values) <= set(plugins.names("medrec.metrics"))
            for metric, value in row.values.items():
                assert isinstance(value.mean, float)
                if metric == "medications":
                    assert 1 < value.mean < 50
                else:
                    assert 0 < value.mean < 1
                if value.spread is not None:
                    assert 0 < value.spread < value.mean / 10


def test_rows_of_one_table_have_the_same_metrics_the_true_prescriptions_aside():
    for table in tables():
        kinds = {frozenset(row.values) for row in table.rows if row.row != plugin.TRUTH}
        assert len(kinds) == 1, table.title


def test_what_is_printed_twice_is_equal():
    full = [cell("kindmed", *at, "jaccard") for at in (
        ("V", "4"), ("VI", "11"), ("VII MIMIC-III", "KindMed"))]  # fmt: skip
    assert len(set(full)) == 1
    for ablation, main in (("5 MIMIC-III", "2"), ("5 MIMIC-IV", "3"), ("5 eICU", "4")):
        for metric in ("jaccard", "f1", "prauc"):
            assert (
                cell("dkinet", ablation, "full", metric)[0]
                == (cell("dkinet", main, "DKINet", metric)[0])
            )


def test_the_papers_say_cohort_spread_and_traps():
    found = {(t.document, t.table): t for t in tables()}
    three = found["kindmed", "VI"].cohort
    assert (three.patients, three.visits, three.diagnoses) == (6350, 15032, 1958)
    assert (three.procedures, three.medications) == (1428, 113)
    eicu = found["dkinet", "4"].cohort
    assert (eicu.patients, eicu.visits, eicu.diagnoses) == (9583, 21018, 1371)
    assert (eicu.procedures, eicu.medications) == (None, 45)
    for (document, _), table in found.items():
        with_or_without = {"kindmed": "with replacement", "dkinet": "without replacement"}
        assert with_or_without[document] in table.spread
    assert any("test set" in note for note in found["dkinet", "2"].notes)
    assert any("DDI target" in note for note in found["kindmed", "V"].notes)
    assert any("number of heads" in note for note in found["kindmed", "V"].notes)
    for number in "23":
        assert "copied" in published.row(found["dkinet", number], "G-BERT").notes[0]
    assert "7e-14" in published.row(found["dkinet", "5 MIMIC-III"], "w/o KG").notes[0]
    assert "3e-11" in published.row(found["dkinet", "5 eICU"], "w/o KI").notes[0]


def test_marks_of_significance_are_those_printed():
    found = {(t.document, t.table): t for t in tables()}
    three = {row.row for row in found["kindmed", "VII MIMIC-III"].rows if row.mark == "*"}
    four = {row.row for row in found["kindmed", "VII MIMIC-IV"].rows if row.mark == "*"}
    assert four == {"LEAP", "RETAIN", "GAMENet", "COGNet", "SafeDrug", "Med-Tree"}
    assert three == four | {"LR"}
    assert found["kindmed", "V"].mark == ""
    assert "significant" in found["kindmed", "VII MIMIC-IV"].mark


# ------------------------------------------------------------------ wrong files

PAPER = {
    "citation": "A paper",
    "spread": "nothing",
    "cohorts": {
        "c": {
            "title": "C",
            "patients": 5,
            "visits": 9,
            "diagnoses": 3,
            "procedures": None,
            "medications": 4,
        }
    },
    "tables": {
        "1": {
            "number": "Table 1",
            "title": "T",
            "cohort": "c",
            "rows": [{"row": "x", "values": {"jaccard": [0.5, 0.01]}}],
        }
    },
}


def changed(path: str, value) -> dict:
    content = json.loads(json.dumps(PAPER))
    node = content
    *parents, last = path.split(".")
    for part in parents:
        node = node[int(part)] if isinstance(node, list) else node[part]
    node[last] = value
    return content


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("citation", 3, ["field citation", "3"]),
        ("tables.1.cohort", "d", ["tables.1.cohort", "'d'", "['c']"]),
        ("tables.1.rows", [], ["tables.1.rows", "at least 1"]),
        ("tables.1.rows", 3, ["tables.1.rows", "3"]),
        ("tables.1.rows.0.values", {"jacard": [0.5]}, ["tables.1.rows", "Did you mean 'jaccard'"]),
        ("tables.1.rows.0.values", {"jaccard": [1.5]}, ["tables.1.rows", "jaccard", "1.5"]),
        ("tables.1.rows.0.values", {"jaccard": [-0.5]}, ["rows.0.values.jaccard.mean", "-0.5"]),
        ("tables.1.rows.0.values", {"medications": [0.5]}, ["exceed 1", "0.5"]),
        ("tables.1.rows.0.values", {"jaccard": [0.5, -1]}, ["values.jaccard.spread", "-1"]),
        ("tables.1.rows.0.values", {"jaccard": ["a"]}, ["values.jaccard.mean", "'a'"]),
        ("tables.1.rows.0.values", {"jaccard": [0.5, 0, 1]}, ["values.jaccard", "[0.5, 0, 1]"]),
        ("tables.1.rows.0.values", {}, ["tables.1.rows.0.values", "at least 1"]),
        ("tables.1.rows.0.vlaues", {}, ["tables.1.rows.0.vlaues"]),
        ("cohorts.c.patients", 0, ["cohorts.c.patients", "0"]),
        (
            "tables.1.rows",
            [{"row": "x", "values": {"f1": [0.5]}}, {"row": "x", "values": {"f1": [0.4]}}],
            ["tables.1.rows", "one name"],
        ),
    ],
)
def test_a_wrong_file_is_named_with_field_and_value(tmp_path, path, value, named):
    file = tmp_path / "paper.yaml"
    file.write_text(yaml.safe_dump(changed(path, value)))
    with pytest.raises(StudyError) as caught:
        published.read_document("paper", tmp_path)
    for part in [str(file), *named]:
        assert part in str(caught.value), str(caught.value)


def test_a_document_is_read_and_an_unknown_one_is_refused(tmp_path):
    (tmp_path / "paper.yaml").write_text(yaml.safe_dump(PAPER))
    document = published.read_document("paper", tmp_path)
    assert document.tables["1"].rows[0].label == "x"
    with pytest.raises(StudyError, match=r"'papr'\. Did you mean 'paper'\?"):
        published.read_document("papr", tmp_path)
    with pytest.raises(StudyError, match="no folder"):
        published.documents(tmp_path / "none")


# ------------------------------------------------------------------ studies

REQUEST = {"document": "kindmed", "table": "VII MIMIC-III", "rows": {"gamenet": "GAMENet"}}


def plan(**request) -> StudyRecord:
    content = {**tiny.STUDY, "published": [{**REQUEST, **request}]}
    return make_plan(Study.model_validate(content), tiny.data()).record


def test_the_record_holds_the_whole_table_and_which_arms_stand_where():
    (found,) = plan().published
    expected = published.table(published.read_document("kindmed"), "VII MIMIC-III")
    assert found == expected.model_copy(update={"arms": {"gamenet": "GAMENet"}})
    assert "2310.14552" in found.citation
    assert StudyRecord.model_validate_json(plan().model_dump_json()) == plan()


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        ({"document": "kindmd"}, ["published.0.document", "'kindmd'", "Did you mean 'kindmed'?"]),
        ({"table": "VII MIMIC-II"}, ["published.0.table", "Did you mean 'VII MIMIC-I"]),
        ({"rows": {"gamnet": "GAMENet"}}, ["rows.gamnet", "Did you mean 'gamenet'?"]),
        ({"rows": {"gamenet": "GAMNet"}}, ["rows.gamenet", "'GAMNet'", "Did you mean 'GAMENet'?"]),
    ],
)
def test_what_a_study_names_must_exist(request_, named):
    with pytest.raises(StudyError) as caught:
        plan(**request_)
    for part in named:
        assert part in str(caught.value)


def test_a_table_is_named_once():
    requests = [PublishedRequest.model_validate(REQUEST)] * 2
    with pytest.raises(StudyError, match=r"published\.1\.table.*twice"):
        published.resolve(requests, ["gamenet"])


def test_arms_of_grids_and_ablations_go_by_their_full_names():
    arm = {"model": "gamenet", "grid": {"dim": [8]}}
    content = {
        **tiny.STUDY,
        "arms": [arm, {"model": "gamenet", "ablations": ["no_memory"]}],
        "published": [
            {**REQUEST, "rows": {"gamenet-dim-8": "GAMENet", "gamenet-no_memory": "LEAP"}}
        ],
    }
    record = make_plan(Study.model_validate(content), tiny.data()).record
    assert set(record.published[0].arms) == {"gamenet-dim-8", "gamenet-no_memory"}


# ------------------------------------------------------------------ the table


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    with_published(root, fabricate(root, resamples=50))
    return gather(ResultsStore(root))


def test_each_published_row_stands_beside_its_arms_or_alone(results):
    (table,) = plugin.build(results)
    rows = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert [(row["row"], row["arm"]) for row in rows] == [
        ("Ground truth", "True prescriptions"),
        ("Other_model", ""),
        ("GAMENet", "GAMENet"),
        ("Theirs", "Full model (reference)"),
        ("Theirs", "Full model without graph"),
    ]
    assert [row["published_jaccard"] for row in rows] == [
        "", "0.5000 ± 0.0020*", "0.5219 ± 0.0024*", "0.5427 ± 0.0033", "0.5427 ± 0.0033",
    ]  # fmt: skip
    assert rows[2]["published_ddi_rate"] == "0.0764*"
    for row, arm in zip(rows[2:], ("gamenet", "full", "no_graph"), strict=True):
        ours = results.estimate("jaccard", arm)
        assert [float(row[f"jaccard{end}"]) for end in ("", "_low", "_high")] == pytest.approx(
            [ours.estimate, ours.low, ours.high], abs=1e-6
        )
    assert rows[1]["jaccard"] == ""
    assert float(rows[0]["ddi_rate"]) == pytest.approx(results.record.true_ddi_rate, abs=1e-6)
    assert rows[0]["published_medications"] == "20.3564 ± 0.1000"
    assert "f1" not in rows[0]  # the paper's table has none


def test_its_caption_says_when_the_two_compare(results):
    (table,) = plugin.build(results)
    for part in (
        "Our cohort, synthetic: 300 patients, 700 visits, 12 medications; the paper's, "
        "Elsewhere: 6,000 patients, 15,000 visits, 113 medications. The first day alone.",
        "compare only on the same cohort: same data, preprocessing and split",
        "± is the width of nothing",
        "*: starred",
        "Chosen on test.",
        "Other_model: Odd.",
        "A & B (2020); code: there",
    ):
        assert part in table.caption


def test_no_spread_is_explained_where_none_is_printed(results):
    (one,) = results.record.published
    plain = one.rows[2].model_copy(
        update={"values": {"jaccard": PublishedValue(mean=0.5)}, "mark": ""}
    )
    bare = one.model_copy(update={"rows": (plain,), "arms": {}, "mark": ""})
    record = results.record.model_copy(update={"published": (bare,)})
    (table,) = plugin.build(dataclasses.replace(results, record=record))
    assert [row.cells[4] for row in table.rows] == ["0.5000"]
    assert "±" not in table.caption


def test_it_reads_in_every_format(results):
    (table,) = plugin.build(results)
    assert table.name == "published_paper_one"
    assert "| Other\\_model |  |  | – | 0.5000 ± 0.0020\\* |" in to_markdown(table)
    assert r"Ours beside Table 1 of A \& B (2020): Models" in to_latex(table)
    assert "0.5427 ± 0.0033</td>" in to_html(table)
    assert "**" not in to_markdown(table)  # nothing is best: they are not on one cohort


def test_a_study_that_names_no_paper_has_no_such_table(tmp_path):
    fabricate(tmp_path, resamples=20)
    assert plugin.build(gather(ResultsStore(tmp_path))) is None
