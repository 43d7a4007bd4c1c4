"""`medsweep monitor`: TensorBoard over a study's event files, on loopback only."""

import os
import sys
from pathlib import Path

from rich.console import Console

from sweeps.errors import StoreError


def serve(root: Path, port: int, console: Console) -> None:
    """Becomes TensorBoard, so that whatever ends this process ends the server.

    Raises:
        StoreError: the directory holds no event files.
    """
    folder = root / "tensorboard"
    if not folder.is_dir():
        raise StoreError(f"{root} has no tensorboard folder. Run a study there first.")
    console.print(f"TensorBoard on http://127.0.0.1:{port} (Ctrl-C ends it)")
    sys.stdout.flush()
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--reload_interval", "5"]
    os.execv(sys.executable, command)  # noqa: S606  our own arguments, no shell
