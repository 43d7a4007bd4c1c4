"""Facts of test visits, against loops over the cohort; their file, now and as it was."""

import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medrec import splits
from sweeps.errors import StoreError
from sweeps.frequency import visit_quartiles
from sweeps.run import run_study
from sweeps.store import ResultsStore
from sweeps.visits import FACTS, FILE, RARE, UNKNOWN, facts_of, from_parquet, rows_with, to_parquet
from tests.sweeps import tiny
from tests.sweeps.fabricate import fabricate, visit_facts


def of_visit(facts, name) -> dict[tuple[int, int], str]:
    keys = zip(facts.patient.tolist(), facts.visit.tolist(), strict=True)
    return dict(zip(keys, facts.labels[name], strict=True))


def band(age: int) -> str:
    for name, low, high in (("0-17", 0, 17), ("18-44", 18, 44), ("45-64", 45, 64)):
        if low <= age <= high:
            return name
    return UNKNOWN if age < 0 else "65-79" if age < 80 else "80+"


@pytest.fixture(scope="module")
def cohort():
    """Services, ages and genders that many and few patients have; 60 patients."""
    made = tiny.data().cohort
    visits = int(made.visits.sum())
    patient = np.repeat(np.arange(made.patients), made.visits)
    test = made.members(splits.TEST)
    service, gender = np.zeros(visits, np.int8), np.zeros(made.patients, np.int8)
    service[::3] = 1
    service[made.offsets[test[-1] + 1] - 1] = 2
    gender[::2], gender[test[0]] = 1, 2
    age = np.array([17, 18, 44, 45, 64, 65, 79, 80, 120, -1], np.int16)[patient % 10]
    age[patient >= 20] = 50
    return replace(
        made,
        service=service,
        services=("MED", "CMED", "Dr Doe"),
        gender=gender,
        genders=("F", "M", "Other"),
        age=age,
    )


def test_labels_equal_a_loop_and_those_of_few_patients_are_not_named(cohort):
    quartiles = visit_quartiles(cohort).tolist()
    own = {name: {} for name in FACTS}
    row = 0
    for patient, count in enumerate(cohort.visits.tolist()):
        for visit in range(count):
            key = patient, visit
            own["service"][key] = cohort.services[cohort.service[row]]
            own["age"][key] = band(int(cohort.age[row]))
            own["gender"][key] = cohort.genders[cohort.gender[patient]]
            own["rarity"][key] = str(quartiles[row])
            row += 1
    found = facts_of(cohort)
    assert tuple(found.labels) == FACTS
    for name, labels in own.items():
        many = {
            label: len({key[0] for key, other in labels.items() if other == label})
            for label in labels.values()
        }
        assert of_visit(found, name) == {
            key: label if many[label] >= 10 else RARE
            for key, label in labels.items()
            if cohort.split[key[0]] == splits.TEST
        }
    assert RARE in found.labels["service"]
    assert RARE in found.labels["gender"]
    assert set(found.labels["age"]) == {"45-64", RARE}
    assert b"Doe" not in to_parquet(found)
    assert b"Other" not in to_parquet(found)


@pytest.fixture
def stored(tmp_path):
    record, store = fabricate(tmp_path, resamples=20), ResultsStore(tmp_path)
    layout = store.load(record.arms[0].trials["0"]).predictions
    store.write_visits(visit_facts(layout))
    return store, layout


def test_the_file_holds_a_column_a_fact_and_comes_back(stored):
    store, layout = stored
    table = pq.read_table(store.root / FILE)
    assert table.column_names == ["patient", "visit", *FACTS]
    for name in FACTS:
        assert of_visit(store.visits(), name) == of_visit(visit_facts(layout), name)
    assert to_parquet(store.visits()) == (store.root / FILE).read_bytes()


def test_a_file_of_services_alone_is_read():
    sink = io.BytesIO()
    columns = {"patient": pa.array([3, 3], pa.int32()), "visit": pa.array([0, 1], pa.int16())}
    pq.write_table(pa.table({**columns, "service": ["MED", "rare"]}), sink)
    found = from_parquet(sink.getvalue(), "here")
    assert found.labels == {"service": ("MED", "rare")}
    assert (found.patient.tolist(), found.visit.tolist()) == ([3, 3], [0, 1])


@pytest.mark.parametrize("data", [b"", b"PAR1 nonsense PAR1"])
def test_a_damaged_file_is_told(data):
    with pytest.raises(StoreError, match=r"here/visits\.parquet is damaged.*Run the study again"):
        from_parquet(data, "here/visits.parquet")


def test_visits_with_a_label_are_found_whatever_their_order(stored):
    _, layout = stored
    facts = visit_facts(layout)
    ages = of_visit(facts, "age")
    keys = list(zip(layout.patient.tolist(), layout.visit.tolist(), strict=True))
    assert [*zip(facts.patient, facts.visit, strict=True)] != keys
    inside = rows_with(facts, "age", ("45-64", "80+"))(layout)
    assert inside.tolist() == [ages[key] in ("45-64", "80+") for key in keys]


def test_visits_of_another_study_are_refused(stored):
    _, layout = stored
    facts = visit_facts(layout)
    other = rows_with(replace(facts, patient=facts.patient + 1), "age", ("80+",))
    with pytest.raises(StoreError, match=r"visits\.parquet lacks visits"):
        other(layout)


def test_a_run_writes_the_file_for_the_visits_that_it_tests(tmp_path):
    arms = [{"model": "most_popular"}]
    study = tiny.study(tmp_path, arms=arms, reference="most_popular")
    record = run_study(study, tmp_path / "out", tiny.quiet(), tiny.INLINE)
    store = ResultsStore(tmp_path / "out")
    made = store.load(record.arms[0].trials["0"]).predictions
    found = store.visits()
    assert found.patient.tolist() == made.patient.tolist()
    assert found.visit.tolist() == made.visit.tolist()
    assert tuple(found.labels) == FACTS
    before = (store.root / FILE).read_bytes()
    run_study(study, tmp_path / "out", tiny.quiet(), tiny.INLINE)
    assert (store.root / FILE).read_bytes() == before
