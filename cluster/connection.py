"""Connecting to Ray: a local instance of our own, or a cluster that runs already.

Token authentication stays at Ray's default (on): whoever has no token is refused.
"""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.errors import ConnectionRefusedByClusterError

OBJECT_STORE_BYTES = 100 * 2**20  # nothing large goes through it: cohorts are memory-mapped
NAMESPACE = "medsweep"


@contextmanager
def connected(address: str | None = None, cpus: int | None = None) -> Iterator[str | None]:
    """Joins the cluster at an address, or starts a Ray instance on this machine.

    An instance of our own is bound to loopback, runs no dashboard and ends with us. A cluster
    that was joined goes on.

    Args:
        address: `auto`, or HOST:PORT of a cluster that this machine belongs to; None: our own.
        cpus: cores that trials may use of our own instance; all of them by default.

    Yields:
        The link of Ray's dashboard, if there is one.

    Raises:
        ConnectionRefusedByClusterError: no cluster answers there, or it refuses us.
    """
    os.environ.setdefault("RAY_DISABLE_IMPORT_WARNING", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if address is None:
        with _on_loopback():
            context = ray.init(
                address="local",
                namespace=NAMESPACE,
                num_cpus=cpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                object_store_memory=OBJECT_STORE_BYTES,
            )
    else:
        check_answers(address)
        _check_token()
        if {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
            os.environ.setdefault("RAY_AUTH_MODE", "token")  # else Ray does not show its token
        try:
            context = ray.init(
                address=address,
                namespace=NAMESPACE,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
            )
        except Exception as error:  # Ray has no common root for what can go wrong here
            first = str(error).strip().splitlines()[0] if str(error).strip() else ""
            raise ConnectionRefusedByClusterError(
                f"Cannot join the cluster at {address}: {first or type(error).__name__} Check the "
                "address, that this machine is one of its nodes (`ray start --address …`), "
                "and the token (RAY_AUTH_MODE=token, RAY_AUTH_TOKEN_PATH=FILE)."
            ) from error
    try:
        link = getattr(context, "dashboard_url", None)
        yield f"http://{link}" if link else None
    finally:
        ray.shutdown()


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Lets what Ray starts meanwhile listen on 127.0.0.1 alone; else it listens everywhere.

    Ray has this for systems where other addresses raise a firewall's questions. The processes that
    it starts read the variable; in this one it was read when ray was imported.
    """
    from ray._private import ray_constants

    name = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
    before = os.environ.get(name), ray_constants.ENABLE_RAY_CLUSTER
    os.environ[name], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before[1]
        if before[0] is None:
            del os.environ[name]
        else:
            os.environ[name] = before[0]


def head_address() -> tuple[str, int]:
    """Returns where the head of the connected cluster listens."""
    import ray

    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    return host, int(port)


def answers(host: str, port: int, seconds: float = 3.0) -> bool:
    """Returns whether something accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=seconds):
            return True
    except OSError:
        return False


def _check_token() -> None:
    """Refuses a token that is no text: Ray would end this process."""
    path = os.environ.get("RAY_AUTH_TOKEN_PATH")
    if path is None or "RAY_AUTH_TOKEN" in os.environ:
        return
    try:
        token = Path(path).read_bytes().strip()
    except OSError as error:
        raise ConnectionRefusedByClusterError(
            f"Cannot read the token in {path}: {error.strerror}. RAY_AUTH_TOKEN_PATH names a file "
            "with the cluster's token, which you alone can read."
        ) from error
    if not token or not all(32 < byte < 127 for byte in token):
        raise ConnectionRefusedByClusterError(
            f"{path} holds no token: that is one line of letters, digits and signs. "
            "RAY_AUTH_TOKEN_PATH names a file with the cluster's token."
        )


def check_answers(address: str) -> None:
    """Refuses an address where nothing listens at once; Ray would try for minutes.

    Raises:
        ConnectionRefusedByClusterError: it is no address, or nothing answers there.
    """
    if address == "auto" or address.startswith("ray://"):
        return
    host, separator, port = address.rpartition(":")
    if not separator or not host or not port.isdigit():
        raise ConnectionRefusedByClusterError(
            f"--address takes auto, HOST:PORT or ray://HOST:PORT, but got {address!r}. `ray start "
            "--head` prints the address of its cluster."
        )
    if not answers(host.strip("[]"), int(port)):
        raise ConnectionRefusedByClusterError(
            f"Nothing answers at {address}. Check the address, and that the head runs "
            "(`ray status`)."
        )
