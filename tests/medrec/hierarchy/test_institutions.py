"""Institutions whose codes are matched, and the truth about their matches."""

from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from medrec import splits
from medrec.cohort import KINDS, Codes, Cohort
from medrec.datasets._base import prepare
from medrec.datasets.mimic4 import Mimic4Options
from medrec.errors import ConfigError
from medrec.hierarchy._institutions import (
    Institution,
    Institutions,
    Titles,
    renamed,
    titles_of,
    two_cohorts,
    versions,
    whole,
)
from medrec.hierarchy._texts import abbreviated
from medrec.knowledge.base import Knowledge, load_knowledge
from medrec.knowledge.open_graph import EQUIVALENT
from medrec.knowledge.origin import Origin
from medrec.knowledge.relations import from_names
from medrec.spec import KnowledgeSpec
from tests.medrec.small import small_cohort, small_knowledge, to_codes
from tests.shared_data import shared_data

SIZE = 28


def halves(titles: Titles = "same", seed: int = 0) -> Institutions:
    return renamed(titled(), patients(), titles, seed)


@cache
def titled() -> Institution:
    titles = tuple(f"gallbladder disease of type {number}" for number in range(SIZE))
    return replace(whole(small_knowledge()), titles=titles)


def patients() -> np.ndarray:
    cohort = small_cohort()
    return cohort.visits[cohort.members(splits.TRAIN)]


def numbered(institution: Institution) -> list[set[int]]:
    """Returns the numbers of each visit's codes."""
    found: list[set[int]] = [set() for _ in institution.rows]
    first = 0
    for kind in KINDS:
        for visit, values in enumerate(as_lists(institution.visits[kind])):
            assert values == sorted(set(values))
            found[visit] |= {first + code for code in values}
        first += len(institution.names[kind])
    return found


def test_the_whole_has_all_training_visits() -> None:
    institution = titled()
    assert len(institution.rows) == patients().sum()
    assert institution.kinds.tolist() == [0] * 12 + [1] * 6 + [2] * 10
    expected = [sum(code in visit for visit in numbered(institution)) for code in range(SIZE)]
    assert institution.frequency.tolist() == expected


def test_titles_are_those_of_the_codes() -> None:
    knowledge = replace(small_knowledge(), planted_titles={"procedures/9:3961": "bypass"})
    titles = titles_of(knowledge)
    assert len(titles) == SIZE
    assert titles[12 + 1] == "bypass"


def test_no_patient_is_in_both_halves_and_none_is_lost() -> None:
    both = halves()
    patient = np.repeat(np.arange(len(patients())), patients())
    ours, theirs = (set(patient[side.rows].tolist()) for side in (both.source, both.target))
    assert not ours & theirs
    assert len(ours) == len(theirs) == len(patients()) / 2
    rows = np.concatenate([both.source.rows, both.target.rows])
    assert np.array_equal(np.sort(rows), np.arange(len(titled().rows)))


def test_the_truth_leads_back_to_the_same_codes() -> None:
    both = halves()
    everything = numbered(titled())
    seen = [set().union(*numbered(side)) for side in (both.source, both.target)]
    for visit, row in zip(numbered(both.source), both.source.rows, strict=True):
        assert visit == everything[row]
    back = {int(both.truth[code]): code for code in range(SIZE) if both.truth[code] >= 0}
    for visit, row in zip(numbered(both.target), both.target.rows, strict=True):
        found = {back[code] for code in visit if code in back}
        assert found == everything[row] & set(back.values())
    for code in range(SIZE):
        if both.truth[code] >= 0:
            assert code in seen[0]
            assert both.truth[code] in seen[1]
            assert both.target.kinds[both.truth[code]] == both.source.kinds[code]
            assert both.target.titles[both.truth[code]] == both.source.titles[code]
    assert (both.truth >= 0).sum() > 20
    assert np.mean(both.truth == np.arange(SIZE)) < 0.5
    assert not both.shared.any()


def test_a_code_that_one_half_lacks_has_no_match() -> None:
    institution = titled()
    first = int(patients()[0])
    visits = dict(institution.visits)
    lists = [[0] if row < first else [1] for row in range(len(institution.rows))]
    visits["procedures"] = to_codes(lists)
    both = renamed(replace(institution, visits=visits), patients(), "same", 0)
    assert both.truth[12 : 12 + 6].tolist().count(-1) == 5
    assert both.truth[12 + 1] >= 0


def test_titles_of_the_second_half() -> None:
    same, short, none = (halves(titles) for titles in ("same", "abbreviated", "none"))
    assert set(none.target.titles) == {""}
    assert short.target.titles == tuple(abbreviated(title, 0) for title in same.target.titles)
    assert short.target.titles != same.target.titles
    assert short.source.titles == same.source.titles == titled().titles
    names = set(same.target.names["diagnoses"])
    assert not names & set(same.source.names["diagnoses"])


