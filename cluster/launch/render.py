"""All files of a specification, and what remains for a person to do."""

from dataclasses import dataclass

from cluster.launch import kuberay, ray_yaml, slurm
from cluster.launch.spec import CONTAINERS, ClusterSpec


@dataclass(frozen=True)
class Rendered:
    """Launch files of a cluster.

    Attributes:
        files: name to text.
        left: what a person still has to do, one sentence each.
    """

    files: dict[str, str]
    left: tuple[str, ...]


def render(spec: ClusterSpec, ray_version: str) -> Rendered:
    """Returns the launch files of a checked specification (see `load_spec`)."""
    if spec.provider == "slurm":
        files = {slurm.FILE: slurm.script(spec, ray_version)}
    elif spec.provider == "kuberay":
        files = {
            "rayjob.yaml": kuberay.job_yaml(spec, ray_version),
            "raycluster.yaml": kuberay.cluster_yaml(spec, ray_version),
        }
        if spec.claim and spec.storage_class:
            files["storage.yaml"] = kuberay.claim_yaml(spec)
    else:
        files = {"cluster.yaml": ray_yaml.cluster_yaml(spec)}
    if spec.provider in CONTAINERS:
        base = f"{ray_version}-py311-{spec.platform or 'cpu'}"
        files["Dockerfile"] = slurm.fill("Dockerfile", IMAGE=str(spec.image), BASE_TAG=base)
        files["Dockerfile.dockerignore"] = slurm.fill("Dockerfile.dockerignore")
    return Rendered(files, tuple(_left(spec, ray_version)))


def _left(spec: ClusterSpec, ray_version: str) -> list[str]:
    left = []
    if spec.provider in CONTAINERS:
        left.append(
            f"Build and push {spec.image}; the base image's tag {ray_version}-py311-"
            f"{spec.platform or 'cpu'} could not be checked offline."
        )
    if spec.provider == "slurm":
        left.append(f"Install medsweep with Ray {ray_version} in {spec.environment}.")
    if spec.provider != "kuberay":
        left.append(f"Write the token to {spec.token} with mode 0600, as the file's top says.")
    elif spec.token:
        left.append(f"Create the secret {spec.token}, as the file's top says.")
    if spec.claim and not spec.storage_class:
        left.append(f"The claim {spec.claim} must exist and be ReadWriteMany.")
    if not spec.on_path:
        left.append(
            f"Every node needs rights to write to {spec.results}: a role, not keys in files."
        )
    if "/" in spec.study:
        left.append(f"Put the study file at {spec.study}, where every node reaches it.")
    return left
