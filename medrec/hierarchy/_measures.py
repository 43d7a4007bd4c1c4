"""The measures of hierarchy builders by name, in the order of tables; nothing here computes."""

from medrec.measures import Measure

_HELD = "of codes whose parent was hidden"


def _share(title: str, description: str, group: str, *, main: bool = False) -> Measure:
    return Measure(
        title,
        "fraction",
        higher_is_better=True,
        description=description,
        group=group,
        main=main,
        most=1.0,
    )


MEASURES: dict[str, Measure] = {
    "parent_recall": _share(
        "Parent recall@10", f"share {_HELD} with it among the first ten", "Parents", main=True
    ),
    "parent_recall_text": _share(
        "Parent recall@10, titled", f"share {_HELD} with it among the first ten, codes with a "
        "title alone", "Parents",
    ),
    "parent_recall_5": _share(
        "Parent recall@5", f"share {_HELD} with it among the first five", "Parents"
    ),
    "parent_recall_1": _share("Parent recall@1", f"share {_HELD} with it first", "Parents"),
    "parent_rank": Measure(
        "Parent rank", "rank", higher_is_better=False, decimals=1, group="Parents", main=False,
        description=f"mean rank of the parent {_HELD}",
    ),
    "parent_reciprocal_rank": _share(
        "Parent MRR", f"mean reciprocal rank of the parent {_HELD}", "Parents"
    ),
    "sibling_auc": _share(
        "Sibling AUC", "probability that a code of the hidden parent is nearer than another of "
        "its kind", "Tree", main=True,
    ),
    "related_auc": _share(
        "Related-pair AUC", "probability that a related code is nearer than another of its kind; "
        "relations of the code were hidden", "Tree",
    ),
    "purity": _share(
        "Dendrogram purity", "of the learned tree against the known direct parents, pairs of "
        "codes of which one was held out", "Tree", main=True,
    ),
    "cophenetic": Measure(
        "Cophenetic correlation", "correlation", higher_is_better=True, group="Tree", signed=True,
        most=1.0,
        description="of path lengths in the learned and in the known tree",
    ),
    "distortion": Measure(
        "Distortion", "fraction", higher_is_better=False, group="Tree", main=False,
        description="mean relative error of scaled distances against path lengths in the known "
        "tree",
    ),
    "match_first": _share(
        "Match@1", "share of codes whose true match comes first", "Matching", main=True
    ),
    "match_ten": _share(
        "Match@10", "share of codes whose true match is among the first ten", "Matching"
    ),
    "match_reciprocal_rank": _share(
        "Match MRR", "mean reciprocal rank of the true match", "Matching"
    ),
}  # fmt: skip
