"""The measures of hierarchy builders by name, in the order of tables; nothing here computes."""

from medrec.measures import Measure

MEASURES: dict[str, Measure] = {
    "parent_recall": Measure("Parent recall@10", "fraction", higher_is_better=True),
}
