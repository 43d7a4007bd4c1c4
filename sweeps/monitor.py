"""`medsweep monitor`: TensorBoard over event files, or Optuna's dashboard over searches.

Both listen on loopback unless told otherwise, for neither asks who reads.
"""

import ipaddress
import os
import sys
from pathlib import Path

import click
from rich.console import Console

from sweeps.arguments import ResultsDirectory
from sweeps.errors import StoreError

_LOOPBACK = "127.0.0.1"
_SHOWN = {
    "TensorBoard": "settings, losses and validation metrics of every trial",
    "Optuna's dashboard": "settings and validation metrics of every trial of the searches",
}


@click.command("monitor")
@click.argument("directory", type=ResultsDirectory(events=True))
@click.option("--searches", is_flag=True, help="Optuna's dashboard, in place of TensorBoard.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Default: 6006, with --searches 8080; 0 takes a free one.",
)
@click.option(
    "--host",
    default=_LOOPBACK,
    show_default=True,
    help="Address to listen on. Any but loopback lets others read, without a password.",
)
def command(directory: Path, searches: bool, port: int | None, host: str) -> None:
    """Serves TensorBoard, or Optuna's dashboard, for a study on 127.0.0.1.

    Nothing is written to the results directory.

    \b
    Examples:
      medsweep monitor results/demo
      medsweep monitor results/demo --searches --port 8081
    """  # noqa: D301  click reads the control character
    console = Console(highlight=False, soft_wrap=True)
    name = "Optuna's dashboard" if searches else "TensorBoard"
    if not is_loopback(host):
        warn(name, host)
    if searches:
        from sweeps.search_pages import serve_searches

        serve_searches(directory, host, 8080 if port is None else port, console)
    else:
        serve(directory, host, 6006 if port is None else port, console)


def is_loopback(host: str) -> bool:
    """Returns whether only this machine reaches an address; names are not looked up."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def warn(name: str, host: str) -> None:
    """Says what becomes visible, and to whom."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(
        f"Warning: {name} listens on {host}, and asks for no password. Whoever reaches this "
        f"machine can read {_SHOWN[name]}. Over a network, an ssh tunnel to 127.0.0.1 is safer.",
        style="yellow",
        markup=False,
    )


def serve(root: Path, host: str, port: int, console: Console) -> None:
    """Becomes TensorBoard, so that whatever ends this process ends the server.

    Raises:
        StoreError: the directory holds no event files.
    """
    folder = root / "tensorboard"
    if not folder.is_dir():
        raise StoreError(f"{root} has no tensorboard folder. Run a study there first.")
    console.print(f"TensorBoard on http://{_in_link(host)}:{port} (Ctrl-C ends it)")
    sys.stdout.flush()
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder.resolve())]
    command += ["--host", host, "--port", str(port), "--reload_interval", "5"]
    os.execv(sys.executable, command)  # noqa: S606  our own arguments, no shell


def _in_link(host: str) -> str:
    return f"[{host}]" if ":" in host else host
