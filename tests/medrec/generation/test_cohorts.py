"""Generated patients as patients of a cohort: what stays, what is added, what is drawn."""

from dataclasses import replace

import numpy as np
import pytest

from medrec import splits
from medrec.batching import ResidentCohort
from medrec.card.pages import pages
from medrec.cohort import KINDS, Cohort
from medrec.errors import ConfigError
from medrec.generation._cohorts import UNUSED, as_cohort, extended, only_codes
from medrec.generation._histories import Histories, histories
from medrec.knowledge.base import training_visits
from tests.medrec.small import VOCABULARY, lists_of, small_cohort, to_codes

PEOPLE = ("gender", "group")
OF_VISITS = ("admitted", "age", "service")


def drawn(patients: int = 40, seed: int = 5) -> Histories:
    """Returns patients with 1 to 6 visits and codes at random."""
    rng = np.random.default_rng(seed)
    visits = rng.integers(1, 7, size=patients)
    lists = {
        kind: [
            np.flatnonzero(rng.random(len(VOCABULARY[kind])) < 0.3).tolist()
            for _ in range(visits.sum())
        ]
        for kind in KINDS
    }
    return Histories(visits, {kind: to_codes(lists[kind]) for kind in KINDS})


@pytest.mark.parametrize("real", [True, False])
def test_real_patients_keep_their_rows(real):
    cohort, new = small_cohort(), drawn()
    longer = extended(cohort, new, 1, real=real)
    assert longer.patients == cohort.patients + 40
    visits = len(cohort.age)
    np.testing.assert_array_equal(longer.visits[: cohort.patients], cohort.visits)
    for name in PEOPLE:
        np.testing.assert_array_equal(
            getattr(longer, name)[: cohort.patients], getattr(cohort, name)
        )
    for name in OF_VISITS:
        np.testing.assert_array_equal(getattr(longer, name)[:visits], getattr(cohort, name))
    for kind in KINDS:
        assert lists_of(longer, kind)[:visits] == lists_of(cohort, kind)
    assert longer.vocabulary == cohort.vocabulary
    for part in (splits.VALIDATION, splits.TEST):
        np.testing.assert_array_equal(longer.members(part), cohort.members(part))


def test_generated_patients_are_the_last_training_patients():
    cohort, new = small_cohort(), drawn()
    longer = extended(cohort, new, 1)
    added = np.arange(cohort.patients, cohort.patients + 40)
    expected = [*cohort.members(splits.TRAIN), *added]
    np.testing.assert_array_equal(longer.members(splits.TRAIN), expected)
    found = histories(longer, added)
    np.testing.assert_array_equal(found.visits, new.visits)
    for kind in KINDS:
        np.testing.assert_array_equal(found.codes[kind].offsets, new.codes[kind].offsets)
        np.testing.assert_array_equal(found.codes[kind].values, new.codes[kind].values)
    assert len(longer.age) == longer.visits.sum()


def test_in_place_of_real_ones_nothing_real_is_trained_on():
    cohort, new = small_cohort(), drawn()
    only = extended(cohort, new, 1, real=False)
    np.testing.assert_array_equal(
        only.members(splits.TRAIN), np.arange(cohort.patients, cohort.patients + 40)
    )
    np.testing.assert_array_equal(only.members(UNUSED), cohort.members(splits.TRAIN))
    visits = training_visits(only)
    for kind in KINDS:
        np.testing.assert_array_equal(visits[kind].values, new.codes[kind].values)
    counts = only.counts()
    assert counts["train_patients"] == 40
    assert counts["patients"] == 64
    ResidentCohort(only)


def test_a_cohort_with_unused_patients_is_saved_and_has_a_card(tmp_path):
    only = extended(small_cohort(), drawn(), 1, real=False)
    only.save(tmp_path / "cohort", pages(only))
    assert Cohort.open(tmp_path / "cohort").fingerprint == only.fingerprint


def test_a_generated_cohort_opens_again(tmp_path):
    made = as_cohort(small_cohort(), drawn(), 3, {"generator": "bigram", "draws": {"seed": 3}})
    made.save(tmp_path / "cohort", pages(made))
    opened = Cohort.open(tmp_path / "cohort")
    assert opened.fingerprint == made.fingerprint
    assert opened.provenance == made.provenance
    assert opened.provenance.dataset == "generated"
    assert opened.provenance.options["generator"] == "bigram"
    assert opened.provenance.options["split_seed"] == 3
    for kind in KINDS:
        assert lists_of(opened, kind) == lists_of(made, kind)
    ResidentCohort(opened)


def test_a_generated_cohort_holds_the_generated_patients_in_the_sources_terms():
    cohort, new = small_cohort(), drawn()
    made = as_cohort(cohort, new, 3)
    np.testing.assert_array_equal(made.visits, new.visits)
    for kind in KINDS:
        np.testing.assert_array_equal(made.codes[kind].values, new.codes[kind].values)
        np.testing.assert_array_equal(made.codes[kind].offsets, new.codes[kind].offsets)
    same = ("vocabulary", "genders", "groups", "services")
    assert [getattr(made, name) for name in same] == [getattr(cohort, name) for name in same]
    assert np.bincount(made.split).tolist() == [26, 7, 7]
    np.testing.assert_array_equal(
        made.split, splits.split_patients(40, "random", 3, (0.66, 0.17, 0.17))
    )


