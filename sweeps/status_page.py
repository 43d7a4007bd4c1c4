"""What `medsweep status` prints, once or again and again, and its JSON."""

import json
import time
from dataclasses import asdict
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from sweeps.progress import duration
from sweeps.session_notes import SessionNote, silence
from sweeps.status import DriverStatus, StudyStatus, study_status

_MANY = 40  # arms from which on those are left out of which everything is stored
_FAILURES = 20  # that are named one by one
_SHARE = 10  # a reading may take one part in so many of the time between two


def as_json(state: StudyStatus) -> str:
    """Returns everything that is known, for a script."""
    content: dict[str, Any] = asdict(state)
    if state.driver is not None:
        content["driver"]["note"] = state.driver.note.model_dump(mode="json")
    if state.spent is not None:
        content["spent"] = state.spent.model_dump(mode="json")
    return json.dumps({**content, "complete": state.complete, "verdict": state.verdict})


def page(state: StudyStatus) -> RenderableType:
    """Returns what a person sees."""
    parts: list[RenderableType] = [_arms(state)]
    parts += [_line(_search_line(search)) for search in state.searches]
    parts += _failures(state)
    if state.driver is not None:
        parts += _driver(state.driver)
    if state.limits:
        parts.append(_line(f"spent: {state.limits}"))
    parts.append(_line(state.verdict))
    return Group(*parts)


def _line(text: str, style: str = "") -> Text:
    return Text(text, style=style, overflow="fold")


def _arms(state: StudyStatus) -> RenderableType:
    shown = state.arms
    if len(shown) > _MANY:
        shown = tuple(arm for arm in shown if arm.running + arm.failed + arm.missing + arm.damaged)
    # What has begun runs only while somebody runs it.
    begun = "running" if state.driver is not None and state.driver.live else "to go on"
    table = Table(
        Column("arm", overflow="fold"), "stored", begun, "failed", "missing", "damaged",
        title=Text(state.name),
    )  # fmt: skip
    for arm in shown:
        counts = (arm.stored, arm.running, arm.failed, arm.missing, arm.damaged)
        table.add_row(Text(arm.name), *map(str, counts))
    hidden = len(state.arms) - len(shown)
    if not hidden:
        return table
    rest = _line(f"{hidden} arms of which every trial is stored; {_stored(state)} in all")
    return Group(table, rest) if shown else rest


def _stored(state: StudyStatus) -> str:
    return f"{sum(arm.stored for arm in state.arms):,} trials stored"


def _search_line(search: Any) -> str:
    counts = ", ".join(f"{n} {name}" for name, n in search.states.items()) or "not started"
    return f"search {search.name}: {counts}, of {search.asked}"


def _failures(state: StudyStatus) -> list[RenderableType]:
    named = [(key, reason) for key, reason in state.failures.items()]
    named += [
        (f"{search.name} {number}", reason)
        for search in state.searches
        for number, reason in search.failures.items()
    ]
    lines = [
        Text.assemble((f"failed {name}", "red"), f": {reason}", overflow="fold")
        for name, reason in named[:_FAILURES]
    ]
    if len(named) > _FAILURES:
        lines.append(_line(f"and {len(named) - _FAILURES} more failed"))
    return list(lines)


def _driver(driver: DriverStatus) -> list[RenderableType]:
    note = driver.note
    if not driver.live:
        return [_line(_ended(note))]
    left = "" if note.eta_seconds is None else f", about {duration(note.eta_seconds)} left"
    lines: list[RenderableType] = [
        _line(
            f"driver: works since {note.started} ({note.executor}), {note.left} of {note.total} "
            f"trials to go{left}"
        )
    ]
    for trial in note.running:
        of = "" if trial.epochs is None else f" of {trial.epochs}"
        best = "" if trial.best is None else f", best {note.metric} {trial.best:.4f}"
        again = f", restarted {trial.restarts}x" if trial.restarts else ""
        lines.append(
            _line(
                f"  {trial.label}: epoch {trial.epoch}{of}{best}, {duration(trial.seconds)}{again}"
            )
        )
    if note.running_trials > len(note.running):
        lines.append(_line(f"  and {note.running_trials - len(note.running)} more"))
    if note.best is not None:
        lines.append(
            _line(f"best validation {note.metric} {note.best.value:.4f} ({note.best.label})")
        )
    lines += [_line(f"last error: {e.label}: {e.reason}", "red") for e in note.errors[-3:]]
    for node in note.nodes:
        gpus = f", {node.gpus_used:g} of {node.gpus:g} GPUs" if node.gpus else ""
        lines.append(
            _line(f"node {node.id}: {node.cpus_used:g} of {node.cpus:g} CPUs{gpus} in use")
            if node.alive
            else _line(f"node {node.id}: lost", "yellow")
        )
    if note.dashboard:
        lines.append(_line(f"Ray's dashboard: {note.dashboard}"))
    return lines


def _ended(note: SessionNote) -> str:
    if note.end is None:
        quiet = silence(note)
        since = f" ({duration(quiet)} ago)" if quiet != float("inf") else ""
        return f"driver: gone without a word; last seen {note.seen}{since}"
    why = f": {note.end.text}" if note.end.text else ""
    return f"driver: none works now; the last ended {note.seen} as {note.end.reason}{why}"


@click.command("status")
@click.argument("directory")
@click.option("--json", "json_", is_flag=True, help="Machine-readable; everything that is known.")
@click.option(
    "--watch",
    type=click.FloatRange(min=0.1),
    is_flag=False,
    flag_value=2.0,
    metavar="[SECONDS]",
    help="Draw anew every so many seconds (2), until no driver works on the study.",
)
def command(directory: str, json_: bool, watch: float | None) -> None:
    """Shows what is stored, running, failed and missing, and what the driver does.

    \b
    Examples:
      medsweep status results/demo
      medsweep status results/demo --watch 5
    """  # noqa: D301  click reads the control character
    state = study_status(directory)
    if json_:
        click.echo(as_json(state))
        return
    console = Console(highlight=False)
    if watch is not None and state.driver is not None and state.driver.live:
        state = _watch(directory, state, watch, console)
    console.print(page(state))


def _watch(directory: str, state: StudyStatus, seconds: float, console: Console) -> StudyStatus:
    """Draws until the driver ends; returns what was seen last."""
    with Live(page(state), console=console, transient=True, auto_refresh=False) as drawn:
        while state.driver is not None and state.driver.live:
            began = time.monotonic()
            state = study_status(directory, state)
            drawn.update(page(state), refresh=True)
            time.sleep(max(seconds, _SHARE * (time.monotonic() - began)))
    return state