def test_halves_depend_on_the_seed_alone() -> None:
    one, again, other = halves(), halves(), halves(seed=1)
    assert np.array_equal(one.truth, again.truth)
    assert np.array_equal(one.source.rows, again.source.rows)
    assert np.array_equal(
        one.target.visits["diagnoses"].values, again.target.visits["diagnoses"].values
    )
    assert not np.array_equal(one.source.rows, other.source.rows)
    assert not np.array_equal(one.truth, other.truth)


def test_numbers_of_visits_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="2 patients"):
        renamed(titled(), patients()[:-1], "same", 0)


def as_lists(codes: Codes) -> list[list[int]]:
    ends = codes.offsets.tolist()
    return [codes.values[a:b].tolist() for a, b in pairwise(ends)]


def with_versions() -> Knowledge:
    """Returns knowledge whose second half of visits has ICD-10 diagnoses and no procedures."""
    knowledge = small_knowledge()
    nines = knowledge.vocabulary["diagnoses"]
    tens = ("10:E119", "10:I10", "10:I509", "10:I5020")
    codes = knowledge.training_visits["diagnoses"]
    visits = len(codes.counts)
    later = visits // 2
    lists = as_lists(codes)
    lists[later:] = [[len(nines) + row % len(tens)] for row in range(visits - later)]
    lists[0] = [0, len(nines)]  # of both versions
    none = as_lists(knowledge.training_visits["procedures"])
    none[later:] = [[] for _ in none[later:]]
    triples = [
        ("diagnoses/9:25000", EQUIVALENT, "diagnoses/10:E119"),
        ("diagnoses/10:I10", EQUIVALENT, "diagnoses/9:4019"),
        ("diagnoses/9:4280", EQUIVALENT, "diagnoses/10:I509"),
        ("diagnoses/9:4280", EQUIVALENT, "diagnoses/10:I5020"),
    ]
    return replace(
        knowledge,
        vocabulary={**knowledge.vocabulary, "diagnoses": (*nines, *tens)},
        training_visits={
            **knowledge.training_visits,
            "diagnoses": to_codes(lists),
            "procedures": to_codes(none),
        },
        bundle=replace(knowledge.bundle, relations=from_names(Origin("", ""), triples)),
    )


def truth_by_name(both: Institutions) -> dict[str, str]:
    ours, theirs = (
        [name for kind in KINDS for name in side.names[kind]]
        for side in (both.source, both.target)
    )
    return {ours[i]: theirs[j] for i, j in enumerate(both.truth.tolist()) if j >= 0}


def test_versions_are_matched_by_equivalence_and_drugs_by_name() -> None:
    knowledge = with_versions()
    both = versions(knowledge)
    assert all(name.startswith("9:") for name in both.source.names["diagnoses"])
    assert all(name.startswith("10:") for name in both.target.names["diagnoses"])
    later = len(knowledge.training_visits["diagnoses"].counts) // 2
    assert both.source.rows.tolist() == list(range(1, later))  # the first has both versions
    assert both.target.rows.min() == later
    found = truth_by_name(both)
    coded = {name: other for name, other in found.items() if name.startswith("9:")}
    assert coded == {"9:25000": "10:E119", "9:4019": "10:I10"}  # 428.0 has two equivalents
    drugs = set(both.source.names["medications"]) & set(both.target.names["medications"])
    assert {name: found[name] for name in drugs} == {name: name for name in drugs}
    assert both.shared.sum() == len(drugs) > 5
    assert np.all(both.source.frequency > 0)
    assert np.all(both.target.frequency > 0)


def test_one_version_alone_is_refused() -> None:
    with pytest.raises(ConfigError, match="ICD-10"):
        versions(small_knowledge())


def test_two_cohorts_keep_their_visits() -> None:
    source, target = small_knowledge(), with_versions()
    both = two_cohorts(source, target)
    assert len(both.source.rows) == len(both.target.rows) == len(titled().rows)
    found = truth_by_name(both)
    assert found["9:4019"] == "9:4019"  # the same name before an equivalent one
    assert both.shared.sum() > 12


@pytest.mark.slow
def test_mimic_iv_demo_has_both_versions() -> None:
    folder = shared_data("mimic-iv-demo")
    cohort: Cohort = prepare("mimic4", folder, Mimic4Options())
    both = versions(load_knowledge(cohort, KnowledgeSpec()))
    assert len(both.source.rows) > 20
    assert len(both.target.rows) > 20
    assert both.shared.sum() > 50
