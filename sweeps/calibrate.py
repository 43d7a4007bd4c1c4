"""`medsweep calibrate`: whether intervals and tests keep their promises, measured."""

import csv
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from sweeps.errors import SweepError

_STUDIES_AT_ONCE = 1.2e7  # values held: bounds memory
_FAMILY = 11  # a reference and ten arms
_SIZES = 3000  # seeds times patients up to which tests are simulated more often


@dataclass(frozen=True)
class Line:
    """One promise in one kind of study.

    Attributes:
        seeds: training seeds an arm.
        patients: of the test split.
        training: how much trainings differ.
        promise: what was measured.
        share: of the simulated studies.
        low: end of the band that it must lie in; None where nothing is promised.
        high: the other end.
        studies: how many were simulated.
    """

    seeds: int
    patients: int
    training: str
    promise: str
    share: float
    low: float | None
    high: float | None
    studies: int

    @property
    def holds(self) -> bool:
        """Whether the share lies in its band."""
        return self.low is None or self.high is None or self.low <= self.share <= self.high


def calibrate(studies: int, resamples: int, seed: int) -> Iterator[Line]:
    """Yields every promise at each number of seeds and patients, as it is measured."""
    from sweeps.statistics.calibration import PATIENTS, SEED_DEVIATIONS, SEEDS

    for seeds in SEEDS:
        for patients in PATIENTS:
            for number, training in enumerate(SEED_DEVIATIONS):
                stream = [seed, seeds, patients, number]
                yield from _intervals(seeds, patients, training, studies, resamples, stream)
                yield from _tests(seeds, patients, training, studies, stream)
                yield from _families(seeds, patients, training, studies, resamples, stream)
    for patients in PATIENTS:
        for number, training in enumerate(SEED_DEVIATIONS):
            yield from _legacy(patients, training, studies, [seed, 1, patients, number])


