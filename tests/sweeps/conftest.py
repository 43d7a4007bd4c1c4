import hashlib

import pytest

from sweeps import download, fetch
from tests.sweeps.demo_server import NAME, RELEASE, Server, running, write_list


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A server of a small release, which is also what our list says was published."""
    lists = tmp_path / "lists"
    lists.mkdir()
    rows = [[n, hashlib.sha256(data).hexdigest(), len(data)] for n, data in RELEASE.items()]
    write_list(lists / f"{NAME}.csv", rows)
    monkeypatch.setattr(fetch, "_LISTS", lists)
    monkeypatch.setattr(download, "_PAUSE", 0.01)
    with running(Server()) as started:
        yield started


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"
