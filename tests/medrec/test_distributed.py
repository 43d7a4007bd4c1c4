"""Groups of workers, in real processes: the same result as one worker's, and none hangs."""

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from medrec import light, trial
from medrec.batching import evaluation_batches
from medrec.checkpoint import load_checkpoint
from medrec.distributed import ALONE, joined, open_meeting
from medrec.errors import LostWorkerError
from medrec.spec import Training
from medrec.training import _Loop
from tests.medrec.small import (
    arm_name,
    arms,
    data_of,
    make_spec,
    neural_models,
    saved,
    small_cohort,
    small_knowledge,
    whole_batch,
)
from tests.medrec.workers import Workers, outcome

HOST = "127.0.0.1"
ONE_EPOCH = Training(epochs=1, batch_size=5, learning_rate=1e-3, clip_norm=1.0)
CLOSE = 1e-4


@pytest.fixture(scope="module")
def pool():
    """Three processes for all tests: a process joins one group after another."""
    with Workers(3) as workers:
        yield workers


@pytest.fixture(scope="module")
def ref(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("cohort"))


CHANCE = ("edge_drop", "masked")


def without_chance(model, changes):
    """Returns settings without dropout and without a DDI controller that draws."""
    fields = light.model_facts(model).config.model_fields
    quiet = {name: 0.0 for name in fields if name.endswith("dropout") or name in CHANCE}
    full = {**changes, **quiet}
    if getattr(light.model_facts(model).config(**full), "controller", "") == "gamenet":
        full |= {"controller": "safedrug_paper"}
    if model == "micron":  # adaptive weights follow the losses of each worker's own patients
        full |= {"weights": "frozen"}
    return full


def distance(one, other):
    """Returns the largest difference of a weight, of a metric or the loss, and of a score."""
    assert one.weights.keys() == other.weights.keys()
    weights = max(float((one.weights[n] - other.weights[n]).abs().max()) for n in one.weights)
    rows = zip(one.history, other.history, strict=True)
    metrics = max(abs(a[name] - b[name]) for a, b in rows for name in a)
    return max(weights, metrics, float(np.abs(one.scores - other.scores).max()))


def compared(pool, tmp_path, spec, workers):
    """Returns how far several workers' result is from one worker's."""
    assert pool.run(spec, tmp_path / "one", workers=1) == [None]
    assert pool.run(spec, tmp_path / "several", workers=workers) == [None] * workers
    return distance(outcome(tmp_path / "one"), outcome(tmp_path / "several"))


@pytest.mark.parametrize("model", neural_models())
def test_two_workers_reach_what_one_reaches(pool, ref, tmp_path, model):
    changes = {"icd_pretrain": "none"} if model == "bh3" else {}
    spec = make_spec(model, without_chance(model, changes), cohort=ref, training=ONE_EPOCH)
    assert compared(pool, tmp_path, spec, 2) < CLOSE


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("arm", [arm for arm in arms() if arm[0] in neural_models()], ids=arm_name)
def test_every_arm_reaches_what_one_worker_reaches(pool, ref, tmp_path, arm, workers):
    spec = make_spec(arm[0], without_chance(*arm), cohort=ref, training=ONE_EPOCH)
    assert compared(pool, tmp_path, spec, workers) < CLOSE


def test_a_batch_smaller_than_the_group_leaves_a_worker_without_patients(pool, ref, tmp_path):
    training = Training(epochs=2, batch_size=2, learning_rate=1e-3, clip_norm=0.1)
    config = without_chance("kindmed", {})  # single visits give some of its weights no gradient
    spec = make_spec("kindmed", config, cohort=ref, training=training)
    assert compared(pool, tmp_path, spec, 3) < CLOSE


def test_a_group_of_one_is_alone_to_the_bit(pool, ref, tmp_path):
    spec = make_spec("gamenet", cohort=ref)
    assert pool.run(spec, tmp_path, workers=1) == [None]
    found, expected = outcome(tmp_path), trial.run(spec, lambda row: None)
    assert (tmp_path / "weights").read_bytes() == expected.weights
    assert np.array_equal(found.scores, expected.predictions.scores)
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in expected.history]
    assert found.history == rows


