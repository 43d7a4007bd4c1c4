"""From long tables to a cohort, on an example small enough to work out by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from medrec.cohort import KINDS
from medrec.errors import CohortError, ConfigError
from medrec.records import CohortOptions, Records, assemble
from tests.medrec.small import lists_of

THIRDS = (0.34, 0.33, 0.33)


def records(**changed) -> Records:
    """Patients 30, 10, 20, 40 (out of order). Patient 20's later visit has the smaller key.

    Visit 11 has no medications and 41 no diagnoses; visit 99 is nobody's.
    """
    tables = {
        "patients": pd.DataFrame(
            {
                "patient": [30, 10, 20, 40],
                "gender": ["M", "F", None, "X"],
                "group": ["b", "a", "b", "never seen"],
            }
        ),
        "visits": pd.DataFrame(
            {
                "visit": [31, 12, 11, 21, 22, 41],
                "patient": [30, 10, 10, 20, 20, 40],
                "admitted": [5.0, 100.0, 90.0, 400.0, 300.0, 7.0],
                "order": [5, 100, 90, 400, 300, 7],
                "age": [70, 31, 30, -1, -1, 50],
                "service": ["MED", "CMED", "LOST", "MED", None, "LOST"],
            }
        ),
        "diagnoses": [(31, "d2"), (12, "d1"), (12, "d3"), (12, "d1"), (11, "d1"), (21, "d2"),
                      (22, "d9"), (99, "d7")],
        "procedures": [(21, "p1"), (12, "p2")],
        "medications": [(31, "B"), (12, "A"), (21, "C"), (21, "A"), (22, "A"), (41, "X"),
                        (99, "Q")],
        **changed,
    }  # fmt: skip
    codes = {kind: pd.DataFrame(tables[kind], columns=["visit", "code"]) for kind in KINDS}
    return Records(tables["patients"], tables["visits"], codes, tables.get("prescribed"))


def cohort(given=None, **options):
    return assemble("hand", given or records(), CohortOptions(fractions=THIRDS, **options))


def names(made, kind):
    return [[made.vocabulary[kind][c] for c in codes] for codes in lists_of(made, kind)]


def test_by_hand():
    made = cohort()
    assert made.visits.tolist() == [1, 2, 1]  # patients 10, 20, 30; 40 has no visit left
    assert names(made, "diagnoses") == [["d1", "d3"], ["d9"], ["d2"], ["d2"]]
    assert names(made, "procedures") == [["p2"], [], ["p1"], []]
    assert names(made, "medications") == [["A"], ["A"], ["A", "C"], ["B"]]
    assert made.admitted.tolist() == [0.0, 0.0, 100.0, 0.0]
    assert [made.genders[i] for i in made.gender] == ["F", "unknown", "M"]
    assert [made.groups[i] for i in made.group] == ["a", "b", "b"]
    assert made.age.tolist() == [31, -1, -1, 70]
    assert [made.services[i] for i in made.service] == ["CMED", "unknown", "MED", "MED"]
    assert sorted(made.split.tolist()) == [0, 1, 2]


def test_the_vocabulary_is_what_the_visits_left_have():
    made = cohort()
    assert made.vocabulary == {
        "diagnoses": ("d1", "d2", "d3", "d9"),
        "procedures": ("p1", "p2"),
        "medications": ("A", "B", "C"),
    }


def test_categories_are_those_of_the_patients_and_visits_left():
    """Patient 40 alone has gender X and a group of its own; only visits left out are of LOST."""
    made = cohort()
    assert made.genders == ("F", "M", "unknown")
    assert made.groups == ("a", "b")
    assert made.services == ("CMED", "MED", "unknown")


def test_what_was_left_out_is_counted():
    assert cohort().provenance.dropped == {
        "visits without diagnoses": 1,
        "visits without medications": 1,
        "patients with fewer than 1 visits": 0,
    }


def test_published_order_is_by_key():
    made = cohort(visit_order="hadm_id")
    assert names(made, "diagnoses") == [["d1", "d3"], ["d2"], ["d9"], ["d2"]]
    assert made.admitted.tolist() == [0.0, 100.0, 0.0, 0.0]


def test_ties_in_time_are_ordered_by_key():
    given = records()
    given.visits["order"] = 1
    assert names(cohort(given), "diagnoses")[1:3] == [["d2"], ["d9"]]


def test_require_nothing_keeps_all_visits():
    made = cohort(require=())
    assert made.visits.tolist() == [2, 2, 1, 1]
    assert names(made, "medications") == [[], ["A"], ["A"], ["A", "C"], ["B"], ["X"]]
    assert names(made, "diagnoses")[-1] == []


def test_require_all_kinds_as_published():
    with pytest.raises(ConfigError, match="2 patients cannot be split"):
        cohort(require=("diagnoses", "procedures", "medications"))


def test_few_visits_are_counted_after_the_required_kinds():
    """Patient 10 has two visits, but one lacks medications; only patient 20 keeps two."""
    given = records()
    with pytest.raises(ConfigError, match="1 patients cannot be split"):
        cohort(given, min_visits=2)
    kept = cohort(given, require=("diagnoses",), min_visits=1)
    assert kept.visits.tolist() == [2, 2, 1]


def test_nothing_left_is_explained():
    with pytest.raises(CohortError, match=r"No visit is left.*min_visits=5.*Loosen the filters"):
        cohort(min_visits=5)


def test_repeated_rows_change_nothing():
    plain = records()
    twice = {kind: list(plain.codes[kind].itertuples(index=False)) * 2 for kind in KINDS}
    assert cohort(records(**twice)).fingerprint == cohort(plain).fingerprint


def test_the_order_of_rows_changes_nothing():
    plain, rng = records(), np.random.default_rng(0)
    shuffled = Records(
        plain.patients.sample(frac=1, random_state=rng),
        plain.visits.sample(frac=1, random_state=rng),
        {kind: rows.sample(frac=1, random_state=rng) for kind, rows in plain.codes.items()},
    )
    assert cohort(shuffled).fingerprint == cohort(plain).fingerprint


def test_a_kind_that_never_occurs():
    made = cohort(records(procedures=[]))
    assert made.vocabulary["procedures"] == ()
    assert names(made, "procedures") == [[], [], [], []]


def test_options_are_kept():
    options = cohort(visit_order="hadm_id").provenance.options
    assert options["visit_order"] == "hadm_id"
    assert set(options) == set(CohortOptions.model_fields)


def test_unknown_options_are_refused():
    with pytest.raises(ValidationError, match="min_visit"):
        CohortOptions(min_visit=2)


def prescribed(*visits):
    """Records in which these visits have rows in the prescription table, classified or not."""
    return records(prescribed=np.array(visits, dtype=np.int64))


def dropped(made):
    return {what: count for what, count in made.provenance.dropped.items() if count}


def test_prescribed_visits_count_before_any_other_filter():
    """Visit 11 has a prescription that no class is known for: its patient has two, one stays."""
    given = prescribed(31, 12, 11, 21, 22, 41)
    extra = pd.DataFrame({"patient": [50], "gender": ["F"], "group": ["a"]})
    given = replace(given, patients=pd.concat([given.patients, extra], ignore_index=True))
    more = {"visit": [51, 52], "patient": 50, "admitted": 1.0, "order": [1, 2], "age": 9}
    given = replace(
        given,
        visits=pd.concat([given.visits, pd.DataFrame({**more, "service": "MED"})]),
        prescribed=np.append(given.prescribed, [51, 52]),
        codes={
            kind: pd.concat([rows, pd.DataFrame({"visit": [52], "code": [f"{kind}-Z"]})])
            for kind, rows in given.codes.items()
        },
    )
    made = cohort(given, min_prescribed_visits=2)
    assert made.visits.tolist() == [1, 2, 1]  # of 10, 20 and 50
    assert dropped(made) == {
        "patients with fewer than 2 prescribed visits": 2,  # 30 and 40
        "visits without diagnoses": 1,  # 51
        "visits without medications": 1,  # 11
    }
    with pytest.raises(ConfigError, match="1 patients cannot be split"):
        cohort(given, min_prescribed_visits=2, min_visits=2)


def test_without_a_prescription_table_visits_with_medications_count():
    with pytest.raises(ConfigError, match="1 patients cannot be split"):
        cohort(min_prescribed_visits=2)  # 10 has one visit with medications, 20 two


def test_the_most_frequent_codes_are_kept_and_ties_go_by_name():
    """In visits: d1 2, d2 2, d3 1, d9 1. Visit 22 has only d9 and is left out then."""
    made = cohort(top_diagnoses=3, require=("medications",))
    assert made.vocabulary["diagnoses"] == ("d1", "d2", "d3")
    assert dropped(made)["diagnoses codes beyond the top 3"] == 1
    assert cohort(top_medications=1, require=("diagnoses",)).vocabulary["medications"] == ("A",)
    with pytest.raises(ConfigError, match="cannot be split"):
        cohort(top_medications=1)  # visits without A are left out: patients 10 and 20 stay
    assert cohort(top_procedures=1).vocabulary["procedures"] == ("p1",)


def test_frequencies_are_those_of_visits_not_of_rows():
    rows = [(31, "d2"), (12, "d1"), (22, "d2"), *[(12, "d1")] * 9, (21, "d2")]
    made = cohort(records(diagnoses=rows), top_diagnoses=1, require=("medications",))
    assert made.vocabulary["diagnoses"] == ("d2",)


def test_classes_without_a_structure_can_be_left_out():
    """A10A, insulins, has no molecule in the embedded table; C03C has."""
    rows = [(31, "C03C"), (12, "C03C"), (12, "A10A"), (22, "C03C"), (21, "C03C")]
    made = cohort(records(medications=rows), drugs_with_structure=True)
    assert made.vocabulary["medications"] == ("C03C",)
    assert dropped(made)["drug classes without a structure"] == 1


def test_stays_of_one_person_are_in_one_split():
    size = 60
    patients = pd.DataFrame({"patient": range(size), "gender": "F", "group": "a"})
    patients["person"] = [f"person {i % 20}" for i in range(size)]
    visits = pd.DataFrame({"visit": range(size), "patient": range(size), "admitted": 0.0})
    visits = visits.assign(order=0, age=50, service="MED")
    codes = {kind: pd.DataFrame({"visit": range(size), "code": "x"}) for kind in KINDS}
    for seed in range(5):
        made = cohort(Records(patients, visits, codes), split_seed=seed)
        assert [len(set(made.split[i::20].tolist())) for i in range(20)] == [1] * 20
        assert set(made.split.tolist()) == {0, 1, 2}
    alone = Records(patients.drop(columns="person"), visits, codes)
    made = cohort(alone)
    assert max(len(set(made.split[i::20].tolist())) for i in range(20)) > 1


def test_an_explicit_option_beats_the_preset_and_the_preset_is_kept():
    class Options(CohortOptions):
        dataset = "mimic3"

        forward_fill: bool = False
        drug_names: bool = True
        atc_rule: str = "systemic"
        medication_window: str = "first_24_hours"

    given = Options(preset="safedrug", visit_order="admission_time", min_prescribed_visits=1)
    assert (given.visit_order, given.min_prescribed_visits) == ("admission_time", 1)
    assert (given.forward_fill, given.split, given.top_diagnoses) == (True, "sequential", 2000)
    assert Options(**given.model_dump(mode="json")) == given
