"""Command-line arguments that name a results directory, wherever it lies."""

from pathlib import Path

import click

from sweeps.errors import StoreError
from sweeps.mirror import mirrored


class ResultsDirectory(click.ParamType[Path]):
    """A results directory: a folder, or a URI, of which the command gets an up-to-date copy.

    What the command makes there (tables, figures, pages) is sent back when it ends.

    Args:
        weights: whether the command needs weights.
        events: whether it needs TensorBoard's event files.
    """

    name = "DIRECTORY"

    def __init__(self, weights: bool = False, events: bool = False) -> None:
        self.weights, self.events = weights, events

    def convert(
        self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None
    ) -> Path:
        """Returns the folder that the command works on."""
        if isinstance(value, Path) or "://" not in value or ctx is None:
            return Path(value)
        folder = ctx.with_resource(mirrored(value, self.weights, self.events))
        if not (folder / "study.json").is_file():
            raise StoreError(
                f"{value} holds no study: it has no study.json. "
                f"Start one with `medsweep run STUDY --out '{value}'`."
            )
        return folder
