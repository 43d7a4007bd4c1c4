"""What a person sees while trials run."""

import gc
import io
import time
import tracemalloc

from rich.console import Console

from medrec.spec import Resources
from sweeps.progress import Progress
from tests.sweeps import tiny


def made(total: int = 3, done: int = 0, terminal: bool = False) -> tuple[Progress, io.StringIO]:
    text = io.StringIO()
    console = Console(file=text, width=120, force_terminal=terminal)
    return Progress(total, done, {"k1": "gamenet seed 0"}, console), text


def row(epoch: float, value: float) -> dict[str, float]:
    return {"epoch": epoch, "best_jaccard": value}


def test_a_finished_trial_is_a_line_with_count_name_and_value():
    progress, text = made()
    with progress:
        progress.start("k1")
        progress.epoch("k1", row(1, 0.25))
        progress.epoch("k1", row(2, 0.5))
        progress.finish("k1", "complete", None)
    lines = text.getvalue().splitlines()
    assert "1/3" in lines[0]
    assert "gamenet seed 0" in lines[0]
    assert "jaccard 0.5000" in lines[0]
    assert lines[-1] == "1 complete; best validation jaccard 0.5000 (gamenet seed 0)"


def test_a_failed_trial_shows_its_reason_as_it_is():
    progress, text = made()
    with progress:
        progress.start("k1")
        progress.finish("k1", "failed", "The loss [of epoch 1] is nan [/red].")
    assert "failed" in text.getvalue()
    assert "The loss [of epoch 1] is nan [/red]." in text.getvalue()


def test_what_was_stored_before_counts_as_done():
    progress, text = made(total=5, done=4)
    with progress:
        progress.start("k1")
        progress.finish("k1", "complete", None)
    assert "5/5" in text.getvalue()
    assert "4 stored before" in text.getvalue()


def test_a_searchs_trials_are_named_by_number_and_known_ones_count_as_stored():
    progress, text = made()
    with progress:
        progress.suggested("tune", 0, "k8", True)
        progress.suggested("tune", 1, "k9", False)
        progress.start("k9")
        progress.finish("k9", "pruned", None)
    assert "2/3" in text.getvalue()
    assert "tune 1" in text.getvalue()
    assert "1 stored before, 1 pruned" in text.getvalue()


