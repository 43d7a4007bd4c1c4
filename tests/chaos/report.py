"""The table of failures, tries and losses, and the figure of the times to recover."""

import csv
import statistics
from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from rich.console import Console
from rich.table import Table

from tests.chaos.outcome import Outcome, Scenario

_COLUMNS = ("failure", "outcome that must come", "tries", "lost", "doubled", "leaked", "broken",
            "moved on after")  # fmt: skip
Found = Mapping[Scenario, Outcome]


def _row(scenario: Scenario, outcome: Outcome) -> list[str]:
    if outcome.skipped:
        return [scenario.failure, scenario.promise, f"skipped: {outcome.skipped}", *[""] * 5]
    counts = (outcome.lost, outcome.doubled, outcome.leaked, outcome.broken)
    times = outcome.seconds
    spread = f"{statistics.median(times):.1f} s (at most {max(times):.1f})" if times else ""
    numbers = [str(len(faults)) for faults in counts]
    return [scenario.failure, scenario.promise, str(outcome.tries), *numbers, spread]


def print_table(console: Console, found: Found) -> None:
    """Prints a row for each failure."""
    table = Table(*_COLUMNS, show_lines=True)
    for scenario, outcome in found.items():
        row = _row(scenario, outcome)
        table.add_row(*row, style="red" if outcome.faults else "")
    console.print(table)


def write_report(folder: Path, found: Found) -> None:
    """Writes `chaos.md`, `chaos.csv` and, of the times to recover, `chaos.svg`."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [_row(scenario, outcome) for scenario, outcome in found.items()]
    lines = [f"| {' | '.join(_COLUMNS)} |", "|" + "---|" * len(_COLUMNS)]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    for scenario, outcome in found.items():
        remarks = [*(f"FAULT {fault}" for fault in outcome.faults), *outcome.notes]
        if remarks:
            lines += ["", f"`{scenario.name}`:", ""]
            lines += [f"* {' '.join(remark.split())}" for remark in remarks]
    (folder / "chaos.md").write_text("\n".join(lines) + "\n")
    with (folder / "chaos.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("name", *_COLUMNS), *(
            [scenario.name, *row] for scenario, row in zip(found, rows, strict=True)
        )])  # fmt: skip
    _figure(folder / "chaos.svg", found)


def _figure(path: Path, found: Found) -> None:
    timed = [(s.name, o.seconds) for s, o in found.items() if o.seconds][::-1]
    if not timed:
        return
    mpl.use("svg")
    figure, axes = plt.subplots(figsize=(7, 0.8 + 0.35 * len(timed)), layout="constrained")
    for height, (_, seconds) in enumerate(timed):
        axes.plot(seconds, [height] * len(seconds), "o", alpha=0.45, color="#1f5fa8", mew=0)
        axes.plot(statistics.median(seconds), height, "|", color="black", ms=14)
    axes.set_yticks(range(len(timed)), [name for name, _ in timed])
    axes.set_xlim(left=0)
    axes.set_xlabel("seconds from the failure until the study had moved on (bar: median)")
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
