"""`medsweep probe`: what a trial of each arm needs, measured by a few steps, and what to ask for.

A share of a GPU is a matter of counting: nothing keeps a trial from taking more memory than its
share. So the share proposed here follows from the memory that the steps took. Each arm is measured
in a process of its own, for memory is counted by process.
"""

import json
import math
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Column, Table

from medrec.spec import TrialSpec
from sweeps.errors import StudyError
from sweeps.plan import Plan

if TYPE_CHECKING:
    from medrec.measuring import Measured

MARGIN = 1.25
"""On top of the measured peak: later batches and allocators take more than the largest step."""
_GIB = 2**30


@dataclass(frozen=True)
class Probed:
    """What was measured of an arm, and what follows.

    Attributes:
        arm: its name.
        trials: how many trials it has in the study, all seeds or suggestions.
        device: that the steps ran on.
        memory: peak in GiB of the device's memory.
        step_seconds: of a typical step; None for a fitted model.
        trial_hours: estimate for a trial on that device; None where it is not known.
        gpus: share of a GPU to ask for; 0 on a CPU.
        gpu_hours: estimate for all trials of the arm at that share; None where it is not known.
    """

    arm: str
    trials: int
    device: str
    memory: float
    step_seconds: float | None
    trial_hours: float | None
    gpus: float
    gpu_hours: float | None


def share(peak: float, whole: float) -> float:
    """Returns the share of a GPU that holds a peak of memory with its margin: 1, 1/2, 1/3, ...

    Args:
        peak: bytes that a trial takes.
        whole: bytes that the GPU has.

    Raises:
        ValueError: it does not fit.

    Example:
        >>> share(6 * 2**30, 80 * 2**30)
        0.1
    """
    most = math.floor(whole / (peak * MARGIN)) if peak > 0 else 1000
    if most < 1:
        raise ValueError("a trial does not fit")
    # Rounded down to a number that people write: a tenth, a twentieth, ...
    usual = max(n for n in (1, 2, 3, 4, 5, 8, 10, 16, 20) if n <= most)
    return math.floor(1e4 / usual) / 1e4


def probe(plan: Plan, console: Console) -> list[Probed]:
    """Measures one trial of each arm and of each search.

    Raises:
        StudyError: an arm cannot be measured: it does not fit, or cannot be trained.
    """
    found = []
    for name, spec, trials in _examples(plan):
        with console.status(f"probing {name}"):
            found.append(_proposed(name, trials, _measured(name, spec), spec))
    return found


def _examples(plan: Plan) -> list[tuple[str, TrialSpec, int]]:
    """Returns name, a trial and the number of trials of every arm and search."""
    arms = [
        (arm.name, plan.trials[next(iter(arm.trials.values()))], len(arm.trials))
        for arm in plan.record.arms
        if arm.trials
    ]
    return arms + [(s.name, s.base, s.trials) for s in plan.record.searches]