def test_the_time_left_is_told_while_trials_are_left(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("sweeps.progress.time.monotonic", lambda: now[0])
    progress, text = made(total=3)
    with progress:
        progress.start("k1")
        now[0] = 100.0
        progress.finish("k1", "complete", None)
    assert "about 3 min left" in text.getvalue()  # two trials of 100 s each


def test_on_a_terminal_the_panel_comes_and_goes():
    progress, text = made(terminal=True)
    with progress:
        progress.start("k1")
        progress.epoch("k1", row(1, 0.25))
        progress.finish("k1", "complete", None)
    assert "1 complete" in text.getvalue()


def test_nothing_to_run_is_said():
    progress, text = made(total=0)
    with progress:
        pass
    assert text.getvalue().strip() == "nothing to run"


def test_an_interrupted_trial_has_not_ended():
    progress, text = made()
    with progress:
        progress.start("k1")
        progress.finish("k1", "interrupted", None)
        assert (progress.finished, progress.left(), progress.spent) == (0, 3, 0)
        progress.start("k1")
        progress.finish("k1", "complete", None)
    lines = text.getvalue().splitlines()
    assert "interrupted" in lines[0]
    assert "0/3" in lines[0]
    assert lines[-1] == "1 complete, 1 interrupted"


def test_a_trial_that_starts_while_it_runs_has_lost_its_process():
    progress, text = made()
    with progress:
        progress.start("k1")
        progress.epoch("k1", row(1, 0.25))
        progress.start("k1")
        progress.epoch("k1", row(2, 0.5))
        progress.finish("k1", "complete", None)
    lines = text.getvalue().splitlines()
    assert lines[0].strip() == "restarted 1x  gamenet seed 0"
    assert "restarted 1x" in lines[1]
    assert "1/3" in lines[1]
    assert progress.counts == {"complete": 1}


def test_gpu_seconds_count_every_start_of_every_trial_once():
    now = [0.0]
    progress, _ = made()
    progress.clock = lambda: now[0]
    one = tiny.spec(resources=Resources(gpus=0.5))
    two = tiny.spec(1, resources=Resources(gpus=1, workers=4))
    progress.start(one.key, one)
    now[0] = 10.0
    progress.start(one.key, one)  # its process was lost
    progress.start(two.key, two)
    now[0] = 16.0
    progress.finish(one.key, "failed", "why")
    assert progress.gpu_seconds() == 0.5 * 16 + 4 * 6
    now[0] = 20.0
    progress.finish(two.key, "interrupted", None)
    now[0] = 99.0
    assert progress.gpu_seconds() == 0.5 * 16 + 4 * 10


def test_a_lost_trial_holds_no_gpu_until_it_starts_again():
    now = [0.0]
    progress, text = made()
    progress.clock = lambda: now[0]
    spec = tiny.spec(resources=Resources(gpus=1))
    progress.start(spec.key, spec)
    now[0] = 5.0
    progress.lost(spec.key)
    now[0] = 1000.0
    assert progress.gpu_seconds() == 5
    progress.start(spec.key, spec)
    now[0] = 1003.0
    assert progress.gpu_seconds() == 8
    assert "restarted 1x" in text.getvalue()
    progress.lost(spec.key)
    progress.finish(spec.key, "failed", "its process was lost 3 times")
    assert progress.gpu_seconds() == 8


def test_only_what_ran_counts_against_the_limit_of_trials():
    progress, _ = made(total=9)
    progress.suggested("tune", 0, "k8", True)
    for number, (key, state) in enumerate(
        [("k1", "complete"), ("k2", "failed"), ("k8", "pruned"), ("k9", "failed")]
    ):
        if key == "k9":
            progress.suggested("tune", number, key, False)
        progress.start(key)
        progress.finish(key, state, None)
    # A failed trial of an arm is run again; a failed suggestion is one that was tried.
    assert progress.spent == 3


def test_limits_are_told_in_the_panel_and_at_the_end():
    progress, text = made(terminal=True)
    progress.limits = lambda: "1 of 10 trials"
    with progress:
        progress.start("k1")
        time.sleep(0.4)
    assert text.getvalue().count("1 of 10 trials") >= 2
    assert "spent 1 of 10 trials" in text.getvalue().splitlines()[-1]


def test_a_value_that_is_no_number_is_never_the_best():
    progress, _ = made()
    progress.start("k1")
    progress.epoch("k1", row(1, float("nan")))
    assert progress.best is None


def test_the_panel_shows_some_of_many_running_trials():
    progress, text = made(total=90, terminal=True)
    with progress:
        for number in range(50):
            progress.start(f"key {number}")
        time.sleep(0.4)
    assert "and 30 more" in text.getvalue()


def test_memory_does_not_grow_with_the_trials_that_ended():
    progress = Progress(10_000, 0, {}, Console(file=_Nowhere()))

    def run(start: int, count: int) -> None:
        for number in range(start, start + count):
            key = f"{number:016x}"
            progress.suggested("tune", number, key, False)
            progress.start(key)
            for epoch in range(3):
                progress.epoch(key, row(epoch, 0.1))
            progress.finish(key, "complete" if number % 9 else "failed", f"reason {number}")

    tracemalloc.start()
    try:
        run(0, 1100)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        run(1100, 500)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert not progress.running
    # Rich remembers the widths of some thousand lines, and forgets none of these.
    assert grown / 500 < 1500, f"{grown / 500:.0f} bytes a trial"


class _Nowhere(io.StringIO):
    """Keeps nothing of what is written to it."""

    def write(self, text: str) -> int:
        return len(text)
