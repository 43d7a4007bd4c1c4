"""A command that runs on the head of a cluster, for a client that is no part of it (ray://).

A driver of Ray Tune must be a process of the cluster. So the client starts one there, prints what
it prints, and hands over its exit code. When the client goes, the driver is told to stop by
SIGTERM, as a person would tell it.
"""

import contextlib
import logging
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cluster.connection import NAMESPACE
from cluster.errors import ConnectionRefusedByClusterError

_POLL = 0.5  # seconds between two questions for new lines
# Becomes the driver, which Linux tells (1: PR_SET_PDEATHSIG, 15: SIGTERM) when we end.
_TOLD_OF_OUR_END = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
ADDRESS = "{address}"
FILE = "{file}"


class _Driver:
    """Lives on the head, beside the driver that it started."""

    def __init__(self, arguments: Sequence[str], content: str) -> None:
        import ray

        address = ray.get_runtime_context().gcs_address
        self._folder = tempfile.TemporaryDirectory(prefix="medsweep-remote-")
        file = Path(self._folder.name) / "study.yaml"
        file.write_text(content)
        places = {ADDRESS: address, FILE: str(file)}
        command = [places.get(argument, argument) for argument in arguments]
        self._lines: queue.Queue[str] = queue.Queue()
        self._process = subprocess.Popen(  # noqa: S603  our own command line, no shell
            [sys.executable, "-c", _TOLD_OF_OUR_END, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._lines.put(line)

    def poll(self) -> tuple[list[str], int | None]:
        """Returns the lines since the last call, and the exit code once it ended."""
        code = self._process.poll()
        if code is not None:
            self._reader.join()  # the last lines may be on their way
        lines = []
        with contextlib.suppress(queue.Empty):
            while True:
                lines.append(self._lines.get_nowait())
        return lines, None if lines else code

    def stop(self) -> None:
        """Tells the driver to stop; trials write a checkpoint."""
        self._process.terminate()


def run_there(
    address: str, arguments: Sequence[str], content: str, say: Callable[[str], None]
) -> int:
    """Runs a Python command on the cluster's head and returns its exit code.

    Args:
        address: ray://HOST:PORT of the cluster.
        arguments: of `python`; `{address}` stands for the cluster's address there, `{file}` for a
            file with `content`.
        content: of that file.
        say: is given each piece of output.

    Raises:
        ConnectionRefusedByClusterError: nothing answers, or the cluster refuses us.
    """
    os.environ.setdefault("RAY_DISABLE_IMPORT_WARNING", "1")
    import ray

    try:
        ray.init(address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # the client has no common root for what can go wrong
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConnectionRefusedByClusterError(
            f"Cannot reach the cluster at {address}: {first.rstrip('.: ')}. Check the token "
            "(RAY_AUTH_MODE=token, RAY_AUTH_TOKEN_PATH=FILE), the address, and that the head's "
            "client server runs (`ray start --head --ray-client-server-port 10001`); a head that "
            "is busy may be too slow the first time."
        ) from error
    try:
        driver = ray.remote(num_cpus=0, resources={"node:__internal_head__": 0.001})(_Driver)
        there = driver.remote(list(arguments), content)
        return _follow(there, say)
    finally:
        ray.shutdown()


def _follow(there: object, say: Callable[[str], None]) -> int:
    import ray

    while True:
        try:
            lines, code = ray.get(there.poll.remote())  # type: ignore[attr-defined]
            if lines:
                say("".join(lines))
            if code is not None:
                return int(code)
            time.sleep(_POLL)
        except KeyboardInterrupt:
            ray.get(there.stop.remote())  # type: ignore[attr-defined]
