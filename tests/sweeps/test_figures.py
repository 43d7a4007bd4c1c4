"""What every figure promises, and what each of them shows."""

import dataclasses
import io
import itertools
import json
import math
import shutil
import struct

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from medrec import plugins
from search_spaces import kindmed
from sweeps.figures import (
    forest,
    jaccard_ddi,
    learning_curves,
    parallel_coordinates,
    performance_profiles,
    reliability,
    search_budget,
)
from sweeps.figures._base import LEGIBLE, Plot, inline, legible, to_png, to_svg
from sweeps.record import Analysis
from sweeps.space import to_json
from sweeps.statistics.results import gather
from sweeps.store import ResultsStore
from tests.sweeps.fabricate import ARMS, GRID_ARMS, fabricate

NAMES = plugins.names("sweeps.figures")
LONG = "A model whose title is far longer than any legend has room for, variant"
MANY = (
    *ARMS[:3],
    *((f"arm{i}", f"{LONG} {i}", "full", None, True, 0.2 + i / 50) for i in range(17)),
)


def searched(root, record, trials: int = 14):
    """Writes both searches anew over KindMed's space: conditional, pruned, failed, no number."""
    store, rng = ResultsStore(root), np.random.default_rng(3)
    plans = tuple(
        plan.model_copy(update={"space": to_json(kindmed.SPACE)}) for plan in record.searches
    )
    for plan in plans:
        shutil.rmtree(root / "searches" / plan.name)
        for number in range(trials):
            state = ("complete", "complete", "pruned", "failed")[number % 4]
            values = [float(rng.uniform(0.3, 0.5)), float(rng.uniform(0.05, 0.1))]
            note = {
                "number": number,
                "key": f"{number:016x}",
                "params": params(rng, number),
                "state": state,
                "values": values[: len(plan.objectives)] if state == "complete" else None,
                "held": {},
            }
            if number == 5:
                note["values"] = [math.nan] * len(plan.objectives)
            store.write_text(f"searches/{plan.name}/{number:05d}.json", json.dumps(note))
    changed = record.model_copy(
        update={"searches": plans, "analysis": Analysis(margin=0.05), "tables": ()}
    )
    store.write_study(changed)
    return changed


def params(rng, number: int) -> dict:
    found = {"keys": "last" if number % 3 else "all"}
    for name, distribution in kindmed.SPACE.items():
        if hasattr(distribution, "choices"):
            if name != "keys" and (name != "heads" or found["keys"] == "all"):
                found[name] = distribution.choices[number % len(distribution.choices)]
        else:
            found[name] = float(rng.uniform(distribution.low, distribution.high))
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("whole")
    searched(root, fabricate(root, seeds=4, resamples=50, arms=(*ARMS, *GRID_ARMS)))
    return gather(ResultsStore(root))


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """Twenty arms with long titles; one lacks a trial, one all, one has a single seed."""
    root = tmp_path_factory.mktemp("crowded")
    record = fabricate(root, resamples=20, arms=MANY)
    for arm, seeds in ((5, "0"), (6, "012"), (7, "12")):
        for seed in seeds:
            shutil.rmtree(root / "trials" / record.arms[arm].trials[seed])
    return gather(ResultsStore(root))


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    root = tmp_path_factory.mktemp("single")
    fabricate(root, seeds=1, resamples=20, arms=ARMS[2:3])
    return gather(ResultsStore(root))


@pytest.fixture(params=NAMES)
def plot(request) -> Plot:
    return plugins.load("sweeps.figures", request.param, "FIGURE")


@pytest.fixture(scope="module")
def drawn(request):
    """Returns a study's figures with their SVG, each drawn once."""
    found = {}

    def draw(study: str, plot: Plot):
        if (study, plot.title) not in found:
            found[study, plot.title] = to_svg(plot, request.getfixturevalue(study))
        return found[study, plot.title]

    return draw


# ------------------------------------------------------------------ every figure


def test_it_is_named_and_described(plot, drawn):
    drawing, svg = drawn("whole", plot)
    assert plugins.load("sweeps.figures", drawing.name, "FIGURE") is plot
    assert drawing.title
    assert drawing.caption.endswith(".")
    assert drawing.description.endswith(".")
    assert f'id="{drawing.name}-title"' in inline(svg, drawing)


