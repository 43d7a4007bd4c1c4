"""Names and titles of what `_utility` measures; for tables, so nothing heavy is imported."""

from medrec.measures import Measure

_FITTED_TO = {"tstr": "generated", "trtr": "real"}
_MEASURED = {
    "jaccard": ("Jaccard", "Jaccard of logistic regression"),
    "knn_jaccard": ("kNN Jaccard", "Jaccard of nearest neighbours"),
    "rare_recall": (
        "rare recall",
        "share of the prescriptions of rare drugs, the quarter of fewest training visits, that "
        "logistic regression recommends",
    ),
    "auroc": (
        "AUROC",
        "area under the ROC curve of the next visit's phenotypes, mean over phenotypes, of "
        "logistic regressions",
    ),
    "ap": (
        "AP",
        "average precision of the next visit's phenotypes, mean over phenotypes, of logistic "
        "regressions",
    ),
}
MEASURES: dict[str, Measure] = {
    f"{name}_{measured}": Measure(
        f"{name.upper()} {title}",
        "fraction",
        higher_is_better=True,
        description=f"{what} fitted to {source} patients, on real test patients",
    )
    for measured, (title, what) in _MEASURED.items()
    for name, source in _FITTED_TO.items()
}
