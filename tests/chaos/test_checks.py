"""The checks find what they are for: a loss that nobody notices would be counted as none."""

import shutil
from pathlib import Path

import pytest
from rich.console import Console

from sweeps.run import run_study
from sweeps.store import ResultsStore
from tests.chaos import checks, processes
from tests.chaos.bench import Bench
from tests.chaos.outcome import Outcome, Scenario, Unavailable
from tests.chaos.report import print_table, write_report
from tests.chaos.suite import SCENARIOS, run_scenario
from tests.sweeps import tiny


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    search = {**tiny.SEARCH, "trials": 2, "config": {"dim": 8}, "space": {"dropout": {}}}
    study = tiny.study(folder, searches=[search])
    run_study(study, folder / "out", tiny.quiet(), tiny.INLINE)
    return folder / "out"


@pytest.fixture
def out(reference, tmp_path) -> Path:
    return Path(shutil.copytree(reference, tmp_path / "out"))


def found(out: Path, reference: Path) -> Outcome:
    outcome = Outcome()
    checks.complete(out, reference, outcome, "now")
    return outcome


def arm(out: Path) -> Path:
    return out / "trials" / ResultsStore(out).study().arms[1].trials["0"]


def test_an_equal_directory_has_no_fault(out, reference):
    assert found(out, reference).faults == []


def test_a_missing_trial_is_lost(out, reference):
    shutil.rmtree(arm(out))
    assert len(found(out, reference).lost) == 1


def test_other_bits_are_lost_though_their_checksums_fit(out, reference):
    store, key = ResultsStore(out), arm(out).name
    files = store.content(key) | {"model.safetensors": store.weights(key)[:-1] + b"\x01"}
    shutil.rmtree(arm(out))
    store.save_files(key, files)
    store.check(key)
    assert len(found(out, reference).lost) == 1


def test_a_damaged_trial_is_lost(out, reference):
    (arm(out) / "history.parquet").write_bytes(b"")
    assert len(found(out, reference).lost) == 1


def test_a_trial_of_nothing_is_doubled(out, reference):
    shutil.copytree(arm(out), out / "trials" / "0123456789abcdef")
    assert len(found(out, reference).doubled) == 1


@pytest.mark.parametrize(("change", "kind"), [
    (lambda notes: notes[0].unlink(), "lost"),
    (lambda notes: shutil.copy(notes[0], notes[0].with_stem("00009")), "doubled"),
    (lambda notes: notes[0].write_text(notes[0].read_text().replace("complete", "failed")),
     "lost"),
])  # fmt: skip
def test_suggestions_are_compared_one_by_one(out, reference, change, kind):
    change(sorted((out / "searches/tune").glob("0*.json")))
    assert len(getattr(found(out, reference), kind)) == 1


def test_what_running_keeps_is_leaked(out, reference):
    (out / "running" / "key").mkdir(parents=True)
    (out / "running" / "key" / "checkpoint.safetensors").touch()
    assert len(found(out, reference).leaked) == 1


def test_a_file_written_again_is_doubled_and_a_vanished_one_lost(out):
    before, outcome = checks.finished(out), Outcome()
    checks.untouched(before, out, outcome, "now")
    assert outcome.faults == []
    path = arm(out) / "trial.json"
    path.write_bytes(path.read_bytes())
    checks.untouched(before, out, outcome, "now")
    assert (len(outcome.doubled), len(outcome.lost)) == (1, 0)
    path.unlink()
    checks.untouched(before, out, outcome, "now")
    assert len(outcome.lost) == 1


def test_epochs_trained_again_are_a_loss(out):
    store, key, outcome = ResultsStore(out), arm(out).name, Outcome()
    done = [{"seconds": value} for value in store.history(key)["seconds"]]
    checks.went_on(out, key, tuple(done[:1]), outcome, "now")
    assert outcome.faults == []
    checks.went_on(out, key, ({"seconds": done[0]["seconds"] + 1},), outcome, "now")
    assert len(outcome.lost) == 1


def test_tables_are_compared_byte_for_byte(out, reference, tmp_path):
    for root in (out, reference):
        (root / "tables").mkdir(exist_ok=True)
        (root / "tables" / "main.md").write_text("0.25")
    outcome = Outcome()
    checks.same_tables(out, reference, outcome, "now")
    assert outcome.faults == []
    (out / "tables" / "main.md").write_text("0.26")
    checks.same_tables(out, reference, outcome, "now")
    assert len(outcome.lost) == 1


# ------------------------------------------------------------------ the suite itself


def scenario(run) -> Scenario:
    return Scenario("planted", "a failure", "a promise", run)


def test_a_failure_that_did_not_come_about_is_a_fault(tmp_path):
    outcome = run_scenario(scenario(lambda bench: bench.tried("once")), tmp_path, 2)
    assert outcome.faults == ["broken: 1 of 2 tries came about"]


def test_a_scenario_that_breaks_is_a_fault_and_one_that_cannot_run_is_skipped(tmp_path):
    def breaks(bench: Bench) -> None:
        raise KeyError("planted")

    def cannot(bench: Bench) -> None:
        raise Unavailable("needs a moon")

    assert "planted" in run_scenario(scenario(breaks), tmp_path, 1).faults[0]
    assert run_scenario(scenario(cannot), tmp_path, 1).skipped == "needs a moon"


def test_processes_of_a_bench_end_with_it_and_no_others(tmp_path):
    marks = []

    def forgets(bench: Bench) -> None:
        marks.append(bench.next_mark())
        processes.start(["sh", "-c", "sleep 600 & sleep 600"], marks[0], tmp_path / "log")
        assert processes.until(lambda: len(processes.marked(marks[0])) == 3, 10)
        bench.tried("forgot them")

    other = processes.start(["sleep", "600"], "another", tmp_path / "log")
    try:
        assert run_scenario(scenario(forgets), tmp_path, 1).faults == []
        assert processes.marked(marks[0]) == []
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_the_report_counts_and_names_faults(tmp_path):
    good, bad = (Scenario(n, f"failure {n}", "promise", lambda bench: None) for n in "ab")
    outcomes = {good: Outcome(tries=20, seconds=[1.0, 3.0]), bad: Outcome(tries=2, lost=["key"])}
    write_report(tmp_path, outcomes)
    text = (tmp_path / "chaos.md").read_text()
    assert "| failure a | promise | 20 | 0 | 0 | 0 | 0 | 2.0 s (at most 3.0) |" in text
    assert "| failure b | promise | 2 | 1 | 0 | 0 | 0 |  |" in text
    assert "FAULT lost: key" in text
    assert (tmp_path / "chaos.svg").stat().st_size
    assert len((tmp_path / "chaos.csv").read_text().splitlines()) == 3
    console = Console(file=(tmp_path / "shown").open("w"), width=160)
    print_table(console, outcomes)
    console.file.close()
    assert "failure a" in (tmp_path / "shown").read_text()


def test_scenarios_have_names_of_their_own():
    names = [s.name for s in SCENARIOS]
    assert len(set(names)) == len(names) >= 12
