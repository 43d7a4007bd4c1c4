"""Generated patients against real ones: fidelity, utility, privacy, sizes, seconds."""

from medrec.generation._facts import COPIED, COUNTED
from medrec.measures import Measure
from sweeps.statistics.results import StudyResults
from sweeps.tables._base import Table, TableData
from sweeps.tables._measured import fact_table, measure_tables

_SECONDS = {
    "training": Measure("Training", "s", higher_is_better=False, decimals=1),
    "drawing": Measure("Drawing", "s", higher_is_better=False, decimals=1),
}


def build(results: StudyResults) -> list[TableData] | None:
    """Returns the tables; None where no trial is stored."""
    if not results.summaries:
        return None
    return [
        *measure_tables(results, "generation", "Generated patients"),
        fact_table(
            results, "generation_copies", "Generated patients: copies and distances", COPIED
        ),
        fact_table(
            results,
            "generation_sizes",
            "Generated patients: sizes of records, and seconds",
            {**COUNTED, **_SECONDS},
        ),
    ]


TABLE = Table(
    "Generated patients", build, needs="a stored trial of a generator", tasks=("generation",)
)
