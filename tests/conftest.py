"""For every test: torch is there from the start.

Where it is not, plans read models' settings with placeholders for torch (`medrec.light`); the
shape checks that tests switch on would remember those placeholders as the types of tensors. What
happens without torch is tested in processes of its own.
"""

import pytest
import torch

from tests.s3_server import CREDENTIALS, serving

# Tests run in a process a core: more threads each would only wait for one another.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def s3_server():
    """An S3 server on loopback; its credentials are in the environment from then on."""
    with serving() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture
def s3(s3_server, tmp_path, monkeypatch):
    """URI of an empty results directory in a bucket of its own; copies go to a folder of its own.

    The server itself is the fixture `s3_server`.
    """
    monkeypatch.setenv("MEDSWEEP_CACHE", str(tmp_path / "copies"))
    return s3_server.uri(f"{s3_server.bucket()}/studies/one")