def test_a_group_gives_the_same_bits_every_time(pool, ref, tmp_path):
    spec = make_spec("gamenet", cohort=ref)  # with dropout and a controller that draws
    for name in ("first", "second"):
        assert pool.run(spec, tmp_path / name, workers=2) == [None, None]
    assert distance(outcome(tmp_path / "first"), outcome(tmp_path / "second")) == 0
    assert pool.run(spec, tmp_path / "alone", workers=1) == [None]
    assert distance(outcome(tmp_path / "first"), outcome(tmp_path / "alone")) > 0  # own dropout


def test_validation_is_answered_with_the_buffers_of_rank_0():
    """Workers whose dropout differs have other running moments; all score with the same ones."""
    data, spec = data_of(small_cohort()), make_spec("molerec")
    models = [trial.build(spec, small_knowledge()) for _ in range(2)]
    batch = whole_batch()
    for rank, model in enumerate(models):
        torch.manual_seed(rank)
        model.train()(batch)
    names = [name for name in models[0].state_dict() if "running" in name]
    first = {name: models[0].state_dict()[name].clone() for name in names}
    assert any(not torch.equal(models[1].state_dict()[name], first[name]) for name in names)

    def work(group):
        _Loop(models[group.rank], data, spec, None, group)._take_over_buffers()

    assert together(2, work) == [None, None]
    for model in models:
        assert all(torch.equal(model.state_dict()[name], first[name]) for name in names)
    weights = [dict(model.named_parameters()) for model in models]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_fitted_models_need_one_worker(pool, ref, tmp_path):
    spec = make_spec("logistic_regression", cohort=ref)
    assert pool.run(spec, tmp_path, workers=2) == [None, None]
    expected = trial.run(spec, lambda row: None)
    assert np.array_equal(outcome(tmp_path).scores, expected.predictions.scores)


def test_a_loss_that_is_not_finite_ends_every_worker(pool, ref, tmp_path):
    spec = make_spec("gamenet", {"bce_weight": 1e39}, cohort=ref)
    assert pool.run(spec, tmp_path) == ["NonFiniteLossError"] * 3


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_a_group_that_was_stopped_goes_on_to_the_same_bits(pool, ref, tmp_path, steps):
    training = Training(epochs=2, batch_size=5, learning_rate=0.01)
    spec = make_spec("gamenet", cohort=ref, training=training)
    assert pool.run(spec, tmp_path / "whole", workers=2) == [None, None]
    job = {"checkpoint": tmp_path / "checkpoint", "workers": 2}
    ended = pool.run(spec, tmp_path / "stopped", stop_after=steps, **job)
    assert ended == ["Interrupted", "Interrupted"]
    assert load_checkpoint(tmp_path / "checkpoint", spec.key)[1]["random"].keys() == {"0", "1"}
    assert pool.run(spec, tmp_path / "resumed", **job) == [None, None]
    assert distance(outcome(tmp_path / "whole"), outcome(tmp_path / "resumed")) == 0


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (3, 2)])
def test_another_number_of_workers_can_go_on(pool, ref, tmp_path, before, after):
    spec = make_spec("gamenet", without_chance("gamenet", {}), cohort=ref, training=ONE_EPOCH)
    assert pool.run(spec, tmp_path / "whole", workers=1) == [None]
    checkpoint = tmp_path / "checkpoint"
    pool.run(spec, tmp_path / "x", workers=before, checkpoint=checkpoint, stop_after=2)
    ended = pool.run(spec, tmp_path / "resumed", workers=after, checkpoint=checkpoint)
    assert ended == [None] * after
    assert distance(outcome(tmp_path / "whole"), outcome(tmp_path / "resumed")) < CLOSE


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1, 2])
def test_the_death_of_a_worker_ends_the_others_and_loses_no_epoch(ref, tmp_path, victim):
    training = Training(epochs=400, batch_size=4)
    spec = make_spec("gamenet", cohort=ref, training=training)
    with Workers(3) as workers:
        workers.start(spec, tmp_path / "out", checkpoint=tmp_path / "checkpoint")
        while workers.hear(0)["epoch"] < 3:
            pass
        os.kill(workers.processes[victim].pid, signal.SIGKILL)
        killed = time.perf_counter()
        others = {0, 1, 2} - {victim}
        ended = [workers.end(rank) for rank in others]
        assert [kind for kind, _ in ended] == ["LostWorkerError"] * 2
        assert all("go on from its checkpoint" in message for _, message in ended)
        assert time.perf_counter() - killed < 10  # seconds, where waiting would be minutes
    assert load_checkpoint(tmp_path / "checkpoint", spec.key)[0].epoch >= 3


