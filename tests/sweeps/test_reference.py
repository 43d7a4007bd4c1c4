"""The committed reference study: its tables and report are made again byte for byte."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps.cohorts import study_data
from sweeps.plan import make_plan
from sweeps.regenerate import regenerate
from sweeps.statistics.results import gather
from sweeps.store import ResultsStore
from sweeps.study import load_study

REFERENCE = Path(__file__).parents[2] / "results" / "reference"
MADE = ("tables", "figures", "report.html", "cases.html")
ALONE = """
import sys
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "ray"):
            raise ImportError(name)
sys.meta_path.insert(0, Wall())
from pathlib import Path
from sweeps.regenerate import regenerate
regenerate(Path(sys.argv[1]))
"""


def stored(folder: Path) -> dict[str, bytes]:
    """What is made from results, by name."""
    paths = [path for name in MADE for path in [folder / name, *(folder / name).rglob("*")]]
    return {str(p.relative_to(folder)): p.read_bytes() for p in paths if p.is_file()}


def bare_copy(folder: Path) -> Path:
    """The stored results without anything that was made from them."""
    shutil.copytree(REFERENCE, folder, ignore=shutil.ignore_patterns(*MADE))
    return folder


def test_tables_figures_and_report_are_the_committed_ones(tmp_path):
    root = bare_copy(tmp_path / "reference")
    regenerate(root)
    made, committed = stored(root), stored(REFERENCE)
    assert made.keys() == committed.keys()
    assert [name for name in made if made[name] != committed[name]] == []


def test_an_old_processor_without_torch_and_ray_makes_the_same_bytes(tmp_path):
    """Other matrix kernels, no wide vector instructions, one thread, other hash seeds."""
    root = bare_copy(tmp_path / "reference")
    plain = {
        "OPENBLAS_CORETYPE": "Prescott",
        "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONHASHSEED": "77",
        "TZ": "Pacific/Auckland",
    }
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ALONE, str(root)],
        env={**os.environ, **plain},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    made, committed = stored(root), stored(REFERENCE)
    assert [name for name in committed if made.get(name) != committed[name]] == []


def test_it_is_whole(tmp_path):
    found = gather(ResultsStore(REFERENCE))
    assert not found.damaged
    for arm in found.record.arms:
        assert found.stored(arm.name) == found.asked(arm.name)


def test_the_study_that_ships_plans_the_same_trials(tmp_path):
    """The command in the README would make these results, not others."""
    study = load_study("reference")
    plan = make_plan(study, study_data(study, tmp_path))
    record = ResultsStore(REFERENCE).study()
    assert {arm.name: arm.trials for arm in plan.record.arms} == {
        arm.name: arm.trials for arm in record.arms
    }
    assert plan.record.analysis == record.analysis


@pytest.mark.parametrize("word", ["/tmp/", "/home/", "/root/", "/work/"])  # noqa: S108
def test_it_names_no_place(word):
    for path in REFERENCE.rglob("*"):
        if path.suffix in {".json", ".md", ".csv", ".html", ".tex"}:
            assert word not in path.read_text(), path
