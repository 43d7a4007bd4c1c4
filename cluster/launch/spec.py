"""What a person says about a cluster. Every launch file is made from this and nothing else."""

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from cluster.launch.errors import LaunchError

Provider = Literal["slurm", "kuberay", "aws", "gcp", "onprem"]
PROVIDERS: tuple[Provider, ...] = get_args(Provider)
SCALING = {"kuberay", "aws", "gcp"}
CONTAINERS = {"kuberay", "aws", "gcp", "onprem"}
# Values end up in shell scripts and commands, so none may hold a space, quote, $ or backslash.
_WORD = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
_PATH = r"^(/|~/)[A-Za-z0-9._/+-]+$"
Word = Annotated[str, StringConstraints(pattern=_WORD, max_length=128)]
SharedPath = Annotated[str, StringConstraints(pattern=r"^/[A-Za-z0-9._/+-]+$")]
Export = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.-]+:/[A-Za-z0-9._/+-]*$")]
Resource = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:-]*$")]
NODE_LOCAL = re.compile(r"^/(tmp|var/tmp|dev/shm|run|proc|local|scratch/local)(/|$)")
_REQUIRED = {
    "slurm": ("environment", "hours", "token"),
    "kuberay": ("image", "memory"),
    "aws": ("image", "region", "instance", "head_instance", "machine_image", "subnet", "token"),
    "gcp": ("image", "project", "region", "zone", "instance", "head_instance", "machine_image",
            "subnet", "token"),
    "onprem": ("image", "hosts", "user", "token"),
}  # fmt: skip
_WHY = {
    "image": "registry, name and tag that all nodes can pull; build it from the Dockerfile that "
    "is written too",
    "environment": "Python environment with medsweep, on a path that all nodes share",
    "hours": "Slurm ends a job after this time; it goes on after a requeue",
    "token": "path of a file with mode 0600 that holds the cluster's token",
    "machine_image": "AMI, or source image of the boot disk",
    "memory": "GiB a node; pods without a limit are evicted first",
    "hosts": "addresses, the head's first",
}