def _intervals(
    seeds: int, patients: int, training: str, studies: int, resamples: int, stream: list[int]
) -> Iterator[Line]:
    from sweeps.statistics.calibration import COVERAGE, EFFECT, METRICS, World, measure

    rng = np.random.default_rng(stream)
    totals: dict[str, np.ndarray] = {}
    # Half of the studies have a difference, half none.
    for effect, half in ((0.0, studies // 2), (EFFECT, studies - studies // 2)):
        world = World(seeds, patients, training, effect=effect)
        for part in _parts(half, 2 * seeds * patients * len(METRICS)):
            for name, share in vars(measure(world, part, rng, resamples)).items():
                totals[name] = totals.get(name, np.zeros(len(METRICS))) + share * part
    for name, promise in (
        ("coverage", "interval of Δ {}"),
        ("own", "interval of {}"),
        ("analytic", "analytic interval of Δ {}"),
        ("plain", "uncorrected crossed bootstrap of Δ {}"),
        ("bca", "BCa interval of {}"),
    ):
        for metric, share in zip(METRICS, totals[name] / studies, strict=True):
            # The hard case shows where intervals of an arm end to hold; it is no promise.
            promised = name == "coverage" or (name == "own" and metric != METRICS[2])
            low, high = COVERAGE if promised else (None, None)
            text = promise.format(metric)
            yield Line(seeds, patients, training, text, float(share), low, high, studies)


def _tests(
    seeds: int, patients: int, training: str, studies: int, stream: list[int]
) -> Iterator[Line]:
    from sweeps.statistics.calibration import METRICS, SIZE, World, sizes

    rng = np.random.default_rng([*stream, 2])
    # Without draws a study costs little, so the small ones can be many.
    count = min(10 * studies, max(studies, int(_SIZES * studies / (seeds * patients))))
    for reference, text, promised in (
        (None, "test of Δ {}", True),
        ("none", "test of Δ {}, reference without seeds", True),
        ("stable", "test of Δ {}, reference stable", False),
    ):
        world = World(seeds, patients, training, reference=reference)
        total = np.zeros(len(METRICS))
        for part in _parts(count, 2 * seeds * patients * len(METRICS)):
            total += sizes(world, part, rng) * part
        for metric, share in list(zip(METRICS, total / count, strict=True))[:2]:
            low, high = SIZE if promised else (None, None)
            promise = text.format(metric)
            yield Line(seeds, patients, training, promise, float(share), low, high, count)


def _families(
    seeds: int, patients: int, training: str, studies: int, resamples: int, stream: list[int]
) -> Iterator[Line]:
    from sweeps.statistics.calibration import FAMILY_ERROR, World, family_errors

    rng = np.random.default_rng([*stream, 1])
    world = World(seeds, patients, training, arms=_FAMILY)
    count, totals = studies // 2, dict.fromkeys(("max-T", "Holm", "uncorrected"), 0.0)
    for part in _parts(count, _FAMILY * seeds * patients * 3):
        for name, share in family_errors(world, part, rng, resamples).items():
            totals[name] += share * part
    for name, total in totals.items():
        low, high = (None, None) if name == "uncorrected" else (0.0, FAMILY_ERROR)
        promise = f"any false verdict on ten arms, {name}"
        yield Line(seeds, patients, training, promise, total / count, low, high, count)


def _legacy(patients: int, training: str, studies: int, stream: list[int]) -> Iterator[Line]:
    from sweeps.statistics.calibration import World, legacy_size

    rng = np.random.default_rng(stream)
    world = World(1, patients, training)
    for replace, name in ((True, "with"), (False, "without")):
        count = max(studies // 4, 1)
        found = sum(
            legacy_size(world, part, rng, replace) * part for part in _parts(count, 6 * patients)
        )
        promise = f"Welch's t on ten rounds {name} replacement"
        yield Line(1, patients, training, promise, found / count, None, None, count)


def _parts(studies: int, size: int) -> Iterator[int]:
    """Yields numbers of studies that add up and fit into memory."""
    most = max(1, int(_STUDIES_AT_ONCE / size))
    while studies > 0:
        yield min(most, studies)
        studies -= most


def to_csv(lines: list[Line]) -> str:
    """Returns the lines as CSV."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(
        ["seeds", "patients", "training", "promise", "share", "low", "high", "studies"]
    )
    for line in lines:
        band = ("" if end is None else end for end in (line.low, line.high))
        fixed = (line.seeds, line.patients, line.training, line.promise, round(line.share, 4))
        writer.writerow([*fixed, *band, line.studies])
    return sink.getvalue()


def _table(lines: list[Line]) -> Table:
    """Returns a row a promise: lowest and highest share over patients and trainings, by seeds."""
    columns = sorted({line.seeds for line in lines})
    table = Table("", *(f"{seeds} seed{'s' if seeds > 1 else ''}" for seeds in columns), "band")
    rows: dict[str, list[Line]] = {}
    for line in lines:
        rows.setdefault(line.promise, []).append(line)
    for promised in (True, False):
        for promise, cells in rows.items():
            band = cells[0].low, cells[0].high
            if (band[0] is not None) != promised:
                continue
            shown = [_range([line for line in cells if line.seeds == seeds]) for seeds in columns]
            told = f"{band[0]:.0%} to {band[1]:.0%}" if promised else "none"
            table.add_row(promise, *shown, told)
        table.add_section()
    return table


def _range(lines: list[Line]) -> str:
    if not lines:
        return ""
    shares = [line.share for line in lines]
    return f"{min(shares):.1%} to {max(shares):.1%}"


@click.command("calibrate")
@click.option(
    "--studies",
    type=click.IntRange(4),
    default=2000,
    show_default=True,
    help="Simulated studies a line; half as many for families, a quarter for the field's "
    "protocol, up to ten times as many for tests.",
)
@click.option("--resamples", type=click.IntRange(100), default=1000, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--training", type=click.IntRange(1), help="Instead: so many A/A studies that train."
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="CSV file to write.")
def command(
    studies: int, resamples: int, seed: int, training: int | None, out: Path | None
) -> None:
    """Measures whether intervals and tests keep their promises.

    Simulates studies whose truth is known, with 3, 5 and 10 seeds and 100, 300 and 1,000 patients,
    and analyses them as tables do: 95 % intervals must cover 93 to 97 %, tests of no difference
    reject 3 to 7 %, families of ten arms have a false verdict in at most 6 %. Beside it: what the
    field's ten rounds of 80 % do. With --training: arms that differ in nothing but their seeds are
    trained and compared instead, on a new cohort each time.

    \b
    Examples:
      medsweep calibrate --out calibration.csv          (an hour on one core)
      medsweep calibrate --studies 200                  (a rough look, 6 minutes)
      medsweep calibrate --training 40                  (some 8 minutes)
    """  # noqa: D301  click reads the control character
    console = Console(highlight=False)
    if training is not None:
        _train(training, seed, console)
        return
    if out is not None:
        _check_writable(out)
    lines = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("Simulating", total=_count())
        for line in calibrate(studies, resamples, seed):
            lines.append(line)
            progress.advance(task)
            if out is not None:  # as it goes: an interruption keeps what was measured
                out.write_text(to_csv(lines))
    if not console.is_terminal:
        console = Console(highlight=False, width=110)
    console.print("Shares of simulated studies, lowest to highest over patients and trainings:")
    console.print(_table(lines))
    broken = [line for line in lines if not line.holds]
    promised = sum(line.low is not None for line in lines)
    console.print(f"{promised - len(broken)} of {promised} promises kept.")
    for line in broken:
        console.print(
            f"  {line.share:.1%} for {line.low:.0%} to {line.high:.0%}: {line.promise}, "
            f"{line.seeds} seeds, {line.patients} patients, trainings {line.training}"
        )
    if broken:
        chance = 2 * (0.05 * 0.95 / studies) ** 0.5
        raise SweepError(
            f"{len(broken)} of {promised} shares leave their band. {studies} studies tell a share "
            f"near 5 or 95 % to ±{chance:.1%}, so that chance alone moves some that are near an "
            "end; take more --studies to tell."
        )


_HEADER = ("seeds", "patients", "training", "promise", "share", "low", "high", "studies")


def _check_writable(out: Path) -> None:
    """Refuses a place that cannot be written, before minutes are spent, or another's file."""
    if out.exists() and not out.read_bytes().startswith(",".join(_HEADER).encode()):
        raise SweepError(f"{out} is there and is no calibration. Choose another --out.")
    if not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
        raise SweepError(f"Cannot write into {out.parent}: no such folder, or no permission.")


def _count() -> int:
    from sweeps.statistics.calibration import PATIENTS, SEED_DEVIATIONS, SEEDS

    cells = len(PATIENTS) * len(SEED_DEVIATIONS)
    return cells * len(SEEDS) * 24 + cells * 2


def _train(studies: int, seed: int, console: Console) -> None:
    from sweeps.same_arms import same_arms

    rejected = 0
    for number, p in enumerate(same_arms(studies, seed), start=1):
        rejected += p < 0.05
        console.print(f"study {number:>3}: p = {p:.3f}{'  rejected' if p < 0.05 else ''}")
    console.print(f"{rejected} of {studies} studies of two equal arms found a difference.")
