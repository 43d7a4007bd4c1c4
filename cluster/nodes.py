"""The machines of the connected Ray cluster, and what of them is in use. No name or address."""

from dataclasses import dataclass

GIB = 2**30
_SHORT = 8  # characters of a node id that tell machines apart


@dataclass(frozen=True)
class Node:
    """A machine: CPUs, GPUs and GiB of memory in all, and of these in use by trials."""

    id: str
    alive: bool
    cpus: float
    cpus_used: float
    gpus: float
    gpus_used: float
    memory: float = 0.0


def nodes() -> tuple[Node, ...]:
    """Returns every machine that the cluster has or had, living ones first."""
    import ray
    from ray._private.state import available_resources_per_node

    free = available_resources_per_node()
    found = []
    for told in ray.nodes():
        alive, has = bool(told["Alive"]), told.get("Resources", {})
        rest = free.get(told["NodeID"], has) if alive else {}
        cpus, gpus = (float(has.get(name, 0.0)) if alive else 0.0 for name in ("CPU", "GPU"))
        found.append(
            Node(
                told["NodeID"][:_SHORT],
                alive,
                cpus,
                max(0.0, cpus - float(rest.get("CPU", 0.0))),
                gpus,
                max(0.0, gpus - float(rest.get("GPU", 0.0))),
                float(has.get("memory", 0.0)) / GIB,
            )
        )
    return tuple(sorted(found, key=lambda node: (not node.alive, node.id)))


def full_ids() -> list[str]:
    """Returns Ray's ids of the machines that live and can run trials."""
    import ray

    return sorted(
        told["NodeID"]
        for told in ray.nodes()
        if told["Alive"] and told.get("Resources", {}).get("CPU", 0) > 0
    )
