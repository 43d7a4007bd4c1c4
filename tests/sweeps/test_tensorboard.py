"""Event files: TensorBoard reads them, and they say what the history says."""

import math

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import api_pb2, metadata

from medrec import plugins
from medrec.light import model_facts
from sweeps.tensorboard import EventWriter, hparams
from tests.sweeps import tiny


def read(folder) -> EventAccumulator:
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def session(events: EventAccumulator) -> dict[str, object]:
    """The HParams records by tag."""
    parse = {
        metadata.EXPERIMENT_TAG: metadata.parse_experiment_plugin_data,
        metadata.SESSION_START_INFO_TAG: metadata.parse_session_start_info_plugin_data,
        metadata.SESSION_END_INFO_TAG: metadata.parse_session_end_info_plugin_data,
    }
    contents = events.PluginTagToContent("hparams")
    return {tag: parse[tag](content) for tag, content in contents.items()}


def test_scalars_are_the_history_by_epoch(tmp_path):
    history = tiny.rows(3, 0.6)
    with EventWriter(tmp_path, tiny.spec()) as events:
        for row in history:
            events.epoch(row)
    found = read(tmp_path)
    expected = {n if n in ("loss", "seconds") else f"validation/{n}" for n in history[0]}
    assert set(found.Tags()["scalars"]) == expected - {"validation/epoch"}
    for name in ("jaccard", "best_ddi_rate"):
        scalars = found.Scalars(f"validation/{name}")
        assert [s.step for s in scalars] == [1, 2, 3]
        assert [s.value for s in scalars] == pytest.approx([row[name] for row in history])


def test_a_session_starts_with_its_settings_and_ends_with_success(tmp_path):
    with EventWriter(tmp_path, tiny.spec()):
        pass
    found = session(read(tmp_path))
    start, end = found[metadata.SESSION_START_INFO_TAG], found[metadata.SESSION_END_INFO_TAG]
    assert start.hparams["dim"].number_value == 8
    assert start.hparams["model"].string_value == "gamenet"
    assert end.status == api_pb2.STATUS_SUCCESS


def test_a_session_that_fails_says_so_and_one_that_runs_has_no_end(tmp_path):
    with pytest.raises(RuntimeError), EventWriter(tmp_path / "a", tiny.spec()):
        raise RuntimeError
    end = session(read(tmp_path / "a"))[metadata.SESSION_END_INFO_TAG]
    assert end.status == api_pb2.STATUS_FAILURE
    writer = EventWriter(tmp_path / "b", tiny.spec())
    writer._writer.flush()
    assert metadata.SESSION_END_INFO_TAG not in session(read(tmp_path / "b"))
    writer.__exit__(None, None, None)


def test_values_that_are_not_finite_do_no_harm(tmp_path):
    row = {"epoch": 1.0, "loss": math.nan, "jaccard": math.inf}
    with EventWriter(tmp_path, tiny.spec()) as events:
        events.epoch(row)
    assert math.isnan(read(tmp_path).Scalars("loss")[0].value)


def test_a_second_attempt_replaces_the_first(tmp_path):
    for epochs in (2, 3):
        with EventWriter(tmp_path, tiny.spec()) as events:
            for row in tiny.rows(epochs, 0.5):
                events.epoch(row)
    assert len(list(tmp_path.iterdir())) == 1
    assert len(read(tmp_path).Scalars("loss")) == 3


@pytest.mark.parametrize("model", plugins.names("medrec.models"))
def test_every_models_settings_are_shown(tmp_path, model):
    facts = model_facts(model)
    spec = tiny.spec(model=model, config=facts.config().model_dump(), training=facts.training)
    with EventWriter(tmp_path, spec):
        pass
    shown = session(read(tmp_path))[metadata.SESSION_START_INFO_TAG].hparams
    assert set(shown) == set(hparams(spec))
    assert {f"training.{f}" for f in type(facts.training).model_fields} <= set(shown)
