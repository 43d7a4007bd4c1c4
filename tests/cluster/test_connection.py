"""A local Ray instance of our own: it starts, it stops, and it changes no security setting."""

import os
import subprocess
import sys

import pytest

from tests.sweeps import tiny

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")  # noqa: PTH112

_CODE = """
import json, os, sys
from cluster.connection import connected
with connected(cpus=1):
    import ray
    print(json.dumps({
        "initialised": ray.is_initialized(),
        "cpus": ray.cluster_resources()["CPU"],
        "dashboard": ray._private.worker._global_node.webui_url,
        "auth": os.environ.get("RAY_AUTH_MODE"),
        "answer": ray.get(ray.remote(lambda: 42).remote()),
    }))
sys.exit(ray.is_initialized())
"""


@pytest.mark.slow
def test_ray_starts_as_asked_and_leaves_nothing_behind():
    import json

    tag = f"connection-{os.getpid()}"
    found = subprocess.run(
        [sys.executable, "-c", _CODE],
        env={**os.environ, tiny.TAG: tag},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert found.returncode == 0, found.stderr  # also: no longer initialised
    answer = json.loads(found.stdout.splitlines()[-1])
    assert answer["initialised"]
    assert answer["cpus"] == 1
    assert not answer["dashboard"]
    assert answer["auth"] in (None, "token")  # never switched off
    assert answer["answer"] == 42
    tiny.wait_until_gone(tag, 30)


def test_importing_it_starts_nothing():
    code = "import cluster.connection, sys; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
