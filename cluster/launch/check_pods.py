"""Pods of a Ray cluster: shared memory, limits, user, ports."""

from collections.abc import Iterator
from typing import Any

from cluster.launch.findings import Finding, shorten
from cluster.launch.lines import Document, Path
from cluster.launch.spec import tag_fits

GPU = "nvidia.com/gpu"
SHM = "/dev/shm"  # noqa: S108  not a temporary file


class PodRules:
    """Rules for one pod after the other of a document."""

    def __init__(self, file: str, document: Document, ray_version: str) -> None:
        self.file, self.document, self.ray = file, document, ray_version

    def _finding(self, path: Path, rule: str, value: object, remedy: str) -> Finding:
        return Finding(self.file, self.document.line(path), rule, shorten(value), remedy)

    def pod(self, at: Path) -> Iterator[Finding]:
        """Yields what is wrong with the pod at a path."""
        pod = self.document.at(at)
        if pod.get("hostNetwork"):
            yield self._finding(
                (*at, "hostNetwork"),
                "exposed",
                "hostNetwork is true",
                "Ray's ports would stand open on the machine; leave it out.",
            )
        if pod.get("securityContext", {}).get("runAsUser") == 0:
            yield self._finding(
                (*at, "securityContext", "runAsUser"),
                "non-root",
                "runAsUser is 0",
                "Run as another user, such as 1000.",
            )
        for index, volume in enumerate(pod.get("volumes", [])):
            if "hostPath" in volume:
                yield self._finding(
                    (*at, "volumes", index, "hostPath"),
                    "shared-storage",
                    f"hostPath {volume['hostPath']['path']}",
                    "It is another folder on every machine; use a claim.",
                )
        for index, container in enumerate(pod["containers"]):
            yield from self._container((*at, "containers", index), container)
            if index == 0:
                yield from self._shared_memory((*at, "containers", 0), pod, container)

    def _container(self, at: Path, container: dict[str, Any]) -> Iterator[Finding]:
        if at[-1] == 0 and not tag_fits(container["image"], self.ray):
            yield self._finding(
                (*at, "image"),
                "ray-version",
                container["image"],
                f"The tag must start with the locked Ray {self.ray}.",
            )
        resources = container.get("resources", {})
        limits, requests = resources.get("limits", {}), resources.get("requests", {})
        names = {"memory"} if "headGroupSpec" in at else {GPU, "memory"}
        for name in sorted(names & {*limits, *requests}):
            if str(limits.get(name)) != str(requests.get(name)):
                side = "limits" if name in limits else "requests"
                value = f"{name}: requests {requests.get(name)}, limits {limits.get(name)}"
                yield self._finding(
                    (*at, "resources", side, name),
                    "limits",
                    value,
                    "Requests and limits must be equal.",
                )
        if at[-1] == 0 and "memory" not in limits:
            yield self._finding(
                (*at, "resources", "limits"),
                "limits",
                "no limit of memory",
                "Set it: Ray takes the pod's memory from it.",
            )
        security = container.get("securityContext", {})
        for field, bad in (("runAsUser", 0), ("privileged", True)):
            if field in security and security[field] == bad:
                yield self._finding(
                    (*at, "securityContext", field),
                    "non-root",
                    f"{field} is {security[field]}",
                    "Leave it out.",
                )
        yield from self._environment(at, container)
        seen: dict[int, int] = {}
        for index, port in enumerate(container.get("ports", [])):
            number = port["containerPort"]
            if number in seen or "hostPort" in port:
                path = (*at, "ports", index, "hostPort" if "hostPort" in port else "containerPort")
                yield self._finding(
                    path,
                    "ports",
                    f"port {number}",
                    "Ports of a container differ, and none is the machine's.",
                )
            seen[number] = index

    def _environment(self, at: Path, container: dict[str, Any]) -> Iterator[Finding]:
        for index, entry in enumerate(container.get("env", [])):
            path = (*at, "env", index, "value")
            if entry["name"] == "RAY_AUTH_MODE" and entry.get("value") != "token":
                yield self._finding(
                    path,
                    "token-auth",
                    f"RAY_AUTH_MODE is {entry.get('value')}",
                    "Leave it out: authOptions sets it.",
                )

    def _shared_memory(
        self, at: Path, pod: dict[str, Any], container: dict[str, Any]
    ) -> Iterator[Finding]:
        volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
        for mount in container.get("volumeMounts", []):
            if mount["mountPath"] == SHM:
                volume = volumes.get(mount["name"], {})
                if volume.get("emptyDir", {}).get("medium") != "Memory":
                    where = _medium(at, pod, mount["name"])
                    yield self._finding(
                        where,
                        "shm",
                        f"{SHM} is not in memory",
                        "Mount an emptyDir with medium: Memory.",
                    )
                return
        yield self._finding(
            (*at, "volumeMounts"),
            "shm",
            f"nothing is mounted at {SHM}",
            "Mount an emptyDir with medium: Memory there.",
        )


def _medium(container: Path, pod: dict[str, Any], volume: str) -> Path:
    """Returns where a volume says what it lies in."""
    for index, one in enumerate(pod.get("volumes", [])):
        if one["name"] == volume:
            return (*container[:-2], "volumes", index, "emptyDir", "medium")
    return (*container, "volumeMounts")
