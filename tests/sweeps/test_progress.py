"""What a person sees while trials run."""

import io

from rich.console import Console

from sweeps.progress import Progress


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
