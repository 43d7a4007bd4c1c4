"""`medsweep status` counts what is there and what is missing, and tells of the driver."""

import io
import json
import os
import subprocess
import time

import pytest
from rich.console import Console

from cluster.nodes import Node
from medrec.spec import Resources
from sweeps.errors import StoreError
from sweeps.progress import Progress
from sweeps.session import Session
from sweeps.status import study_status
from sweeps.status_page import as_json, page
from sweeps.store import ResultsStore
from sweeps.study import RunBudget
from tests.sweeps import tiny
from tests.sweeps.fabricate import fabricate


@pytest.fixture
def root(tmp_path):
    fabricate(tmp_path)
    return tmp_path


def counts(root, arm: str) -> tuple[int, int, int, int]:
    found = next(a for a in study_status(root).arms if a.name == arm)
    return found.stored, found.running, found.failed, found.missing


def test_every_trial_of_an_arm_is_in_one_state(root):
    store = ResultsStore(root)
    trials = store.study().arms[1].trials
    store.set_aside(trials["0"])
    assert counts(root, "gamenet") == (2, 0, 0, 1)
    checkpoint = root / "running" / trials["0"] / "checkpoint.safetensors"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    assert counts(root, "gamenet") == (2, 1, 0, 0)
    store.record_failure(trials["0"], "The loss became NaN.")
    assert counts(root, "gamenet") == (2, 0, 1, 0)
    assert study_status(root).failures == {trials["0"]: "The loss became NaN."}
    assert not study_status(root).complete


def test_searches_are_counted_by_state(root):
    found = {s.name: (s.asked, s.states) for s in study_status(root).searches}
    states = {"complete": 3, "failed": 1, "pruned": 1, "running": 1}
    assert found == {"tune": (6, states), "pareto": (6, states)}


def test_a_study_is_complete_when_its_arms_and_searches_ended(tmp_path):
    record = fabricate(tmp_path)
    assert not study_status(tmp_path).complete  # one suggestion of each search still runs
    store = ResultsStore(tmp_path)
    alone = record.model_copy(update={"searches": ()})
    store.write_study(alone)
    assert study_status(tmp_path).complete
    asked = record.searches[0].model_copy(update={"trials": 5})
    for name in ("tune", "pareto"):
        (tmp_path / f"searches/{name}/00005.json").unlink()
    store.write_study(record.model_copy(update={"searches": (asked,)}))
    assert study_status(tmp_path).complete


def test_a_search_that_has_not_asked_for_all_its_trials_is_incomplete(tmp_path):
    record = fabricate(tmp_path)
    for path in (tmp_path / "searches/tune").glob("*.json"):
        path.unlink()
    ResultsStore(tmp_path).write_study(record.model_copy(update={"searches": record.searches[:1]}))
    assert not study_status(tmp_path).complete


def test_a_directory_without_study_is_refused(tmp_path):
    with pytest.raises(StoreError, match="holds no study"):
        study_status(tmp_path / "none")


def test_reading_the_status_writes_nothing(root):
    before = tiny.trial_files(root)
    study_status(root)
    assert tiny.trial_files(root) == before


def seen(root, width: int = 200) -> str:
    """What `medsweep status` prints."""
    text = io.StringIO()
    Console(file=text, width=width, highlight=False).print(page(study_status(root)))
    return text.getvalue()


def test_damaged_trials_are_counted_and_the_study_is_incomplete(tmp_path):
    record = fabricate(tmp_path)
    ResultsStore(tmp_path).write_study(record.model_copy(update={"searches": ()}))
    key = record.arms[1].trials["0"]
    (tmp_path / "trials" / key / "predictions.parquet").write_bytes(b"")
    state = study_status(tmp_path)
    assert [arm.damaged for arm in state.arms] == [0, 1, 0, 0, 0]
    assert not state.complete


# ------------------------------------------------------------------ failed suggestions


def test_failed_suggestions_are_named_with_their_reasons(tmp_path):
    record = fabricate(tmp_path)
    asked = record.searches[0].model_copy(update={"trials": 5})
    (tmp_path / "searches/tune/00005.json").unlink()
    ResultsStore(tmp_path).write_study(record.model_copy(update={"searches": (asked,)}))
    state = study_status(tmp_path)
    assert state.complete
    assert state.searches[0].failures == {3: "out of memory"}
    text = seen(tmp_path)
    assert "failed tune 3: out of memory" in text
    assert text.splitlines()[-1] == "complete, but for 1 failed trial of search tune"
    assert json.loads(as_json(state))["searches"][0]["failures"] == {"3": "out of memory"}


def test_reasons_and_names_are_printed_as_they_are(root):
    store = ResultsStore(root)
    key = store.study().arms[1].trials["0"]
    store.set_aside(key)
    store.record_failure(key, "The loss [of epoch 1] is nan [/red].")
    assert f"failed {key}: The loss [of epoch 1] is nan [/red]." in seen(root)


