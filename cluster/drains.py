"""Pre-emption: a machine that its provider takes away is drained first, for a minute or two."""

import ray


def draining() -> bool:
    """Returns whether the machine of this Ray worker is about to be taken away."""
    nodes = ray._private.state.state.get_draining_nodes()  # Ray Train asks the same way
    return ray.get_runtime_context().get_node_id() in (nodes or {})
