"""`medsweep cluster` as a person uses it."""

from pathlib import Path

import yaml

from tests.cluster import specs
from tests.sweeps import tiny

SLURM = ["--study", "demo", "--results", "/shared/demo", "--nodes", 4, "--gpus", 8, "--cpus", 32,
         "--environment", "/shared/venv", "--token", "~/.ray/token", "--hours", 24]  # fmt: skip


def test_render_then_check(tmp_path: Path):
    folder = tmp_path / "launch"
    made = tiny.medsweep("cluster", "render", "slurm", *SLURM, "--out", folder)
    assert made.returncode == 0, made.stderr
    assert str(folder / "medsweep.sbatch") in made.stdout
    assert "Left to you" in made.stdout
    checked = tiny.medsweep("cluster", "check", *folder.iterdir())
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "nothing wrong" in checked.stdout


def test_a_mistake_is_told_with_its_line_and_fails(tmp_path: Path):
    path = tmp_path / "job.yaml"
    text = specs.rendered("kuberay").files["rayjob.yaml"]
    path.write_text(text.replace("entrypoint:", "entrypont:"))
    line = next(n for n, row in enumerate(text.splitlines(), 1) if "entrypoint:" in row)
    checked = tiny.medsweep("cluster", "check", path)
    assert checked.returncode == 1
    (told,) = checked.stdout.splitlines()
    assert told.startswith(f"{path}:{line}: schema: ")
    assert "Did you mean 'entrypoint'?" in told
    assert "Traceback" not in checked.stderr


def test_fields_from_a_file_and_flags(tmp_path: Path):
    path = tmp_path / "cluster.yaml"
    fields = {k: v for k, v in specs.content("kuberay").items() if k != "provider"}
    path.write_text(yaml.safe_dump(fields))
    folder = tmp_path / "launch"
    made = tiny.medsweep("cluster", "render", "kuberay", "--spec", path, "--nodes", 2,
                         "--out", folder)  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert "maxReplicas: 2" in (folder / "rayjob.yaml").read_text()
    # The same again changes nothing; other content is not written over.
    again = ["cluster", "render", "kuberay", "--spec", path, "--out", folder]
    assert tiny.medsweep(*again, "--nodes", 2).returncode == 0
    other = tiny.medsweep(*again, "--nodes", 3)
    assert other.returncode == 1
    assert "rayjob.yaml" in other.stderr
    assert "maxReplicas: 2" in (folder / "rayjob.yaml").read_text()


def test_what_is_missing_is_named(tmp_path: Path):
    made = tiny.medsweep("cluster", "render", "aws", "--study", "demo", "--results", "s3://b/d",
                         "--nodes", 2, "--cpus", 8, "--out", tmp_path / "x")  # fmt: skip
    assert made.returncode == 1
    for field in ("image", "region", "subnet", "machine_image", "token"):
        assert f"field {field}:" in made.stderr
    assert not (tmp_path / "x").exists()
