"""Learned hierarchies: parents, relations, matches of codes, and the tree's shape."""

from medrec.hierarchy._facts import LEARNED_FROM, SHAPE
from medrec.hierarchy._tree import PUBLISHED, Shape
from sweeps.statistics.inference import Value
from sweeps.statistics.results import StudyResults
from sweeps.tables._base import Row, Table, TableData
from sweeps.tables._measured import fact_table, measure_tables


def build(results: StudyResults) -> list[TableData] | None:
    """Returns the tables; None where no trial is stored."""
    if not results.summaries:
        return None
    return [
        *measure_tables(results, "hierarchies", "Learned hierarchies"),
        fact_table(
            results,
            "hierarchies_shape",
            "Learned hierarchies: shape of the tree",
            SHAPE,
            further=[_published(name, found) for name, found in PUBLISHED.items()],
        ),
        fact_table(
            results,
            "hierarchies_data",
            "Learned hierarchies: what they were learned from",
            LEARNED_FROM,
        ),
    ]


def _published(name: str, found: Shape) -> Row:
    """Returns the row of a published tree (celehs/MASH, docs/)."""
    least, mean, most = found.latent_children
    counts = (found.nodes, found.codes, found.latent, found.categories, found.depth)
    branching = (found.mean_branching, found.max_branching)
    values = (*counts, *branching, least, mean, most)
    title = f"Published: {name}"
    return Row((title, "", *(Value(float(value)) for value in values)), block="published")


TABLE = Table(
    "Learned hierarchies",
    build,
    needs="a stored trial of a builder of hierarchies",
    tasks=("hierarchy",),
)
