"""What trials need is measured, and what is proposed follows from it."""

import json

import pytest

from sweeps.probe import MARGIN, Probed, advice, share
from tests.sweeps import tiny

GIB = 2**30


@pytest.mark.parametrize(
    ("peak", "whole", "trials"), [(6, 80, 10), (70, 80, 0), (40, 80, 1), (30, 80, 2), (1, 80, 20)]
)
def test_so_many_trials_of_a_share_fit_the_gpu(peak, whole, trials):
    if trials == 0:
        with pytest.raises(ValueError, match="does not fit"):
            share(peak * GIB, whole * GIB)
        return
    found = share(peak * GIB, whole * GIB)
    assert int(1 / found + 1e-6) == trials
    assert trials * peak * MARGIN <= whole


def test_shares_of_one_gpu_never_add_up_to_more_than_it():
    for peak in range(1, 60):
        found = share(peak * GIB, 80 * GIB)
        assert int(1 / found + 1e-6) * found <= 1


def row(arm: str, gpus: float, hours: float | None) -> Probed:
    return Probed(arm, 4, "cuda", 3.0, 0.1, 2.0, gpus, hours)


def test_the_share_of_the_arm_that_needs_most_is_proposed_with_all_hours():
    lines = advice([row("a", 0.25, 2.0), row("b", 0.5, 3.0), row("c", 0.1, None)])
    assert lines[0].startswith("resources: {gpus: 0.5}")
    assert "5.00 GPU hours" in lines[1]
    assert "1 arms fit themselves" in lines[2]


@pytest.mark.slow
def test_the_command_measures_each_arm_in_a_process_of_its_own(tmp_path):
    study = tiny.write_study(tmp_path)
    found = tiny.medsweep("probe", study, "--json")
    assert found.returncode == 0, found.stderr
    rows = {told["arm"]: told for told in json.loads(found.stdout)}
    assert set(rows) == {"most_popular", "gamenet"}
    assert rows["gamenet"]["step_seconds"] > 0
    assert 0.05 < rows["gamenet"]["memory"] < 4
    assert rows["gamenet"]["gpus"] == 0
    assert rows["most_popular"]["trial_hours"] is None
    assert "resources: {cpus: 1, memory:" in tiny.medsweep("probe", study).stdout


def test_an_arm_that_cannot_be_measured_is_named(tmp_path):
    study = tiny.write_study(tmp_path, resources={"gpus": 1})
    found = tiny.medsweep("probe", study)
    assert found.returncode == 1
    assert "gamenet" in found.stderr or "most_popular" in found.stderr
    assert "GPU" in found.stderr
    assert "Traceback" not in found.stderr