def test_too_few_patients_for_a_split_are_refused():
    with pytest.raises(ConfigError, match="2 patients cannot be split"):
        as_cohort(small_cohort(), drawn(2), 0)


def test_the_seed_decides():
    one, same, other = (as_cohort(small_cohort(), drawn(), seed) for seed in (1, 1, 2))
    assert one.fingerprint == same.fingerprint
    assert one.fingerprint != other.fingerprint
    assert (one.age != other.age).any()
    one, same, other = (extended(small_cohort(), drawn(), seed) for seed in (1, 1, 2))
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_demographics_do_not_depend_on_codes():
    cohort, new = small_cohort(), drawn()
    turned = {kind: to_codes([[]] * int(new.visits.sum())) for kind in KINDS}
    one, other = (as_cohort(cohort, of, 1) for of in (new, Histories(new.visits, turned)))
    for name in (*PEOPLE, *OF_VISITS):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_demographics_come_from_training_patients_alone():
    """Whoever is no training patient is given values that must not turn up."""
    cohort = small_cohort()
    outside = cohort.split != splits.TRAIN
    visits = np.repeat(outside, cohort.visits)
    marked = replace(
        cohort,
        gender=np.where(outside, 1, 0).astype(np.int8),
        group=np.where(outside, 2, cohort.group % 2).astype(np.int8),
        age=np.where(visits, 110, cohort.age).astype(np.int16),
        service=np.where(visits, 1, 0).astype(np.int8),
        admitted=np.where(visits, 7 * cohort.admitted, cohort.admitted).astype(np.float32),
    )
    made = as_cohort(marked, drawn(300), 0)
    assert not made.gender.any()
    assert set(made.group.tolist()) == {0, 1}
    assert not made.service.any()
    training = marked.members(splits.TRAIN)
    first = made.offsets[:-1]
    assert set(made.age[first].tolist()) == set(cohort.age[marked.offsets[training]].tolist())
    gaps = np.diff(made.admitted)[np.setdiff1d(np.arange(len(made.age)), first) - 1]
    assert set(gaps.tolist()) == {30.0}


def test_gender_group_and_age_are_those_of_one_patient():
    cohort = small_cohort()
    training = cohort.members(splits.TRAIN)
    known = {(cohort.gender[p], cohort.group[p], cohort.age[cohort.offsets[p]]) for p in training}
    made = as_cohort(cohort, drawn(300), 0)
    found = set(zip(made.gender, made.group, made.age[made.offsets[:-1]], strict=True))
    assert found == known


def test_time_passes_from_visit_to_visit():
    cohort = small_cohort()
    yearly = replace(cohort, admitted=cohort.admitted * 400 / 30)
    made = as_cohort(yearly, drawn(100), 0)
    for p in range(made.patients):
        rows = slice(made.offsets[p], made.offsets[p + 1])
        days = made.admitted[rows]
        np.testing.assert_allclose(days, 400 * np.arange(made.visits[p]))
        older = made.age[rows] - made.age[rows][0]
        assert (older >= days // 365.25).all()
        assert (older <= days // 365.25 + 1).all()


def test_unknown_ages_stay_unknown_and_nobody_is_older_than_ages_go():
    cohort = small_cohort()
    unknown = replace(cohort, age=np.full_like(cohort.age, -1))
    assert (as_cohort(unknown, drawn(), 0).age == -1).all()
    old = replace(cohort, age=np.full_like(cohort.age, 119), admitted=cohort.admitted * 50)
    assert as_cohort(old, drawn(), 0).age.max() == 120


def test_days_count_from_the_first_admission_whatever_the_order_of_visits():
    """Where visits are in the order of their keys, times go back and forth."""
    cohort = small_cohort()
    last = np.repeat(cohort.admitted[cohort.offsets[1:] - 1], cohort.visits)
    backwards = replace(cohort, admitted=(last - cohort.admitted).astype(np.float32))
    made = as_cohort(backwards, drawn(), 0)
    for p in range(made.patients):
        days = made.admitted[made.offsets[p] : made.offsets[p + 1]]
        assert days.min() == 0
        assert (np.diff(days) == -30).all()


def test_where_nobody_came_twice_no_time_passes():
    cohort = small_cohort()
    first = cohort.offsets[:-1]
    once = replace(
        cohort,
        visits=np.ones_like(cohort.visits),
        admitted=cohort.admitted[first],
        age=cohort.age[first],
        service=cohort.service[first],
        codes={kind: cohort.codes[kind].take(first) for kind in KINDS},
    )
    assert not as_cohort(once, drawn(), 0).admitted.any()


def test_only_some_codes_stay_in_visits_and_vocabularies():
    cohort = small_cohort()
    keep = {k: np.arange(len(cohort.vocabulary[k])) % 2 == 0 for k in KINDS}
    found = only_codes(cohort, keep)
    for kind in KINDS:
        names = np.array(cohort.vocabulary[kind])
        assert found.vocabulary[kind] == tuple(names[keep[kind]])
        for visit in range(len(cohort.age)):
            start, end = cohort.codes[kind].offsets[visit : visit + 2]
            own = set(names[cohort.codes[kind].values[start:end]]) & set(found.vocabulary[kind])
            start, end = found.codes[kind].offsets[visit : visit + 2]
            now = np.array(found.vocabulary[kind])[found.codes[kind].values[start:end]]
            assert set(now) == own
            assert len(now) == len(own)
