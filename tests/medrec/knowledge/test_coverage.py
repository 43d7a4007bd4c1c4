import numpy as np
import pytest

from medrec.cohort import KINDS
from medrec.knowledge.coverage import Coverage, coverage_of
from tests.medrec.knowledge.bundles import changed
from tests.medrec.small import VOCABULARY, lists_of, small_cohort


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("every", [1, 2, 5])
def test_agrees_with_a_plain_loop(kind, every):
    cohort = small_cohort()
    known = {*VOCABULARY[kind][::every], "9:0000", "Z99Z"}
    uses = covered = 0
    for codes in lists_of(cohort, kind):
        for code in codes:
            uses += 1
            covered += VOCABULARY[kind][code] in known
    found = coverage_of(cohort, "a table", kind, known)
    assert (found.source, found.kind) == ("a table", kind)
    assert (found.codes, found.of) == (len(known) - 2, len(VOCABULARY[kind]))
    assert found.uses == pytest.approx(covered / uses)
    assert 0 < found.uses <= 1


def test_nothing_known_is_a_share_of_nothing():
    found = coverage_of(small_cohort(), "none", "diagnoses", [])
    assert found == Coverage("none", "diagnoses", 0, 12, 0.0)


def test_of_no_codes_all_are_covered():
    cohort = changed(procedures=())
    assert coverage_of(cohort, "any", "procedures", ["9:3893"]) == Coverage(
        "any", "procedures", 0, 0, 1.0
    )


def test_a_code_that_no_visit_has_counts_as_a_code_and_no_use():
    cohort = changed(diagnoses=(*VOCABULARY["diagnoses"], "9:E8809"))
    found = coverage_of(cohort, "one", "diagnoses", {"9:E8809"})
    assert (found.codes, found.of, found.uses) == (1, 13, 0.0)


def test_as_a_dictionary_it_is_plain():
    found = coverage_of(small_cohort(), "a", "medications", np.array(["A10A"]))
    assert found.as_dict() == {
        "source": "a", "kind": "medications", "codes": 1, "of": 10, "uses": found.uses,
    }  # fmt: skip
    assert type(found.uses) is float
