"""The command line. Every refusal is one message and a non-zero exit code, never a traceback."""

import importlib
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from medrec import plugins
from medrec.errors import MedrecError
from sweeps.arguments import ResultsDirectory
from sweeps.errors import InterruptedStudyError, SweepError

_out = Console(highlight=False)
_err = Console(stderr=True, highlight=False, soft_wrap=True)
_LISTS = {
    "models": "medrec.models",
    "generators": "medrec.generation",
    "hierarchies": "medrec.hierarchy",
    "datasets": "medrec.datasets",
    "metrics": "medrec.metrics",
    "tables": "sweeps.tables",
    "designs": "sweeps.designs",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits: 0 done, 1 refused or failed, 2 wrong usage."""
    try:
        medsweep.main(arguments, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _err.print("Interrupted. Run the same command again to go on: what was finished is kept.")
        sys.exit(130)
    except InterruptedStudyError as error:
        _err.print(f"medsweep: {error}", style="yellow", markup=False)
        from sweeps.engine import GOES_ON

        sys.exit(GOES_ON)
    except (MedrecError, SweepError) as error:
        _err.print(f"medsweep: {error}", style="red", markup=False)
        sys.exit(1)
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        _err.print(f"medsweep: {error.strerror or error}{place}", style="red", markup=False)
        sys.exit(1)


_LATER = {
    "medsweep": {
        "calibrate": (
            "sweeps.calibrate",
            "Measures whether intervals and tests keep their promises.",
        ),
        "cluster": ("sweeps.launch_files", "Writes and checks launch files for clusters."),
        "compare": ("sweeps.compare", "Shows what changed between two runs of a study."),
        "generate": ("sweeps.generate", "Draws a cohort from an exported generator."),
        "hierarchy": ("sweeps.hierarchy", "Learns a hierarchy of a cohort's codes."),
        "monitor": ("sweeps.monitor", "Serves TensorBoard or Optuna's dashboard for a study."),
        "predict": ("sweeps.predict", "Applies an exported model to a cohort."),
        "probe": ("sweeps.probe", "Measures what trials need, and proposes what to ask for."),
        "status": ("sweeps.status_page", "Shows what is stored, running, failed and missing."),
    },
    "data": {
        "export": ("sweeps.export", "Writes a cohort in another format."),
        "fetch": ("sweeps.fetch", "Downloads an open demo data set."),
        "knowledge": ("sweeps.knowledge", "Builds the knowledge that trials use."),
    },
    "export": {
        "best": ("sweeps.export_best", "Writes the best model: study file, weights, card."),
        "results": ("sweeps.archive", "Writes a slim copy of a results directory."),
    },
}


class _Lazy(click.Group):
    """A group whose commands in `_LATER` are imported when they are asked for."""

    def _later(self) -> dict[str, tuple[str, str]]:
        return _LATER.get(self.name or "", {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *self._later()])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._later():
            return super().get_command(ctx, cmd_name)
        found = importlib.import_module(self._later()[cmd_name][0]).command
        return found if isinstance(found, click.Command) else found()

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # Help must not import what the commands import.
        rows = [(name, text) for name, (_, text) in self._later().items()]
        room = formatter.width - 6 - max(map(len, self.list_commands(ctx)))
        rows += [(name, c.get_short_help_str(room)) for name, c in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(sorted(rows))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="medsweep")
def medsweep() -> None:
    """Tune, ablate and compare medication-recommendation models, and regenerate every table.

    \b
    Example:
      medsweep run demo --out results/demo
      medsweep tables results/demo

    Research software: it gives no treatment advice.
    """  # noqa: D301  click reads the control character


@medsweep.command("list")
@click.argument("what", type=click.Choice([*_LISTS, "studies", "ablations"]), required=False)
def list_(what: str | None) -> None:
    """Lists what there is. Example: medsweep list models."""
    for kind in [what] if what else [*_LISTS, "studies", "ablations"]:
        if what is None:
            _out.print(f"[bold]{kind}[/]")
        for line in _names(kind):
            click.echo(line if what else f"  {line}")


def _arm_column() -> Column:
    """Returns a column of names of arms, which are to be copied and so never cut."""
    return Column("arm", overflow="fold")


def _names(kind: str) -> list[str]:
    if kind == "studies":
        from sweeps.study import shipped

        return shipped()
    if kind == "ablations":
        return [
            f"{model}: {name} ({ablation.title})"
            for model in plugins.names("search_spaces")
            for name, ablation in plugins.load("search_spaces", model, "ABLATIONS").items()
        ]
    return plugins.names(_LISTS[kind])


@medsweep.group(cls=_Lazy)
def data() -> None:
    """Fetches, prepares and exports cohorts, and gathers knowledge about their codes."""


@medsweep.group(cls=_Lazy)
def export() -> None:
    """Takes the best model, or results made to be shared, out of a results directory.

    Example: medsweep export best results/demo --out best
    """


class _Datasets(click.Group):
    """One sub-command for each data set, its flags made from the data set's options."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return plugins.names("medrec.datasets")

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        from sweeps.prepare import command

        return command(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        return args[0], self.get_command(ctx, args[0]), args[1:]


@data.command("prepare", cls=_Datasets)
def prepare() -> None:
    """Turns raw files into a cohort folder with its card.

    Example: medsweep data prepare mimic4 --source mimic-iv-demo --out m4
    """


_study = click.argument("study")
_set = click.option(
    "--set", "settings", multiple=True, metavar="FIELD=VALUE", help="Change a field of the study."
)


@medsweep.command()
@_study
@_set
@click.option("--out", type=click.Path(path_type=Path), default=Path(), help="Results directory.")
@click.option("--check", is_flag=True, help="Let every arm that lacks trials take a first step.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def plan(study: str, settings: tuple[str, ...], out: Path, check: bool, as_json: bool) -> None:
    """Shows the trials of a study, what is stored of them and what the rest may cost.

    Starts nothing and writes nothing.

    \b
    Examples:
      medsweep plan demo --check
      medsweep plan demo --out results/demo
    """  # noqa: D301  click reads the control character
    from sweeps.cohorts import study_data
    from sweeps.plan import make_plan
    from sweeps.plan_diff import plan_diff, told
    from sweeps.rehearse import known_seconds, rehearse_aside
    from sweeps.retuned import follow_ups, settle
    from sweeps.store import ResultsStore
    from sweeps.study import load_study

    loaded = load_study(study, settings)
    data = study_data(loaded, out.resolve())
    store = ResultsStore(out.resolve())
    made = settle(make_plan(loaded, data), store)
    seconds = known_seconds(store)
    remarks: tuple[str, ...] = ()
    if check:
        checked = rehearse_aside(made, data, store)
        seconds, remarks = {**seconds, **checked.seconds}, checked.remarks
    diff = plan_diff(made, store, seconds)
    if as_json:
        trials = [spec.model_dump(mode="json") | {"key": k} for k, spec in made.trials.items()]
        content = {"study": made.record.model_dump(mode="json"), "trials": trials}
        click.echo(json.dumps({**content, "diff": asdict(diff), "remarks": remarks}))
        return
    table = Table(_arm_column(), "title", "model", "seeds", "epochs", "trials")
    for arm in made.record.arms:
        specs = [made.trials[key] for key in arm.trials.values()]
        epochs = str(specs[0].training.epochs) if arm.seeded and specs else "-"
        seeds = " ".join(arm.trials) if arm.seeded else "any"
        count = "later" if arm.is_waiting else str(len(specs))
        table.add_row(arm.name, escape(arm.title), arm.model, seeds, epochs, count)
    _out.print(table)
    for search in made.record.searches:
        _out.print(f"search {search.name}: {search.trials} trials of {search.model}, ", end="")
        _out.print(f"{', '.join(search.objectives)} over {', '.join(search.space) or 'nothing'}")
    resources = loaded.resources
    total = len(made.trials) + sum(search.trials for search in made.record.searches)
    _out.print(f"{total} trials, each {resources.cpus:g} CPU, {resources.gpus:g} GPU")
    if later := follow_ups(made):
        _out.print(f"{later} more when the searches have ended: re-tuned arms on every seed")
    for design in made.record.designs:
        click.echo(f"design {design.name}: {design.title}, {len(design.levels)} arms")
        for note in design.notes:
            click.echo(f"  {note}")
    for line in (*told(diff), *(f"  {remark}" for remark in remarks)):
        click.echo(line)


class _Limit(click.ParamType[tuple[str, int]]):
    """NAME=N."""

    name = "NAME=N"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        name, _, most = value.partition("=")
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,60}", name) or not re.fullmatch(
            r"[1-9][0-9]{0,5}", most
        ):
            self.fail(f"takes a name and a number from 1 up, as team=4, but got {value!r}.")
        return name, int(most)


@medsweep.command()
@_study
@_set
@click.option("--out", required=True, help="Results directory, or a place such as s3://bucket/x.")
@click.option("--executor", type=click.Choice(["ray", "inline"]), default="ray", show_default=True)
@click.option("--cpus", type=click.IntRange(1), help="Cores our own Ray may use; all by default.")
@click.option("--address", help="Join a Ray cluster: auto, HOST:PORT or ray://HOST:PORT.")
@click.option("--concurrent", type=click.IntRange(1), help="Trials at a time; default: what fits.")
@click.option(
    "--limit",
    "limits",
    type=_Limit(),
    multiple=True,
    help="At most N trials of all studies on the cluster that give this name.",
)
@click.option("--wait", is_flag=True, help="Wait while another run works on the directory.")
@click.option("--no-check", is_flag=True, help="Do not let every arm take a first step before.")
@click.option(
    "--rerun-stale", is_flag=True, help="Set trials of other code aside, and compute them again."
)
@click.option("--no-tables", is_flag=True, help="Do not make tables and report at the end.")
def run(
    study: str,
    settings: tuple[str, ...],
    out: str,
    executor: Literal["ray", "inline"],
    cpus: int | None,
    address: str | None,
    concurrent: int | None,
    limits: tuple[tuple[str, int], ...],
    wait: bool,
    no_check: bool,
    rerun_stale: bool,
    no_tables: bool,
) -> None:
    """Runs what is missing of a study, then makes its tables and report. Safe to repeat.

    Exit codes: 0 done, or the study's budget is spent; 1 refused, or trials failed; 75 told to
    stop (SIGTERM, SIGUSR1), and the same command goes on.

    \b
    Examples:
      medsweep run demo --out results/demo
      medsweep run demo --set cohort=m4 --set seeds=[0,1,2,3,4] --out results/m4
      medsweep run demo --out /shared/demo --address auto
    """  # noqa: D301  click reads the control character
    from sweeps.engine import EngineOptions
    from sweeps.errors import TrialsFailedError
    from sweeps.mirror import mirrored
    from sweeps.run import run_study
    from sweeps.study import load_study

    if executor == "inline" and (address is not None or concurrent is not None or limits):
        raise click.UsageError(
            "--address, --concurrent and --limit are Ray's; take --executor inline without them."
        )
    loaded = load_study(study, settings)
    options = EngineOptions(executor, cpus, address, concurrent, dict(limits))
    if address is not None and address.startswith("ray://"):
        from sweeps.engine import run_on_head

        flags = {"--wait": wait, "--no-check": no_check, "--rerun-stale": rerun_stale,
                 "--no-tables": no_tables}  # fmt: skip
        given = [flag for flag, is_set in flags.items() if is_set]
        sys.exit(run_on_head(loaded, out, options, given, lambda text: click.echo(text, nl=False)))
    failed: TrialsFailedError | None = None
    try:
        run_study(
            loaded,
            out,
            _out,
            options,
            check=not no_check,
            rerun_stale=rerun_stale,
            wait=wait,
        )
    except TrialsFailedError as error:
        failed = error
    if not no_tables:
        with mirrored(out) as folder:
            _make_tables(folder, ("md", "csv", "tex", "html"))
    if failed is not None:
        raise failed


def _make_tables(
    out: Path, formats: tuple[str, ...], embeddings: Literal["tsne", "pca"] | None = None
) -> None:
    from sweeps.mirror import shown
    from sweeps.regenerate import regenerate

    def warn(text: str) -> None:
        _err.print(text, style="yellow", markup=False)

    for path in regenerate(out, formats, embeddings, warn):
        click.echo(shown(path))


_directory = click.argument("directory", type=ResultsDirectory())


@medsweep.command()
@_directory
@click.option(
    "--format",
    "formats",
    default="md,csv,tex,html",
    show_default=True,
    help="Comma-separated: md, csv, tex, html (the report).",
)
def tables(directory: Path, formats: str) -> None:
    """Makes every table, figure and the report anew from stored results; trains nothing.

    Example: medsweep tables results/demo --format md,tex
    """
    chosen = tuple(part.strip() for part in formats.split(",") if part.strip())
    wrong = sorted(set(chosen) - {"md", "csv", "tex", "html"})
    if wrong or not chosen:
        raise click.UsageError(f"--format takes md, csv, tex, html, but got {formats!r}.")
    _make_tables(directory, chosen)


@medsweep.command()
@_directory
@click.option(
    "--embeddings",
    type=click.Choice(["tsne", "pca"]),
    is_flag=False,
    flag_value="tsne",
    help="Add a picture of the codes' vectors: tsne (if nothing follows; up to a minute) or pca.",
)
def report(directory: Path, embeddings: Literal["tsne", "pca"] | None) -> None:
    """Makes the HTML report from stored results.

    Where the cohort is open data, a page of single visits stands beside it.

    Example: medsweep report results/demo --embeddings pca
    """
    _make_tables(directory, ("html",), embeddings)
