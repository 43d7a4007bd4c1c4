"""KubeRay objects: their fields, and whether a sweep on them keeps its promises."""

from collections.abc import Iterator

from cluster.launch.check_pods import GPU, PodRules
from cluster.launch.findings import Finding, shorten
from cluster.launch.kuberay_schema import SCHEMAS
from cluster.launch.lines import Document, Path
from cluster.launch.schemas import mismatches

LEAST_GRACE = 60
SHARED = {"persistentVolumeClaim", "nfs", "csi", "cephfs", "glusterfs", "azureFile"}


def check(file: str, document: Document, ray_version: str) -> list[Finding]:
    """Returns what is wrong with one Kubernetes object; rules look at valid ones only."""
    kind = document.at(("kind",))
    if kind not in SCHEMAS:
        line = document.line(("kind",))
        return [Finding(file, line, "schema", f"kind is {kind!r}", f"Use one of {[*SCHEMAS]}.")]
    found = list(mismatches(file, document, SCHEMAS[kind]))
    if found:
        return found
    if kind == "PersistentVolumeClaim":
        return list(_claim(file, document))
    cluster: Path = ("spec",) if kind == "RayCluster" else ("spec", "rayClusterSpec")
    rules = _Rules(file, document, ray_version)
    if kind == "RayJob":
        found += rules.job()
    if document.at(cluster) is not None:
        found += rules.cluster(cluster)
    return found


def _claim(file: str, document: Document) -> Iterator[Finding]:
    path = ("spec", "accessModes")
    if "ReadWriteMany" not in document.at(path):
        yield Finding(
            file,
            document.line(path),
            "shared-storage",
            f"{document.at(path)}",
            "All nodes write to it: ask for ReadWriteMany.",
        )


