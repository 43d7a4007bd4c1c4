"""A whole study whose results are on an object store: run, resumed, searched, reported."""

import pytest

from sweeps.engine import EngineOptions
from sweeps.mirror import mirrored
from sweeps.regenerate import regenerate
from sweeps.run import run_study
from sweeps.status import study_status
from sweeps.store import ResultsStore
from tests.sweeps import tiny

INLINE = EngineOptions(executor="inline")


@pytest.mark.slow
def test_a_study_on_s3_gives_the_results_of_a_local_one(s3, tmp_path):
    study = tiny.study(tmp_path, searches=[{**tiny.SEARCH, "trials": 3}])
    run_study(study, tmp_path / "local", tiny.quiet(), INLINE)
    record = run_study(study, s3, tiny.quiet(), INLINE)
    local, remote = ResultsStore(tmp_path / "local"), ResultsStore(s3)
    assert remote.trial_keys() == local.trial_keys()
    for key in {key for arm in record.arms for key in arm.trials.values()}:
        one, other = local.load(key), remote.load(key)
        assert (one.predictions.scores == other.predictions.scores).all()
        assert local.weights(key) == remote.weights(key)
    assert remote.begun() == set()
    assert any(name.startswith("tensorboard/") for name in remote.place.files())
    assert remote.place.exists("searches/tune/journal.log")
    assert not remote.place.exists("lease.json")

    before = remote.place.versions("trials")
    remote.supersede(record.arms[-1].trials["1"])
    run_study(study, s3, tiny.quiet(), INLINE)
    assert remote.trial_keys() == local.trial_keys()
    kept = {n: v for n, v in before.items() if record.arms[-1].trials["1"] not in n}
    assert kept.items() <= remote.place.versions("trials").items()  # nothing else ran again
    with mirrored(s3) as folder:
        assert study_status(folder).complete
        regenerate(folder, ("md",))
    assert remote.place.names("tables")
