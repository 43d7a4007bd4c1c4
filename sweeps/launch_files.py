"""`medsweep cluster`: launch files for Slurm, KubeRay, clouds and machines of one's own."""

from pathlib import Path
from typing import Any

import click

from cluster.launch.check import check_files, locked_ray
from cluster.launch.errors import LaunchError
from cluster.launch.render import render as render_files
from cluster.launch.spec import PROVIDERS, ClusterSpec, load_spec
from sweeps.errors import SweepError
from sweeps.flags import chosen, flags
from sweeps.study import read_yaml


@click.group()
def command() -> None:
    """Writes launch files for a cluster and checks them, without a cluster.

    Example: medsweep cluster check launch/rayjob.yaml
    """


def _render(provider: str, folder: Path, source: Path | None, **given: Any) -> None:
    """Writes ready launch files for PROVIDER: slurm, kuberay, aws, gcp or onprem.

    \b
    Example:
      medsweep cluster render slurm --study demo --results /shared/demo --nodes 4 \\
        --gpus 8 --cpus 32 --environment /shared/venv --token ~/.ray/medsweep --hours 24
    """  # noqa: D301  click reads the control character
    content = {**(read_yaml(source) if source else {}), **chosen(ClusterSpec, given)}
    named = content.setdefault("provider", provider)
    if named != provider:
        raise SweepError(
            f"{source}, field provider: is {named!r}, but {provider!r} was asked for."
        )
    ray = locked_ray()
    try:
        made = render_files(load_spec(content, ray), ray)
    except LaunchError as error:
        raise SweepError(f"{source or 'cluster'}: {error}") from error
    folder.mkdir(parents=True, exist_ok=True)
    taken = [name for name, text in made.files.items() if _differs(folder / name, text)]
    if taken:
        raise SweepError(
            f"{folder} holds other files named {', '.join(taken)}. Move them, or choose another "
            "--out."
        )
    for name, text in made.files.items():
        (folder / name).write_text(text)
        click.echo(folder / name)
    click.echo("Left to you (how to launch is at the top of each file):")
    for line in made.left:
        click.echo(f"  {line}")


def _differs(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(errors="replace") != text


_FOLDER = click.Option(
    ["--out", "folder"], type=click.Path(path_type=Path), default=Path("launch"),
    show_default=True, help="Where the files go.",
)  # fmt: skip
_SPEC = click.Option(
    ["--spec", "source"], type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="YAML file with the fields below, names with _; flags count more.",
)  # fmt: skip
command.add_command(
    click.Command(
        "render",
        callback=_render,
        params=[
            click.Argument(["provider"], type=click.Choice(PROVIDERS)),
            _FOLDER,
            _SPEC,
            *(flag for flag in flags(ClusterSpec) if flag.name != "provider"),
        ],
        help=_render.__doc__,
        short_help="Writes ready launch files.",
    )
)


@command.command()
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False)
)
def check(files: tuple[Path, ...]) -> None:
    """Checks launch files offline: schemas, shell, and what a sweep needs.

    Example: medsweep cluster check launch/rayjob.yaml launch/Dockerfile
    """
    try:
        checked = check_files(files)
    except LaunchError as error:
        raise SweepError(str(error)) from error
    for finding in checked.findings:
        click.echo(finding)
    for note in checked.notes:
        click.echo(f"note: {note}", err=True)
    if checked.failed:
        count = sum(finding.level == "error" for finding in checked.findings)
        raise SweepError(f"{count} errors in {len(files)} files; each line above says the remedy.")
    click.echo(f"{len(files)} files checked, nothing wrong.")