class _Rules:
    def __init__(self, file: str, document: Document, ray_version: str) -> None:
        self.file, self.document, self.ray = file, document, ray_version

    def _finding(self, path: Path, rule: str, value: object, remedy: str) -> Finding:
        return Finding(self.file, self.document.line(path), rule, shorten(value), remedy)

    def job(self) -> Iterator[Finding]:
        """Yields what is wrong with a RayJob outside its cluster."""
        spec = self.document.at(("spec",))
        if "clusterSelector" not in spec and not spec.get("shutdownAfterJobFinishes"):
            yield self._finding(
                ("spec", "shutdownAfterJobFinishes"),
                "cleanup",
                "the cluster stays after the job",
                "Set shutdownAfterJobFinishes: true.",
            )
        if "rayClusterSpec" not in spec and "clusterSelector" not in spec:
            yield self._finding(("spec",), "schema", "no cluster", "Add rayClusterSpec.")

    def cluster(self, at: Path) -> Iterator[Finding]:
        """Yields what is wrong with a cluster."""
        spec = self.document.at(at)
        if spec.get("authOptions", {}).get("mode") != "token":
            yield self._finding(
                (*at, "authOptions", "mode"),
                "token-auth",
                "clients without a token are let in",
                "Set authOptions: {mode: token}.",
            )
        if spec.get("rayVersion") != self.ray:
            yield self._finding(
                (*at, "rayVersion"),
                "ray-version",
                f"rayVersion is {spec.get('rayVersion')!r}",
                f"The locked Ray is {self.ray}.",
            )
        version = spec.get("autoscalerOptions", {}).get("version")
        if spec.get("enableInTreeAutoscaling") and version != "v2":
            yield self._finding(
                (*at, "autoscalerOptions", "version"),
                "autoscaler",
                f"version is {version!r}",
                "Set autoscalerOptions: {version: v2}.",
            )
        yield from self._head((*at, "headGroupSpec"))
        groups = [(*at, "headGroupSpec")]
        for index in range(len(spec.get("workerGroupSpecs", []))):
            groups.append((*at, "workerGroupSpecs", index))
            yield from self._workers(groups[-1])
        for group in groups:
            yield from PodRules(self.file, self.document, self.ray).pod(
                (*group, "template", "spec")
            )
        yield from self._storage(groups)

    def _head(self, at: Path) -> Iterator[Finding]:
        head = self.document.at(at)
        parameters = head["rayStartParams"]
        if parameters.get("num-cpus") != "0":
            yield self._finding(
                (*at, "rayStartParams", "num-cpus"),
                "head-schedules-nothing",
                f"num-cpus is {parameters.get('num-cpus')!r}",
                'Set num-cpus: "0".',
            )
        if parameters.get("num-gpus", "0") != "0":
            yield self._finding(
                (*at, "rayStartParams", "num-gpus"),
                "head-schedules-nothing",
                f"num-gpus is {parameters['num-gpus']!r}",
                'Set num-gpus: "0".',
            )
        for index, container in enumerate(head["template"]["spec"]["containers"]):
            for kind, amounts in container.get("resources", {}).items():
                if str(amounts.get(GPU, 0)) != "0":
                    path = (*at, "template", "spec", "containers", index, "resources", kind, GPU)
                    yield self._finding(
                        path,
                        "head-schedules-nothing",
                        "the head has a GPU",
                        "GPUs belong to the worker groups.",
                    )
        for field, bad, remedy in (
            (
                "serviceType",
                head.get("serviceType", "ClusterIP") != "ClusterIP",
                "Set ClusterIP and use kubectl port-forward.",
            ),
            ("enableIngress", head.get("enableIngress", False), "Use kubectl port-forward."),
        ):
            if bad:
                yield self._finding((*at, field), "exposed", f"{field} is {head[field]}", remedy)

    def _workers(self, at: Path) -> Iterator[Finding]:
        group = self.document.at(at)
        least, most = group["minReplicas"], group["maxReplicas"]
        now = group.get("replicas", least)
        if least > most:
            yield self._finding(
                (*at, "minReplicas"),
                "min-max",
                f"min {least} > max {most}",
                "minReplicas must be at most maxReplicas.",
            )
        elif not least <= now <= most:
            yield self._finding(
                (*at, "replicas"),
                "min-max",
                f"replicas {now}",
                f"It must lie between {least} and {most}.",
            )
        path = (*at, "template", "spec", "terminationGracePeriodSeconds")
        grace = self.document.at(path)
        if grace is None or grace < LEAST_GRACE:
            yield self._finding(
                path,
                "grace",
                f"terminationGracePeriodSeconds is {grace}",
                f"Give trials {LEAST_GRACE} s or more for a checkpoint.",
            )

    def _storage(self, groups: list[Path]) -> Iterator[Finding]:
        """Every group must mount the same shared volumes at the same places, `--out` in one."""
        mounts = {group: self._shared(group) for group in groups}
        every = {place: claim for found in mounts.values() for place, claim in found.items()}
        for group, found in mounts.items():
            at = (*group, "template", "spec", "containers", 0, "volumeMounts")
            for place, claim in every.items():
                if found.get(place) != claim and not self._on_machine(group, place):
                    value = f"{place} is {found.get(place, 'not shared')} here, {claim} elsewhere"
                    yield self._finding(
                        self._mount(at, place),
                        "shared-storage",
                        value,
                        "Mount the same claim on head and workers.",
                    )
        words = str(self.document.at(("spec", "entrypoint")) or "").split()
        out = words[words.index("--out") + 1] if "--out" in words[:-1] else ""
        if out.startswith("/") and not any(
            f"{out}/".startswith(f"{place.rstrip('/')}/") for place in every
        ):
            yield self._finding(
                ("spec", "entrypoint"),
                "shared-storage",
                f"--out {out}",
                "No group mounts shared storage there.",
            )

    def _shared(self, group: Path) -> dict[str, str]:
        """Returns mount path to claim of the shared volumes of a group's first container."""
        pod = self.document.at((*group, "template", "spec"))
        volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
        found = {}
        for mount in pod["containers"][0].get("volumeMounts", []):
            source = volumes.get(mount["name"], {})
            kind = next((name for name in source if name in SHARED), None)
            if kind:
                found[mount["mountPath"]] = shorten(source[kind])
        return found

    def _on_machine(self, group: Path, place: str) -> bool:
        """Returns whether a machine's folder is mounted there, which a rule for pods refuses."""
        pod = self.document.at((*group, "template", "spec"))
        own = {volume["name"] for volume in pod.get("volumes", []) if "hostPath" in volume}
        mounts = pod["containers"][0].get("volumeMounts", [])
        return any(mount["mountPath"] == place and mount["name"] in own for mount in mounts)

    def _mount(self, at: Path, place: str) -> Path:
        for index, mount in enumerate(self.document.at(at) or []):
            if mount["mountPath"] == place:
                return (*at, index)
        return at
