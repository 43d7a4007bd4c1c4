"""Copies, distances and attacks against plain loops over patients."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from medrec.generation import _attacks, _privacy
from medrec.generation._attacks import (
    guess_attributes,
    membership_threshold,
    nearest,
    nearest_by_visits,
)
from medrec.generation._copies import copies, named
from medrec.generation._measures import PRIVACY as MEASURES
from medrec.generation._numbered import Numbered
from medrec.generation._privacy import privacy
from tests.medrec.generation.made import (
    SIZES,
    histories_of,
    numbers_of,
    part_of,
    records_of,
    some_patients,
)

TRAIN, TEST, GENERATED = (some_patients(n, seed) for n, seed in ((40, 1), (15, 2), (30, 3)))


def numbered(histories):
    return Numbered.of(histories, SIZES)


def people_of(histories):
    return [numbers_of(record) for record in records_of(histories)]


def ever(histories):
    return [{code for visit in person for code in visit} for person in people_of(histories)]


def value(terms):
    return terms[0].sum() / terms[1].sum()


def by_visits(own, other):
    """The published distance of one patient to another."""
    distance = int(len(own) != len(other))
    for i, visit in enumerate(own):
        distance += len(set(visit) ^ set(other[i] if i < len(other) else []))
    return distance


@pytest.fixture(params=[1 << 22, 70])
def block(request, monkeypatch):
    """All distances at once, or a few patients at a time."""
    monkeypatch.setattr(_attacks, "_BLOCK", request.param)


@pytest.mark.usefixtures("block")
def test_nearest_distances_are_those_of_sets():
    found = nearest(numbered(TEST).ever, numbered(TRAIN).ever)
    others = ever(TRAIN)
    for i, own in enumerate(ever(TEST)):
        assert found.hamming[i] == min(len(own ^ other) for other in others)
        least = min(1 - len(own & other) / len(own | other) for other in others)
        assert found.jaccard[i] == pytest.approx(least)


@pytest.mark.usefixtures("block")
def test_distance_by_visits_is_that_of_plain_loops():
    long = some_patients(20, seed=4, most_visits=7)
    for some, others in ((TEST, long), (long, TEST)):
        drawn = people_of(others)
        expected = [min(by_visits(own, other) for other in drawn) for own in people_of(some)]
        np.testing.assert_allclose(nearest_by_visits(numbered(some), numbered(others)), expected)


def test_threshold_is_the_median_of_equally_large_groups():
    rng = np.random.default_rng(0)
    for _ in range(20):
        members = rng.integers(0, 12, 10).astype(float)
        others = rng.integers(0, 12, 5).astype(float)
        alike = np.concatenate([members, np.repeat(others, 2)])
        assert membership_threshold(members, others) == np.median(alike)


def test_membership_is_that_of_scikit_learn():
    terms, facts = privacy(TRAIN, TEST, GENERATED, SIZES, seed=0)
    members = nearest_by_visits(numbered(TRAIN), numbered(GENERATED))
    others = nearest_by_visits(numbered(TEST), numbered(GENERATED))
    target = np.repeat([1, 0], [40, 15])
    auc = roc_auc_score(target, -np.concatenate([members, others]))
    assert value(terms["membership_auc"]) == pytest.approx(auc)
    threshold = facts["membership_threshold"]
    advantage = (members < threshold).mean() - (others < threshold).mean()
    assert value(terms["membership_advantage"]) == pytest.approx(advantage)


def test_membership_auc_has_the_placement_values_of_delong():
    terms, _ = privacy(TRAIN, TEST, GENERATED, SIZES, seed=0)
    members = nearest_by_visits(numbered(TRAIN), numbered(GENERATED))
    others = nearest_by_visits(numbered(TEST), numbered(GENERATED))
    placement = [np.mean([(m < o) + 0.5 * (m == o) for m in members]) for o in others]
    np.testing.assert_allclose(terms["membership_auc"][0], placement)


def guesses(targets, references, known):
    """Codes had and guessed, a row a target, by plain loops."""
    had, guessed = [], []
    for own in targets:
        distance = [len((own ^ other) & known) for other in references]
        near = references[int(np.argmin(distance))]
        others = [c for c in range(sum(SIZES.values())) if c not in known]
        had.append([c in own for c in others])
        guessed.append([c in near for c in others])
    return np.array(had), np.array(guessed)


@pytest.mark.usefixtures("block")
def test_guessed_attributes_have_the_f1_of_scikit_learn():
    known = np.array([0, 3, 7, 9, 14])
    had, guessed = guesses(ever(TEST), ever(GENERATED), set(known.tolist()))
    found = guess_attributes(numbered(TEST).ever, numbered(GENERATED).ever, known)
    assert found.f1 == pytest.approx(f1_score(had.ravel(), guessed.ravel()))
    np.testing.assert_array_equal(found.twice_right, 2 * (had & guessed).sum(axis=1))


def test_influence_of_the_attribute_gap_is_its_derivative(monkeypatch):
    monkeypatch.setattr(_privacy, "KNOWN_CODES", 5)
    terms, facts = privacy(TRAIN, TEST, GENERATED, SIZES, seed=0)
    right, size = terms["attribute_f1"]
    gap = terms["attribute_gap"][0]
    step = 1e-5
    for patient in range(15):
        weights = np.full(15, (1 - step) / 15)
        weights[patient] += step
        moved = facts["attribute_f1_training"] - (weights @ right) / (weights @ size)
        slope = (moved - gap.mean()) / step
        assert gap[patient] - gap.mean() == pytest.approx(slope, rel=1e-3, abs=1e-5)


def test_attributes_are_undefined_where_the_attacker_knows_all_codes():
    terms, _ = privacy(TRAIN, TEST, GENERATED, SIZES, seed=0)  # 15 codes
    assert not any(terms[name][1].any() for name in MEASURES if name.startswith("attribute"))


def copied(some, training):
    return copies("x", *named([numbered(some), numbered(training)]))


def test_copies_are_those_of_plain_loops():
    training = some_patients(60, seed=6, most_visits=2)
    rng = np.random.default_rng(0)
    mixed = records_of(some_patients(20, seed=7)) + records_of(
        part_of(training, rng.integers(0, 60, 20).tolist())
    )
    some = histories_of(mixed)
    known = [tuple(map(tuple, person)) for person in people_of(training)]
    visits = {visit for person in known for visit in person}
    pairs = {person[i : i + 2] for person in known for i in range(len(person) - 1)}
    drawn = [tuple(map(tuple, person)) for person in people_of(some)]
    whole = [person for person in drawn if person in known]
    assert copied(some, training) == {
        "copied_records_x": len(whole),
        "copied_long_records_x": sum(sum(map(len, person)) >= 10 for person in whole),
        "copied_sequences_x": sum(
            any(person[i : i + 2] in pairs for i in range(len(person) - 1)) for person in drawn
        ),
        "copied_visits_x": pytest.approx(
            np.mean([visit in visits for person in drawn for visit in person])
        ),
    }


def test_a_record_with_a_visit_more_or_in_another_order_is_no_copy():
    a, b, c = ({"diagnoses": [0, 1]}, {"diagnoses": [2], "medications": [1]}, {"diagnoses": [3]})
    training = histories_of([[a, b], [c]])
    found = copied(histories_of([[b, a], [a], [a, b, c], [a, b]]), training)
    assert found["copied_records_x"] == 1
    assert found["copied_sequences_x"] == 2
    assert found["copied_visits_x"] == 1.0


def test_codes_of_another_kind_are_no_copy():
    training = histories_of([[{"diagnoses": [1], "procedures": []}]])
    found = copied(histories_of([[{"diagnoses": [], "procedures": [1]}]]), training)
    assert found["copied_records_x"] == 0


def test_training_patients_handed_out_are_found(monkeypatch):
    monkeypatch.setattr(_privacy, "KNOWN_CODES", 5)
    given = part_of(TRAIN, list(range(40)))
    terms, facts = privacy(TRAIN, TEST, given, SIZES, seed=0)
    assert facts["copied_records_generated"] == 40
    assert facts["nearest_hamming_mean_generated"] == 0 < facts["nearest_hamming_mean_test"]
    assert value(terms["membership_auc"]) == 1.0
    assert value(terms["nearest_gap"]) < 0
    assert value(terms["attribute_gap"]) > 0.1
    assert facts["nearer_to_training"] > 0.6


def test_patients_of_the_same_kind_give_nothing_away():
    groups = (some_patients(n, seed, most_visits=2) for n, seed in ((300, 8), (150, 9), (300, 10)))
    # One population: the same frequencies for all three.
    everyone = histories_of([record for group in groups for record in records_of(group)])
    order = np.random.default_rng(0).permutation(750).tolist()
    train, test, drawn = (
        part_of(everyone, order[a:b]) for a, b in ((0, 300), (300, 450), (450, 750))
    )
    terms, facts = privacy(train, test, drawn, SIZES, seed=0)
    for name, chance in (("membership_auc", 0.5), ("membership_advantage", 0), ("nearest_gap", 0)):
        error = terms[name][0].std() / np.sqrt(150)
        assert abs(value(terms[name]) - chance) < 4 * error, name
    assert facts["nearer_to_training"] == pytest.approx(0.5, abs=0.1)


def test_every_test_patient_is_a_unit_and_the_seed_decides():
    terms, facts = privacy(TRAIN, TEST, GENERATED, SIZES, seed=1)
    assert terms.keys() == MEASURES.keys()
    assert all(len(part) == 15 for both in terms.values() for part in both)
    assert privacy(TRAIN, TEST, GENERATED, SIZES, seed=1)[1] == facts
    assert privacy(TRAIN, TEST, GENERATED, SIZES, seed=2)[1] != facts
