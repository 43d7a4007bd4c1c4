"""The training loop: resuming, selection, and what it must not see."""

from contextlib import suppress

import numpy as np
import pytest
import torch

from medrec import splits, trial
from medrec.checkpoint import load_checkpoint, save_checkpoint
from medrec.errors import NonFiniteLossError
from medrec.evaluation import evaluate
from medrec.knowledge.base import co_prescription_matrix, training_visits
from medrec.predicting import predict
from medrec.spec import Protocol, Training
from medrec.training import derived_seed, train
from tests.medrec.small import (
    NEVER_TOGETHER,
    data_of,
    lists_of,
    make_spec,
    saved,
    scramble,
    small_cohort,
    small_knowledge,
)

TRAINING = Training(epochs=4, batch_size=5, learning_rate=0.03, clip_norm=1.0)
ARMS = [
    ("gamenet", {}),
    ("gamenet", {"variant": "released"}),
    ("safedrug", {}),
    ("safedrug", {"variant": "released"}),
    ("kindmed", {}),
    ("dkinet", {}),
    ("dkinet", {"variant": "released"}),
    ("bh3", {}),
]


class KilledError(Exception):
    """Stands for whatever ends a worker between epochs."""


def trained(spec, report=lambda row: None, checkpoint=None, data=None):
    data = data or data_of(small_cohort())
    model = trial.build(spec, small_knowledge())
    progress = train(model, data, spec, report, checkpoint)
    everyone = np.arange(data.cohort.patients)
    answers = predict(model, data.cohort, data.resident, everyone, spec.protocol.threshold)
    weights = {name: tensor.clone() for name, tensor in trial.weights(model).items()}
    return progress, weights, answers


def metrics_of(progress):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in progress.history]


def same(one, two):
    """Bit for bit: history, weights and predictions."""
    assert metrics_of(one[0]) == metrics_of(two[0])
    assert one[0].best_epoch == two[0].best_epoch
    assert one[1].keys() == two[1].keys()
    assert all(torch.equal(one[1][name], two[1][name]) for name in one[1])
    assert np.array_equal(one[2].scores, two[2].scores)
    assert np.array_equal(one[2].chosen, two[2].chosen)


def interrupt(spec, checkpoint, after):
    def report(row):
        if row["epoch"] == after:
            raise KilledError

    with pytest.raises(KilledError):
        trained(spec, report, checkpoint)


@pytest.mark.parametrize(("model", "config"), ARMS, ids=str)
def test_resuming_after_any_epoch_changes_no_bit(tmp_path, model, config):
    spec = make_spec(model, config, training=TRAINING)
    whole = trained(spec)
    for after in (1, 2, 3):
        checkpoint = tmp_path / f"{after}.safetensors"
        interrupt(spec, checkpoint, after)
        torch.manual_seed(after)  # another process has another random state
        reported = []
        resumed = trained(spec, reported.append, checkpoint)
        same(whole, resumed)
        assert [row["epoch"] for row in reported] == [1.0, 2.0, 3.0, 4.0]
        assert resumed[0].seconds >= sum(row["seconds"] for row in reported[:after])


def test_resuming_twice_changes_no_bit(tmp_path):
    spec = make_spec("gamenet", training=TRAINING)
    interrupt(spec, tmp_path / "checkpoint", 1)
    interrupt(spec, tmp_path / "checkpoint", 2)
    same(trained(spec), trained(spec, checkpoint=tmp_path / "checkpoint"))


def truncated(path, spec):
    path.write_bytes(path.read_bytes()[:-100])


def nonsense(path, spec):
    path.write_bytes(b"\x80\x04no checkpoint")


def empty(path, spec):
    path.write_bytes(b"")


def foreign(path, spec):
    path.unlink()
    interrupt(spec.model_copy(update={"seed": 9}), path, 1)


def other_shape(path, spec):
    """The trial's key, but weights of a wider model, some of which fit."""
    progress, groups = load_checkpoint(path, spec.key)
    weights = groups["model"]
    weights["query.bias"] = torch.zeros(3)
    save_checkpoint(path, progress, groups)


