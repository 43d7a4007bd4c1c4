"""Cohort and knowledge reach every machine once, and are what the plan was made on."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from medrec.cohort import Cohort
from medrec.errors import CohortError
from medrec.spec import CohortRef, KnowledgeSpec
from sweeps import reach
from sweeps.caches import cache_folder
from sweeps.cohorts import study_data
from sweeps.errors import StudyError
from sweeps.places import place_of
from sweeps.plan import make_plan
from sweeps.reach import here, published
from sweeps.store import ResultsStore
from tests.sweeps import tiny

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDSWEEP_CACHE", str(tmp_path / "copies"))
    _forget()


def _forget() -> None:
    """As if this were another process, on a machine that has seen nothing yet."""
    reach._here.cache_clear()
    reach._published.cache_clear()
    reach._origins.clear()


@pytest.fixture
def folder(tmp_path) -> Path:
    tiny.data().cohort.save(tmp_path / "cohort")
    return tmp_path / "cohort"


@pytest.fixture
def spec(folder):
    return trial(str(folder))


def trial(path: str, **changes):
    fingerprint = tiny.data().cohort.fingerprint
    return tiny.spec(cohort=CohortRef(path=path, fingerprint=fingerprint), **changes)


def put(folder: Path, uri: str) -> str:
    place = place_of(uri)
    for path in folder.iterdir():
        place.write(path.name, path.read_bytes())
    return uri


def test_a_path_that_is_there_is_used_as_it_is(spec, tmp_path):
    assert here(spec, tmp_path / "results") == spec
    assert published(spec, store=ResultsStore(tmp_path / "results")) == spec
    assert not (tmp_path / "copies").exists()


def test_a_cohort_is_put_beside_remote_results_once_and_fetched_once(s3, spec, monkeypatch):
    store = ResultsStore(s3)
    shared = published(spec, store=store)
    assert shared.key == spec.key
    assert shared.cohort.path == str(store.place.child(f"data/{spec.cohort.fingerprint}"))
    kept = store.place.versions("data")
    assert any(name.endswith("/cohort.json") for name in kept)
    _forget()
    assert published(spec, store=store) == shared
    assert store.place.versions("data") == kept  # nothing was put again

    mine = here(shared, store.place)
    assert Path(mine.cohort.path).is_relative_to(cache_folder())
    assert Cohort.open(Path(mine.cohort.path)).fingerprint == spec.cohort.fingerprint
    _forget()
    monkeypatch.setattr(reach, "_fetch", None)  # a second time there is nothing to fetch
    assert here(shared, store.place) == mine


def test_a_path_of_the_drivers_machine_is_found_beside_the_results(s3, spec):
    store = ResultsStore(s3)
    published(spec, store=store)
    elsewhere = trial("/nowhere/cohort")
    assert Path(here(elsewhere, store.place).cohort.path).is_relative_to(cache_folder())


def test_copies_of_patient_data_are_private(s3, spec):
    mine = here(published(spec, store=ResultsStore(s3)), s3)
    for folder in (cache_folder(), Path(mine.cohort.path)):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(b"no")])
def test_a_broken_copy_is_made_anew(s3, spec, harm):
    shared = published(spec, store=ResultsStore(s3))
    copy = Path(here(shared, s3).cohort.path)
    harm(copy / "visits.arrow")
    _forget()
    assert Path(here(shared, s3).cohort.path) == copy
    assert Cohort.open(copy).fingerprint == spec.cohort.fingerprint


def test_another_cohort_than_the_plans_is_refused_and_not_kept(s3, folder):
    uri = put(folder, s3)
    other = tiny.spec(cohort=CohortRef(path=uri, fingerprint="ab" * 32))
    with pytest.raises(CohortError, match=r"fingerprint.*planned on abababab"):
        here(other, s3)
    assert not list((cache_folder() / "cohorts").glob("[!.]*"))


_FETCH = """
import sys
from pathlib import Path
from medrec.spec import TrialSpec
from sweeps import reach
fetch = reach._fetch
def told(place, folder):
    with Path(sys.argv[3]).open("a") as file: file.write("fetched\\n")
    fetch(place, folder)
reach._fetch = told
reach.here(TrialSpec.model_validate_json(sys.argv[1]), sys.argv[2])
"""


@pytest.mark.slow
def test_workers_of_one_machine_fetch_once(s3, spec, tmp_path):
    shared = published(spec, store=ResultsStore(s3))
    command = [sys.executable, "-c", _FETCH, shared.model_dump_json(), s3, tmp_path / "told"]
    children = [subprocess.Popen(command, cwd=REPOSITORY) for _ in range(3)]
    assert [child.wait(timeout=120) for child in children] == [0, 0, 0]
    assert (tmp_path / "told").read_text() == "fetched\n"


def test_a_study_names_its_cohort_by_uri(s3, folder, tmp_path):
    uri = put(folder, s3)
    data = study_data(tiny.study(tmp_path, cohort=uri), tmp_path / "out")
    assert data.name == "one"  # the folder's
    assert not data.made
    for spec in make_plan(tiny.study(tmp_path, cohort=uri), data).trials.values():
        assert published(spec, store=ResultsStore(tmp_path / "out")).cohort.path == uri
        assert Path(here(spec, tmp_path / "out").cohort.path) == data.path
    with pytest.raises(StudyError, match=r"field cohort: .*no cohort\.json"):
        study_data(tiny.study(tmp_path, cohort=uri.replace("/one", "/none")), tmp_path / "out")


def test_a_fingerprint_that_is_a_path_is_refused(s3):
    place_of(s3).write("cohort.json", json.dumps({"fingerprint": "../../x"}).encode())
    with pytest.raises(StudyError, match="which is none"):
        reach.fetched_cohort(s3)


def test_knowledge_tables_reach_other_machines(s3, folder, tmp_path):
    pairs = tmp_path / "pairs.csv"
    a, b = tiny.data().cohort.vocabulary["medications"][:2]
    pairs.write_text(f"atc3_a,atc3_b\n{a},{b}\n")
    data = study_data(
        tiny.study(tmp_path, cohort=str(folder), knowledge={"interactions": str(pairs)}), tmp_path
    )
    store = ResultsStore(s3)
    spec = trial(str(folder), knowledge=data.knowledge)
    shared = published(spec, store=store)
    assert shared.knowledge.interactions.startswith("s3://")
    assert shared.key == spec.key
    mine = here(shared, store.place)
    assert Path(mine.knowledge.interactions).read_bytes() == pairs.read_bytes()
    assert Path(mine.knowledge.interactions).is_relative_to(cache_folder())

    named = study_data(
        tiny.study(
            tmp_path,
            cohort=str(folder),
            knowledge={"interactions": shared.knowledge.interactions},
        ),
        tmp_path,
    )
    assert named.knowledge.fingerprint == data.knowledge.fingerprint
    assert isinstance(named.knowledge, KnowledgeSpec)
