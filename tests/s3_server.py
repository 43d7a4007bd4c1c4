"""An object store for tests: moto's S3 server as a process of its own, on a free loopback port."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass
class Server:
    """A running server."""

    port: int
    process: subprocess.Popen

    def uri(self, path: str) -> str:
        """A URI on this server; `path` is bucket/folder."""
        return f"s3://{path}?endpoint_override=127.0.0.1:{self.port}&scheme=http"

    def bucket(self) -> str:
        """Makes a bucket and returns its name."""
        name = f"b{uuid.uuid4().hex[:12]}"
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/{name}", method="PUT")
        urllib.request.urlopen(request).close()  # noqa: S310
        return name

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def serving(**environment: str) -> Iterator[Server]:
    pytest.importorskip("moto")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server = Server(port, process)
    try:
        end = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None, "the S3 server did not start"
                assert time.monotonic() < end
                time.sleep(0.05)
        yield server
    finally:
        server.stop()