class ClusterSpec(BaseModel):
    """A cluster and the study that runs on it. The field descriptions are the flags' help."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    provider: Provider = Field(description="slurm, kuberay, aws, gcp or onprem")
    name: Annotated[str, StringConstraints(pattern=r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$")] = Field(
        default="medsweep", description="of job or cluster: a to z, 0 to 9 and -"
    )
    study: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9/][A-Za-z0-9._/+-]*$")] = Field(
        description="name of a shipped study, or path of a study file that all nodes reach"
    )
    results: Annotated[
        str, StringConstraints(pattern=r"^(/|s3://|gs://)[A-Za-z0-9][A-Za-z0-9._/+?=&%:-]*$")
    ] = Field(description="results directory that all nodes reach: a path, s3:// or gs://")
    nodes: int = Field(ge=1, le=4096, description="worker nodes, at most; Slurm: all nodes")
    min_nodes: int | None = Field(
        default=None, ge=0, description="worker nodes at least, where the cluster scales"
    )
    gpus: int = Field(default=0, ge=0, le=64, description="GPUs a node")
    cpus: int = Field(ge=1, le=1024, description="CPU cores a node, for trials")
    memory: int | None = Field(default=None, ge=1, description="GiB a node")
    shm: int = Field(default=8, ge=1, description="GiB of shared memory for Ray's object store")
    image: str | None = Field(default=None, description="container image, with its tag")
    platform: Annotated[str, StringConstraints(pattern=r"^(cpu|gpu|cu[0-9]{3})$")] | None = Field(
        default=None, description="Ray's base image: cpu, gpu or cuNNN; for the Dockerfile"
    )
    environment: SharedPath | None = Field(
        default=None, description="Slurm: Python environment on a shared path"
    )
    storage: SharedPath | None = Field(
        default=None, description="shared folder, mounted at this path on every node"
    )
    nfs: Export | None = Field(
        default=None, description="aws, gcp: NFS export HOST:/PATH, mounted at storage"
    )
    claim: Word | None = Field(
        default=None, description="kuberay: ReadWriteMany claim, mounted at storage"
    )
    storage_class: Word | None = Field(
        default=None, description="kuberay: also write the claim, of this class"
    )
    storage_size: int | None = Field(default=None, ge=1, description="GiB of the written claim")
    token: str | None = Field(
        default=None,
        description="where the token is, never the token: a file with mode 0600; kuberay: a "
        "secret's name (default: the operator makes one)",
    )
    hours: float | None = Field(
        default=None, ge=0.1, le=10_000, description="time limit of the job"
    )
    restarts: int = Field(default=20, ge=0, le=1000, description="times that the job starts anew")
    exclusive: bool = Field(default=True, description="Slurm: whole nodes for this job alone")
    partition: Word | None = Field(default=None, description="Slurm partition")
    account: Word | None = Field(default=None, description="Slurm account")
    region: Word | None = Field(default=None, description="cloud region")
    zone: Word | None = Field(default=None, description="cloud zone")
    project: Word | None = Field(default=None, description="gcp project")
    instance: Word | None = Field(default=None, description="machine type of the workers")
    head_instance: Word | None = Field(default=None, description="machine type of the head")
    gpu_type: Word | None = Field(default=None, description="gcp: accelerator type")
    machine_image: Resource | None = Field(
        default=None, description="AMI, or source image of the boot disk"
    )
    subnet: Resource | None = Field(default=None, description="subnet of all nodes")
    spot: bool = Field(default=False, description="workers may be taken back at any time, cheaper")
    hosts: tuple[Word, ...] = Field(default=(), description="onprem: addresses, the head's first")
    user: Word | None = Field(default=None, description="user that logs in over SSH")

    @property
    def least(self) -> int:
        """Worker nodes at least."""
        return self.nodes if self.min_nodes is None else self.min_nodes

    @property
    def on_path(self) -> bool:
        """Whether results go to a folder that every node mounts."""
        return self.results.startswith("/")


def load_spec(content: dict[str, Any], ray_version: str) -> ClusterSpec:
    """Returns the specification in `content`.

    Args:
        content: fields and values.
        ray_version: the locked Ray, which an image's tag must name.

    Raises:
        LaunchError: fields are wrong, missing or of another provider; one line each.
    """
    try:
        spec = ClusterSpec.model_validate(content)
    except ValidationError as error:
        lines = [
            f"field {'.'.join(map(str, problem['loc']))}: {_told(problem)}"
            for problem in error.errors()
        ]
        raise LaunchError("\n".join(lines)) from error
    lines = [*_missing(spec), *_places(spec), *_amounts(spec), *_references(spec, ray_version)]
    if lines:
        raise LaunchError("\n".join(lines))
    return spec


def _told(problem: Any) -> str:
    if problem["type"] == "missing":
        description = ClusterSpec.model_fields[str(problem["loc"][0])].description
        return f"is missing: {description}."
    return f"{problem['msg']}, but got {problem['input']!r}."


def _missing(spec: ClusterSpec) -> list[str]:
    lines = []
    for field in _REQUIRED[spec.provider]:
        if getattr(spec, field) in (None, ()):
            why = _WHY.get(field) or ClusterSpec.model_fields[field].description
            lines.append(f"field {field}: {spec.provider} needs it: {why}.")
    if spec.gpus and spec.provider in CONTAINERS and spec.platform in (None, "cpu"):
        lines.append(
            "field platform: nodes with GPUs need a base image with CUDA, such as cu128; see the "
            "tags of rayproject/ray for those that exist."
        )
    if spec.provider == "gcp" and spec.gpus and spec.gpu_type is None:
        lines.append("field gpu_type: gcp needs it for GPUs, such as nvidia-tesla-t4.")
    return lines


def _places(spec: ClusterSpec) -> list[str]:
    """Says which places some node cannot reach."""
    lines = []
    for field in ("results", "storage", "environment"):
        value = getattr(spec, field)
        if value and NODE_LOCAL.match(value):
            lines.append(
                f"field {field}: must be reached by every node, but {value!r} is a node's own. "
                "Give a shared folder."
            )
    if not spec.on_path or spec.provider == "slurm":
        return lines
    if spec.storage is None or not f"{spec.results}/".startswith(f"{spec.storage.rstrip('/')}/"):
        lines.append(
            f"field storage: results is the path {spec.results}, so storage must be a folder "
            f"that holds it, but got {spec.storage!r}. Or give results as s3:// or gs://."
        )
    source = {"kuberay": "claim", "aws": "nfs", "gcp": "nfs"}.get(spec.provider)
    if source and getattr(spec, source) is None:
        why = ClusterSpec.model_fields[source].description
        lines.append(
            f"field {source}: is needed for a results path: {why}. Or give results as a URI."
        )
    return lines


def _amounts(spec: ClusterSpec) -> list[str]:
    lines = []
    if spec.min_nodes is not None and spec.min_nodes > spec.nodes:
        lines.append(f"field min_nodes: must be at most nodes {spec.nodes}, got {spec.min_nodes}.")
    if spec.provider not in SCALING and spec.min_nodes not in (None, spec.nodes):
        lines.append(f"field min_nodes: {spec.provider} does not scale; leave it out.")
    if spec.provider == "onprem" and spec.hosts and len(spec.hosts) != spec.nodes + 1:
        lines.append(
            f"field hosts: must be the head and {spec.nodes} workers, but got {len(spec.hosts)}."
        )
    if spec.memory is not None and spec.shm > spec.memory:
        lines.append(f"field shm: must be at most memory {spec.memory}, but got {spec.shm}.")
    if (spec.storage_class is None) != (spec.storage_size is None):
        lines.append("field storage_class: give storage_size with it, or neither.")
    if spec.spot and spec.provider not in {"aws", "gcp"}:
        lines.append(f"field spot: is for aws and gcp, but the provider is {spec.provider}.")
    return lines


def _references(spec: ClusterSpec, ray_version: str) -> list[str]:
    lines = []
    if spec.token is not None:
        rule = _WORD if spec.provider == "kuberay" else _PATH
        what = "a secret's name" if spec.provider == "kuberay" else "an absolute path or ~/PATH"
        long = re.fullmatch(r"[A-Za-z0-9_-]{32,}", spec.token)
        if long or not re.fullmatch(rule, spec.token):
            # The value may be the token itself, so it is not repeated.
            lines.append(f"field token: must be {what} that says where the token is, not a token.")
    if spec.image is not None:
        if not re.fullmatch(r"[a-z0-9][A-Za-z0-9._/:@-]*", spec.image):
            lines.append(f"field image: is no image name: {spec.image!r}.")
        elif not tag_fits(spec.image, ray_version):
            lines.append(
                f"field image: its tag must start with the locked Ray {ray_version}, such as "
                f"{spec.image.split(':')[0]}:{ray_version}-1, but got {spec.image!r}."
            )
    return lines


def tag_fits(image: str, ray_version: str) -> bool:
    """Returns whether an image's tag names this version of Ray.

    Example:
        >>> tag_fits("rayproject/ray:2.60.0-py311-cpu", "2.60.0")
        True
        >>> tag_fits("rayproject/ray:2.60.01", "2.60.0")
        False
    """
    name = image.split("@")[0]
    tag = name.rsplit(":", 1)[1] if ":" in name.rsplit("/", 1)[-1] else ""
    return tag == ray_version or tag.startswith((f"{ray_version}-", f"{ray_version}_"))