def test_it_is_the_same_bytes_twice_whatever_the_readers_own_settings(plot, drawn, whole):
    with mpl.rc_context({"font.size": 20, "lines.linewidth": 7, "axes.facecolor": "red"}):
        assert to_svg(plot, whole)[1] == drawn("whole", plot)[1]


def chunks(png: bytes) -> dict[bytes, bytes]:
    found, place = {}, 8
    while place < len(png):
        (size,) = struct.unpack(">I", png[place : place + 4])
        found[png[place + 4 : place + 8]] = png[place + 8 : place + 8 + size]
        place += 12 + size
    return found


def test_a_png_has_200_dots_an_inch_a_white_ground_and_no_date(single):
    drawing, _ = to_svg(learning_curves.FIGURE, single)
    png = to_png(drawing)
    assert to_png(to_svg(learning_curves.FIGURE, single)[0]) == png
    parts = chunks(png)
    assert set(parts) == {b"IHDR", b"pHYs", b"IDAT", b"IEND"}
    assert struct.unpack(">II", parts[b"IHDR"][:8])[0] == round(6.4 * 200)
    assert struct.unpack(">I", parts[b"pHYs"][:4])[0] == round(200 / 0.0254)
    assert mpl.image.imread(io.BytesIO(png))[0, 0].tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("study", ["whole", "crowded", "single"])
def test_no_text_is_cut_off_and_legends_do_not_overlap(plot, study, drawn):
    found = drawn(study, plot)
    if found is None:
        assert study != "whole"
        return
    figure = found[0].figure
    figure.set_dpi(72)  # at which it was drawn last, and all was put in its place
    renderer = FigureCanvasAgg(figure).get_renderer()
    hidden = not_drawn(figure)
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text() and id(text) not in hidden:
            box = text.get_window_extent(renderer)
            inside = figure.bbox.padded(1.0)
            assert inside.contains(box.x0, box.y0), text.get_text()
            assert inside.contains(box.x1, box.y1), text.get_text()
    columns = [box.get_window_extent(renderer) for box in figure.legends if box.get_texts()]
    assert not any(one.overlaps(two) for one, two in itertools.pairwise(columns))
    for plain in figure.axes:
        label = plain.xaxis.label.get_window_extent(renderer)
        assert not any(box.overlaps(label) for box in columns if plain.get_xlabel())


