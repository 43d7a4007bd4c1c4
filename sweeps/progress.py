"""What a person sees while trials run: done, running, failed; best so far; time left."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from medrec.spec import TrialSpec
from sweeps.tally import Running, State, Tally

_ROWS = 20  # running trials that the panel shows
_MARKS = {
    "complete": "[green]done  ",
    "pruned": "[yellow]pruned",
    "interrupted": "[yellow]interrupted",
}


class Progress(Tally):
    """Counts trials and draws them: a live panel on a terminal, a line a trial elsewhere."""

    def __init__(
        self,
        total: int,
        done: int,
        labels: dict[str, str],
        console: Console,
        metric: str = "jaccard",
    ) -> None:
        super().__init__(total, done, labels, metric, clock=time.monotonic)
        self.console = console
        # What is spent of the study's limits, in words; empty where it has none.
        self.limits: Callable[[], str] = str
        # The panel is made when it is drawn, four times a second, however many epochs end.
        self._live = Live(
            console=console, refresh_per_second=4, transient=True, get_renderable=self._panel
        )

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.console.is_terminal:
            self._live.stop()
        self._say(self._summary())

    def suggested(self, search: str, number: int, key: str, known: bool) -> None:
        """A search names its next trial, or one whose result is stored already."""
        own = f"{search} {number}"
        twin = self.name(search, number, key, known)
        if known:
            same = "" if twin == own else f"  same settings as {twin}"
            self._say(f"[cyan]stored[/] {self.finished:>3}/{self.total}  {own:<34}{same}")

    def start(self, key: str, spec: TrialSpec | None = None) -> None:
        """A trial starts; one that runs already starts again, its process having been lost.

        Args:
            key: the spec's key.
            spec: tells the epochs and GPUs that it asks for.
        """
        trial = self.begin(key, spec)
        if trial.restarts:
            self._say(f"[yellow]restarted {trial.restarts}x[/]  {trial.label}")

    def lost(self, key: str) -> None:
        """A running trial's process was lost; it waits for its next start."""
        self.lose(key)

    def epoch(self, key: str, row: dict[str, float]) -> None:
        """A trial finished an epoch."""
        self.advance(key, row)

    def finish(self, key: str, state: State, reason: str | None) -> None:
        """A trial ended; one that was interrupted goes on from its checkpoint another time."""
        trial = self.end(key, state, reason)
        shown = f"{self.metric} {trial.best:.4f}" if trial.best is not None else ""
        seconds = self.clock() - trial.began
        again = f"  restarted {trial.restarts}x" if trial.restarts else ""
        self._say(
            f"{_MARKS.get(state, '[red]failed')}[/] {self.finished:>3}/{self.total}  "
            f"{trial.label:<34} {shown:<14} {seconds:5.1f} s  {self._time_left()}{again}"
        )
        if reason:
            self.console.print(Text(f"       {reason}", style="red"))

    def _say(self, line: str) -> None:
        self.console.print(line, highlight=False, soft_wrap=True)

    def _time_left(self) -> str:
        seconds = self.seconds_left()
        return "" if seconds is None else f"about {duration(seconds)} left"

    def _summary(self) -> str:
        parts = [f"{self.cached} stored before"] if self.cached else []
        parts += [f"{count} {state}" for state, count in sorted(self.counts.items())]
        best = (
            f"; best validation {self.metric} {self.best[0]:.4f} ({self.best[1]})"
            if self.best
            else ""
        )
        limits = f"; spent {told}" if (told := self.limits()) else ""
        return f"{', '.join(parts) or 'nothing to run'}{best}{limits}"

    def _panel(self) -> Table:
        table = Table.grid(padding=(0, 2))
        running = list(self.running.values())  # drawn by another thread than the one that counts
        head = (
            f"{self.finished}/{self.total} trials, {self.counts['failed']} failed, "
            f"{len(running)} running"
        )
        table.add_row(Text(head, style="bold"), self._time_left())
        if told := self.limits():
            table.add_row("spent", told)
        if self.best:
            table.add_row(f"best validation {self.metric} {self.best[0]:.4f}", self.best[1])
        for trial in running[:_ROWS]:
            table.add_row(f"  {trial.label}", self._state(trial))
        if len(running) > _ROWS:
            table.add_row(f"  and {len(running) - _ROWS} more", "")
        return table

    def _state(self, trial: Running) -> str:
        again = f", restarted {trial.restarts}x" if trial.restarts else ""
        if trial.best is None:
            return f"starting{again}"
        of = f" of {trial.epochs}" if trial.epochs else ""
        return f"epoch {trial.epoch}{of}, best {self.metric} {trial.best:.4f}{again}"


def duration(seconds: float) -> str:
    """Returns a time in words that a person reads: `40 s`, `3 min`, `5.2 h`."""
    if seconds <= 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds <= 90 * 60 else f"{seconds / 3600:.1f} h"
