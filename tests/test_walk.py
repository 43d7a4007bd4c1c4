"""The whole walk as a user does it: raw files to cohort to study to tables. Minutes, so slow."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shared_data import shared_data

pytestmark = pytest.mark.slow


def _medsweep(*arguments: str, cwd: Path) -> str:
    command = [sys.executable, "-m", "sweeps", *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_demo_runs_and_its_tables_are_made_anew_without_ray_and_torch(tmp_path):
    _medsweep("run", "demo", "--out", "demo", cwd=tmp_path)
    tables = tmp_path / "demo" / "tables"
    assert {p.name for p in tables.glob("*.md")} == {
        "baselines.md",
        "baselines_transitions.md",
        "ablation_gamenet.md",
        "ablation_safedrug.md",
        "search.md",
    }
    assert "[" in (tables / "baselines.md").read_text()
    before = _bytes(tables)
    blocked = (
        "import sys\n"
        "sys.modules['ray'] = sys.modules['torch'] = None\n"
        "from sweeps.cli import main\n"
        "main(['tables', 'demo'])\n"
    )
    shutil.rmtree(tables)
    done = subprocess.run([sys.executable, "-c", blocked], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert _bytes(tables) == before


def test_demo_on_the_real_mimic_iv_demo(tmp_path):
    source = shared_data("mimic-iv-demo")
    shared_data("knowledge", "nc", "drug")
    _medsweep("data", "prepare", "mimic4", "--source", str(source), "--out", "m4", cwd=tmp_path)
    _medsweep("run", "demo", "--set", "cohort=m4", "--out", "real", cwd=tmp_path)
    table = (tmp_path / "real" / "tables" / "baselines.md").read_text()
    assert "Cohort m4" in table
    assert "17 patients, 37 visits" in table