def not_drawn(figure) -> set[int]:
    """Labels of ticks beyond the end of their axis, which matplotlib keeps and does not draw."""
    found = set()
    for axis in (axis for plain in figure.axes for axis in (plain.xaxis, plain.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in (*axis.majorTicks, *axis.minorTicks):
            if not low <= tick.get_loc() <= high:
                found |= {id(tick.label1), id(tick.label2)}
    return found


def test_without_trials_nothing_is_drawn(tmp_path):
    fabricate(tmp_path, resamples=20)
    shutil.rmtree(tmp_path / "trials")
    shutil.rmtree(tmp_path / "searches")
    results = gather(ResultsStore(tmp_path))
    for name in NAMES:
        assert plugins.load("sweeps.figures", name, "FIGURE").draw(results) is None


def test_of_many_arms_the_reference_and_the_best_stay_and_the_others_are_named(crowded):
    every = list(enumerate(crowded.record.arms))
    kept, text = legible(crowded, every)
    names = [arm.name for _, arm in kept]
    assert len(names) == LEGIBLE
    values = {
        arm.name: found.estimate
        for _, arm in every
        if arm.name != "full" and (found := crowded.estimate("jaccard", arm.name))
    }
    best = sorted(values, key=lambda name: -values[name])[: LEGIBLE - 1]
    assert set(names) == {"full", *best}
    assert all((arm.title in text) == (arm.name not in names) for _, arm in every)
    assert legible(crowded, every[:LEGIBLE]) == (every[:LEGIBLE], "")


# ------------------------------------------------------------------ forest


def test_the_forest_has_a_row_an_arm_with_ablations_below_their_full_model(whole):
    names = {row.title: row for row in forest.rows(whole)}
    assert list(names)[:5] == [
        "Most popular",
        "GAMENet",
        "Full model (reference)",
        "Full model without DDI loss_&",
        "Full model without graph",
    ]
    assert [row.within for row in names.values()][:6] == [False] * 3 + [True] * 2 + [False]
    assert names["Full model (reference)"].gap is None
    for arm in whole.record.arms:
        if arm.name != "full":
            assert names[arm.title].gap == whole.difference("jaccard", arm.name)


def test_verdicts_are_told_by_marker_and_word_and_the_margin_is_shaded(whole):
    drawing = forest.draw(whole)
    (plain,) = drawing.figure.axes
    texts = [text.get_text() for text in plain.texts]
    looks = {}
    marked = [line for line in plain.lines if line.get_marker() != "None"]
    rows = [row for row in forest.rows(whole) if row.gap]
    for line, row in zip(marked, rows, strict=True):
        verdict = whole.verdict(next(a.name for a in whole.record.arms if a.title == row.title))
        word = "no verdict" if verdict is None else verdict.word
        assert row.word == word
        assert line.get_xdata()[0] == row.gap.estimate
        assert any(text.endswith(f"]  {word}") for text in texts)
        looks[word] = line.get_marker()
    assert len(set(looks.values())) == len(looks)
    assert "±0.05" in drawing.caption
    bands = [patch.get_extents() for patch in plain.patches]
    low, high = (plain.transData.transform((x, 0))[0] for x in (-0.05, 0.05))
    assert any(b.x0 == pytest.approx(low) and b.x1 == pytest.approx(high) for b in bands)


def test_another_primary_metric_is_drawn_in_its_place(whole):
    record = whole.record.model_copy(update={"analysis": Analysis(primary="ddi_rate")})
    drawing = forest.draw(dataclasses.replace(whole, record=record, _inferences={}))
    assert drawing.title == "Differences in DDI rate"
    assert "±" not in drawing.caption


# ------------------------------------------------------------------ plane


def test_each_seed_is_a_run_of_all_arms(whole):
    runs = jaccard_ddi.runs(whole)
    assert [run.shape for run in runs] == [(12, 2)] * 4
    stored = [whole.estimate("jaccard", arm.name).estimate for arm in whole.record.arms]
    assert np.mean(runs, axis=0)[:, 0] == pytest.approx(stored)
    caption = jaccard_ddi.draw(whole).caption
    assert "at least half of the 4 seeds" in caption


def test_with_few_whole_seeds_there_is_no_attainment(crowded, single):
    assert len(jaccard_ddi.runs(crowded)) == 0  # one arm lacks the first seed, one the others
    for results in (crowded, single):
        assert "half of the" not in jaccard_ddi.draw(results).caption


def test_the_border_is_a_staircase_through_the_corners():
    across, up = jaccard_ddi.border(np.array([[0.2, 0.1], [0.5, 0.3]]))
    assert across[:-1] == [0.5, 0.5, 0.2, 0.2]
    assert up[1:] == [0.3, 0.3, 0.1, 0.1]
    assert across[-1] < -1
    assert up[0] > 1


# ------------------------------------------------------------------ learning curves


def test_the_spread_leaves_out_what_is_no_number():
    rows = np.array([[0.1, 0.4, np.nan], [0.3, np.nan, np.nan]])
    low, mean, high = learning_curves.spread(rows)
    np.testing.assert_allclose(low, [0.1, 0.4, np.nan])
    np.testing.assert_allclose(mean, [0.2, 0.4, np.nan])
    np.testing.assert_allclose(high, [0.3, 0.4, np.nan])


# ------------------------------------------------------------------ searches


def test_axes_are_the_dimensions_and_the_objectives(whole):
    plan = whole.record.searches[1]
    axes = parallel_coordinates.search_axes(whole, plan)
    assert list(axes) == [*kindmed.SPACE, "objective jaccard", "objective ddi_rate"]
    rate = axes["training.learning_rate"]
    assert rate.log
    assert rate.place(math.sqrt(rate.low * rate.high)) == pytest.approx(0.5)
    assert not axes["dropout"].log
    assert axes["dropout"].place(0.45) == pytest.approx(0.5)
    assert [axes["heads"].place(value) for value in (1, 2, 32)] == pytest.approx([0, 0.2, 1])
    missing = parallel_coordinates.MISSING
    assert [axes["heads"].place(value) for value in (None, 3, "1", True)] == [missing] * 4
    assert axes["dropout"].place(None) == axes["dropout"].place(math.nan) == missing


def test_a_trial_without_result_ends_before_the_objectives(whole):
    plan = whole.record.searches[0]
    axes = parallel_coordinates.search_axes(whole, plan)
    records = {record["number"]: record for record in whole.searches[plan.name]}
    lines = {n: parallel_coordinates.places(axes, plan, r) for n, r in records.items()}
    ended = {n for n, line in lines.items() if len(line) == len(kindmed.SPACE)}
    assert ended == {2, 3, 6, 7, 10, 11, 5}  # pruned, failed, and the one with NaN
    found = {n: r["values"][0] for n, r in records.items() if len(lines[n]) > len(kindmed.SPACE)}
    assert lines[max(found, key=found.get)][-1] == 1.0
    assert lines[1][0] == parallel_coordinates.MISSING  # with one key there are no heads
    assert lines[0][0] >= 0


def test_searches_are_told_with_their_best(whole):
    drawing = parallel_coordinates.draw(whole)
    assert "Search tune: 7 complete, 7 others" in drawing.description
    one, two = whole.record.searches
    values = {
        plan.name: [
            r["values"]
            for r in whole.searches[plan.name]
            if r["state"] == "complete" and not math.isnan(r["values"][0])
        ]
        for plan in (one, two)
    }
    front = [
        (gain, cost)
        for gain, cost in values["pareto"]
        if not any(g >= gain and c <= cost and (g, c) != (gain, cost) for g, c in values["pareto"])
    ]
    told = drawing.description
    assert f" with jaccard {max(values['tune'])[0]:.4f}." in told
    assert all(f" with jaccard {g:.4f}, ddi_rate {c:.4f}" in told for g, c in front)
    assert told.count(" with jaccard ") == 1 + len(front)


def test_the_budget_curve_ends_at_what_all_trials_would_give(whole):
    drawing = search_budget.draw(whole)
    (plain,) = drawing.figure.axes
    for plan, line in zip(whole.record.searches, plain.get_lines(), strict=True):
        values = sorted(
            r["values"][0]
            for r in whole.searches[plan.name]
            if r["state"] == "complete" and not math.isnan(r["values"][0])
        )
        n = len(values)
        last = sum(v * (((i + 1) / n) ** n - (i / n) ** n) for i, v in enumerate(values))
        assert list(line.get_xdata()) == list(range(1, n + 1))
        assert line.get_ydata()[0] == pytest.approx(np.mean(values))
        assert line.get_ydata()[-1] == pytest.approx(last)


def test_of_a_metric_with_less_as_better_the_budget_curve_falls(whole):
    plans = tuple(
        plan.model_copy(update={"objectives": ("ddi_rate",)}) for plan in whole.record.searches[:1]
    )
    record = whole.record.model_copy(update={"searches": plans})
    (plain,) = search_budget.draw(dataclasses.replace(whole, record=record)).figure.axes
    (line,) = plain.get_lines()
    assert (np.diff(line.get_ydata()) < 0).all()


# ------------------------------------------------------------------ scores of test patients


def test_the_reliability_diagram_leaves_out_scores_that_only_rank(whole):
    counts = reliability.of_arms(whole)
    cells = 4 * whole.scores["all"].visits * 12
    assert counts["full"].cells.sum() == cells
    assert counts["popular"].cells.sum() == cells // 4
    key = whole.arm("full").trials["2"]
    ranks = dataclasses.replace(whole.calibration[key], cut=False)
    changed = dataclasses.replace(whole, calibration={**whole.calibration, key: ranks})
    drawing = reliability.draw(changed)
    assert "only rank drugs: Full model." in drawing.caption
    assert "Full model 0." not in drawing.description
    assert "Full model 0." in reliability.draw(whole).description


def test_profiles_start_at_the_share_above_nothing_and_end_at_none(whole):
    drawing = performance_profiles.draw(whole)
    (plain,) = drawing.figure.axes
    assert len(plain.get_lines()) == LEGIBLE
    for line in plain.get_lines():
        assert line.get_ydata()[-1] == 0.0
    assert "left out: " in drawing.caption