def _measured(name: str, spec: TrialSpec) -> "Measured":
    from medrec.measuring import Measured

    done = subprocess.run(
        [sys.executable, "-m", "sweeps.probe"],
        input=spec.model_dump_json(),
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        answer = {"problem": f"its process ended: {last}"}
    if "problem" in answer:
        raise StudyError(f"field arms: {name} cannot take its first steps: {answer['problem']}")
    return Measured.model_validate(answer)


def _proposed(name: str, trials: int, measured: "Measured", spec: TrialSpec) -> Probed:
    gpus = 0.0
    if measured.device != "cpu" and measured.total_bytes:
        try:
            gpus = share(measured.peak_bytes, measured.total_bytes)
        except ValueError:
            raise StudyError(
                f"field resources: {name} takes {measured.peak_bytes / _GIB:.1f} GiB, and with "
                f"{MARGIN - 1:.0%} for what later steps add more than the "
                f"{measured.total_bytes / _GIB:.1f} GiB of "
                f"{measured.device}. Lower training.batch_size or the model's sizes."
            ) from None
    hours = None if measured.seconds is None else measured.seconds / 3600
    return Probed(
        arm=name,
        trials=trials,
        device=measured.device,
        memory=measured.peak_bytes / _GIB,
        step_seconds=measured.step_seconds,
        trial_hours=hours,
        gpus=gpus,
        gpu_hours=None if hours is None else hours * trials * gpus * spec.resources.workers,
    )


def _child() -> None:
    """Measures the trial on standard input, and prints what was found as JSON."""
    from medrec.errors import MedrecError
    from medrec.measuring import measure

    try:
        found = measure(TrialSpec.model_validate_json(sys.stdin.read()))
    except MedrecError as error:
        click.echo(json.dumps({"problem": str(error)}))
    except MemoryError:
        click.echo(json.dumps({"problem": "it ran out of memory"}))
    else:
        click.echo(found.model_dump_json())


def _table(rows: list[Probed]) -> Table:
    on_gpu = any(row.gpus for row in rows)
    # Names are to be copied, and so never cut.
    table = Table(Column("arm", overflow="fold"), "trials", "device", "GiB", "step s", "trial h")
    if on_gpu:
        table.add_column("GPU")
        table.add_column("GPU h in all")
    for row in rows:
        hours = [_number(row.step_seconds, ".4f"), _number(row.trial_hours, ".3f")]
        asked = [f"{row.gpus:g}", _number(row.gpu_hours, ".2f")] if on_gpu else []
        table.add_row(row.arm, str(row.trials), row.device, f"{row.memory:.2f}", *hours, *asked)
    return table


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


@click.command("probe")
@click.argument("study")
@click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE", help="Change a field.")
@click.option("--out", type=click.Path(path_type=Path), help="Results directory with a cohort.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def command(study: str, settings: tuple[str, ...], out: Path | None, as_json: bool) -> None:
    """Measures memory and time of a few steps of each arm, and proposes what to ask for.

    With `resources.gpus` above 0 the steps run on this machine's GPU; otherwise on its CPU, where
    memory is main memory and no share of a GPU is proposed.

    \b
    Examples:
      medsweep probe demo
      medsweep probe kindmed-ablation --set cohort=m4 --set resources.gpus=1
    """  # noqa: D301  click reads the control character
    import tempfile

    from sweeps.cohorts import study_data
    from sweeps.plan import make_plan
    from sweeps.study import load_study

    loaded = load_study(study, settings)
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory(prefix="medsweep-probe-") as folder:
        data = study_data(loaded, (out or Path(folder)).resolve())
        data.materialise()
        rows = probe(make_plan(loaded, data), Console(stderr=True))
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows]))
        return
    console.print(_table(rows))
    for line in advice(rows):
        click.echo(line)


def advice(rows: list[Probed]) -> list[str]:
    """Returns what to write into the study file, and what all of it may cost."""
    known = [row.gpu_hours for row in rows if row.gpu_hours is not None]
    unknown = len(rows) - len(known)
    widest = max(rows, key=lambda row: row.memory)
    if not any(row.gpus for row in rows):
        gib = math.ceil(widest.memory * MARGIN * 10) / 10
        hours = sum(row.trial_hours * row.trials for row in rows if row.trial_hours is not None)
        return [
            f"resources: {{cpus: 1, memory: {gib:g}}}   # {widest.arm} takes most",
            f"about {hours:.2f} hours of one CPU in all, without validation and start",
        ]
    gpus = max(row.gpus for row in rows)
    total = sum(hours for hours in known)
    lines = [
        f"resources: {{gpus: {gpus:g}}}   # {widest.arm} takes most memory",
        f"about {total:.2f} GPU hours in all, if trials that share a GPU are as fast as alone",
    ]
    if unknown:
        lines.append(f"{unknown} arms fit themselves at once; how long that takes is not known")
    return lines


if __name__ == "__main__":
    _child()
