"""Whether a cohort's patients may be shown one by one, or lie under a data use agreement."""

from functools import cache
from pathlib import Path, PurePath

from medrec.cohort import Provenance
from sweeps.fetch import DEMOS, published

LISTS = Path(__file__).with_name("demos")


def is_open(provenance: Provenance) -> bool:
    """Returns whether the patients are made up, or those of an open demo to the last byte.

    Every table of patients must have a checksum on the list of one demo of that data set. Tables
    that map codes hold no patients and may be any. In doubt the answer is no.

    Args:
        provenance: of the cohort.

    Raises:
        FetchError: a list that ships is missing or malformed.
    """
    if provenance.dataset == "synthetic":
        return True
    return any(
        _made_from(provenance.inputs, _list(name))
        for name, demo in sorted(DEMOS.items())
        if demo.dataset == provenance.dataset
    )


def _made_from(inputs: dict[str, str], demo: dict[str, str]) -> bool:
    """Returns whether the demo's tables among the inputs, at least one, are the demo's own."""
    found = {_table(file): digest for file, digest in inputs.items() if _table(file) in demo}
    return bool(found) and all(demo[table] == digest for table, digest in found.items())


@cache
def _list(name: str) -> dict[str, str]:
    """Returns the published sha256 of each table of a demo."""
    return {_table(file.name): file.sha256 for file in published(LISTS / f"{name}.csv")}


def _table(file: str) -> str:
    """Returns the table in a file, by the rule that data sets find it by.

    Example:
        >>> _table("hosp/ADMISSIONS.csv.gz")
        'admissions'
    """
    return PurePath(file).name.split(".")[0].lower()
