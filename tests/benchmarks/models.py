"""Speed and memory of every model on a MIMIC-III-sized cohort, in one table.

    python -m tests.benchmarks.models [--models gamenet,leap] [--rounds 3] [--out build/speed]

Each model runs by itself in a process with one thread (tests/benchmarks/epoch.py): epochs of
10,000 training visits at 64 patients a batch, or the fit of a fitted model, then the answers to
the validation split. A figure is the least of the rounds: other work on the machine only adds to
it. Beside the clock's seconds stand the processor's, which a shared machine inflates less, and it
is these that are held against a ceiling. The table is printed, and written as Markdown and CSV
under `--out`.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medrec import plugins

ROOT = Path(__file__).resolve().parents[2]
# Seconds an epoch, and seconds per 1,000 predicted visits, at most.
CEILINGS = {
    "cognet": 12.0, "drugrec": 15.0, "gamenet": 1.0, "gbert": 15.0, "leap": 2.0, "manydg": 2.0,
    "medtree": 4.0, "micron": 0.6, "mkgnn": 8.0, "molerec": 4.0, "retain": 1.0, "safedrug": 2.0,
}  # fmt: skip
PREDICTION_CEILINGS = {"cognet": 2.0, "leap": 1.0}
# Seconds an epoch of the published code on such a thread, for scale.
PUBLISHED = {
    "cognet": 65, "drugrec": 2045, "gbert": 767, "leap": 73, "micron": 12, "mkgnn": 149,
    "molerec": 2046, "retain": 15,
}  # fmt: skip
# Settings of further rows: a decoder's beam; G-BERT without its rounds of pre-training, whose
# ceiling is that of fine-tuning.
VARIANTS: dict[str, dict[str, Any]] = {
    "cognet": {"decoding": "beam"},
    "gbert": {"pretraining": "none"},
    "leap": {"decoding": "beam"},
}
COLUMNS = (
    "model", "seconds an epoch", "processor", "ceiling", "published code", "pre-training",
    "per 1,000 predictions", "predictions, processor", "predictions, ceiling", "peak GiB",
    "parameters",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A row of the table: a model and the settings that differ from its defaults."""

    model: str
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The model's name, and its settings."""
        changed = ", ".join(f"{name}: {value}" for name, value in self.config.items())
        return f"{self.model} ({changed})" if changed else self.model


def cases(wanted: list[str]) -> list[Case]:
    """Returns the rows: every model as it is by default, some with other settings too."""
    names = plugins.names("medrec.models")
    for name in wanted:
        if name not in names:
            raise SystemExit(f"There is no model {name!r}. Models: {', '.join(names)}.")
    chosen = wanted or list(names)
    more = [Case(name, config) for name, config in VARIANTS.items() if name in chosen]
    return [*(Case(name) for name in chosen), *more]


def measured(case: Case, rounds: int) -> dict[str, Any]:
    """Runs a case in a process of its own and returns what it printed.

    Raises:
        subprocess.CalledProcessError: it failed; its messages went to standard error.
    """
    command = [sys.executable, "-m", "tests.benchmarks.epoch", case.model, "--rounds", str(rounds)]
    done = subprocess.run(
        [*command, "--config", json.dumps(case.config)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return facts


def row_of(case: Case, facts: dict[str, Any]) -> list[str]:
    """Returns a row of the table."""
    busy, answering = min(facts["processor"]), min(facts["predictions_processor"])
    ceiling = CEILINGS.get(case.model)
    # The ceiling of predictions is that of greedy decoding.
    of_answers = PREDICTION_CEILINGS.get(case.model) if not case.config else None
    fitted = " (fit)" if facts.get("fitted") else ""
    return [
        case.title,
        f"{min(facts['epochs']):.2f}{fitted}",
        f"{busy:.2f}",
        against(busy, ceiling),
        str(PUBLISHED.get(case.model, "")),
        f"{facts['pretraining']:.2f}" if facts.get("pretraining", 0) >= 0.01 else "",
        f"{min(facts['predictions']):.3f}",
        f"{answering:.3f}",
        against(answering, of_answers),
        f"{facts['peak_gib']:.2f}",
        f"{facts['parameters']:,}",
    ]


def against(seconds: float, ceiling: float | None) -> str:
    """Returns a ceiling, and whether the seconds are over it.

    Example:
        >>> against(3.0, 4.0), against(5.0, 4.0), against(5.0, None)
        ('4 under', '4 OVER', '')
    """
    if ceiling is None:
        return ""
    return f"{ceiling:g} {'OVER' if seconds > ceiling else 'under'}"


def markdown(rows: list[list[str]]) -> str:
    """Returns the table; all columns but the first are aligned to the right."""
    lines = [COLUMNS, ("---", *["---:"] * (len(COLUMNS) - 1)), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def write(out: Path, rows: list[list[str]]) -> None:
    """Writes the table as Markdown and CSV."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "speed.md").write_text(markdown(rows))
    with (out / "speed.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])


def main() -> None:
    """Measures the models that the command line asks for; all without any."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", default="", help="names, joined by commas; all if left out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "speed")
    wanted = parser.parse_args()
    rows, failed = [], []
    for case in cases([name for name in wanted.models.split(",") if name]):
        try:
            rows.append(row_of(case, measured(case, wanted.rounds)))
        except subprocess.CalledProcessError:
            failed.append(case.title)
            continue
        print(f"{rows[-1][0]}: {rows[-1][1]} s", file=sys.stderr)  # noqa: T201
        write(wanted.out, rows)  # what is measured stays, whatever happens later
    print(markdown(rows))  # noqa: T201
    if failed:
        raise SystemExit(f"Failed: {', '.join(failed)}.")


if __name__ == "__main__":
    main()
