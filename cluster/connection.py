"""Connecting to Ray: a local instance of our own, and leaving nothing behind."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

OBJECT_STORE_BYTES = 100 * 2**20  # nothing large goes through it: cohorts are memory-mapped


def available() -> dict[str, float]:
    """Returns what the connected Ray instance has in all: CPU, GPU, ..."""
    import ray

    return {name: float(amount) for name, amount in ray.cluster_resources().items()}


@contextmanager
def local_ray(cpus: int | None = None) -> Iterator[None]:
    """Starts a Ray instance on this machine, bound to loopback, and stops it at the end.

    Token authentication stays at Ray's default (on). No dashboard runs.

    Args:
        cpus: cores that trials may use; all of them by default.
    """
    os.environ.setdefault("RAY_DISABLE_IMPORT_WARNING", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    ray.init(
        address="local",
        num_cpus=cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=OBJECT_STORE_BYTES,
    )
    try:
        yield
    finally:
        ray.shutdown()