def no_best(path, spec):
    progress, groups = load_checkpoint(path, spec.key)
    del groups["best"]
    save_checkpoint(path, progress, groups)


@pytest.mark.parametrize(
    "damage", [truncated, nonsense, empty, foreign, other_shape, no_best], ids=lambda f: f.__name__
)
def test_a_checkpoint_that_does_not_fit_starts_training_anew(tmp_path, damage):
    spec = make_spec("gamenet", training=TRAINING)
    interrupt(spec, tmp_path / "checkpoint", 2)
    damage(tmp_path / "checkpoint", spec)
    same(trained(spec), trained(spec, checkpoint=tmp_path / "checkpoint"))


@pytest.mark.parametrize("select", ["jaccard", "f1", "prauc"])
def test_the_best_validation_epoch_remains(select):
    """A large learning rate makes later epochs worse, so that often the last is not the best."""
    training = Training(epochs=4, batch_size=3, learning_rate=0.3)
    protocol, earlier = Protocol(select=select), 0
    for seed in range(4):
        spec = make_spec("gamenet", training=training, protocol=protocol, seed=seed)
        progress, _, answers = trained(spec)
        values = [row[select] for row in progress.history]
        assert progress.best_epoch == 1 + values.index(max(values))
        validation = np.isin(answers.patient, small_cohort().members(splits.VALIDATION))
        found = evaluate(answers.select(validation), small_knowledge().interacts)
        best = progress.history[progress.best_epoch - 1]
        assert found == {name: best[name] for name in found}
        last = progress.history[-1]
        assert found == {name: last[f"best_{name}"] for name in found}
        earlier += progress.best_epoch < len(values)
    assert earlier, "the examples must show a best epoch before the last"


def test_the_best_so_far_never_falls():
    training = Training(epochs=6, batch_size=3, learning_rate=0.3)
    progress, _, _ = trained(make_spec("safedrug", training=training))
    best = [row["best_jaccard"] for row in progress.history]
    assert best == [max(row["jaccard"] for row in progress.history[: i + 1]) for i in range(6)]


def test_validation_may_count_transitions_alone():
    spec = make_spec("gamenet", protocol=Protocol(visits="transitions"))
    progress, _, answers = trained(spec)
    validation = np.isin(answers.patient, small_cohort().members(splits.VALIDATION))
    later = answers.select(validation & (answers.visit > 0))
    found = evaluate(later, small_knowledge().interacts)
    assert found["jaccard"] == progress.history[progress.best_epoch - 1]["jaccard"]


def test_training_learns():
    training = Training(epochs=40, batch_size=4, learning_rate=0.02)
    config = {"dropout": 0.0, "graph_dropout": 0.0, "controller": "none"}
    history = trained(make_spec("gamenet", config, training=training))[0].history
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_trial(value):
    spec = make_spec("gamenet", training=TRAINING)
    model = trial.build(spec, small_knowledge())
    with torch.no_grad():
        model.query.weight.fill_(value)
    rows = []
    with pytest.raises(NonFiniteLossError, match=r"epoch 1 .*training\.learning_rate"):
        train(model, data_of(small_cohort()), spec, rows.append, None)
    assert rows == []


def outcome(tmp_path, cohort, name, model):
    spec = make_spec(model, cohort=saved(tmp_path / name, cohort))
    result = trial.run(spec, lambda row: None)
    history = [{k: v for k, v in row.items() if k != "seconds"} for row in result.history]
    return history, result.weights, result.predictions


@pytest.mark.parametrize("model", ["gamenet", "safedrug", "logistic_regression", "copy_previous"])
def test_nothing_of_the_test_split_reaches_training(tmp_path, model):
    cohort = small_cohort()
    history, weights, answers = outcome(tmp_path, cohort, "plain", model)
    others = outcome(tmp_path, scramble(cohort, splits.TEST), "changed", model)
    assert (history, weights) == others[:2]
    assert not np.array_equal(answers.truth, others[2].truth)


