"""`medsweep compare`: what changed is told, and differences are of the same patients."""

import json
import shutil

import pytest
from click.testing import CliRunner
from scipy import stats

from sweeps.archive import export_results
from sweeps.cli import main
from sweeps.compare import Change, command, compare
from sweeps.errors import StoreError
from sweeps.evaluate import evaluate_arms
from sweeps.run import run_study
from sweeps.statistics.results import gather
from sweeps.store import ResultsStore
from tests.sweeps import tiny
from tests.sweeps.fabricate import fabricate


@pytest.fixture
def results(tmp_path):
    fabricate(tmp_path / "a")
    return ResultsStore(tmp_path / "a")


def again(store: ResultsStore, folder, **changes) -> ResultsStore:
    """A copy of a results directory whose record has these changes."""
    shutil.copytree(store.root, folder)
    made = ResultsStore(folder)
    made.write_study(made.study().model_copy(update=changes))
    return made


def with_trials(store: ResultsStore, arm: str, other: str):
    """The record's arms, where `arm` has the trials of `other`."""
    arms = store.study().arms
    trials = next(each.trials for each in arms if each.name == other)
    return tuple(
        each.model_copy(update={"trials": trials}) if each.name == arm else each for each in arms
    )


def fields(changes: tuple[Change, ...]) -> dict[str, tuple]:
    return {change.field: (change.before, change.after) for change in changes}


def shown(*arguments) -> str:
    done = CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


# ------------------------------------------------------------------ what changed


def test_a_run_compared_with_itself_has_not_changed(results):
    found = compare(results, results)
    assert (found.study, found.data, found.code, found.added, found.removed) == ((),) * 5
    assert found.why_no_difference == ""
    assert {arm.state for arm in found.arms} == {"identical"}
    for arm in found.arms:
        assert arm.changes == ()
        for result in arm.results.values():
            gap = result.difference
            assert (gap.estimate, gap.low, gap.high) == (0.0, 0.0, 0.0)
            assert result.before == result.after


def test_question_protocol_analysis_seeds_and_searches(results, tmp_path):
    record = results.study()
    other = again(
        results,
        tmp_path / "b",
        question="Another?",
        seeds=(0, 1),
        protocol=record.protocol.model_copy(update={"threshold": 0.4}),
        analysis=record.analysis.model_copy(update={"margin": 0.01}),
        searches=(record.searches[0].model_copy(update={"trials": 9}),),
    )
    found = fields(compare(results, other).study)
    assert found == {
        "question": (record.question, "Another?"),
        "protocol.threshold": (0.5, 0.4),
        "analysis.margin": (None, 0.01),
        "seeds": ([0, 1, 2], [0, 1]),
        "searches.tune.trials": (6, 9),
        "searches.pareto": ("present", None),
    }


def test_arms_added_removed_and_changed(results, tmp_path):
    arms = results.study().arms
    renamed = arms[-1].model_copy(update={"name": "new"})
    other = again(
        results, tmp_path / "b", arms=(*with_trials(results, "full", "gamenet")[:-1], renamed)
    )
    found = compare(results, other)
    assert (found.added, found.removed) == (("new",), (arms[-1].name,))
    changed = {arm.name: arm for arm in found.arms}
    assert fields(changed["full"].changes) == {"config.ablation": ("full", "gamenet")}
    assert changed["full"].state == "other settings, data or seeds"
    assert changed["gamenet"].state == "identical"


def test_data_and_knowledge(results, tmp_path):
    record = results.study()
    cohort = record.cohort.model_copy(
        update={"counts": {**record.cohort.counts, "patients": 301.0}}
    )
    graph = record.ddi.model_copy(update={"fingerprint": "other", "pairs": record.ddi.pairs[:-1]})
    found = compare(results, again(results, tmp_path / "b", cohort=cohort, ddi=graph))
    assert fields(found.data) == {
        "cohort.counts.patients": (300.0, 301.0),
        "knowledge.fingerprint": (record.ddi.fingerprint, "other"),
        "knowledge.interacting_pairs": (len(record.ddi.pairs), len(record.ddi.pairs) - 1),
    }
    assert any("measured on different interaction graphs" in note for note in found.notes)


