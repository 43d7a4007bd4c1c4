"""Whatever is rendered passes the check, says how it is launched, and holds no secret."""

import itertools
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.launch import check, tools
from cluster.launch.errors import LaunchError
from cluster.launch.spec import PROVIDERS, ClusterSpec, load_spec, tag_fits
from tests.cluster import specs

AMOUNTS = [
    {"nodes": nodes, "gpus": gpus, "cpus": cpus}
    for nodes, gpus, cpus in itertools.product((1, 3, 64), (0, 1, 8), (1, 32))
]
STYLES: dict[str, list[dict[str, Any]]] = {
    "slurm": [
        {"exclusive": whole, **more}
        for whole in (True, False)
        for more in (
            {},
            {"partition": "gpu", "account": "lab", "memory": 100, "hours": 0.5},
            {"results": "s3://bucket/demo", "token": "/home/me/.token", "restarts": 0},
        )
    ],
    "kuberay": [
        {},
        {"min_nodes": 0, "token": "medsweep-token-2026-production", "hours": 3},
        {"results": "gs://bucket/demo", "storage": None, "claim": None, "instance": "a2"},
        {"storage_class": "nfs", "storage_size": 100, "memory": 9, "shm": 9},
    ],
    "aws": [
        {},
        {"spot": True, "min_nodes": 0},
        {"results": "s3://b/demo", "storage": None, "nfs": None, "zone": None},
    ],
    "gcp": [
        {},
        {"spot": True, "min_nodes": 1},
        {"results": "gs://b/demo", "storage": None, "nfs": None},
    ],
    "onprem": [{}, {"name": "lab-1", "shm": 64}],
}
GRID = [
    (provider, {**amount, **style})
    for provider in PROVIDERS
    for amount in AMOUNTS
    for style in STYLES[provider]
]


def changes(provider: str, given: dict[str, Any]) -> dict[str, Any]:
    if provider == "onprem":
        return {**given, "hosts": [f"10.0.1.{n}" for n in range(given["nodes"] + 1)]}
    return given


