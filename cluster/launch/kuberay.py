"""KubeRay: a RayJob for one study, a RayCluster to work on, and the claim for the results."""

from typing import Any

from cluster.launch.lines import Path
from cluster.launch.spec import ClusterSpec
from cluster.launch.yaml_text import yaml_text

HEAD_CPUS, HEAD_MEMORY = 2, 8  # cores and GiB: GCS, dashboard, autoscaler and the driver
GRACE = 120  # seconds between the notice and the end of a pod: time for a checkpoint


def job_yaml(spec: ClusterSpec, ray_version: str) -> str:
    """Returns a RayJob that runs the study once and then removes its cluster."""
    body = {
        "entrypoint": f"medsweep run {spec.study} --out {spec.results} --address auto",
        "submissionMode": "SidecarMode",
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": 600,
        "backoffLimit": spec.restarts,
        **({"activeDeadlineSeconds": round(spec.hours * 3600)} if spec.hours else {}),
        "rayClusterSpec": _cluster(spec, ray_version),
    }
    content = _object("RayJob", spec.name, body)
    header = f"""RayJob {spec.name}: runs the study, removes its cluster; for KubeRay 1.6 or newer.

{_token_text(spec)}
Launch: kubectl apply -f rayjob.yaml
Watch:  kubectl get rayjob {spec.name} -w
Again after a failure: up to {spec.restarts} times by itself; what is finished is kept."""
    return yaml_text(content, header, _notes(("spec", "rayClusterSpec")))


def cluster_yaml(spec: ClusterSpec, ray_version: str) -> str:
    """Returns a RayCluster that stays until it is deleted."""
    content = _object("RayCluster", spec.name, _cluster(spec, ray_version))
    header = f"""RayCluster {spec.name}: stays until it is deleted; needs KubeRay 1.6 or newer.

{_token_text(spec)}
Launch: kubectl apply -f raycluster.yaml
Study:  kubectl exec -it $(kubectl get pod -o name -l ray.io/cluster={spec.name},ray.io/node-type=head) -- \\
          medsweep run {spec.study} --out {spec.results} --address auto
End:    kubectl delete -f raycluster.yaml"""  # noqa: E501
    return yaml_text(content, header, _notes(("spec",)))


def claim_yaml(spec: ClusterSpec) -> str:
    """Returns the claim on storage that all nodes mount."""
    body = {
        "accessModes": ["ReadWriteMany"],
        "storageClassName": spec.storage_class,
        "resources": {"requests": {"storage": f"{spec.storage_size}Gi"}},
    }
    content = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": spec.claim},
        "spec": body,
    }
    header = (
        "Storage of the results, mounted by every node.\n\nOnce: kubectl apply -f storage.yaml"
    )
    return yaml_text(content, header)


def _token_text(spec: ClusterSpec) -> str:
    if spec.token is None:
        return "The operator makes the token and keeps it as a secret."
    return (
        f"Once:   kubectl create secret generic {spec.token} --from-literal=auth_token="
        '"$(openssl rand -hex 32)"'
    )


def _notes(cluster: Path) -> dict[Path, str]:
    head = (*cluster, "headGroupSpec")
    return {
        (*cluster, "authOptions"): "Clients without the token are refused.",
        (*head, "rayStartParams"): "The head schedules no trials.",
        (*head, "template", "spec", "volumes"): "Ray's objects lie in shared memory.",
        (*cluster, "workerGroupSpecs", 0, "template", "spec", "terminationGracePeriodSeconds"):
            "Time for trials to write a checkpoint after a pre-emption notice.",
    }  # fmt: skip


def _object(kind: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "ray.io/v1", "kind": kind, "metadata": {"name": name}, "spec": body}


def _cluster(spec: ClusterSpec, ray_version: str) -> dict[str, Any]:
    auth = {"mode": "token"} | ({"secretName": spec.token} if spec.token else {})
    return {
        "rayVersion": ray_version,
        "authOptions": auth,
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {
            "version": "v2",
            "idleTimeoutSeconds": 300,
            "resources": _amounts(cpu="500m", memory="1Gi"),
        },
        "headGroupSpec": {
            "serviceType": "ClusterIP",
            "rayStartParams": {"num-cpus": "0", "num-gpus": "0"},
            "template": _pod(spec, "ray-head", _amounts(HEAD_CPUS, f"{_head_memory(spec)}Gi")),
        },
        "workerGroupSpecs": [
            {
                "groupName": "workers",
                "replicas": spec.least,
                "minReplicas": spec.least,
                "maxReplicas": spec.nodes,
                "rayStartParams": {"num-cpus": str(spec.cpus), "num-gpus": str(spec.gpus)},
                "template": _pod(
                    spec, "ray-worker", _amounts(spec.cpus, f"{spec.memory}Gi", spec.gpus)
                ),
            }
        ],
    }


def _head_memory(spec: ClusterSpec) -> int:
    return max(HEAD_MEMORY, 2 * spec.shm)  # a memory-backed volume counts towards the limit


def _amounts(cpu: int | str, memory: str, gpus: int = 0) -> dict[str, Any]:
    amounts = {"cpu": str(cpu), "memory": memory}
    amounts |= {"nvidia.com/gpu": str(gpus)} if gpus else {}
    return {"requests": dict(amounts), "limits": dict(amounts)}


def _pod(spec: ClusterSpec, name: str, resources: dict[str, Any]) -> dict[str, Any]:
    mounts = [{"name": "shm", "mountPath": "/dev/shm"}]  # noqa: S108  not a temporary file
    volumes: list[dict[str, Any]] = [
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{spec.shm}Gi"}}
    ]
    if spec.storage and spec.claim:
        mounts.append({"name": "results", "mountPath": spec.storage})
        claim = {"claimName": spec.claim}
        volumes.append({"name": "results", "persistentVolumeClaim": claim})
    container = {
        "name": name,
        "image": spec.image,
        "imagePullPolicy": "IfNotPresent",
        "resources": resources,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }
    body: dict[str, Any] = {
        "terminationGracePeriodSeconds": GRACE,
        # The user and the group of Ray's images; the group may write to the volumes.
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "fsGroup": 100},
        "containers": [container],
        "volumes": volumes,
    }
    if name == "ray-worker" and spec.instance:
        body["nodeSelector"] = {"node.kubernetes.io/instance-type": spec.instance}
    if name == "ray-worker" and spec.gpus:
        body["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    return {"spec": body}
