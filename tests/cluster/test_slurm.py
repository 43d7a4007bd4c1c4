"""The rendered Slurm scripts run for real, on two nodes with addresses of their own."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.launch import check, slurm
from cluster.launch.spec import ClusterSpec
from sweeps.status import study_status
from tests.cluster import two_nodes
from tests.sweeps import tiny

_LACKING = two_nodes.lacking()
pytestmark = pytest.mark.skipif(_LACKING is not None, reason=f"no Slurm here: {_LACKING}")


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[two_nodes.Slurm]:
    with two_nodes.slurm(tmp_path_factory.mktemp("slurm")) as running:
        yield running


def script(nodes: two_nodes.Slurm, name: str, exclusive: bool, study: Path | str) -> Path:
    """A rendered script; nothing in it is changed."""
    token = nodes.folder / "token"
    if not token.exists():
        token.write_text("0123456789abcdef" * 4)
        token.chmod(0o600)
    spec = ClusterSpec(
        provider="slurm",
        name=name,
        study=str(study),
        results=str(nodes.folder / name),
        nodes=2,
        cpus=1,
        memory=4,
        hours=0.1,
        exclusive=exclusive,
        environment=str(Path(sys.executable).parents[1]),
        token=str(token),
        restarts=2,
    )
    path = nodes.folder / f"{name}.sbatch"
    path.write_text(slurm.script(spec, check.locked_ray()))
    return path


def submit(nodes: two_nodes.Slurm, path: Path) -> str:
    return nodes.run("sbatch", "--parsable", path).strip()


def log(nodes: two_nodes.Slurm, name: str, number: str) -> str:
    path = nodes.folder / f"{name}-{number}.log"
    return path.read_text() if path.exists() else "no log"


def rays(nodes: two_nodes.Slurm) -> list[str]:
    """Command lines of this test's Ray processes, on both nodes."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes()
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(nodes.folder).encode() in environment and "ray" in line and "slurm" not in line:
            found.append(line[:100])
    return found


@pytest.mark.parametrize(
    "exclusive",
    [pytest.param(False, id="shared"), pytest.param(True, id="exclusive", marks=pytest.mark.slow)],
)
def test_study_completes_on_two_nodes(nodes: two_nodes.Slurm, exclusive: bool):
    name = "whole" if exclusive else "part"
    study = tiny.write_study(nodes.folder, f"{name}.yaml")
    number = submit(nodes, script(nodes, name, exclusive, study))
    job = nodes.wait(number, "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")
    said = log(nodes, name, number)
    assert job["JobState"] == "COMPLETED", said
    assert job["ExitCode"] == "0:0"
    assert study_status(nodes.folder / name).complete, said
    assert not rays(nodes)
    assert not list((nodes.folder / name).glob("**/*token*"))


@pytest.mark.slow
def test_failing_study_gives_its_exit_code(nodes: two_nodes.Slurm):
    """The command's code is the job's, through symmetric-run and srun."""
    number = submit(nodes, script(nodes, "fails", True, nodes.folder / "nowhere.yaml"))
    job = nodes.wait(number, "COMPLETED", "FAILED")
    said = log(nodes, "fails", number)
    assert job["JobState"] == "FAILED", said
    assert job["ExitCode"] == "1:0"
    assert "There is no file" in said


@pytest.mark.slow
def test_ray_that_does_not_start_is_no_success(nodes: two_nodes.Slurm):
    """`ray symmetric-run` exits with 0 then; the job must not."""
    path = script(nodes, "unstarted", True, "demo")
    path.write_text(path.read_text().replace("--disable-usage-stats", "--no-such-option"))
    number = submit(nodes, path)
    job = nodes.wait(number, "COMPLETED", "FAILED")
    assert job["JobState"] == "FAILED"
    assert "no driver came to its end" in log(nodes, "unstarted", number)
    assert not rays(nodes)


@pytest.mark.slow
def test_notice_requeues_the_job_which_goes_on(nodes: two_nodes.Slurm):
    study = tiny.write_study(nodes.folder, "long.yaml", training={"epochs": 600}, seeds=[0])
    number = submit(nodes, script(nodes, "long", False, study))
    root = nodes.folder / "long"
    tiny.wait_for(lambda: list(root.glob("running/**/*.safetensors")), 240, every=0.2)
    nodes.run("scancel", "--signal=USR1", "--batch", number)
    tiny.wait_for(lambda: nodes.job(number)["Restarts"] == "1", 120, every=0.5)
    job = nodes.wait(number, "COMPLETED", "FAILED", "CANCELLED", seconds=300)
    said = log(nodes, "long", number)
    assert "requeued to go on later" in said, said
    assert job["JobState"] == "COMPLETED", said
    assert study_status(root).complete
