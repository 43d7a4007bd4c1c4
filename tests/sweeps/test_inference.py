"""Families, verdicts and holes of a stored study."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from sweeps.record import Analysis
from sweeps.statistics.results import gather
from sweeps.store import ResultsStore
from tests.sweeps.fabricate import fabricate


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    record = fabricate(root, seeds=5, patients=150, resamples=2000)
    analysis = Analysis(primary="jaccard", margin=0.05)
    ResultsStore(root).write_study(record.model_copy(update={"analysis": analysis}))
    return root


@pytest.fixture(scope="module")
def results(stored):
    return gather(ResultsStore(stored))


def test_arms_that_were_made_worse_hurt_and_the_nearly_equal_one_does_not(results):
    words = {
        arm.name: found.word
        for arm in results.record.arms
        if (found := results.verdict(arm.name)) is not None
    }
    assert words["popular"] == words["gamenet"] == words["no_graph"] == "hurts"
    assert words["no_ddi"] in {"equivalent", "undecided", "hurts"}
    assert "full" not in words  # the reference


def test_a_family_is_corrected_together(results):
    family = [arm.name for arm in results.record.arms if arm.name != "full"]
    found = [results.comparison(name) for name in family]
    gaps = results.inference().differences
    metric, arms = results.scores["all"].metrics.index("jaccard"), results.scores["all"].arms
    p = [gaps.p_family[metric, arms.index(name)] for name in family]
    np.testing.assert_allclose(
        [comparison.p_holm for comparison in found],
        multipletests(p, method="holm")[1],
        atol=1e-9,
    )
    for comparison in found:
        assert comparison.p <= comparison.p_max_t
        assert comparison.together.low < comparison.difference.low
        assert comparison.together.high > comparison.difference.high


def test_a_comparison_agrees_with_the_paired_mean_over_seeds(results):
    """The point estimate, and near it the t test that knows of patients alone."""
    scores = results.scores["all"]
    row = {name: scores.arms.index(name) for name in ("full", "no_graph")}
    metric = scores.metrics.index("jaccard")
    own = scores.numerator[metric, row["no_graph"]].mean(axis=0)
    other = scores.numerator[metric, row["full"]].mean(axis=0)
    found = results.comparison("no_graph")
    assert found.difference.estimate == pytest.approx((own - other).mean(), abs=1e-9)
    naive = stats.ttest_rel(own, other).confidence_interval()
    assert found.difference.low < naive.high
    assert found.difference.high > naive.low
    assert found.relative == pytest.approx(found.difference.estimate / other.mean())
    assert found.beats == 0.0


def test_discoveries_leave_out_the_primary_metric_and_those_without_direction(results):
    found = results.inference().discoveries
    assert {metric for metric, _ in found} == {"f1", "prauc", "ddi_rate"}
    p = [results.inference().p_value(metric, arm) for metric, arm in found]
    np.testing.assert_allclose(
        list(found.values()), multipletests(p, method="fdr_bh")[1], atol=1e-9
    )


def test_a_damaged_trial_counts_as_missing_and_is_named(tmp_path):
    record = fabricate(tmp_path, seeds=3, patients=40)
    arm = next(arm for arm in record.arms if arm.name == "gamenet")
    path = tmp_path / "trials" / arm.trials["1"] / "predictions.parquet"
    path.write_bytes(path.read_bytes()[:-7])
    found = gather(ResultsStore(tmp_path))
    assert found.stored("gamenet") == 2
    assert "predictions.parquet" in found.damaged[arm.trials["1"]]
    assert found.estimate("jaccard", "gamenet") is not None


def test_with_one_seed_there_is_no_verdict(tmp_path):
    fabricate(tmp_path, seeds=1, patients=120)
    found = gather(ResultsStore(tmp_path))
    comparison = found.comparison("no_graph")
    assert comparison.p is None
    assert comparison.verdict is None
    assert comparison.detectable is None
    assert comparison.difference.low is not None
    # The popular arm needs no seed; but the reference was trained once only.
    assert found.comparison("popular").p is None


def test_an_arm_without_trials_leaves_the_others_their_verdicts(tmp_path):
    record = fabricate(tmp_path, seeds=3, patients=120)
    store = ResultsStore(tmp_path)
    lost = next(arm for arm in record.arms if arm.name == "gamenet")
    for key in lost.trials.values():
        store.set_aside(key)
    found = gather(store)
    assert found.comparison("gamenet") is None
    assert found.verdict("no_graph").word == "hurts"


def test_trials_under_each_others_names_are_not_used(tmp_path):
    record = fabricate(tmp_path, seeds=3, patients=40)
    arm = next(arm for arm in record.arms if arm.name == "gamenet")
    one, other = (tmp_path / "trials" / arm.trials[seed] for seed in "01")
    one.rename(tmp_path / "aside")
    other.rename(one)
    (tmp_path / "aside").rename(other)
    found = gather(ResultsStore(tmp_path))
    assert found.stored("gamenet") == 1
    assert all("holds the trial" in why for why in found.damaged.values())


@pytest.mark.parametrize("text", ["[1, 2]", "{}", '{"number": "x"}', "no JSON"])
def test_a_search_record_that_is_none_is_left_out(tmp_path, text):
    record = fabricate(tmp_path, seeds=3, patients=40)
    name = record.searches[0].name
    whole = len(gather(ResultsStore(tmp_path)).searches[name])
    (tmp_path / "searches" / name / "00001.json").write_text(text)
    assert len(gather(ResultsStore(tmp_path)).searches[name]) == whole - 1
