"""The data card, against counts of the cohort itself."""

import numpy as np
import pytest

from medrec import splits
from sweeps.cohort_facts import cohort_facts
from sweeps.frequency import drug_quartiles
from sweeps.statistics.inference import Value
from sweeps.statistics.results import gather
from sweeps.store import ResultsStore
from sweeps.tables import data_card
from tests.sweeps import tiny
from tests.sweeps.fabricate import fabricate


def card(root, facts) -> dict[tuple[str, str], object]:
    record, store = fabricate(root, resamples=20), ResultsStore(root)
    store.write_study(record.model_copy(update={"cohort": facts}))
    (table,) = data_card.build(gather(store))
    return {row.cells[:2]: row.cells[2] for row in table.rows}


def test_the_card_counts_the_cohort(tmp_path):
    cohort = tiny.data().cohort
    facts = card(tmp_path, cohort_facts("mine", cohort))
    assert facts["Cohort", "Name"] == "mine"
    assert facts["Cohort", "Data set"] == "synthetic"
    assert facts["Cohort", "Fingerprint"] == cohort.fingerprint
    assert facts["Size", "Patients"] == 60
    assert facts["Size", "Visits"] == len(cohort.age)
    assert facts["Size", "Different medications"] == cohort.drugs
    codes = cohort.codes["diagnoses"]
    mean = len(codes.values) / len(cohort.age)
    assert facts["Per visit", "Diagnoses, mean"].estimate == pytest.approx(mean)
    for index, title in enumerate(("Training", "Validation", "Test")):
        members = [p for p in range(cohort.patients) if cohort.split[p] == index]
        assert facts["Split", f"{title} patients"] == len(members)
        assert facts["Split", f"{title} visits"] == sum(int(cohort.visits[p]) for p in members)
    assert facts["Options", "Seed of the split"] == "0"
    assert facts["Options", "Fractions to train, validate, test"] == "0.66, 0.17, 0.17"
    assert facts["Options", "Order of a patient's visits"] == "admission_time"


def test_the_card_tells_interactions(tmp_path):
    facts = card(tmp_path, cohort_facts("mine", tiny.data().cohort))
    record = ResultsStore(tmp_path).study()
    assert facts["Interactions", "Pairs of medications that interact"] == 13
    assert facts["Interactions", "Density of the graph"] == Value(13 / 66)
    rate = "DDI rate of what was prescribed at test visits"
    assert facts["Interactions", rate] == Value(record.true_ddi_rate)


def test_an_old_record_gives_what_it_has(tmp_path):
    record = fabricate(tmp_path, resamples=20)
    old = record.cohort.model_copy(update={"dataset": "", "options": {}})
    facts = card(tmp_path, old)
    assert ("Cohort", "Data set") not in facts
    assert ("Split", "Training visits") not in facts
    tested = gather(ResultsStore(tmp_path)).scores["all"].visits
    assert facts["Split", "Test visits"] == tested
    assert facts["Options", "Rule of the split by patient"] == record.cohort.split


def test_facts_hold_shared_options_alone_and_a_quartile_a_drug():
    cohort = tiny.data().cohort
    facts = cohort_facts("mine", cohort)
    assert "split_seed" in facts.options
    assert "patients" in cohort.provenance.options
    assert "patients" not in facts.options  # an option of one data set alone
    assert facts.drug_quartiles == tuple(drug_quartiles(cohort).tolist())
    assert facts.counts["test_visits"] == cohort.visits[cohort.members(splits.TEST)].sum()
    assert np.isfinite(list(facts.counts.values())).all()
