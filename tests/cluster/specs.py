"""Specifications of clusters for tests: one whole one a provider, and variations."""

from typing import Any

from cluster.launch.render import Rendered, render
from cluster.launch.spec import load_spec

RAY = "2.60.0"
COMMON = {"study": "demo", "results": "/shared/results/demo", "nodes": 4, "gpus": 8, "cpus": 32}
IMAGE = {"image": f"registry.example.org/team/medsweep:{RAY}-1", "platform": "cu128"}
CLOUD = {
    **IMAGE,
    "region": "eu-west-1",
    "zone": "eu-west-1a",
    "instance": "big",
    "head_instance": "small",
    "machine_image": "ami-0123456789",
    "subnet": "subnet-1",
    "token": "~/.ray/medsweep_token",
    "storage": "/shared",
    "nfs": "nfs.example.org:/export",
}
OWN: dict[str, dict[str, Any]] = {
    "slurm": {"environment": "/shared/venv", "hours": 24, "token": "~/.ray/medsweep_token"},
    "kuberay": {**IMAGE, "memory": 128, "storage": "/shared", "claim": "results"},
    "aws": CLOUD,
    "gcp": {**CLOUD, "project": "trial", "gpu_type": "nvidia-tesla-t4"},
    "onprem": {
        **IMAGE,
        "hosts": ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"],
        "user": "ray",
        "token": "~/.ray/medsweep_token",
        "storage": "/shared",
    },
}


def content(provider: str, **changes: Any) -> dict[str, Any]:
    """Fields of a specification; None takes a field out."""
    fields = {"provider": provider, **COMMON, **OWN[provider], **changes}
    return {name: value for name, value in fields.items() if value is not None}


def rendered(provider: str, **changes: Any) -> Rendered:
    return render(load_spec(content(provider, **changes), RAY), RAY)
