"""From long tables to a cohort, on an example small enough to work out by hand."""

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
                "gender": ["M", "F", None, "F"],
                "age": [70, 30, -1, 50],
                "group": ["b", "a", "b", "a"],
            }
        ),
        "visits": pd.DataFrame(
            {
                "visit": [31, 12, 11, 21, 22, 41],
                "patient": [30, 10, 10, 20, 20, 40],
                "admitted": [5.0, 100.0, 90.0, 400.0, 300.0, 7.0],
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
    return Records(tables["patients"], tables["visits"], codes)


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
    assert made.age.tolist() == [30, -1, 70]
    assert sorted(made.split.tolist()) == [0, 1, 2]


def test_the_vocabulary_is_what_the_visits_left_have():
    made = cohort()
    assert made.vocabulary == {
        "diagnoses": ("d1", "d2", "d3", "d9"),
        "procedures": ("p1", "p2"),
        "medications": ("A", "B", "C"),
    }


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
    given.visits["admitted"] = 1.0
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
