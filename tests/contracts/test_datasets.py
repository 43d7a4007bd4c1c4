"""What every data set promises, on the open demo data or on few generated patients."""

import json
import re

import numpy as np
import pytest

from medrec import plugins, splits
from medrec.card.pages import pages
from medrec.cohort import KINDS, Cohort
from medrec.datasets._base import Dataset, prepare
from tests.medrec.datasets.meds_files import write_small_meds
from tests.medrec.datasets.mimic3_files import shared_tables_read_once
from tests.shared_data import shared_data

# Where the open demo of a data set lies; a new data set that reads files needs a line here.
DEMOS = {"mimic4": "mimic-iv-demo", "mimic3": "mimic-iii-demo", "eicu": "eicu-demo"}
WRITTEN = {"meds": write_small_meds}
FEW = {"synthetic": {"patients": 80}, "meds": {"splits": "drawn"}}
NAMES = plugins.names("medrec.datasets")
ATC3 = re.compile(r"[A-Z][0-9]{2}[A-Z]")


def options_of(name, **changed):
    dataset: Dataset = plugins.load("medrec.datasets", name, "DATASET")
    return dataset.options(**{**FEW.get(name, {}), **changed})


@pytest.fixture(scope="module", autouse=True)
def _shared_tables_read_once():
    with shared_tables_read_once():
        yield


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Folders of the data sets that have no demo, written on the spot."""
    folder = tmp_path_factory.mktemp("written")
    return {name: write(folder / name) for name, write in WRITTEN.items()}


def source_of(name, written):
    dataset: Dataset = plugins.load("medrec.datasets", name, "DATASET")
    if not dataset.needs_source:
        return None
    if name in written:
        return written[name]
    assert name in DEMOS, f"say in DEMOS where the demo of {name} lies"
    return shared_data(DEMOS[name])


@pytest.fixture(scope="module", params=NAMES)
def prepared(request, written):
    name = request.param
    return name, prepare(name, source_of(name, written), options_of(name))


def test_equal_options_give_equal_cohorts(prepared, written):
    name, cohort = prepared
    again = prepare(name, source_of(name, written), options_of(name))
    assert again.fingerprint == cohort.fingerprint
    assert again.provenance == cohort.provenance


def test_another_split_seed_gives_another_cohort(prepared, written):
    name, cohort = prepared
    other = prepare(name, source_of(name, written), options_of(name, split_seed=1))
    assert other.fingerprint != cohort.fingerprint
    assert np.array_equal(other.visits, cohort.visits)


def test_codes_are_in_the_vocabulary_distinct_and_ascending(prepared):
    _, cohort = prepared
    for kind in KINDS:
        codes, names = cohort.codes[kind], cohort.vocabulary[kind]
        assert len(codes.offsets) == cohort.visits.sum() + 1
        assert codes.offsets[0] == 0
        assert codes.offsets[-1] == len(codes.values)
        for start, end in zip(codes.offsets[:-1], codes.offsets[1:], strict=True):
            assert (np.diff(codes.values[start:end]) > 0).all()
        assert set(codes.values.tolist()) == set(range(len(names)))
        assert list(names) == sorted(set(names))


def test_required_kinds_are_there(prepared):
    name, cohort = prepared
    for kind in options_of(name).require:
        assert (cohort.codes[kind].counts > 0).all()


def test_every_kind_of_code_has_some(prepared):
    """All but the procedures of a data set that has none."""
    name, cohort = prepared
    empty = {kind for kind in KINDS if not cohort.vocabulary[kind]}
    assert empty == ({"procedures"} if name == "eicu" else set())


def test_codes_say_what_they_are(prepared):
    _, cohort = prepared
    assert all(ATC3.fullmatch(code) for code in cohort.vocabulary["medications"])
    for kind in ("diagnoses", "procedures"):
        assert all(re.match(r"(9|10):\w", code) for code in cohort.vocabulary[kind])


def test_every_split_has_patients(prepared):
    _, cohort = prepared
    assert all(len(cohort.members(split)) for split in range(len(splits.NAMES)))
    assert sum(len(cohort.members(split)) for split in range(3)) == cohort.patients


def test_visits_are_in_the_order_of_time(prepared):
    _, cohort = prepared
    for start, end in zip(cohort.offsets[:-1], cohort.offsets[1:], strict=True):
        days = cohort.admitted[start:end]
        assert days[0] == 0
        assert (np.diff(days) >= 0).all()


def test_ages_and_categories_are_in_range(prepared):
    _, cohort = prepared
    assert len(cohort.age) == len(cohort.service) == len(cohort.admitted) == cohort.visits.sum()
    assert ((cohort.age >= -1) & (cohort.age <= 120)).all()
    assert set(cohort.service.tolist()) == set(range(len(cohort.services)))
    assert set(cohort.gender.tolist()) == set(range(len(cohort.genders)))
    assert set(cohort.group.tolist()) == set(range(len(cohort.groups)))


def test_ages_grow_with_time(prepared):
    """By the years between two visits, rounded one way or the other; 90 may hide more."""
    _, cohort = prepared
    later = np.setdiff1d(np.arange(len(cohort.age)), cohort.offsets[:-1])
    years = (cohort.admitted[later] - cohort.admitted[later - 1]) / 365.25
    older = cohort.age[later].astype(float) - cohort.age[later - 1]
    known = (cohort.age[later] >= 0) & (cohort.age[later - 1] >= 0) & (cohort.age[later] < 90)
    assert known.any()
    assert (np.abs(older - years)[known] <= 1.01).all()


def test_no_key_of_the_source_is_kept(prepared, written, tmp_path):
    """Neither patient nor visit keys stand in any file, as text or as 64-bit integers."""
    name, cohort = prepared
    dataset: Dataset = plugins.load("medrec.datasets", name, "DATASET")
    records = dataset.load(source_of(name, written), options_of(name))
    cohort.save(tmp_path, pages(cohort))
    texts = "".join((tmp_path / f).read_text() for f in ("cohort.json", "card.md"))
    tables = b"".join((tmp_path / f).read_bytes() for f in ("patients.arrow", "visits.arrow"))
    keys = {*records.visits["visit"], *records.visits["patient"]}
    keys = {int(key) for key in keys if str(key).isdigit() and int(key) >= 10_000}
    assert keys
    words = {int(word) for word in re.findall(r"(?<![0-9a-f])\d{5,}(?![0-9a-f])", texts)}
    assert not words & keys
    for width in ("<i8", "<i4"):
        whole = tables[: len(tables) // 8 * 8]
        stored = set(np.frombuffer(whole, width).tolist())
        found = stored & keys
        assert len(found) <= 2, found  # offsets and counts may coincide by chance


def test_its_card_names_every_option(prepared, tmp_path):
    name, cohort = prepared
    cohort.save(tmp_path, pages(cohort))
    description = json.loads((tmp_path / "cohort.json").read_text())
    assert description["dataset"] == name
    assert set(description["options"]) == set(type(options_of(name)).model_fields)
    card = (tmp_path / "card.md").read_text()
    assert all(f"| {option} |" in card for option in description["options"])
    assert Cohort.open(tmp_path).fingerprint == cohort.fingerprint


@pytest.mark.parametrize("name", NAMES)
def test_its_options_are_described_and_listed(name):
    dataset: Dataset = plugins.load("medrec.datasets", name, "DATASET")
    assert dataset.title
    assert all(field.description for field in dataset.options.model_fields.values())
