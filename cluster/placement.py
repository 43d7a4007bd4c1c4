"""Which trials fit a cluster: how many at a time, and what is lacking where none does.

Shares of a GPU are a matter of counting alone: nothing keeps a trial from using more memory of
the GPU than its share. `medsweep probe` measures what a trial needs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.errors import PlacementError
from cluster.nodes import GIB, Node

_EPSILON = 1e-6  # ten tenths of a GPU are one


@dataclass(frozen=True)
class Demand:
    """What a trial asks for.

    Attributes:
        cpus: cores of each worker.
        gpus: share of a GPU, or one whole GPU, of each worker.
        memory: GiB of each worker; 0 asks for none.
        workers: of the trial; each may be on a machine of its own.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory: float = 0.0
    workers: int = 1

    def bundle(self) -> dict[str, float]:
        """Returns what Ray is to reserve for one worker."""
        asked = {"CPU": self.cpus, "GPU": self.gpus, "memory": self.memory * GIB}
        return {name: amount for name, amount in asked.items() if amount > 0}


def slots(demand: Demand, node: Node) -> int:
    """Returns how many workers of such trials a machine holds at a time.

    Example:
        >>> machine = Node("a", True, cpus=8, cpus_used=0, gpus=2, gpus_used=0)
        >>> slots(Demand(cpus=1, gpus=0.5), machine)
        4
    """
    room = [int(node.cpus / demand.cpus + _EPSILON)]
    if demand.gpus > 0:
        # A share lies on one GPU: three trials of 0.4 need two GPUs, not one and a fifth.
        room.append(int(node.gpus + _EPSILON) * int(1 / demand.gpus + _EPSILON))
    if demand.memory > 0:
        room.append(int(node.memory / demand.memory + _EPSILON))
    return min(room)


def concurrent(demand: Demand, nodes: Sequence[Node]) -> int:
    """Returns how many such trials a cluster runs at a time.

    Raises:
        PlacementError: not one; the message names what is lacking and what there is.
    """
    workers = sum(slots(demand, node) for node in nodes)
    if workers < demand.workers:
        raise PlacementError(lacking(demand, nodes, workers))
    return workers // demand.workers


def lacking(demand: Demand, nodes: Sequence[Node], workers: int) -> str:
    """Returns the sentence that says why no such trial can start."""
    for field, asked, offers, unit in (
        ("cpus", demand.cpus, [node.cpus for node in nodes], "CPUs"),
        ("gpus", demand.gpus, [node.gpus for node in nodes], "GPUs"),
        ("memory", demand.memory, [node.memory for node in nodes], "GiB of memory"),
    ):
        most = max(offers, default=0.0)
        if asked > most + _EPSILON:
            return (
                f"field resources.{field}: a worker of a trial asks for {asked:g} {unit}, but "
                f"{_there(nodes)} and no machine has more than {most:g}, so it could never start. "
                "Ask for less, or run it elsewhere."
            )
    if workers == 0:
        return (
            f"field resources: a worker asks for {_asked(demand)} on one machine, but "
            f"{_there(nodes)} and no machine has all of it. Ask for less, or run it elsewhere."
        )
    return (
        f"field resources.workers: a trial asks for {demand.workers} workers with "
        f"{_asked(demand)} each, but {_there(nodes)}, which hold {workers}, so it could never "
        "start. Ask for fewer workers, or less for each."
    )


def _asked(demand: Demand) -> str:
    parts = [f"{demand.cpus:g} CPU"]
    parts += [f"{demand.gpus:g} GPU"] if demand.gpus else []
    parts += [f"{demand.memory:g} GiB"] if demand.memory else []
    return ", ".join(parts)


def _there(nodes: Sequence[Node]) -> str:
    cpus, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    memory = sum(node.memory for node in nodes)
    count = "1 machine" if len(nodes) == 1 else f"{len(nodes)} machines"
    return f"there are {cpus:g} CPUs, {gpus:g} GPUs and {memory:.1f} GiB on {count}"
