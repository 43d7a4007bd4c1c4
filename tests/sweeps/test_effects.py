"""The table of effects: contrasts of a factorial design's arms, with intervals."""

import shutil

import numpy as np
import pytest

from sweeps.record import Design
from sweeps.statistics.results import gather
from sweeps.store import ResultsStore
from sweeps.tables.effects import build
from tests.sweeps.fabricate import fabricate

# Without the graph 0.2 of quality goes, without the DDI loss nothing, without both 0.3.
ARMS = (
    ("full", "Full model", "full", None, True, 0.6),
    ("no_graph", "Full model without graph", "full", "no_graph", True, 0.4),
    ("no_ddi", "Full model without DDI loss", "full", "no_ddi_loss", True, 0.6),
    ("neither", "Full model without both", "full", "no_graph+no_ddi_loss", True, 0.3),
)
DESIGN = Design(
    name="both",
    kind="factorial",
    title="Full factorial: Full model",
    full="full",
    factors=("graph", "ddi"),
    levels={"full": (0, 0), "no_graph": (1, 0), "no_ddi": (0, 1), "neither": (1, 1)},
)


def made(root, **changes):
    record = fabricate(root, seeds=5, patients=60, arms=ARMS)
    design = DESIGN.model_copy(update=changes)
    ResultsStore(root).write_study(record.model_copy(update={"designs": (design,)}))
    return record


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("effects")
    made(folder)
    return folder


def cells(root) -> dict[str, dict]:
    (table,) = build(gather(ResultsStore(root)))
    keys = [column.key for column in table.columns]
    return {row.cells[0]: dict(zip(keys, row.cells, strict=True)) for row in table.rows}


def test_effects_are_differences_of_means_of_the_arms(root):
    results, found = gather(ResultsStore(root)), cells(root)
    assert list(found) == ["graph", "ddi", "graph × ddi"]
    for metric in results.metrics:
        full, graph, ddi, neither = (results.estimate(metric, arm[0]).estimate for arm in ARMS)
        expected = {
            "graph": (graph + neither) / 2 - (full + ddi) / 2,
            "ddi": (ddi + neither) / 2 - (full + graph) / 2,
            "graph × ddi": ((neither - ddi) - (graph - full)) / 2,
        }
        for effect, value in expected.items():
            cell = found[effect][f"effect_{metric}"]
            assert cell.estimate == pytest.approx(value, abs=1e-9)
            assert cell.low <= cell.estimate <= cell.high


def test_p_values_are_corrected_for_the_effects_by_holm(root):
    found = cells(root)
    p = np.array([row["p"].estimate for row in found.values()])
    corrected = np.array([row["p_holm"].estimate for row in found.values()])
    order = np.argsort(p)
    by_hand = np.maximum.accumulate(p[order] * [3, 2, 1]).clip(max=1)
    # What is corrected has cautious degrees of freedom: slightly larger p values.
    assert (corrected[order] >= by_hand - 1e-9).all()
    np.testing.assert_allclose(corrected[order], by_hand, rtol=0.1, atol=1e-6)
    assert found["graph"]["p_holm"].estimate < 0.05


def test_main_effects_alone_are_marked_and_by_corrected_p(root):
    (table,) = build(gather(ResultsStore(root)))
    marks = {row.cells[0]: row.marks for row in table.rows}
    assert marks["graph"] == {"effect_jaccard": "worse"}
    assert marks["graph × ddi"] == {}


def test_without_trials_of_an_arm_there_is_no_effect_and_the_caption_says_so(tmp_path):
    record = made(tmp_path, notes=("Told by the design.",))
    for key in record.arms[3].trials.values():
        shutil.rmtree(tmp_path / "trials" / key)
    (table,) = build(gather(ResultsStore(tmp_path)))
    assert all(cell is None for row in table.rows for cell in row.cells[1:])
    assert "Full model without both: no trial is stored" in table.caption
    assert "Told by the design." in table.caption


def test_a_study_without_a_factorial_design_has_no_such_table(tmp_path):
    made(tmp_path, kind="leave_one_out")
    assert build(gather(ResultsStore(tmp_path))) is None
