"""Ray clusters of several nodes on this machine, each node a `ray start` that can be killed.

Token authentication is on. Nodes may live in network namespaces with addresses of their own.
"""

import json
import secrets
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from tests.chaos import processes
from tests.chaos.bench import ENVIRONMENT, Bench
from tests.chaos.outcome import Unavailable

LOOPBACK = "127.0.0.1"
STORE_BYTES = 80 * 2**20
_RAY = (sys.executable, "-m", "ray.scripts.scripts")


@dataclass(frozen=True)
class Place:
    """Where a node runs: its address, and what starts a process there."""

    address: str = LOOPBACK
    within: tuple[str, ...] = ()


HERE = Place()


@dataclass(frozen=True)
class Node:
    """A running `ray start`; all of its processes carry its mark."""

    mark: str
    place: Place

    def kill(self) -> None:
        """Ends every process of the node at once, as a power cut does."""
        processes.end(self.mark)


class Cluster:
    """A head node, and those that join it.

    Attributes:
        address: for `--address`.
        env: of every client: the token.
        nodes: in the order of their start; the head is the first.
    """

    def __init__(self, bench: Bench, place: Place = HERE, cpus: int = 1, *more: object) -> None:
        self.bench, self.place = bench, place
        self.env = {
            **ENVIRONMENT,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(16),
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
            "TMPDIR": "/tmp",  # noqa: S108  short: paths of sockets are bounded
        }
        # Sockets lie below it, and their paths are bounded.
        self.scratch = tempfile.mkdtemp(prefix="chaos-", dir="/tmp")
        self.nodes: list[Node] = []
        self._probe: Probe | None = None
        port, client = _free_port(), _free_port()
        self.address = f"{place.address}:{port}"
        head = ("--head", "--port", port, "--ray-client-server-port", client,
                "--temp-dir", self.scratch, "--include-dashboard", "false",
                "--disable-usage-stats")  # fmt: skip
        self._start(place, cpus, *head, *more)

    def join(self, place: Place = HERE, cpus: int = 1) -> Node:
        """Starts a further node."""
        return self._start(place, cpus, "--address", self.address)

    def _start(self, place: Place, cpus: int, *options: object) -> Node:
        node = Node(self.bench.next_mark(), place)
        low = 20_000 + 400 * (uuid.uuid4().int % 30)  # below the ports that the system gives out
        command = (*place.within, *_RAY, "start", "--block", *options,
                   "--node-ip-address", place.address, "--num-cpus", cpus, "--num-gpus", 0,
                   "--object-store-memory", STORE_BYTES, "--resources", json.dumps({node.mark: 1}),
                   "--dashboard-agent-listen-port", _free_port(),
                   "--min-worker-port", low, "--max-worker-port", low + 399)  # fmt: skip
        log = self.bench.folder / f"node-{node.mark}.log"
        process = processes.start(command, node.mark, log, self.env)
        self.nodes.append(node)
        processes.until(
            lambda: process.poll() is not None or ("block" in log.read_text() and self._up(node)),
            150,
            0.3,
        )
        if process.poll() is not None or not self._up(node):
            raise RuntimeError(f"a node does not start: {log.read_text()[-2000:]}")
        return node

    def _up(self, node: Node) -> bool:
        try:
            return node.mark in self.probe().look()["total"]
        except (OSError, ValueError):
            return False

    def probe(self) -> "Probe":
        """Returns a client that looks at the cluster; it takes none of its resources."""
        if self._probe is None or not self._probe.alive:
            self._probe = Probe(self)
        return self._probe

    def drain(self, node: Node, seconds: int) -> None:
        """Gives notice that a node will be taken away, as clouds do for pre-emptible ones."""
        [node_id] = [n["id"] for n in self.probe().look()["nodes"] if node.mark in n["resources"]]
        command = (*self.place.within, *_RAY, "drain-node", "--address", self.address,
                   "--node-id", node_id, "--reason", "DRAIN_NODE_REASON_PREEMPTION",
                   "--reason-message", "the machine is needed elsewhere",
                   "--deadline-remaining-seconds", seconds)  # fmt: skip
        log = self.bench.folder / f"drain-{node.mark}.log"
        code = processes.start(command, self.bench.next_mark(), log, self.env).wait(60)
        if code != 0:
            raise RuntimeError(f"the drain was refused: {log.read_text()[-800:]}")

    def end(self) -> None:
        """Ends all nodes."""
        if self._probe is not None:
            self._probe.end()
        for node in reversed(self.nodes):
            node.kill()
        shutil.rmtree(self.scratch, ignore_errors=True)


@contextmanager
def cluster(bench: Bench, place: Place = HERE, cpus: int = 1, *more: object) -> Iterator[Cluster]:
    """A head node, ready; every node that joined ends with it."""
    made = None
    try:
        made = Cluster(bench, place, cpus, *more)
        yield made
    finally:
        if made is not None:
            made.end()


class Probe:
    """A process that is connected to a cluster and says what it sees."""

    def __init__(self, cluster: Cluster) -> None:
        command = [*cluster.place.within, sys.executable, "-m", "tests.chaos.probe",
                   cluster.address]  # fmt: skip
        self._log = (cluster.bench.folder / "probe.log").open("ab")
        self._mark = cluster.bench.next_mark()
        self._process = subprocess.Popen(
            command,
            env={**processes.environment(self._mark), **cluster.env},
            cwd=processes.ROOT,
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    @property
    def alive(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def look(self) -> dict:
        """Returns nodes, total and available resources, and placement groups by state."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("look\n")
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], 60)[0]:
            raise TimeoutError("the cluster does not answer")
        return json.loads(self._process.stdout.readline())

    def end(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait(10)
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):  # it had gone before it read all
                pipe.close()
        self._log.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


# ------------------------------------------------------------------ networks of their own


@contextmanager
def network(nodes: int) -> Iterator[Sequence[Place]]:
    """Network namespaces with addresses of their own, joined by a bridge.

    Raises:
        Unavailable: not root, or no `ip`.
    """
    ip = shutil.which("ip")
    if ip is None:
        raise Unavailable("needs the `ip` command, for network namespaces")
    name = f"c{uuid.uuid4().hex[:5]}"
    subnet = f"10.{201 + int(name[1:3], 16) % 50}.{int(name[3:5], 16)}"
    made: list[str] = []
    try:
        _do(ip, "link", "add", f"{name}b", "type", "bridge")
        _do(ip, "link", "set", f"{name}b", "up")
        places = []
        for number in range(1, nodes + 1):
            space, address = f"{name}n{number}", f"{subnet}.{number}"
            _do(ip, "netns", "add", space)
            made.append(space)
            outer, inner = f"{name}o{number}", f"{name}i{number}"
            _do(ip, "link", "add", outer, "type", "veth", "peer", "name", inner)
            _do(ip, "link", "set", inner, "netns", space)
            _do(ip, "link", "set", outer, "master", f"{name}b", "up")
            inside = (ip, "netns", "exec", space)
            _do(*inside, ip, "link", "set", "lo", "up")
            _do(*inside, ip, "addr", "add", f"{address}/24", "dev", inner)
            _do(*inside, ip, "link", "set", inner, "up")
            places.append(Place(address, inside))
        yield places
    finally:
        for space in made:
            subprocess.run([ip, "netns", "del", space], capture_output=True)
        subprocess.run([ip, "link", "del", f"{name}b"], capture_output=True)


def _do(*command: str) -> None:
    found = subprocess.run(command, capture_output=True, text=True)
    if found.returncode:
        raise Unavailable(f"needs the right to make network namespaces: {found.stderr.strip()}")
