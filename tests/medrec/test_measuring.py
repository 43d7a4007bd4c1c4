"""What a trial takes: told in bytes and seconds that a real run bears out."""

import os
import subprocess
import sys

import pytest
import torch

from medrec import trial
from medrec.errors import ConfigError
from medrec.measuring import Measured, measure
from medrec.spec import Resources, Training
from tests.medrec.small import make_spec, saved
from tests.medrec.workers import ROOT

MIB = 2**20


@pytest.fixture(scope="module")
def ref(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("cohort"))


@pytest.mark.parametrize("model", ["gamenet", "kindmed"])
def test_steps_and_seconds_of_a_neural_model(ref, model):
    training = Training(epochs=10, batch_size=5)
    spec = make_spec(model, cohort=ref, training=training)
    found = measure(spec)
    assert found.device == "cpu"
    assert found.steps == 3  # 12 patients
    assert found.step_seconds is not None
    assert found.seconds is not None
    assert found.seconds > 10 * 3 * found.step_seconds > 0
    assert 100 * MIB < found.peak_bytes < found.total_bytes


def test_several_workers_share_the_steps_and_hold_the_gradients_twice(ref):
    spec = make_spec("gamenet", cohort=ref, resources=Resources(workers=2))
    assert measure(spec).steps == measure(make_spec("gamenet", cohort=ref)).steps


def test_a_fitted_model_tells_what_can_be_known(ref):
    found = measure(make_spec("logistic_regression", cohort=ref))
    assert (found.device, found.step_seconds, found.steps, found.seconds) == (
        "cpu",
        None,
        None,
        None,
    )
    assert found.peak_bytes > 0


def test_measuring_changes_no_trial(ref):
    spec = make_spec("gamenet", cohort=ref)
    before = trial.run(spec, lambda row: None)
    measure(spec)
    assert trial.run(spec, lambda row: None).weights == before.weights


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_told(ref):
    spec = make_spec("gamenet", cohort=ref, resources=Resources(gpus=0.5))
    with pytest.raises(ConfigError, match=r"resources\.gpus"):
        measure(spec)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_its_memory_is_measured(ref):
    found = measure(make_spec("gamenet", cohort=ref, resources=Resources(gpus=0.5)))
    assert found.device == "cuda"
    assert 100 * MIB < found.peak_bytes < found.total_bytes  # the context alone takes more


@pytest.mark.slow
def test_larger_batches_show_in_the_peak_of_a_fresh_process(ref):
    def peak(batch_size, dim):
        training = Training(epochs=1, batch_size=batch_size)
        spec = make_spec("gamenet", {"dim": dim}, cohort=ref, training=training)
        code = (
            "import sys; from medrec.measuring import measure; from medrec.spec import TrialSpec\n"
        )
        code += "print(measure(TrialSpec.model_validate_json(sys.argv[1])).model_dump_json())"
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code, spec.model_dump_json()],
            capture_output=True,
            check=True,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        return Measured.model_validate_json(done.stdout).peak_bytes

    assert peak(12, 1024) > peak(2, 8) + 100 * MIB
