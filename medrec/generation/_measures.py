"""The measures of generators: what tables say of them, and their order; nothing computes here.

`_fidelity`, `_utility` and `_privacy` compute them and say where they come from.
"""

import math
from dataclasses import replace

from medrec.measures import Measure

LEAST_VISITS = 10
"""Real visits that must have a code for it to enter the joint distance."""
KNOWN_CODES = 100
"""Commonest codes that the attacker of the attributes knows of a target (as published)."""

LIKELIHOOD = Measure(
    "Log-likelihood", "nats a visit", higher_is_better=True, decimals=2, signed=True,
    description="natural logarithm of a record's probability, over its visits",
)  # fmt: skip

_R2 = "coefficient of determination of the generated {} as predictions of the real ones, over {}"
_UNION = "those that real or generated patients have"

FIDELITY: dict[str, Measure] = {
    "unigram_r2": Measure(
        "Unigram R²", "R²", higher_is_better=True, signed=True,
        description=_R2.format("shares of each code among all codes", _UNION),
    ),
    "same_visit_r2": Measure(
        "Same-visit R²", "R²", higher_is_better=True, signed=True,
        description=_R2.format("shares of each unordered pair of codes of a visit", _UNION),
    ),
    "sequential_r2": Measure(
        "Sequential R²", "R²", higher_is_better=True, signed=True,
        description=_R2.format(
            "shares of each ordered pair of a code and one of the next visit", _UNION
        ),
    ),
    "prevalence_r2": Measure(
        "Prevalence R²", "R²", higher_is_better=True, signed=True,
        description=_R2.format("shares of patients with each code", "the vocabulary"),
    ),
    "prevalence_gap": Measure(
        "Prevalence gap", "fraction", higher_is_better=False,
        description="largest absolute difference of a code's share of patients",
    ),
    "dimension_distance": Measure(
        "Dimension-wise distance", "fraction", higher_is_better=False, decimals=5,
        description="mean over the vocabulary of |share of real visits - share of generated ones|",
    ),
    "joint_distance": Measure(
        "Joint distance", "correlation", higher_is_better=False,
        description="root mean square, over pairs of codes, of the difference of their "
        f"correlations among visits; codes that at least {LEAST_VISITS} real visits have",
    ),
    "visits_gap": Measure(
        "Visits gap", "visits", higher_is_better=False, decimals=3,
        description="absolute difference of the mean number of visits of a patient",
    ),
    "codes_gap": Measure(
        "Codes gap", "codes", higher_is_better=False, decimals=3,
        description="absolute difference of the mean number of codes of a visit",
    ),
}  # fmt: skip

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
UTILITY: dict[str, Measure] = {
    f"{name}_{measured}": Measure(
        f"{name.upper()} {title}",
        "fraction",
        higher_is_better=True,
        description=f"{what} fitted to {source} patients, on real test patients",
    )
    for measured, (title, what) in _MEASURED.items()
    for name, source in _FITTED_TO.items()
}

PRIVACY: dict[str, Measure] = {
    "nearest_gap": Measure(
        "Nearest-record gap", "Jaccard distance", higher_is_better=None, signed=True,
        description="mean Jaccard distance of a generated patient to the nearest training "
        "patient, less that of a test patient; below 0: nearer than unseen patients are",
    ),
    "membership_advantage": Measure(
        "Membership advantage", "fraction", higher_is_better=False, signed=True,
        description="share of training patients less share of test patients who are taken for "
        "training patients, because their distance to the nearest generated record is below the "
        "median",
    ),
    "membership_auc": Measure(
        "Membership AUC", "fraction", higher_is_better=False,
        description="probability that a training patient is nearer to a generated record than a "
        "test patient is; 0.5 by chance",
    ),
    "attribute_f1": Measure(
        "Attribute F1", "fraction", higher_is_better=None,
        description=f"of a test patient's other codes, guessed from the {KNOWN_CODES} commonest "
        "ones by the nearest generated record",
    ),
    "attribute_real_f1": Measure(
        "Attribute F1, real records", "fraction", higher_is_better=None,
        description="the same by the nearest of as many training records",
    ),
    "attribute_gap": Measure(
        "Attribute gap", "fraction", higher_is_better=False, signed=True,
        description="attribute F1 of training patients less that of test patients, both by "
        "generated records: what is told beyond what is common to all patients",
    ),
}  # fmt: skip

_MAIN = (
    "log_likelihood", "same_visit_r2", "sequential_r2", "joint_distance", "tstr_auroc",
    "membership_auc",
)  # fmt: skip
_MOST = {"fraction": 1.0, "R²": 1.0, "correlation": 2.0, "Jaccard distance": 1.0}
_GROUPS = {
    "Fidelity": {"log_likelihood": LIKELIHOOD, **FIDELITY},
    "Utility": UTILITY,
    "Privacy": PRIVACY,
}
MEASURES: dict[str, Measure] = {
    name: replace(measure, group=group, main=name in _MAIN, most=_MOST.get(measure.unit, math.inf))
    for group, found in _GROUPS.items()
    for name, measure in found.items()
}
"""Every measure by name, in the order of tables."""
