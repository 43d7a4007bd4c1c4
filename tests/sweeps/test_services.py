"""The table by service, against loops over the cohort and a study of one service alone."""

from dataclasses import replace

import numpy as np
import pytest

from medrec.evaluation import evaluate
from sweeps.errors import StoreError
from sweeps.evaluate import interaction_matrix
from sweeps.regenerate import regenerate
from sweeps.services import OTHER, service_rows
from sweeps.statistics.inference import Value
from sweeps.statistics.results import gather
from sweeps.store import ResultsStore
from sweeps.tables import services as table_by_service
from sweeps.tables._base import Column, Row, TableData
from sweeps.tables._render import to_html, to_latex
from sweeps.visits import RARE, VisitFacts
from tests.sweeps.fabricate import ARMS, fabricate, visit_facts


def of_visit(found: VisitFacts) -> dict[tuple[int, int], str]:
    keys = zip(found.patient.tolist(), found.visit.tolist(), strict=True)
    return dict(zip(keys, found.labels["service"], strict=True))


def only_services(names: tuple[str, ...]) -> VisitFacts:
    numbers = np.arange(len(names))
    return VisitFacts(numbers.astype(np.int32), np.zeros(len(names), np.int16), {"service": names})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("services")
    record = fabricate(root, patients=60).model_copy(update={"tables": ("services",)})
    store = ResultsStore(root)
    store.write_study(record)
    layout = store.load(record.arms[0].trials["0"]).predictions
    store.write_visits(visit_facts(layout))
    return store, record, layout


def test_services_with_few_visits_share_the_last_block(made):
    _, _, layout = made
    found = visit_facts(layout)
    named = found.labels["service"]
    counts = {name: named.count(name) for name in set(named)}
    assert min(counts["MED"], counts["CMED"]) >= 30 > max(counts["PSYCH"], counts["OBS"])
    blocks = service_rows(found)
    assert list(blocks) == ["MED", "CMED", OTHER]
    assert counts["MED"] > counts["CMED"]
    names = of_visit(found)
    for block, rows in blocks.items():
        inside = [
            names[key] in ((block,) if block != OTHER else ("PSYCH", "OBS"))
            for key in zip(layout.patient.tolist(), layout.visit.tolist(), strict=True)
        ]
        assert rows(layout).tolist() == inside


def test_rare_services_are_no_service_however_many_they_are():
    found = service_rows(only_services(("MED",) * 40 + (RARE,) * 50))
    assert list(found) == ["MED", OTHER]


@pytest.mark.parametrize(
    "names", [("MED",) * 70, ("A",) * 20 + ("B",) * 20, ()], ids=["one", "only rare", "none"]
)
def test_a_single_block_is_no_table(names):
    assert service_rows(only_services(names)) == {}


def test_visits_of_another_study_are_refused(tmp_path):
    record = fabricate(tmp_path, resamples=20, patients=60)
    store = ResultsStore(tmp_path)
    layout = store.load(record.arms[0].trials["0"]).predictions
    own = visit_facts(layout)
    store.write_visits(replace(own, patient=own.patient + 1))
    with pytest.raises(StoreError, match=r"visits\.parquet lacks visits"):
        gather(store)


def test_a_block_equals_a_study_of_its_visits_alone(made, tmp_path):
    """Estimates, intervals and counts: patients are resampled, with their visits of the block."""
    store, record, layout = made
    names = of_visit(visit_facts(layout))
    keys = list(zip(layout.patient.tolist(), layout.visit.tolist(), strict=True))
    rows = np.array([names[key] == "CMED" for key in keys])
    alone = ResultsStore(tmp_path)
    alone.write_study(record)
    for arm in record.arms:
        for key in arm.trials.values():
            old = store.load(key)
            alone.save(key, old.summary, [{"epoch": 1.0}], old.predictions.select(rows), b"")
    whole, part = gather(store), gather(alone)
    (table,) = table_by_service.build(whole)
    assert table_by_service.build(part) is None
    block = [row for row in table.rows if row.cells[0] == "CMED"]
    metrics = ["jaccard", "f1", "prauc", "ddi_rate", "medications"]
    assert [column.key for column in table.columns[4:]] == metrics
    interacts = interaction_matrix(record.ddi, len(record.medications))
    for row, arm in zip(block, record.arms, strict=True):
        assert row.cells[1].startswith(arm.title)
        assert row.cells[2] == rows.sum()
        assert row.cells[3] == len(
            {key[0] for key, inside in zip(keys, rows, strict=True) if inside}
        )
        assert row.cells[4:] == tuple(part.estimate(name, arm.name) for name in metrics)
        each = [
            evaluate(store.load(key).predictions.select(rows), interacts)
            for key in arm.trials.values()
        ]
        for name, cell in zip(metrics, row.cells[4:], strict=True):
            assert cell.estimate == pytest.approx(np.mean([values[name] for values in each]))
            assert cell.low < cell.high


def test_the_table_names_blocks_in_order_and_says_how_models_were_trained(made):
    store, _, layout = made
    (table,) = table_by_service.build(gather(store))
    order = [row.cells[0] for row in table.rows]
    assert list(dict.fromkeys(order)) == ["MED", "CMED", OTHER]
    assert len(order) == 3 * len(ARMS)
    visits = {row.cells[0]: row.cells[2] for row in table.rows}
    assert sum(visits.values()) == len(layout.visit)
    assert "trained and their epochs chosen on all services together" in table.caption
    assert "--service CMED" in table.caption
    assert "Δ" not in table.caption


def test_a_line_parts_blocks():
    column = Column("a", "A", "", 2, True, numeric=True)
    rows = [("x", 0.9), ("x", 0.8), ("y", 0.1), ("y", 0.2), ("z", 0.5)]
    table = TableData(
        "t",
        "T",
        (Column("arm", "Arm"), column),
        tuple(Row((block, Value(value)), block=block) for block, value in rows),
        "",
    )
    assert to_latex(table).count("\\midrule") == 3
    assert to_html(table).count('<tr class="block">') == 2


def test_a_directory_without_the_file_has_no_table(made, tmp_path):
    record = fabricate(tmp_path, resamples=20)
    ResultsStore(tmp_path).write_study(record.model_copy(update={"tables": ()}))
    assert not [path for path in regenerate(tmp_path) if "services" in path.name]
    assert gather(ResultsStore(tmp_path)).services == ()
    assert [path.name for path in regenerate(made[0].root, ("md", "csv", "tex"))] == [
        f"services.{form}" for form in ("md", "csv", "tex")
    ]
