"""Files of Ray's cluster launcher: Ray's own schema, the machines, and the promises of a sweep."""

import re
from collections.abc import Iterator
from typing import Any

from cluster.launch.findings import Finding, shorten
from cluster.launch.launcher_shape import machines, ray_schema, rays_own
from cluster.launch.lines import Document, Path
from cluster.launch.schemas import mismatches
from cluster.launch.spec import NODE_LOCAL, tag_fits

_COMMANDS = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)
_PORT = re.compile(r"--((?:[a-z]+-)*port)[= ](\d+)")


def check(file: str, document: Document, ray_version: str) -> list[Finding]:
    """Returns what is wrong with a launcher file; rules need one of the right shape."""
    found = list(mismatches(file, document, ray_schema(), rule="ray-schema"))
    found += machines(file, document)
    if not found:
        rules = _Rules(file, document, ray_version)
        found = list(rules.all())
    return found or rays_own(file, document)


class _Rules:
    def __init__(self, file: str, document: Document, ray_version: str) -> None:
        self.file, self.document, self.ray = file, document, ray_version
        self.types: dict[str, Any] = document.at(("available_node_types",)) or {}
        self.docker: dict[str, Any] = document.at(("docker",)) or {}

    def _finding(self, path: Path, rule: str, value: object, remedy: str) -> Finding:
        return Finding(self.file, self.document.line(path), rule, shorten(value), remedy)

    def all(self) -> Iterator[Finding]:
        """Yields the breaches of every rule."""
        yield from self._versions()
        yield from self._head()
        yield from self._limits()
        yield from self._docker()
        yield from self._start("head")
        yield from self._start("worker")
        yield from self._exposed()

    def _commands(self, field: str) -> list[tuple[Path, str]]:
        commands = self.document.at((field,)) or []
        return [((field, index), str(command)) for index, command in enumerate(commands)]

    def _versions(self) -> Iterator[Finding]:
        for field in ("image", "head_image", "worker_image"):
            image = self.docker.get(field)
            if image is not None and not tag_fits(image, self.ray):
                yield self._finding(
                    ("docker", field),
                    "ray-version",
                    image,
                    f"The tag must start with the locked Ray {self.ray}.",
                )
        for field in _COMMANDS:
            for path, command in self._commands(field):
                pinned = re.search(r"\bray(?:\[[a-z,]+\])?==([0-9.]+)", command)
                if pinned and pinned[1] != self.ray:
                    yield self._finding(
                        path, "ray-version", pinned[0], f"The locked Ray is {self.ray}."
                    )

    def _head(self) -> Iterator[Finding]:
        name = self.document.at(("head_node_type",))
        if name is None or name not in self.types:
            return
        at: Path = ("available_node_types", name)
        head = self.types[name]
        resources = head.get("resources") or {}
        if resources.get("CPU") != 0:
            yield self._finding(
                (*at, "resources", "CPU"),
                "head-schedules-nothing",
                f"the head has {resources.get('CPU', 'all its')} CPUs for trials",
                "Set resources: {CPU: 0}.",
            )
        if resources.get("GPU", 0) != 0:
            yield self._finding(
                (*at, "resources", "GPU"),
                "head-schedules-nothing",
                f"the head has {resources['GPU']} GPUs",
                "GPUs belong to the workers.",
            )
        if head.get("max_workers", 1) != 0:
            yield self._finding(
                (*at, "max_workers"),
                "head-schedules-nothing",
                "workers of the head's type would be started",
                "Set max_workers: 0.",
            )
        config = head.get("node_config", {})
        preemptible = any("preemptible" in part for part in config.get("scheduling", []))
        if "InstanceMarketOptions" in config or preemptible:
            field = "scheduling" if preemptible else "InstanceMarketOptions"
            yield self._finding(
                (*at, "node_config", field),
                "head-stays",
                "the head may be taken back at any time",
                "Only workers may be spot machines.",
            )

    def _limits(self) -> Iterator[Finding]:
        total, wrong = 0, False
        for name, kind in self.types.items():
            at: Path = ("available_node_types", name)
            least, most = kind.get("min_workers", 0), kind.get("max_workers")
            total += least
            if most is not None and least > most:
                wrong = True
                yield self._finding(
                    (*at, "min_workers"),
                    "min-max",
                    f"min {least} > max {most}",
                    "min_workers must be at most max_workers.",
                )
        most = self.document.at(("max_workers",))
        if most is not None and total > most and not wrong:
            yield self._finding(
                ("max_workers",),
                "min-max",
                f"max_workers {most} < {total} in all",
                "It must be at least the sum of min_workers.",
            )

    def _docker(self) -> Iterator[Finding]:
        if not self.docker:
            return
        both = self.docker.get("run_options", [])
        sides = {
            side: [*both, *self.docker.get(f"{side}_run_options", [])]
            for side in ("head", "worker")
        }
        for side, options in sides.items():
            if not any(option.startswith("--shm-size") for option in options):
                yield self._finding(
                    ("docker", "run_options"),
                    "shm",
                    f"no --shm-size on the {side}",
                    "Add --shm-size to run_options.",
                )
                break
        mounts = {
            side: {option for option in options if _mount(option)}
            for side, options in sides.items()
        }
        for side in ("head", "worker"):
            for option in sorted(mounts["head"] ^ mounts["worker"]):
                field = f"{side}_run_options"
                own = self.docker.get(field, [])
                if option in own:
                    yield self._finding(
                        ("docker", field, own.index(option)),
                        "shared-storage",
                        option,
                        "Mount it on head and workers alike.",
                    )
        for index, option in enumerate(both):
            source = _mount(option)
            if source and NODE_LOCAL.match(source):
                yield self._finding(
                    ("docker", "run_options", index),
                    "shared-storage",
                    option,
                    "It is another folder on every machine.",
                )
            if re.search(r"--user[= ](root|0)\b|--privileged", option):
                yield self._finding(
                    ("docker", "run_options", index), "non-root", option, "Leave it out."
                )

    def _start(self, side: str) -> Iterator[Finding]:
        field = f"{side}_start_ray_commands"
        starts = [pair for pair in self._commands(field) if "ray start" in pair[1]]
        if not starts:
            yield self._finding(
                (field,),
                "start",
                f"no ray start in {field}",
                "Ray's default opens the dashboard to all; write it out.",
            )
        for path, command in starts:
            if side == "head" and not re.search(r"--num-cpus[= ]0\b", command):
                yield self._finding(
                    path,
                    "head-schedules-nothing",
                    "no --num-cpus=0",
                    "Start the head with --num-cpus=0.",
                )
            if side == "head" and "--autoscaling-config" not in command:
                yield self._finding(
                    path,
                    "autoscaler",
                    "no --autoscaling-config",
                    "Add --autoscaling-config=~/ray_bootstrap_config.yaml.",
                )
            if "RAY_AUTH_MODE=token" not in command:
                yield self._finding(
                    path,
                    "token-auth",
                    "clients without a token are let in",
                    "Export RAY_AUTH_MODE=token before ray start.",
                )
            token = re.search(r"RAY_AUTH_TOKEN_PATH=([^\s;]+)", command)
            mounted = self.document.at(("file_mounts",)) or {}
            if token is None or token[1] not in mounted:
                place = path if token is None else ("file_mounts",)
                yield self._finding(
                    place,
                    "token-auth",
                    "the token's file is not on the nodes",
                    "Name it in file_mounts and in RAY_AUTH_TOKEN_PATH.",
                )
            ports = [match[1] for match in re.finditer(r"--[a-z-]*port[= ](\d+)", command)]
            for port in sorted({port for port in ports if ports.count(port) > 1}):
                yield self._finding(
                    path,
                    "ports",
                    f"port {port} is used twice",
                    "Every service needs a port of its own.",
                )
        if side == "worker":
            yield from self._meeting(starts)

    def _meeting(self, workers: list[tuple[Path, str]]) -> Iterator[Finding]:
        heads = [
            dict(_PORT.findall(text)) for _, text in self._commands("head_start_ray_commands")
        ]
        port = next((ports["port"] for ports in heads if "port" in ports), "6379")
        for path, command in workers:
            asked = re.search(r"--address[= ]\S+:(\d+)", command)
            if asked and asked[1] != port:
                yield self._finding(
                    path,
                    "ports",
                    f"the head listens on {port}, not {asked[1]}",
                    "Give head and workers one port.",
                )

    def _exposed(self) -> Iterator[Finding]:
        texts = [pair for field in _COMMANDS for pair in self._commands(field)]
        texts += [
            (("docker", "run_options", index), option)
            for index, option in enumerate(self.docker.get("run_options", []))
        ]
        for path, text in texts:
            if re.search(r"(?<![\d.])0\.0\.0\.0(?![\d.])|host[= ]::(?!\d)", text):
                yield self._finding(path, "exposed", text, "Bind to 127.0.0.1.")
            if "RAY_AUTH_MODE=disabled" in text:
                yield self._finding(path, "token-auth", text, "Set RAY_AUTH_MODE=token.")


def _mount(option: str) -> str | None:
    """Returns the machine's folder in `-v /a:/b` or `--volume=/a:/b`."""
    match = re.match(r"(?:-v|--volume)[= ]([^:]+):", option)
    return match[1] if match else None