@pytest.mark.parametrize("model", ["gamenet", "safedrug"])
def test_validation_patients_choose_the_epoch_and_teach_nothing(tmp_path, model):
    cohort = small_cohort()
    history, _, _ = outcome(tmp_path, cohort, "plain", model)
    other, _, _ = outcome(tmp_path, scramble(cohort, splits.VALIDATION), "changed", model)
    assert [row["loss"] for row in history] == [row["loss"] for row in other]
    assert [row["jaccard"] for row in history] != [row["jaccard"] for row in other]


def test_co_prescription_comes_from_training_patients_alone():
    cohort = small_cohort()
    split = np.repeat(cohort.split, cohort.visits)
    expected = np.zeros((10, 10), dtype=bool)
    for visit, drugs in enumerate(lists_of(cohort, "medications")):
        for a in drugs:
            for b in drugs:
                if split[visit] == splits.TRAIN and a != b:
                    expected[a, b] = True
    assert np.array_equal(co_prescription_matrix(cohort), expected)
    assert not any(expected[pair] for pair in NEVER_TOGETHER)
    for held_out in (splits.VALIDATION, splits.TEST):
        other = scramble(cohort, held_out)
        lists = lists_of(other, "medications")
        assert any({a, b} <= set(drugs) for drugs in lists for a, b in NEVER_TOGETHER)
        assert np.array_equal(co_prescription_matrix(other), expected)


def test_training_visits_are_those_of_training_patients():
    cohort = small_cohort()
    members = cohort.members(splits.TRAIN).tolist()
    first = np.concatenate([[0], np.cumsum(cohort.visits)])
    for kind in ("diagnoses", "procedures", "medications"):
        every = lists_of(cohort, kind)
        expected = [codes for p in members for codes in every[first[p] : first[p + 1]]]
        found = training_visits(cohort)[kind]
        ends = zip(found.offsets[:-1], found.offsets[1:], strict=True)
        assert [found.values[a:b].tolist() for a, b in ends] == expected


def test_pretraining_comes_once_before_the_first_epoch(tmp_path):
    spec = make_spec("gamenet", training=TRAINING)
    data, calls, draws = data_of(small_cohort()), [], []

    def run(report, checkpoint):
        model = trial.build(spec, small_knowledge())
        model.pretrain = lambda: (calls.append(model.training), draws.append(torch.rand(3)))
        train(model, data, spec, report, checkpoint)

    def stop(row):
        raise KilledError

    for report in (stop, lambda row: None):
        with suppress(KilledError):
            run(report, tmp_path / "checkpoint.safetensors")
    assert calls == [True]  # resumed after the first epoch: not again
    run(lambda row: None, None)
    assert torch.equal(*draws)  # seeded by the trial


def test_predictions_are_every_visit_once_in_order():
    cohort = small_cohort()
    members = np.array([20, 3, 7])
    model = trial.build(make_spec("gamenet"), small_knowledge())
    data = data_of(cohort)
    found = predict(model, cohort, data.resident, members, 0.5)
    expected = [(p, v) for p in (3, 7, 20) for v in range(cohort.visits[p])]
    assert list(zip(found.patient.tolist(), found.visit.tolist(), strict=True)) == expected
    rows = cohort.visits_of(np.array([3, 7, 20]))
    assert np.array_equal(found.truth, cohort.codes["medications"].multi_hot(10)[rows])
    assert np.array_equal(found.chosen, found.scores >= 0.5)


def test_streams_of_a_trial_are_different():
    seeds = {
        derived_seed(s, *stream) for s in range(5) for stream in ((0,), (1, 0), (1, 1), (2, 0))
    }
    assert len(seeds) == 20


def test_training_does_not_change_its_data():
    data = data_of(small_cohort())
    before = data.train.copy()
    trained(make_spec("gamenet"), data=data)
    assert np.array_equal(before, data.train)
    assert torch.equal(data.resident.medications, data_of(small_cohort()).resident.medications)
