"""`medsweep monitor`: TensorBoard over a study's event files, on loopback only."""

import subprocess
import sys
from pathlib import Path

from rich.console import Console

from sweeps.errors import StoreError


def serve(root: Path, port: int, console: Console) -> None:
    """Serves until interrupted.

    Raises:
        StoreError: the directory holds no event files, or TensorBoard cannot start.
    """
    folder = root / "tensorboard"
    if not folder.is_dir():
        raise StoreError(f"{root} has no tensorboard folder. Run a study there first.")
    console.print(f"TensorBoard on http://127.0.0.1:{port} (Ctrl-C ends it)")
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--reload_interval", "5"]
    try:
        code = subprocess.run(command, check=False).returncode  # noqa: S603  our own arguments
    except KeyboardInterrupt:
        return
    if code:
        raise StoreError(f"TensorBoard ended with code {code}. Is port {port} free? Try --port 0.")
