"""Where the open data for tests lies; nothing of it is part of the repository."""

import os
from pathlib import Path

import pytest

ROOT = Path(
    os.environ.get("MEDSWEEP_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
)


def shared_data(*parts: str) -> Path:
    """Returns a path below the shared data, or skips the test and says what is missing."""
    path = ROOT.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs open data that is not here: {path} (set MEDSWEEP_SHARED_DATA)")
    return path
