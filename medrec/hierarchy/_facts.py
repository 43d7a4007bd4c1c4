"""What is told of a learned hierarchy besides measures: the shape of its tree, and counts."""

from medrec.measures import Measure


def _count(title: str, description: str = "") -> Measure:
    return Measure(title, "number", higher_is_better=None, decimals=0, description=description)


SHAPE: dict[str, Measure] = {
    "nodes": _count("Nodes"),
    "codes": _count("Codes"),
    "latent_nodes": _count("Latent", "inner nodes that were found, not given"),
    "categories": _count("Categories", "inner nodes that were given"),
    "depth": _count("Depth", "of the deepest node; a root has 0"),
    "mean_branching": Measure("Branching", "children, mean", higher_is_better=None, decimals=1),
    "max_branching": _count("Most children"),
    "least_latent_children": _count("Latent, fewest", "children of a latent node"),
    "mean_latent_children": Measure("Latent, mean", "children", higher_is_better=None, decimals=1),
    "most_latent_children": _count("Latent, most"),
}
"""The row of a tree beside the published ones."""
LEARNED_FROM: dict[str, Measure] = {
    "titled_codes": _count("Codes with a title"),
    "held_out_codes": _count("Held out", "codes whose parent was hidden for the test"),
    "related_pairs": _count("Related pairs", "of codes, by relations that are no hierarchy"),
    "merged_pairs": _count("Merged", "codes of two institutions that share one vector"),
}
"""What there was to learn from."""
