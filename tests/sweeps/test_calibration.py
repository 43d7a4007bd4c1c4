"""Intervals and tests keep their promises on simulated studies; the full figures take minutes."""

import numpy as np
import pytest
from click.testing import CliRunner

from sweeps.calibrate import Line, calibrate, command
from sweeps.errors import SweepError
from sweeps.same_arms import same_arms, split
from sweeps.statistics.calibration import (
    EFFECT,
    World,
    family_errors,
    legacy_size,
    levels,
    measure,
    simulate,
    sizes,
    truth,
)

STUDIES = 600


def within(share: float, low: float, high: float, studies: int = STUDIES) -> bool:
    """Whether a share lies in its band, but for what so few studies leave to chance."""
    chance = 2.5 * (0.05 * 0.95 / studies) ** 0.5
    return low - chance <= share <= high + chance


@pytest.mark.parametrize(
    ("seeds", "patients", "training"),
    [(3, 100, "stable"), (3, 300, "varying"), (5, 100, "usual"), (10, 100, "varying")],
)
def test_intervals_cover(seeds, patients, training):
    world = World(seeds, patients, training)
    found = measure(world, STUDIES, np.random.default_rng([1, seeds, patients]), 1000)
    for share in (*found.coverage[:2], *found.analytic[:2], *found.own[:2]):
        assert within(share, 0.93, 0.97)


@pytest.mark.parametrize("reference", [None, "none"])
@pytest.mark.parametrize(
    ("seeds", "patients", "training"),
    [(3, 100, "stable"), (3, 100, "varying"), (5, 100, "usual"), (3, 300, "varying")],
)
def test_tests_keep_their_size(seeds, patients, training, reference):
    world = World(seeds, patients, training, reference=reference)
    found = sizes(world, 3000, np.random.default_rng([2, seeds, patients]))
    for share in found[:2]:
        assert within(share, 0.03, 0.07, 3000)


def test_intervals_cover_a_difference_that_there_is():
    world = World(5, 300, "usual", effect=EFFECT)
    found = measure(world, STUDIES, np.random.default_rng(2), 1000)
    for share in found.coverage[:2]:
        assert within(share, 0.93, 0.97)
    # It is found, and not only by chance.
    assert sizes(world, 300, np.random.default_rng(3))[0] > 0.2


def test_the_uncorrected_crossed_bootstrap_leaves_the_band_on_both_sides():
    rng = np.random.default_rng(3)
    assert measure(World(3, 300, "varying"), 400, rng, 500).plain[0] < 0.92
    assert measure(World(3, 300, "stable"), 400, rng, 500).plain[0] > 0.97


def test_a_family_of_ten_has_few_false_verdicts_and_without_correction_many():
    found = family_errors(World(5, 100, "usual", arms=11), 400, np.random.default_rng(4), 1000)
    assert within(found["max-T"], 0.0, 0.06, 400)
    assert found["Holm"] <= found["max-T"]
    assert found["uncorrected"] > 0.12


@pytest.mark.parametrize(("replace", "least"), [(True, 0.10), (False, 0.15)])
def test_the_fields_protocol_finds_differences_between_equal_models(replace, least):
    rng = np.random.default_rng(5)
    assert legacy_size(World(1, 300, "usual"), 200, rng, replace) > least


def test_simulated_studies_have_the_truth_they_say():
    world = World(4, 400, "usual", effect=0.05)
    sample = simulate(world, 200, np.random.default_rng(6), 1)
    values = sample.numerator.sum(axis=(2, 3)) / sample.denominator.sum(axis=(2, 3))
    gaps = values[:, 1::2] - values[:, ::2]
    np.testing.assert_allclose(gaps.mean(axis=1), truth(world), atol=0.002)
    np.testing.assert_allclose(values[:, ::2].mean(axis=1), levels(), atol=0.004)


def test_the_command_prints_every_line_and_says_what_leaves_its_band(tmp_path, monkeypatch):
    lines = [
        Line(3, 100, "stable", "interval of Jaccard", 0.951, 0.93, 0.97, 100),
        Line(3, 100, "usual", "interval of Jaccard", 0.90, 0.93, 0.97, 100),
        Line(3, 100, "varying", "interval of Jaccard", 0.94, 0.93, 0.97, 100),
    ]
    monkeypatch.setattr("sweeps.calibrate.calibrate", lambda *_: iter(lines))
    done = CliRunner().invoke(command, ["--out", str(tmp_path / "c.csv")])
    assert "90.0% to 95.1%" in done.output
    assert "2 of 3 promises kept" in done.output
    assert "90.0% for 93% to 97%: interval of Jaccard, 3 seeds, 100 patients" in done.output
    assert "1 of 3 shares leave their band" in str(done.exception)
    rows = (tmp_path / "c.csv").read_text().splitlines()
    assert rows[1] == "3,100,stable,interval of Jaccard,0.951,0.93,0.97,100"


def test_another_file_is_not_overwritten_and_a_missing_folder_told_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("sweeps.calibrate.calibrate", lambda *_: pytest.fail("was started"))
    (tmp_path / "study.yaml").write_text("name: mine\n")
    for place in ("study.yaml", "no/folder.csv"):
        done = CliRunner().invoke(command, ["--out", str(tmp_path / place)])
        assert isinstance(done.exception, SweepError)
    assert (tmp_path / "study.yaml").read_text() == "name: mine\n"


def test_a_study_s_trials_are_halved_by_seed():
    from sweeps.evaluate import Scores

    shape = (1, 1, 10, 4)
    scores = Scores(
        metrics=("jaccard",),
        arms=("gamenet",),
        seeds=tuple(range(10)),
        patients=np.arange(4, dtype=np.int32),
        visits=4,
        numerator=np.broadcast_to(np.arange(10.0)[:, None], shape).copy(),
        denominator=np.ones(shape),
        present=np.ones((1, 10), bool),
        expected=np.ones((1, 10), bool),
        seeded=np.array([True]),
    )
    halves = split(scores)
    assert halves.numerator[0, :, :, 0].tolist() == [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]


@pytest.mark.slow
def test_every_promise_at_full_size():
    broken = [line for line in calibrate(2000, 2000, 0) if not line.holds]
    assert not broken


@pytest.mark.slow
def test_equal_arms_that_were_trained_are_seldom_told_apart():
    assert sum(p < 0.05 for p in same_arms(40, 0)) <= 3