# Groups of threads: cheaper than processes, where nothing of torch's global state matters.


def together(workers, work):
    """Calls work(group) in a thread a worker, and returns what each returned or raised."""
    found = [None] * workers
    meeting = open_meeting(HOST)
    address = "{}:{}".format(*meeting.getsockname())

    def one(rank):
        try:
            with joined(rank, workers, address if rank else meeting, HOST, "cpu") as group:
                found[rank] = work(group)
        except Exception as error:
            found[rank] = error

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


def test_sums_and_shared_bytes():
    def work(group):
        total = group.sum(torch.tensor([1.0, 10.0]) * (group.rank + 1))
        return total.tolist(), group.share(b"first" if group.leads else b"other"), group.share(b"")

    assert together(3, work) == [([6.0, 60.0], b"first", b"")] * 3


def test_nothing_is_sent_by_one_worker():
    tensor = torch.ones(2)
    assert ALONE.sum(tensor) is tensor
    assert ALONE.share(b"x") == b"x"
    assert ALONE.leads
    assert (ALONE.rank, ALONE.workers) == (0, 1)


def listening():
    """Returns the addresses that this process listens at, as the kernel writes them."""
    own = set()
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            own.add(str(link.readlink()))
    found = []
    for table in ("/proc/self/net/tcp", "/proc/self/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in own:
                found.append(fields[1].split(":")[0])
    return found


@pytest.mark.skipif(not Path("/proc/self/net/tcp").exists(), reason="reads Linux's tables")
def test_sockets_are_bound_to_the_given_address_alone_and_closed_at_the_end():
    before, environment = listening(), dict(os.environ)
    seen = together(2, lambda group: (group.sum(torch.ones(1)), listening())[1])
    assert all(addresses for addresses in seen)
    assert {address for addresses in seen for address in addresses} - set(before) <= {"0100007F"}
    assert sorted(listening()) == sorted(before)
    assert dict(os.environ) == environment
    assert not torch.distributed.is_initialized()


def test_leaving_early_ends_the_others_waiting():
    def work(group):
        group.sum(torch.ones(1))
        if group.rank == 1:
            raise RuntimeError("out of memory, say")
        return group.sum(torch.ones(1))

    started = time.perf_counter()
    found = together(2, work)
    assert isinstance(found[0], LostWorkerError)
    assert "lost another one" in str(found[0])
    assert time.perf_counter() - started < 10


@pytest.mark.slow
def test_a_meeting_that_nobody_holds_is_told():
    meeting = open_meeting(HOST)
    port = meeting.getsockname()[1]
    meeting.close()
    started = time.perf_counter()
    with (
        pytest.raises(LostWorkerError, match="did not meet"),
        joined(1, 2, f"{HOST}:{port}", HOST, "cpu"),
    ):
        pass
    assert time.perf_counter() - started < 60


def test_a_meeting_is_at_a_free_port_of_one_address():
    with open_meeting(HOST) as one, open_meeting(HOST) as other:
        assert one.getsockname()[0] == other.getsockname()[0] == HOST
        assert one.getsockname() != other.getsockname()


def test_predictions_of_a_group_are_those_of_one_worker_to_the_bit():
    """More patients than a batch of prediction, so that each worker has a part."""
    from medrec.batching import ResidentCohort
    from medrec.datasets._base import prepare
    from medrec.datasets.synthetic import SyntheticOptions
    from medrec.knowledge.base import load_knowledge
    from medrec.predicting import predict
    from medrec.spec import KnowledgeSpec

    cohort = prepare("synthetic", None, SyntheticOptions(patients=600))
    model = trial.build(make_spec("gamenet"), load_knowledge(cohort, KnowledgeSpec()))
    members, resident = np.arange(600)[::-1].copy(), ResidentCohort(cohort)
    assert len(list(evaluation_batches(members, cohort.visits[members]))) == 3
    alone = predict(model, cohort, resident, members, 0.5)

    def work(group):
        return predict(model, cohort, resident, members, 0.5, group=group)

    for found in together(2, work):
        for name in ("patient", "visit", "truth", "chosen", "scores"):
            assert np.array_equal(getattr(found, name), getattr(alone, name))
