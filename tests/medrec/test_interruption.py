"""A notice in mid-epoch: the checkpoint holds every step, and going on changes no bit."""

import pytest
import torch

from medrec import trial
from medrec.checkpoint import load_checkpoint, save_checkpoint
from medrec.errors import CheckpointError, Interrupted, TrialError
from medrec.spec import Training
from medrec.training import train
from tests.medrec.small import data_of, make_spec, saved, small_cohort, small_knowledge
from tests.medrec.test_training import ARMS, interrupt, metrics_of, same, trained
from tests.medrec.worker_process import notice_after

TRAINING = Training(epochs=3, batch_size=5, learning_rate=0.03, clip_norm=1.0)
STEPS = 3  # of an epoch: 12 training patients


def stopped(spec, checkpoint, steps):
    """Trains until the notice comes, `steps` steps from where the checkpoint stands."""
    model = trial.build(spec, small_knowledge())
    rows = []
    data, notice = data_of(small_cohort()), notice_after(steps)
    with pytest.raises(Interrupted, match="goes on from there"):
        train(model, data, spec, rows.append, checkpoint, notice=notice)
    torch.manual_seed(steps)  # another process has another random state
    return rows


@pytest.mark.parametrize(("model", "config"), ARMS, ids=str)
def test_going_on_after_any_step_changes_no_bit(tmp_path, model, config):
    training = TRAINING.model_copy(update={"epochs": 2})
    spec = make_spec(model, config, training=training)
    whole = trained(spec)
    for steps in (2, STEPS, STEPS + 1):
        checkpoint = tmp_path / f"{steps}"
        rows = stopped(spec, checkpoint, steps)
        assert len(rows) == (steps - 1) // STEPS
        resumed = trained(spec, checkpoint=checkpoint)
        same(whole, resumed)
        assert [row["epoch"] for row in resumed[0].history] == [1.0, 2.0]


def test_stopping_at_every_step_changes_no_bit(tmp_path):
    spec = make_spec("gamenet", training=TRAINING)
    for _ in range(3 * STEPS):
        stopped(spec, tmp_path / "checkpoint", 1)
    same(trained(spec), trained(spec, checkpoint=tmp_path / "checkpoint"))


def test_a_process_killed_after_a_notice_loses_neither_bits_nor_epochs(tmp_path):
    spec = make_spec("gamenet", training=TRAINING)
    stopped(spec, tmp_path / "checkpoint", 2)
    interrupt(spec, tmp_path / "checkpoint", 1)
    progress, groups = load_checkpoint(tmp_path / "checkpoint", spec.key)
    assert (progress.epoch, progress.step) == (1, 0)
    assert "random" not in groups  # an epoch needs none
    same(trained(spec), trained(spec, checkpoint=tmp_path / "checkpoint"))


def test_the_checkpoint_says_where_and_what_it_cost(tmp_path):
    spec = make_spec("gamenet", training=TRAINING)
    stopped(spec, tmp_path / "checkpoint", STEPS + 2)
    progress, groups = load_checkpoint(tmp_path / "checkpoint", spec.key)
    assert (progress.epoch, progress.step) == (1, 2)
    assert progress.seconds > progress.history[0]["seconds"]
    assert trial.kept_seconds(spec, tmp_path / "checkpoint") == progress.seconds
    assert groups["random"].keys() == {"0"}
    assert groups["random"]["0"].dtype == torch.uint8
    resumed = trained(spec, checkpoint=tmp_path / "checkpoint")[0]
    assert resumed.seconds > progress.seconds
    assert resumed.seconds == pytest.approx(sum(row["seconds"] for row in resumed.history))


def test_without_a_checkpoint_the_notice_still_stops():
    stopped(make_spec("gamenet", training=TRAINING), None, 2)


def test_a_notice_is_no_failure():
    assert not issubclass(Interrupted, TrialError)


def test_pretraining_is_not_repeated(tmp_path):
    spec = make_spec("gamenet", training=TRAINING)
    calls = []
    for notice in (notice_after(1), notice_after(None)):
        model = trial.build(spec, small_knowledge())
        model.pretrain = lambda: calls.append(True)
        try:
            data = data_of(small_cohort())
            train(model, data, spec, lambda row: None, tmp_path / "c", notice=notice)
        except Interrupted:
            pass
    assert calls == [True]


def test_random_states_of_other_workers_leave_a_trial_that_goes_on(tmp_path):
    """As from a trial of two workers: the same steps remain, with other dropout."""
    spec = make_spec("gamenet", training=TRAINING)
    stopped(spec, tmp_path / "checkpoint", 2)
    progress, groups = load_checkpoint(tmp_path / "checkpoint", spec.key)
    groups["random"]["1"] = groups["random"]["0"].clone()
    save_checkpoint(tmp_path / "checkpoint", progress, groups)
    found = trained(spec, checkpoint=tmp_path / "checkpoint")
    whole = trained(spec)
    assert [row["epoch"] for row in found[0].history] == [1.0, 2.0, 3.0]
    assert found[0].history[0]["loss"] == pytest.approx(whole[0].history[0]["loss"], rel=0.2)
    assert metrics_of(found[0]) != metrics_of(whole[0])
    save_checkpoint(tmp_path / "checkpoint", progress, groups)
    same(found, trained(spec, checkpoint=tmp_path / "checkpoint"))


def test_an_altered_checkpoint_is_not_used(tmp_path):
    spec = make_spec("gamenet", training=TRAINING)
    interrupt(spec, tmp_path / "checkpoint", 2)
    content = bytearray((tmp_path / "checkpoint").read_bytes())
    content[len(content) // 2] ^= 1  # of a tensor; safetensors would not notice
    (tmp_path / "checkpoint").write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="sha256"):
        load_checkpoint(tmp_path / "checkpoint", spec.key)
    same(trained(spec), trained(spec, checkpoint=tmp_path / "checkpoint"))


def test_a_checkpoint_with_another_optimiser_is_not_used(tmp_path):
    spec = make_spec("gamenet", training=TRAINING)
    interrupt(spec, tmp_path / "checkpoint", 2)
    progress, groups = load_checkpoint(tmp_path / "checkpoint", spec.key)
    groups["optimiser"] = {"nonsense": groups["optimiser"].popitem()[1]}
    save_checkpoint(tmp_path / "checkpoint", progress, groups)
    same(trained(spec), trained(spec, checkpoint=tmp_path / "checkpoint"))


def test_run_is_stopped_and_goes_on(tmp_path):
    spec = make_spec("gamenet", cohort=saved(tmp_path / "cohort"))
    whole = trial.run(spec, lambda row: None)
    checkpoint = tmp_path / "checkpoint"
    with pytest.raises(Interrupted):
        trial.run(spec, lambda row: None, checkpoint, notice=notice_after(2))
    found = trial.run(spec, lambda row: None, checkpoint)
    assert found.weights == whole.weights
    assert (found.predictions.scores == whole.predictions.scores).all()


def test_a_falling_learning_rate_is_taken_up_where_it_was(tmp_path):
    falling = make_spec("gamenet", training=TRAINING.model_copy(update={"schedule": "linear"}))
    constant = make_spec("gamenet", training=TRAINING)
    assert falling.key != constant.key
    stopped(falling, tmp_path / "checkpoint", STEPS + 1)
    whole = trained(falling)
    same(whole, trained(falling, checkpoint=tmp_path / "checkpoint"))
    losses = [row["loss"] for row in whole[0].history]
    other = [row["loss"] for row in trained(constant)[0].history]
    assert losses[0] == other[0]
    assert losses[2] != other[2]