def test_code_and_packages(results, tmp_path):
    """Whatever trials say of where they ran is compared, new fields as well."""
    other = again(results, tmp_path / "b")
    for key in other.trial_keys():
        files = other.content(key)
        summary = json.loads(files["trial.json"])
        summary["environment"] |= {"torch": "2.9.0", "git": {"commit": "abc", "dirty": False}}
        shutil.rmtree(other.root / "trials" / key)
        other.save_files(key, {**files, "trial.json": json.dumps(summary).encode()})
    assert fields(compare(results, other).code) == {
        "torch": ("2.8.0", "2.9.0"),
        "git.commit": (None, "abc"),
        "git.dirty": (None, "False"),
    }


# ------------------------------------------------------------------ differences


def test_estimates_are_those_of_each_runs_own_tables(results, tmp_path):
    other = again(results, tmp_path / "b", arms=with_trials(results, "full", "gamenet"))
    one, two = gather(results), gather(other)
    for arm in compare(results, other).arms:
        for metric, result in arm.results.items():
            assert result.before == one.estimate(metric, arm.name)
            assert result.after == two.estimate(metric, arm.name)


@pytest.mark.parametrize(("patients", "share"), [(40, 1e-8), (250, 0.1)])
def test_a_difference_of_one_seed_is_the_paired_one_of_scipy(tmp_path, patients, share):
    """Few patients have the t interval, many the bootstrap's, which is close to it."""
    fabricate(tmp_path / "a", seeds=1, patients=patients, resamples=2000)
    store = ResultsStore(tmp_path / "a")
    other = again(store, tmp_path / "b", arms=with_trials(store, "full", "gamenet"))
    scores = evaluate_arms(store, store.study(), "all")
    full, gamenet = (scores.arms.index(name) for name in ("full", "gamenet"))
    found = next(arm for arm in compare(store, other).arms if arm.name == "full").results
    for metric in ("jaccard", "f1", "prauc"):
        at = scores.metrics.index(metric)
        assert (scores.denominator[at] == 1).all()  # every patient counts once
        gaps = scores.numerator[at, gamenet, 0] - scores.numerator[at, full, 0]
        expected = stats.ttest_1samp(gaps, 0.0).confidence_interval(0.95)
        gap = found[metric].difference
        assert gap.estimate == pytest.approx(gaps.mean(), abs=1e-9)
        width = expected.high - expected.low
        assert (gap.low, gap.high) == pytest.approx(tuple(expected), abs=share * width)


def test_differences_take_the_runs_seeds_as_they_are(results, tmp_path):
    """A has three seeds and B two of them: the shared ones are no independent trainings."""
    full = next(arm for arm in results.study().arms if arm.name == "full")
    kept = full.model_copy(update={"trials": {k: v for k, v in full.trials.items() if k != "1"}})
    arms = tuple(kept if arm.name == "full" else arm for arm in results.study().arms)
    other = again(results, tmp_path / "b", arms=arms)
    found = next(arm for arm in compare(results, other).arms if arm.name == "full")
    assert found.seeds == (("0", "1", "2"), ("0", "2"))
    assert found.state == "other seeds"
    result = found.results["jaccard"]
    gap = result.difference
    assert gap.estimate == pytest.approx(result.after.estimate - result.before.estimate)
    assert gap.low is None
    assert gap.high is None


def test_the_same_key_with_other_predictions_is_told(results, tmp_path):
    """As another machine or other code under the same settings may leave it."""
    other = again(results, tmp_path / "b")
    full = next(arm for arm in results.study().arms if arm.name == "full")
    mine, theirs = full.trials["0"], full.trials["1"]
    files = {**other.content(mine), "predictions.parquet": b""}
    files["predictions.parquet"] = other.content(theirs)["predictions.parquet"]
    shutil.rmtree(other.root / "trials" / mine)
    other.save_files(mine, files)
    found = {arm.name: arm for arm in compare(results, other).arms}
    assert found["full"].state == "same settings, other predictions"
    assert found["gamenet"].state == "identical"
    result = found["full"].results["jaccard"]
    gap = result.difference
    assert gap.estimate == result.after.estimate - result.before.estimate != 0.0
    assert (gap.low, gap.high) == (None, None)


