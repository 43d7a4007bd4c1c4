"""What a data set plug-in is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrec import plugins
from medrec.cohort import Cohort
from medrec.records import CohortOptions, Records, assemble


@dataclass(frozen=True)
class Dataset:
    """How raw files, or a generator, become records.

    Attributes:
        title: one line for lists.
        options: its options; a subclass of `CohortOptions` whose fields have descriptions.
        load: (source folder or None, options) to records.
        needs_source: whether a folder of raw files must be given.
    """

    title: str
    options: type[CohortOptions]
    load: Callable[[Path | None, Any], Records]
    needs_source: bool


def prepare(name: str, source: Path | None, options: CohortOptions) -> Cohort:
    """Returns the cohort of the named data set."""
    dataset: Dataset = plugins.load("medrec.datasets", name, "DATASET")
    return assemble(name, dataset.load(source, options), options)
