"""Scores against plain loops over the fabricated predictions."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from sweeps.errors import StoreError
from sweeps.evaluate import evaluate_arms, evaluate_scopes, interaction_matrix
from sweeps.statistics.results import gather
from sweeps.store import ResultsStore
from tests.sweeps.fabricate import fabricate, spec


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    return ResultsStore(root), fabricate(root)


@pytest.mark.parametrize("scope", ["all", "transitions"])
def test_jaccard_and_ddi_rate_equal_plain_loops(study, scope):
    store, record = study
    scores = evaluate_arms(store, record, scope)
    arm, seed = scores.arms.index("full"), 1
    made = store.load(record.arms[arm].trials["1"]).predictions
    jaccard, hit, total = {}, 0, 0
    pairs = {frozenset(pair) for pair in record.ddi.pairs}
    for row in range(len(made.patient)):
        if scope == "transitions" and made.visit[row] == 0:
            continue
        true, chosen = set(np.flatnonzero(made.truth[row])), set(np.flatnonzero(made.chosen[row]))
        value = len(true & chosen) / len(true | chosen)
        jaccard.setdefault(int(made.patient[row]), []).append(value)
        for i in chosen:
            for j in chosen:
                if i < j:
                    total, hit = total + 1, hit + (frozenset((int(i), int(j))) in pairs)
    assert scores.patients.tolist() == sorted(jaccard)
    expected = [np.mean(jaccard[p]) for p in sorted(jaccard)]
    place = scores.metrics.index("jaccard")
    np.testing.assert_allclose(scores.numerator[place, arm, seed], expected)
    assert set(scores.denominator[place, arm, seed]) == {1.0}
    place = scores.metrics.index("ddi_rate")
    assert scores.numerator[place, arm, seed].sum() == hit
    assert scores.denominator[place, arm, seed].sum() == total
    assert scores.visits == sum(map(len, jaccard.values()))


def test_scopes_together_equal_scopes_alone(study):
    both = evaluate_scopes(*study, ("all", "transitions"))
    for scope, scores in both.items():
        alone = evaluate_arms(*study, scope)
        np.testing.assert_array_equal(alone.numerator, scores.numerator)
        np.testing.assert_array_equal(alone.denominator, scores.denominator)


def test_the_unseeded_arm_has_one_trial_in_the_first_column(study):
    scores = evaluate_arms(*study, "all")
    assert scores.metrics == ("jaccard", "f1", "prauc", "ddi_rate", "medications")
    assert scores.present.tolist() == [[True, False, False]] + [[True] * 3] * 4
    assert scores.expected.tolist() == scores.present.tolist()
    assert scores.seeded.tolist() == [False, True, True, True, True]
    assert not scores.numerator[:, 0, 1:].any()


def test_estimates_equal_the_mean_over_seeds_of_the_metric(study):
    from medrec.evaluation import evaluate

    store, record = study
    results = gather(store)
    interacts = interaction_matrix(record.ddi, len(record.medications))
    for arm in record.arms:
        each = [evaluate(store.load(k).predictions, interacts) for k in arm.trials.values()]
        for name in each[0]:
            expected = np.mean([values[name] for values in each])
            assert results.estimate(name, arm.name).estimate == pytest.approx(expected)


def test_missing_trials_are_holes(tmp_path):
    record, store = fabricate(tmp_path, resamples=20), ResultsStore(tmp_path)
    shutil.rmtree(tmp_path / "trials" / record.arms[1].trials["1"])
    for key in record.arms[4].trials.values():
        shutil.rmtree(tmp_path / "trials" / key)
    scores = evaluate_arms(store, record, "all")
    assert scores.present[1].tolist() == [True, False, True]
    assert not scores.present[4].any()
    results = gather(store)
    assert (results.stored("gamenet"), results.asked("gamenet")) == (2, 3)
    assert results.estimate("jaccard", "no_graph") is None
    assert results.difference("jaccard", "full") is None


def test_a_store_without_trials_has_no_numbers(tmp_path):
    fabricate(tmp_path, resamples=20)
    shutil.rmtree(tmp_path / "trials")
    results = gather(ResultsStore(tmp_path))
    assert results.scores["all"].visits == 0
    assert results.estimate("jaccard", "full") is None


def test_other_test_visits_are_refused(tmp_path):
    record, store = fabricate(tmp_path, resamples=20), ResultsStore(tmp_path)
    old = store.load(record.arms[2].trials["2"])
    made = old.predictions.select(old.predictions.patient > 0)
    key = spec("other", 9).key
    store.save(key, old.summary, [{"epoch": 1.0}], made, b"")
    arm = record.arms[2].model_copy(update={"trials": {"0": record.arms[2].trials["0"], "2": key}})
    changed = record.model_copy(update={"arms": (*record.arms[:2], arm, *record.arms[3:])})
    with pytest.raises(StoreError, match="was tested on other visits"):
        evaluate_arms(store, changed, "all")
    narrow = replace(
        old.predictions,
        truth=old.predictions.truth[:, :5],
        chosen=old.predictions.chosen[:, :5],
        scores=old.predictions.scores[:, :5],
    )
    store.set_aside(key)
    store.save(key, old.summary, [{"epoch": 1.0}], narrow, b"")
    with pytest.raises(StoreError, match=r"scores 5 drugs, but study\.json names 12"):
        evaluate_arms(store, changed, "all")


def test_a_damaged_trial_is_told_and_counts_as_missing(tmp_path):
    record = fabricate(tmp_path, resamples=20)
    key = record.arms[1].trials["0"]
    path = tmp_path / "trials" / key / "predictions.parquet"
    path.write_bytes(path.read_bytes()[:-3])
    told = {}
    found = evaluate_scopes(
        ResultsStore(tmp_path), record, ("all",), damaged=lambda key, why: told.update({key: why})
    )["all"]
    assert found.present[1].tolist() == [False, True, True]
    assert list(told) == [key]
    assert "predictions.parquet is damaged" in told[key]