def test_of_very_many_arms_those_that_lack_something_are_listed(tmp_path):
    record = fabricate(tmp_path)
    arms = [record.arms[1].model_copy(update={"name": f"arm-{n:03d}"}) for n in range(60)]
    lacking = record.arms[2].model_copy(update={"name": "lacking"})
    update = {"arms": (*arms, lacking), "searches": ()}
    ResultsStore(tmp_path).write_study(record.model_copy(update=update))
    ResultsStore(tmp_path).set_aside(lacking.trials["0"])
    text = seen(tmp_path)
    assert "lacking" in text
    assert "arm-000" not in text
    assert "60 arms of which every trial is stored" in text


# ------------------------------------------------------------------ the driver


def driver(root, budget=None) -> tuple[Progress, Session]:
    progress = Progress(9, 0, {}, Console(file=io.StringIO()))
    return progress, Session(ResultsStore(root), progress, "ray", budget, every=0.02)


def test_without_a_driver_nothing_is_said_of_one(root):
    state = study_status(root)
    assert (state.driver, state.spent, state.limits) == (None, None, "")
    assert "driver" not in seen(root)


def test_what_the_driver_does_is_told_while_it_lives(root):
    progress, session = driver(root, RunBudget(max_trials=100, max_gpu_hours=3))
    spec = tiny.spec(resources=Resources(gpus=1))
    progress.labels[spec.key] = "gamenet seed 0"
    with session:
        progress.start("a" * 16)
        progress.finish("a" * 16, "failed", "out of memory")
        progress.start(spec.key, spec)
        progress.epoch(spec.key, tiny.rows(2, 0.5)[1])
        progress.start(spec.key, spec)
        session.joined(lambda: [Node("0a1b", True, 8, 2, 4, 1), Node("ffff", False, 0, 0, 0, 0)],
                       "127.0.0.1:8265")  # fmt: skip
        tiny.wait_for(lambda: study_status(root).driver.note.nodes)
        text = seen(root)
        assert study_status(root).driver.live
    for words in (
        "driver: works since",
        "8 of 9 trials to go",
        "gamenet seed 0: epoch 2 of 3, best jaccard 0.5000",
        "restarted 1x",
        "last error: aaaaaaaaaaaaaaaa: out of memory",
        "node 0a1b: 2 of 8 CPUs, 1 of 4 GPUs in use",
        "node ffff: lost",
        "Ray's dashboard: http://127.0.0.1:8265",
        "of 100 trials, 0 of 3 GPU hours",
        "incomplete: a driver works on it",
    ):
        assert words in " ".join(text.split()) or words in text, words


def test_a_trial_of_a_live_driver_counts_as_running_before_its_first_checkpoint(root):
    progress, session = driver(root)
    key = ResultsStore(root).study().arms[1].trials["0"]
    ResultsStore(root).set_aside(key)
    with session:
        progress.start(key)
        tiny.wait_for(lambda: counts(root, "gamenet") == (2, 1, 0, 0))
    assert counts(root, "gamenet") == (2, 0, 0, 1)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("budget", "the last ended {} as budget: budget.max_trials: 3 of 3"),
        ("interrupted", "the last ended {} as interrupted"),
    ],
)
def test_how_the_last_driver_ended_is_told(root, reason, words):
    _, session = driver(root)
    with session:
        session.end(reason, "budget.max_trials: 3 of 3" if reason == "budget" else "")
    state = study_status(root)
    assert not state.driver.live
    assert words.format(state.driver.note.seen) in seen(root)


def test_a_driver_that_was_killed_is_told_as_gone(root):
    _, session = driver(root)
    with session:
        pass
    path = root / "sessions" / f"{session.id}.json"
    note = {**json.loads(path.read_text()), "end": None, "seen": "2020-01-01T00:00:00Z"}
    path.write_text(json.dumps(note))
    assert "driver: gone without a word; last seen 2020-01-01" in seen(root)
    earlier = study_status(root)
    path.write_text(json.dumps({**note, "beat": note["beat"] + 1}))
    assert study_status(root, earlier).driver.live  # its clock is wrong, but it beats


def test_everything_is_in_the_json(root):
    progress, session = driver(root, RunBudget(max_hours=5))
    with session:
        progress.start("a" * 16)
        tiny.wait_for(lambda: study_status(root).driver.note.running)
        content = json.loads(as_json(study_status(root)))
    assert content["driver"]["live"] is True
    assert content["driver"]["note"]["running"][0]["key"] == "a" * 16
    assert content["driver"]["note"]["budget"]["max_hours"] == 5
    assert content["spent"]["trials"] == 13 + 5
    assert (content["complete"], content["verdict"]) == (False, "incomplete: a driver works on it")


def test_watching_ends_with_the_driver(root):
    _, session = driver(root)
    with session:
        watching = subprocess.Popen(
            [*tiny.MAIN, "status", str(root), "--watch", "0.1"],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "COLUMNS": "200"},
        )
        time.sleep(4)
        assert watching.poll() is None
    text, _ = watching.communicate(timeout=30)
    assert watching.returncode == 0
    assert "the last ended" in text
    assert text.splitlines()[-1].startswith("incomplete: run the same study again")
