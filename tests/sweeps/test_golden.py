"""A stored study of the first schema stays readable for ever, and says what it said then."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from sweeps.regenerate import regenerate
from sweeps.statistics.results import gather
from sweeps.status import study_status
from sweeps.store import ResultsStore

GOLDEN = Path(__file__).parents[1] / "golden" / "schema1"
NAMES = sorted(path.stem for path in (GOLDEN / "expected").glob("*.csv"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("golden") / "study"
    shutil.copytree(GOLDEN, root)
    regenerate(root)
    return root


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_it_is_of_the_first_schema():
    record = json.loads((GOLDEN / "study.json").read_text())
    assert record["schema_version"] == 1
    assert "analysis" not in record


@pytest.mark.parametrize("name", NAMES)
def test_every_estimate_is_what_it_was(made, name):
    """Estimates, not intervals: how these are made may get better."""
    then, now = rows(GOLDEN / "expected" / f"{name}.csv"), rows(made / "tables" / f"{name}.csv")
    assert len(then) == len(now)
    for old, new in zip(then, now, strict=True):
        for column, text in old.items():
            if column.endswith(("_low", "_high")):
                continue
            try:
                assert float(new[column]) == pytest.approx(float(text), abs=1e-6)
            except ValueError:
                assert new[column] == text


def test_nothing_of_it_is_missing_or_damaged():
    assert study_status(GOLDEN).complete
    found = gather(ResultsStore(GOLDEN))
    assert not found.damaged
    assert len(found.summaries) == 8


def test_reading_it_writes_nothing(made):
    """The tables were made in a copy: what is stored is what was stored."""
    for path in GOLDEN.rglob("*"):
        if path.is_file() and "expected" not in path.parts:
            assert (made / path.relative_to(GOLDEN)).read_bytes() == path.read_bytes()
