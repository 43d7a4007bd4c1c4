"""What a person sees while trials run: done, running, failed; best so far; time left."""

import time
from collections import Counter
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

State = str  # "complete", "pruned" or "failed"


class Progress:
    """Counts trials and draws them: a live panel on a terminal, a line a trial elsewhere."""

    def __init__(
        self,
        total: int,
        done: int,
        labels: dict[str, str],
        console: Console,
        metric: str = "jaccard",
    ) -> None:
        self.total, self.cached = total, done
        self.labels = labels
        self.console = console
        self.metric = metric
        self.counts: Counter[State] = Counter()
        self.running: dict[str, str] = {}
        self.best: tuple[float, str] | None = None
        self._started = time.monotonic()
        self._began: dict[str, float] = {}
        self._seen: dict[str, float] = {}
        self._live = Live(self._panel(), console=console, refresh_per_second=4, transient=True)

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
        self.console.print(self._summary(), highlight=False, soft_wrap=True)

    def suggested(self, search: str, number: int, key: str, known: bool) -> None:
        """A search names its next trial, or one whose result is stored already."""
        own = f"{search} {number}"
        twin = self.labels.setdefault(key, own)
        if known:
            self.cached += 1
            finished = self.cached + sum(self.counts.values())
            same = "" if twin == own else f"  same settings as {twin}"
            self.console.print(
                f"[cyan]stored[/] {finished:>3}/{self.total}  {own:<34}{same}",
                highlight=False,
                soft_wrap=True,
            )

    def start(self, key: str) -> None:
        """A trial starts."""
        self.running[key] = "starting"
        self._began[key] = time.monotonic()
        self._refresh()

    def epoch(self, key: str, row: dict[str, float]) -> None:
        """A trial finished an epoch."""
        value = row[f"best_{self.metric}"]
        self._seen[key] = value
        self.running[key] = f"epoch {row['epoch']:.0f}, best {self.metric} {value:.4f}"
        if self.best is None or value > self.best[0]:
            self.best = (value, self._label(key))
        self._refresh()

    def finish(self, key: str, state: State, reason: str | None) -> None:
        """A trial ended."""
        self.running.pop(key, None)
        self.counts[state] += 1
        seconds = time.monotonic() - self._began.pop(key, time.monotonic())
        value = self._seen.pop(key, None)
        shown = f"{self.metric} {value:.4f}" if value is not None else ""
        mark = {"complete": "[green]done  ", "pruned": "[yellow]pruned"}.get(state, "[red]failed")
        finished = self.cached + sum(self.counts.values())
        self.console.print(
            f"{mark}[/] {finished:>3}/{self.total}  {self._label(key):<34} {shown:<14}"
            f" {seconds:5.1f} s  {self._time_left()}",
            highlight=False,
            soft_wrap=True,
        )
        if reason:
            self.console.print(Text(f"       {reason}", style="red"))
        self._refresh()

    def _label(self, key: str) -> str:
        return self.labels.get(key, key)

    def _time_left(self) -> str:
        finished = sum(self.counts.values())
        left = self.total - self.cached - finished
        if not finished or left <= 0:
            return ""
        seconds = (time.monotonic() - self._started) / finished * left
        return (
            f"about {seconds / 60:.0f} min left" if seconds > 90 else f"about {seconds:.0f} s left"
        )

    def _summary(self) -> str:
        parts = [f"{self.cached} stored before"] if self.cached else []
        parts += [f"{count} {state}" for state, count in sorted(self.counts.items())]
        best = (
            f"; best validation {self.metric} {self.best[0]:.4f} ({self.best[1]})"
            if self.best
            else ""
        )
        return f"{', '.join(parts) or 'nothing to run'}{best}"

    def _panel(self) -> Table:
        table = Table.grid(padding=(0, 2))
        finished = self.cached + sum(self.counts.values())
        failed, running = self.counts["failed"], len(self.running)
        head = f"{finished}/{self.total} trials, {failed} failed, {running} running"
        table.add_row(Text(head, style="bold"), self._time_left())
        if self.best:
            table.add_row(f"best validation {self.metric} {self.best[0]:.4f}", self.best[1])
        for key, text in self.running.items():
            table.add_row(f"  {self._label(key)}", text)
        return table

    def _refresh(self) -> None:
        if self.console.is_terminal:
            self._live.update(self._panel())
