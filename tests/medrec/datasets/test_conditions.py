"""The clinical tables: every code is real, every condition can be told from its codes."""

import csv
import gzip
from collections import Counter
from importlib import resources

import pytest

from medrec.datasets import _conditions
from medrec.errors import InputError
from tests.shared_data import shared_data

CONDITIONS = _conditions.read_conditions()
POOLS = _conditions.read_pools()


def codes(kind):
    own = {code for c in CONDITIONS for code in getattr(c, kind)}
    return own | {code for pool in POOLS if pool.kind == kind for code in pool.codes}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("4019", ["4019"]),
        ("250[0-2][13]", ["25001", "25003", "25011", "25013", "25021", "25023"]),
        ("428(0|2[01])", ["4280", "42820", "42821"]),
        ("V45[89][-1]", ["V458-", "V4581", "V459-", "V4591"]),
    ],
)
def test_patterns_expand_in_the_order_written(pattern, expected):
    assert list(_conditions.expand(pattern)) == expected


@pytest.mark.parametrize("pattern", ["428[0", "428(0|1", "428[]", "428()"])
def test_a_broken_pattern_is_refused_with_its_text(pattern):
    with pytest.raises(InputError) as caught:
        _conditions.expand(pattern)
    assert repr(pattern) in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "table"), [("diagnoses", "DX"), ("procedures", "SG")], ids=["diagnoses", "procedures"]
)
def test_every_code_is_in_the_last_official_list(kind, table):
    path = shared_data("knowledge", "open", "icd", f"CMS32_DESC_LONG_{table}.txt.gz")
    with gzip.open(path, "rt", encoding="latin-1") as lines:
        official = {line.split()[0] for line in lines}
    assert sorted(codes(kind) - official) == []


def test_there_are_as_many_codes_as_a_hospital_cohort_shows():
    assert 90 <= len(CONDITIONS) <= 130
    assert 2000 <= len(codes("diagnoses")) <= 2600
    assert 1300 <= len(codes("procedures")) <= 1700


def test_a_diagnosis_belongs_to_one_condition_or_pool():
    lists = [c.diagnoses for c in CONDITIONS]
    lists += [pool.codes for pool in POOLS if pool.kind == "diagnoses"]
    counts = Counter(code for each in lists for code in each)
    assert [code for code, times in counts.items() if times > 1] == []


def test_drugs_are_classes_of_the_embedded_table():
    table = resources.files("medrec.knowledge.embedded").joinpath("atc3.csv")
    known = {row["atc3"] for row in csv.DictReader(table.read_text("utf-8").splitlines())}
    drugs = _conditions.drug_classes(CONDITIONS)
    assert sorted(set(drugs) - known) == []
    assert 112 <= len(drugs) <= 131


def test_fields_are_in_range_and_names_unique():
    assert len({c.name for c in CONDITIONS}) == len(CONDITIONS)
    for c in CONDITIONS:
        assert 0 < c.prevalence <= 1, c.name
        assert c.sex in ("", "F", "M"), c.name
        assert 0 <= c.procedure_rate <= 3, c.name
        assert c.treatments, c.name
        for treatment in c.treatments:
            assert 0 < treatment.probability < 1, c.name
            assert len(set(treatment.classes)) == len(treatment.classes), c.name
        given = Counter(name for t in c.treatments for name in t.classes)
        assert max(given.values()) == 1, c.name
