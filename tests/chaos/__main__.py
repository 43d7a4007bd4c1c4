"""Brings every failure about and prints what came of it: `python -m tests.chaos`."""

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tests.chaos.report import print_table, write_report
from tests.chaos.suite import SCENARIOS, run_scenario


def main() -> int:
    """Returns 1 if anything was lost, doubled or leaked, or another promise broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument("--tries", type=int, default=20, help="of each failure at random moments")
    parser.add_argument("--only", action="append", choices=names, help="these scenarios alone")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, default=Path("build/chaos"), help="for the report")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))  # and end what was started
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 160
    found = {}
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder:
        for scenario in SCENARIOS:
            if options.only and scenario.name not in options.only:
                continue
            tries = min(options.tries, scenario.long or options.tries)
            console.print(f"{scenario.name}: {scenario.failure}", style="bold", markup=False)
            found[scenario] = run_scenario(
                scenario,
                Path(folder),
                tries,
                options.seed,
                lambda line: console.print(f"  {line}", markup=False),
            )
            for fault in found[scenario].faults:
                console.print(f"  {fault}", style="red", markup=False)
            # What has been found so far is not lost either.
            write_report(options.out, found)
    print_table(console, found)
    console.print(f"{options.out}/chaos.md, chaos.csv, chaos.svg", markup=False)
    return 1 if any(outcome.faults for outcome in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
