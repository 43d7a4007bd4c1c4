"""Ray's cluster launcher: AWS, Google Cloud, and machines of one's own."""

from typing import Any

from cluster.launch.lines import Path
from cluster.launch.spec import ClusterSpec
from cluster.launch.yaml_text import yaml_text

TOKEN = "/home/ray/.ray/medsweep_token"  # noqa: S105  a path
PORT = 6379
_ENV = f"export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={TOKEN}; ulimit -n 65536"


def cluster_yaml(spec: ClusterSpec) -> str:
    """Returns the launcher's file for aws, gcp or onprem."""
    content = {
        "cluster_name": spec.name,
        "max_workers": spec.nodes,
        **({} if spec.provider == "onprem" else {"upscaling_speed": 1.0}),
        "idle_timeout_minutes": 10,
        "provider": _provider(spec),
        "auth": _auth(spec),
        "docker": {
            "image": spec.image,
            "container_name": "medsweep",
            "pull_before_run": True,
            "run_options": _run_options(spec),
        },
        **_node_types(spec),
        "file_mounts": {TOKEN: spec.token},
        "initialization_commands": _before_docker(spec),
        # As the shells of `ray exec` and `ray submit` are to have it too.
        "setup_commands": [
            f"chmod 600 {TOKEN}",
            "echo 'export RAY_AUTH_MODE=token' >> ~/.bashrc",
            f"echo 'export RAY_AUTH_TOKEN_PATH={TOKEN}' >> ~/.bashrc",
        ],
        "head_start_ray_commands": ["ray stop", _start_head()],
        "worker_start_ray_commands": ["ray stop", _start_worker(spec)],
    }
    return yaml_text(content, _header(spec), _notes())


def _notes() -> dict[Path, str]:
    return {
        (
            "docker",
            "run_options",
        ): "Ray's objects lie in shared memory; docker's default is 64 MiB.",
        ("available_node_types", "head", "resources"): "The head schedules no trials.",
        ("file_mounts",): "The token is copied from this machine; it is in no image and no file.",
        ("head_start_ray_commands",): "Every port of Ray is closed to clients without the token.",
    }


def _header(spec: ClusterSpec) -> str:
    return f"""Ray cluster {spec.name} on {spec.provider}: a head without trials, and its workers.

Once: (umask 077; python -c 'import secrets; print(secrets.token_hex(32))' > {spec.token})
      export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={spec.token}
Launch: ray up -y cluster.yaml
Study:  ray exec --tmux cluster.yaml \\
          'medsweep run {spec.study} --out {spec.results} --address auto'
Watch:  ray dashboard cluster.yaml (an SSH tunnel to the head's loopback interface)
Again after a failure: the same commands; what is finished is kept.
End:    ray down -y cluster.yaml"""


def _provider(spec: ClusterSpec) -> dict[str, Any]:
    if spec.provider == "onprem":
        return {"type": "local", "head_ip": spec.hosts[0], "worker_ips": list(spec.hosts[1:])}
    made: dict[str, Any] = {"type": spec.provider, "region": spec.region}
    if spec.zone:
        made["availability_zone"] = spec.zone
    if spec.provider == "gcp":
        made["project_id"] = spec.project
    else:
        made["cache_stopped_nodes"] = False
    return made


def _auth(spec: ClusterSpec) -> dict[str, Any]:
    return {"ssh_user": spec.user or "ubuntu"}


def _run_options(spec: ClusterSpec) -> list[str]:
    options = [
        f"--shm-size={spec.shm}g",
        "--ulimit nofile=65536:65536",
        "--init",
        "--env RAY_AUTH_MODE=token",
        f"--env RAY_AUTH_TOKEN_PATH={TOKEN}",
    ]
    return [*options, *([f"-v {spec.storage}:{spec.storage}"] if spec.storage else [])]


def _before_docker(spec: ClusterSpec) -> list[str]:
    """Commands on the machine itself, whose environment the container does not see."""
    commands = ["export RAY_AUTH_MODE=token; command -v docker"]
    if spec.nfs:
        commands += [
            f"sudo mkdir -p {spec.storage}",
            f"mountpoint -q {spec.storage} || sudo mount -t nfs4 {spec.nfs} {spec.storage}",
        ]
    return commands


def _start_head() -> str:
    return (
        f"{_ENV}; ray start --head --port={PORT} --num-cpus=0 --num-gpus=0 "
        "--dashboard-host=127.0.0.1 --autoscaling-config=~/ray_bootstrap_config.yaml "
        "--disable-usage-stats"
    )


def _start_worker(spec: ClusterSpec) -> str:
    own = f" --num-cpus={spec.cpus} --num-gpus={spec.gpus}" if spec.provider == "onprem" else ""
    return f"{_ENV}; ray start --address=$RAY_HEAD_IP:{PORT}{own} --disable-usage-stats"


def _node_types(spec: ClusterSpec) -> dict[str, Any]:
    if spec.provider == "onprem":
        return {}  # the launcher makes one type of its own
    config = _aws if spec.provider == "aws" else _gcp
    resources: dict[str, int] = {"CPU": spec.cpus}
    if spec.gpus:
        resources["GPU"] = spec.gpus
    if spec.spot:
        resources["spot"] = 1
    return {
        "available_node_types": {
            "head": {
                "resources": {"CPU": 0},
                "node_config": config(spec, head=True),
                "min_workers": 0,
                "max_workers": 0,
            },
            "workers": {
                "resources": resources,
                "node_config": config(spec, head=False),
                "min_workers": spec.least,
                "max_workers": spec.nodes,
            },
        },
        "head_node_type": "head",
    }


def _aws(spec: ClusterSpec, head: bool) -> dict[str, Any]:
    made: dict[str, Any] = {
        "InstanceType": spec.head_instance if head else spec.instance,
        "ImageId": spec.machine_image,
        "SubnetIds": [spec.subnet],
        "MetadataOptions": {"HttpTokens": "required"},
    }
    if spec.spot and not head:
        made["InstanceMarketOptions"] = {"MarketType": "spot"}
    return made


def _gcp(spec: ClusterSpec, head: bool) -> dict[str, Any]:
    parameters = {"diskSizeGb": 100, "sourceImage": spec.machine_image}
    made: dict[str, Any] = {
        "machineType": spec.head_instance if head else spec.instance,
        "disks": [
            {
                "boot": True,
                "autoDelete": True,
                "type": "PERSISTENT",
                "initializeParams": parameters,
            }
        ],
        "networkInterfaces": [{"subnetwork": spec.subnet}],
    }
    if head:
        return made
    if spec.gpus:
        kind = f"projects/{spec.project}/zones/{spec.zone}/acceleratorTypes/{spec.gpu_type}"
        made["guestAccelerators"] = [{"acceleratorType": kind, "acceleratorCount": spec.gpus}]
    scheduling: list[dict[str, Any]] = [{"preemptible": True}] if spec.spot else []
    if spec.gpus:
        scheduling.append({"onHostMaintenance": "TERMINATE"})
    if scheduling:
        made["scheduling"] = scheduling
    return made