@pytest.mark.parametrize("provider", PROVIDERS)
def test_everything_rendered_passes_the_check(
    provider: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen: dict[str, list[str]] = {}
    for which, given in GRID:
        if which != provider:
            continue
        for name, text in specs.rendered(provider, **changes(provider, given)).files.items():
            # The other programs are slow and look at the same few texts; see the next tests.
            with monkeypatch.context() as without:
                without.setattr(tools, "found", lambda name: None)
                found = check.check_text(name, text, specs.RAY)
            if not name.endswith(".dockerignore"):
                assert not found, (given, found)
            seen.setdefault(name, []).append(text)
    assert seen


@pytest.mark.parametrize("provider", PROVIDERS)
def test_rendered_files_pass_with_every_program(provider: str, tmp_path: Path):
    for number, style in enumerate(STYLES[provider]):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, text in specs.rendered(provider, **style).files.items():
            (folder / name).write_text(text)
        checked = check.check_files(sorted(folder.iterdir()))
        assert not checked.findings
        assert not checked.notes, "shellcheck and hadolint come with the dev extra"


@pytest.mark.parametrize("exclusive", [True, False])
def test_bash_and_shellcheck_accept_the_scripts(exclusive: bool, tmp_path: Path):
    (text,) = specs.rendered("slurm", exclusive=exclusive).files.values()
    path = tmp_path / "job.sbatch"
    path.write_text(text)
    assert subprocess.run(["bash", "-n", path]).returncode == 0
    program = tools.found("shellcheck")
    assert program is not None
    answer = subprocess.run([program, "--severity=warning", path], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout


@pytest.mark.parametrize("provider", PROVIDERS)
def test_files_say_how_to_launch_and_leave_nothing_unfilled(provider: str):
    made = specs.rendered(provider)
    for name, text in made.files.items():
        assert not re.search(r"@[A-Z_]+@|TODO|CHANGE|<[a-z-]+>", text), name
        assert text.startswith("#")
        if not name.endswith("ignore"):
            assert re.search(r"Launch:|Build:|Once:", text), name
    assert made.left


def test_rendering_twice_gives_the_same_bytes():
    for provider in PROVIDERS:
        assert specs.rendered(provider) == specs.rendered(provider)


def test_yaml_means_what_the_specification_says():
    made = specs.rendered("kuberay", min_nodes=1)
    job = yaml.safe_load(made.files["rayjob.yaml"])
    cluster = job["spec"]["rayClusterSpec"]
    (workers,) = cluster["workerGroupSpecs"]
    container = workers["template"]["spec"]["containers"][0]
    assert (workers["minReplicas"], workers["maxReplicas"]) == (1, 4)
    amounts = {"cpu": "32", "memory": "128Gi", "nvidia.com/gpu": "8"}
    assert container["resources"]["limits"] == amounts
    assert container["resources"]["requests"] == container["resources"]["limits"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert cluster["authOptions"] == {"mode": "token"}
    command = "medsweep run demo --out /shared/results/demo --address auto"
    assert job["spec"]["entrypoint"] == command
    launcher = yaml.safe_load(specs.rendered("aws", spot=True).files["cluster.yaml"])
    kinds = launcher["available_node_types"]
    assert kinds["head"]["resources"] == {"CPU": 0}
    assert "InstanceMarketOptions" not in kinds["head"]["node_config"]
    assert kinds["workers"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert kinds["workers"]["resources"] == {"CPU": 32, "GPU": 8, "spot": 1}


REFUSED = [
    ("slurm", {"hours": None}, "field hours"),
    ("slurm", {"environment": None}, "field environment"),
    ("slurm", {"environment": "/scratch/local/venv"}, "field environment"),
    ("slurm", {"token": None}, "field token"),
    ("slurm", {"token": "0123456789abcdef0123456789abcdef"}, "field token"),
    ("slurm", {"results": "/local/out"}, "field results"),
    ("slurm", {"results": "relative/out"}, "field results"),
    ("slurm", {"results": "/shared/$(reboot)"}, "field results"),
    ("slurm", {"study": "demo; reboot"}, "field study"),
    ("slurm", {"name": "My Job"}, "field name"),
    ("slurm", {"min_nodes": 1}, "field min_nodes"),
    ("slurm", {"spot": True}, "field spot"),
    ("slurm", {"nodes": 0}, "field nodes"),
    ("slurm", {"partitoin": "gpu"}, "field partitoin"),
    ("kuberay", {"image": None}, "field image"),
    ("kuberay", {"image": "registry.example.org/m:latest"}, "field image"),
    ("kuberay", {"image": "registry.example.org/m"}, "field image"),
    ("kuberay", {"memory": None}, "field memory"),
    ("kuberay", {"claim": None}, "field claim"),
    ("kuberay", {"storage": None}, "field storage"),
    ("kuberay", {"storage": "/other"}, "field storage"),
    ("kuberay", {"platform": None}, "field platform"),
    ("kuberay", {"storage_class": "nfs"}, "field storage_class"),
    ("kuberay", {"shm": 500}, "field shm"),
    ("aws", {"subnet": None}, "field subnet"),
    ("aws", {"machine_image": None}, "field machine_image"),
    ("aws", {"min_nodes": 9}, "field min_nodes"),
    ("aws", {"nfs": None}, "field nfs"),
    ("gcp", {"project": None}, "field project"),
    ("gcp", {"gpu_type": None}, "field gpu_type"),
    ("onprem", {"hosts": ["10.0.0.1"]}, "field hosts"),
    ("onprem", {"user": None}, "field user"),
]


@pytest.mark.parametrize(("provider", "change", "named"), REFUSED)
def test_what_is_not_known_is_asked_for(provider: str, change: dict[str, Any], named: str):
    with pytest.raises(LaunchError) as caught:
        load_spec(specs.content(provider, **change), specs.RAY)
    assert named in str(caught.value)


def test_a_token_given_by_mistake_is_not_repeated():
    token = "deadbeef" * 8
    for provider in ("slurm", "kuberay"):
        with pytest.raises(LaunchError) as caught:
            load_spec(specs.content(provider, token=token), specs.RAY)
        assert token not in str(caught.value)


@pytest.mark.parametrize(
    ("image", "fits"),
    [
        ("rayproject/ray:2.60.0-py311-cpu", True),
        ("reg:5000/ray:2.60.0", True),
        ("reg:5000/ray", False),
        ("ray:2.60.1", False),
        ("ray:2.60.0rc1", False),
        ("ray:latest", False),
        ("ray:2.60.0-1@sha256:abc", True),
    ],
)
def test_tags(image: str, fits: bool):
    assert tag_fits(image, "2.60.0") is fits


def test_every_field_has_a_description():
    assert all(field.description for field in ClusterSpec.model_fields.values())
