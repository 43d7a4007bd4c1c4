"""The synthetic cohort: its sizes, that it is reproducible, and that the switches switch."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from medrec.datasets._base import prepare
from medrec.datasets._conditions import read_conditions
from medrec.datasets.synthetic import DATASET, SyntheticOptions, load
from medrec.errors import ConfigError, InputError
from medrec.knowledge.tables import read_interactions


@cache
def cohort(**options):
    return prepare("synthetic", None, SyntheticOptions(**options))


def drugs(cohort):
    return cohort.codes["medications"].multi_hot(cohort.drugs)


def later_visits(cohort):
    """Rows of visits that have one before them."""
    patient = np.repeat(np.arange(cohort.patients), cohort.visits)
    return np.flatnonzero(patient[1:] == patient[:-1]) + 1


def recorded(cohort):
    """Which conditions the diagnosis codes of each visit show."""
    names = cohort.vocabulary["diagnoses"]
    hot = cohort.codes["diagnoses"].multi_hot(len(names))
    columns = []
    for condition in read_conditions():
        mine = {"9:" + code for code in condition.diagnoses}
        columns.append(hot[:, [i for i, name in enumerate(names) if name in mine]].any(axis=1))
    return np.stack(columns, axis=1)


def correlations(left, right):
    """Phi of each column pair among columns with 30 or more of either value; and the visits."""

    def standard(columns):
        often = (columns.sum(axis=0) >= 30) & ((~columns).sum(axis=0) >= 30)
        columns = columns[:, often].astype(float)
        return (columns - columns.mean(axis=0)) / columns.std(axis=0)

    return standard(left).T @ standard(right) / len(left), len(left)


def excess(phi, cases):
    """Mean of n·phi²; 1 for independent columns (each is a chi-square with one degree)."""
    return float((cases * phi**2).mean())


def interaction_rate(cohort):
    """Share of interacting pairs, by sets and loops."""
    pairs = {frozenset(pair) for pair in read_interactions("embedded")}
    names, codes = cohort.vocabulary["medications"], cohort.codes["medications"]
    bad = total = 0
    for visit in range(0, len(codes.counts), 5):
        given = [names[d] for d in codes.values[codes.offsets[visit] : codes.offsets[visit + 1]]]
        for i, first in enumerate(given):
            bad += sum(frozenset((first, second)) in pairs for second in given[i + 1 :])
            total += len(given) - i - 1
    return bad / total


def test_sizes_are_those_of_the_mimic3_cohort():
    whole = cohort(patients=6350)
    counts = whole.counts()
    assert 14_000 <= counts["visits"] <= 16_100
    assert 2.2 <= counts["visits_per_patient"] <= 2.55
    assert whole.visits.max() <= 29
    assert 1_760 <= counts["diagnoses"] <= 2_150
    assert 1_290 <= counts["procedures"] <= 1_570
    assert 112 <= counts["medications"] <= 131
    assert 9.9 <= counts["diagnoses_per_visit"] <= 11.1
    assert 3.5 <= counts["procedures_per_visit"] <= 4.2
    assert 11.0 <= counts["medications_per_visit"] <= 12.3
    assert whole.codes["diagnoses"].counts.max() <= 39
    assert 25 <= whole.codes["medications"].counts.max() <= 60


def test_code_frequencies_have_a_long_tail():
    whole = cohort(patients=6350)
    for kind in ("diagnoses", "procedures"):
        sizes = np.sort(np.bincount(whole.codes[kind].values))[::-1]
        assert sizes[: len(sizes) // 10].sum() > 0.6 * sizes.sum(), kind
        assert np.mean(sizes <= 10) > 0.2, kind


def test_the_default_cohort_is_like_the_large_one():
    small = cohort()
    counts = small.counts()
    assert counts["patients"] == 1200
    assert 2.1 <= counts["visits_per_patient"] <= 2.7
    assert 9.7 <= counts["diagnoses_per_visit"] <= 11.3
    assert 3.4 <= counts["procedures_per_visit"] <= 4.3
    assert 10.8 <= counts["medications_per_visit"] <= 12.5
    assert small.genders == ("F", "M")
    assert small.groups == ("A", "B", "C")
    assert small.age.min() >= 18
    assert small.age[small.offsets[:-1]].max() <= 89


def test_no_visit_is_dropped_and_gaps_are_positive():
    small = cohort()
    assert set(small.provenance.dropped.values()) == {0}
    assert all(small.codes[kind].counts.min() >= 1 for kind in small.codes)
    gaps = np.diff(small.admitted)[later_visits(small) - 1]
    assert gaps.min() >= 2.9  # days; float32 rounds the planted 3
    assert 100 < np.median(gaps) < 220


def test_age_and_sex_lean_as_the_conditions_say():
    small = cohort()
    number = {c.name: i for i, c in enumerate(read_conditions())}
    seen = recorded(small)
    age = small.age
    male = np.repeat(small.gender == small.genders.index("M"), small.visits)
    dementia, hiv = seen[:, number["dementia"]], seen[:, number["hiv infection"]]
    assert age[dementia].mean() > age[hiv].mean() + 8
    prostate, thyroid = seen[:, number["prostate enlargement"]], seen[:, number["hypothyroidism"]]
    assert male[prostate].mean() > male[thyroid].mean() + 0.2


def test_ages_grow_with_the_years_between_visits():
    small = cohort()
    ends = zip(small.offsets[:-1], small.offsets[1:], strict=True)
    older = 0
    for start, end in ends:
        first = int(small.age[start])
        for visit in range(start, end):
            years = small.admitted[visit] / 365.25
            if abs(years - round(float(years))) > 1e-3:  # days are kept as float32
                assert small.age[visit] == min(first + int(years), 120)
            older += int(small.age[visit]) > first
    assert older > 100
    assert "unknown" not in small.services


def test_switches_change_medications_only():
    plain = cohort()
    for switch in ("current", "history", "avoidance"):
        other = cohort(**{switch: 0.0})
        for kind in ("diagnoses", "procedures"):
            assert np.array_equal(plain.codes[kind].values, other.codes[kind].values)
        assert np.array_equal(plain.admitted, other.admitted)
        assert not np.array_equal(
            plain.codes["medications"].values, other.codes["medications"].values
        )
        assert 10.8 <= other.counts()["medications_per_visit"] <= 12.9, switch


def test_current_conditions_cause_drugs_only_when_switched_on():
    on, off = cohort(), cohort(current=0.0, history=0.0)
    first = np.concatenate([[0], np.cumsum(on.visits)[:-1]])  # visits are independent patients
    strong = excess(*correlations(recorded(on)[first], drugs(on)[first]))
    none = excess(*correlations(recorded(off)[first], drugs(off)[first]))
    assert strong > 3
    assert 0.85 < none < 1.15


def test_without_current_even_history_tells_nothing_of_the_codes():
    off = cohort(current=0.0)
    last = np.cumsum(off.visits) - 1
    assert 0.85 < excess(*correlations(recorded(off)[last], drugs(off)[last])) < 1.15


def test_history_repeats_drugs_only_when_switched_on():
    def repeated(cohort):
        given, later = drugs(cohort), later_visits(cohort)
        both = (given[later] & given[later - 1]).sum(axis=1)
        return float((both / (given[later] | given[later - 1]).sum(axis=1)).mean())

    assert repeated(cohort()) > repeated(cohort(history=0.0)) + 0.08
    assert repeated(cohort(current=0.0)) > repeated(cohort(current=0.0, history=0.0)) + 0.08


def test_without_history_drugs_depend_on_today_alone():
    """With neither cause, earlier drugs tell nothing; with history they do."""

    def dependence(cohort):
        second = np.cumsum(cohort.visits)[cohort.visits >= 2] - 1
        given = drugs(cohort)
        return excess(*correlations(given[second - 1], given[second]))

    assert 0.85 < dependence(cohort(current=0.0, history=0.0, avoidance=0.0)) < 1.15
    assert dependence(cohort(current=0.0, avoidance=0.0)) > 2


def test_without_history_earlier_drugs_tell_nothing_once_the_conditions_are_known():
    """Where no condition with C10A is recorded today, only history can make C10A repeat."""

    def risk(cohort):
        column = cohort.vocabulary["medications"].index("C10A")
        treated = [
            i
            for i, c in enumerate(read_conditions())
            if any("C10A" in t.classes for t in c.treatments)
        ]
        later = later_visits(cohort)
        given, seen = drugs(cohort)[:, column], recorded(cohort)[:, treated].any(axis=1)
        bare = later[~seen[later]]
        before = given[bare - 1]
        return given[bare][before].mean() - given[bare][~before].mean()

    assert risk(cohort(patients=6350)) > 0.2
    assert abs(risk(cohort(patients=6350, history=0.0))) < 0.03


def test_avoidance_lowers_the_interaction_rate():
    rates = [interaction_rate(cohort(avoidance=a)) for a in (0.0, 0.7, 1.0)]
    assert 0.05 <= interaction_rate(cohort()) <= 0.09
    assert rates[0] > 1.5 * rates[1]
    assert rates[2] == 0.0


def test_the_same_options_give_the_same_cohort_in_another_process():
    code = (
        "from medrec.datasets._base import prepare;"
        "from medrec.datasets.synthetic import SyntheticOptions;"
        "print(hash('x'), prepare('synthetic', None, SyntheticOptions(patients=60)).fingerprint)"
    )
    seen = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for seed in ("1", "2")
    ]
    assert seen[0][0] != seen[1][0]
    assert {fingerprint for _, fingerprint in seen} == {cohort(patients=60).fingerprint}
    assert cohort(patients=60, seed=1).fingerprint != cohort(patients=60).fingerprint


def test_the_smallest_cohort_and_every_corner_of_the_switches_work():
    for current in (0.0, 1.0):
        for history in (0.0, 1.0):
            assert cohort(patients=12, current=current, history=history).patients == 12


def test_a_source_folder_is_refused():
    assert not DATASET.needs_source
    with pytest.raises(InputError, match="needs no source"):
        load(Path("raw"), SyntheticOptions())


def test_presets_of_hospitals_are_refused_by_name():
    with pytest.raises(ConfigError, match=r"'safedrug' is for mimic3 and .* is synthetic"):
        SyntheticOptions(preset="safedrug")


def test_every_option_is_described():
    assert all(field.description for field in SyntheticOptions.model_fields.values())
