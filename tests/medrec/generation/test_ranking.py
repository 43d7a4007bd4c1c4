"""AUROC and average precision against scikit-learn; influences against numerical derivatives."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from medrec.generation._ranking import auroc, average_precision

BOTH = pytest.mark.parametrize(
    ("ours", "theirs"),
    [(auroc, roc_auc_score), (average_precision, average_precision_score)],
    ids=["auroc", "average_precision"],
)
PATIENTS = 9  # the last has no visit


def visits(seed, steps):
    """Returns scores, targets and patients; scores are multiples of 1 / steps, so many tie."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(steps + 1, size=40) / steps
    return scores, rng.random(40) < 0.2 + 0.5 * scores, rng.integers(PATIENTS - 1, size=40)


@BOTH
@pytest.mark.parametrize("steps", [1, 5, 1000])
def test_value_is_scikit_learns(ours, theirs, steps):
    for seed in range(5):
        scores, target, patient = visits(seed, steps)
        found, _ = ours(scores, target, patient, PATIENTS)
        assert found == pytest.approx(theirs(target, scores), abs=1e-12)


@BOTH
@pytest.mark.parametrize("steps", [1, 5, 1000])
def test_influence_is_the_derivative_with_respect_to_each_patients_weight(ours, theirs, steps):
    scores, target, patient = visits(3, steps)
    _, influence = ours(scores, target, patient, PATIENTS)
    equal, step = np.full(PATIENTS, 1 / PATIENTS), 1e-5
    for p in range(PATIENTS):
        more, less = equal.copy(), equal.copy()
        more[p] += step
        less[p] -= step
        high, low = (theirs(target, scores, sample_weight=w[patient]) for w in (more, less))
        assert influence[p] == pytest.approx((high - low) / (2 * step), abs=1e-6)
    assert influence[-1] == 0
    assert influence.mean() == pytest.approx(0, abs=1e-12)
    assert np.abs(influence).max() > 0.01 or steps == 1


@BOTH
def test_equal_scores_tell_nothing(ours, theirs):
    _, target, patient = visits(0, 5)
    value, influence = ours(np.zeros(40), target, patient, PATIENTS)
    assert value == pytest.approx(0.5 if ours is auroc else target.mean())
    if ours is auroc:
        np.testing.assert_allclose(influence, 0, atol=1e-12)


@BOTH
def test_what_increases_the_scores_changes_nothing(ours, theirs):
    scores, target, patient = visits(1, 7)
    value, influence = ours(scores, target, patient, PATIENTS)
    other, same = ours(np.exp(3 * scores), target, patient, PATIENTS)
    assert other == pytest.approx(value)
    np.testing.assert_allclose(same, influence)


def test_influence_gives_the_standard_error_of_resampled_patients():
    """Resampling patients by weights gives about the spread that the influences tell."""
    rng = np.random.default_rng(0)
    patients = 150
    patient = np.repeat(np.arange(patients), 4)
    shift = rng.normal(size=patients)[patient]  # a patient's visits are alike
    scores = shift + rng.normal(size=len(patient))
    target = shift + rng.normal(size=len(patient)) > 0.5
    for ours, theirs in ((auroc, roc_auc_score), (average_precision, average_precision_score)):
        _, influence = ours(scores, target, patient, patients)
        weights = rng.multinomial(patients, np.full(patients, 1 / patients), size=150)
        drawn = [theirs(target, scores, sample_weight=w[patient]) for w in weights]
        told = influence.std() / np.sqrt(patients)
        assert told == pytest.approx(np.std(drawn), rel=0.2)