def test_a_copy_in_half_precision_differs_in_ranks_alone(results, tmp_path):
    export_results(results.root, tmp_path / "copy", half=True)
    for arm in compare(results, ResultsStore(tmp_path / "copy")).arms:
        for metric, result in arm.results.items():
            gap = result.difference
            assert gap.estimate == 0.0 or (metric == "prauc" and abs(gap.estimate) < 1e-3)
            assert gap.low in (None, 0.0)


def test_a_slim_copy_is_identical(results, tmp_path):
    export_results(results.root, tmp_path / "copy")
    found = compare(results, ResultsStore(tmp_path / "copy"))
    assert {arm.state for arm in found.arms} == {"identical"}
    assert (found.study, found.data, found.code) == ((), (), ())


def test_different_cohorts_have_no_difference_and_why(results, tmp_path):
    record = results.study()
    cohort = record.cohort.model_copy(update={"fingerprint": "f" * 64})
    found = compare(results, again(results, tmp_path / "b", cohort=cohort))
    assert "different cohorts (0123456789ab and ffffffffffff)" in found.why_no_difference
    for arm in found.arms:
        for result in arm.results.values():
            assert result.difference is None
            assert result.before is not None


def test_an_arm_without_trials_has_no_difference(results, tmp_path):
    other = again(results, tmp_path / "b")
    full = next(arm for arm in results.study().arms if arm.name == "full")
    for key in full.trials.values():
        shutil.rmtree(other.root / "trials" / key)
    found = next(arm for arm in compare(results, other).arms if arm.name == "full")
    assert found.state == "not stored in B"
    assert found.results["jaccard"].after is None
    assert found.results["jaccard"].difference is None


def test_a_damaged_trial_counts_as_missing_and_is_named(results, tmp_path):
    other = again(results, tmp_path / "b")
    full = next(arm for arm in results.study().arms if arm.name == "full")
    (other.root / "trials" / full.trials["1"] / "predictions.parquet").write_bytes(b"")
    found = compare(results, other)
    assert f"Damaged trials count as missing in B: {full.trials['1']}." in found.notes
    assert next(arm for arm in found.arms if arm.name == "full").seeds[1] == ("0", "2")


def test_two_real_runs(tmp_path):
    stores = []
    for name, epochs in (("a", 1), ("b", 2)):
        study = tiny.study(tmp_path / name, training={"epochs": epochs})
        run_study(study, tmp_path / name / "out", tiny.quiet(), tiny.INLINE)
        stores.append(ResultsStore(tmp_path / name / "out"))
    found = compare(*stores)
    arms = {arm.name: arm for arm in found.arms}
    assert (found.study, found.data, found.code) == ((), (), ())
    assert fields(arms["gamenet"].changes) == {"training.epochs": (1, 2)}
    # Fitted models ignore the loop's settings, which are another key all the same.
    assert arms["most_popular"].results["jaccard"].difference.estimate == 0.0


# ------------------------------------------------------------------ the command


def test_formats(results, tmp_path):
    other = again(
        results, tmp_path / "b", question="A | b?", arms=with_trials(results, "full", "gamenet")
    )
    text = shown(results.root, other.root, "--format", "md")
    assert "| question |" in text
    assert "A \\| b?" in text
    assert "## Settings of full" in text
    assert "| config.ablation | full | gamenet |" in text
    assert text == shown(results.root, other.root, "--format", "md")
    screen = shown(results.root, other.root)
    assert "config.ablation" in screen
    found = json.loads(shown(results.root, other.root, "--json"))
    assert found["study"] == [
        {"field": "question", "before": results.study().question, "after": "A | b?"}
    ]
    gap = compare(results, other).arms[2].results["f1"].difference
    assert found["arms"][2]["results"]["f1"]["difference"]["low"] == gap.low


def test_text_of_a_study_is_not_taken_for_markup(results, tmp_path):
    other = again(results, tmp_path / "b", question="Is [/red] a [bold] question?")
    assert "Is [/red] a [bold] question?" in " ".join(shown(results.root, other.root).split())


def test_what_is_no_study_is_refused(results, tmp_path, capsys):
    with pytest.raises(StoreError, match="holds no study"):
        compare(results, ResultsStore(tmp_path / "nothing"))
    with pytest.raises(SystemExit) as caught:
        main(["compare", str(tmp_path / "nothing"), str(results.root)])
    assert caught.value.code == 1
    assert "Traceback" not in capsys.readouterr().err
