"""Settings: the table and the figure of a model at each value of a grid."""

import dataclasses
import shutil

import matplotlib as mpl
import numpy as np
import pytest

from sweeps.figures import settings as figure
from sweeps.figures._base import to_svg
from sweeps.statistics.inference import Value
from sweeps.statistics.results import gather
from sweeps.store import ResultsStore
from sweeps.tables import settings as table
from tests.sweeps.fabricate import ARMS, GRID_ARMS, fabricate


def gathered(root, arms=(*ARMS, *GRID_ARMS), without=()):
    record = fabricate(root, resamples=30, arms=arms)
    for arm in record.arms:
        if arm.name in without:
            for key in arm.trials.values():
                shutil.rmtree(root / "trials" / key)
    return gather(ResultsStore(root))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    # The grid in another order than its values.
    return gathered(tmp_path_factory.mktemp("study"), (*ARMS, *reversed(GRID_ARMS)))


def test_a_setting_has_a_table_with_its_values_in_order(results):
    built = {each.name: each for each in table.build(results)}
    assert set(built) == {
        "settings_full_keys", "settings_full_heads", "settings_full_ddi_target",
    }  # fmt: skip
    found = built["settings_full_ddi_target"]
    assert found.title == "DDI target of Full model"
    assert [row.cells[0] for row in found.rows] == ["0.06", "0.12", "0.3"]
    names = [column.key for column in found.columns]
    cells = dict(zip(names, found.rows[1].cells, strict=True))
    arm = "full-ddi_target-0.12"
    assert cells["jaccard"] == results.estimate("jaccard", arm)
    assert cells["difference_ddi_rate"] == results.difference("ddi_rate", arm)
    assert found.columns[0].numeric
    assert not built["settings_full_keys"].columns[0].numeric
    assert {row.cells[0] for row in built["settings_full_keys"].rows} == {"last", "all"}


def test_without_a_grid_there_is_neither_table_nor_figure(tmp_path):
    found = gathered(tmp_path, ARMS)
    assert table.build(found) is None
    assert figure.draw(found) is None


def drawn(results):
    drawing = figure.draw(results)
    panels = drawing.figure.axes
    return drawing, {
        panels[place + 1].get_xlabel(): panels[place : place + 2]
        for place in range(0, len(panels), 2)
    }


def curve(plain) -> tuple[list[float], list[float]]:
    line = plain.get_lines()[0]
    return list(line.get_xdata()), list(line.get_ydata())


def test_the_panels_show_the_estimates_over_the_values(results):
    _, panels = drawn(results)
    assert set(panels) == {"DDI target", "Heads", "Keys"}
    for plain, metric in zip(panels["DDI target"], ("jaccard", "ddi_rate"), strict=True):
        arms = [f"full-ddi_target-{value}" for value in ("0.06", "0.12", "0.3")]
        x, y = curve(plain)
        assert x == [0.06, 0.12, 0.3]
        assert y == pytest.approx([results.estimate(metric, arm).estimate for arm in arms])


def test_numbers_have_a_band_and_words_bars_from_end_to_end_of_the_interval(results):
    _, panels = drawn(results)
    (band,) = panels["Heads"][0].collections
    corners = band.get_paths()[0].vertices
    for heads in (1, 16):
        value = results.estimate("jaccard", f"full-heads-{heads}")
        at = corners[corners[:, 0] == heads, 1]
        assert (at.min(), at.max()) == pytest.approx((value.low, value.high))
    assert not panels["Heads"][0].containers
    (container,) = panels["Keys"][0].containers
    names = [tick.get_text() for tick in panels["Keys"][0].get_xticklabels()]
    for name, bar in zip(names, container.lines[2][0].get_segments(), strict=True):
        value = results.estimate("jaccard", f"full-keys-{name}")
        assert tuple(bar[:, 1]) == pytest.approx((value.low, value.high))


def test_the_ddi_panels_have_the_prescriptions_and_the_target_alone_its_diagonal(results):
    _, panels = drawn(results)
    for name, (upper, lower) in panels.items():
        found = {line.get_label(): line for line in lower.get_lines()}
        truth = found["True prescriptions"].get_ydata()
        assert set(truth) == {results.record.true_ddi_rate}
        assert ("Target" in found) == (name == "DDI target")
        assert "True prescriptions" not in {line.get_label() for line in upper.get_lines()}
        if "Target" in found:
            np.testing.assert_array_equal(found["Target"].get_xdata(), found["Target"].get_ydata())


def test_an_axis_is_even_for_words_and_logarithmic_for_wide_numbers(results):
    _, panels = drawn(results)
    assert {name: pair[1].get_xscale() for name, pair in panels.items()} == {
        "DDI target": "linear", "Heads": "log", "Keys": "linear",
    }  # fmt: skip
    assert curve(panels["Keys"][1])[0] == [0, 1]
    ticks = [tick.get_text() for tick in panels["Heads"][1].get_xticklabels()]
    assert ticks == ["1", "16"]


def test_an_arm_without_trials_is_left_out_and_a_setting_without_arms_too(tmp_path):
    found = gathered(tmp_path, without=("full-ddi_target-0.12", "full-heads-1", "full-heads-16"))
    _, panels = drawn(found)
    assert set(panels) == {"DDI target", "Keys"}
    assert curve(panels["DDI target"][0])[0] == [0.06, 0.3]


def test_two_settings_of_one_grid_make_a_line_for_each_value_of_the_other(results):
    arms = {arm.name: arm for arm in results.record.arms}
    points = {"full-heads-1": (1, "a"), "full-heads-16": (2, "a"),
              "full-keys-last": (1, "b"), "full-keys-all": (2, "b")}  # fmt: skip
    changed = tuple(
        arms[name].model_copy(
            update={"varied": {"heads": h, "keys": k}, "title": f"Full, heads {h}, keys {k}"}
        )
        for name, (h, k) in points.items()
    )
    record = results.record.model_copy(update={"arms": (*results.record.arms[:5], *changed)})
    lines = figure.panels(dataclasses.replace(results, record=record))
    assert {field: [line.label for line in found] for field, found in lines.items()} == {
        "heads": ["Full, keys a", "Full, keys b"],
        "keys": ["Full, heads 1", "Full, heads 2"],
    }
    assert all(
        isinstance(point[1], Value) for found in lines.values() for one in found
        for point in one.points
    )  # fmt: skip


def test_the_figure_is_the_same_twice_and_described(results):
    with mpl.rc_context():
        one, two = to_svg(figure.FIGURE, results), to_svg(figure.FIGURE, results)
    assert one[1] == two[1]
    value = results.estimate("jaccard", "full-heads-16").estimate
    assert f"Full model, heads 16: {value:.3f}" in one[0].description
