"""The measures of generators by name, in the order of tables; nothing here computes."""

from dataclasses import replace

from medrec.generation._fidelity import MEASURES as FIDELITY
from medrec.generation._privacy import MEASURES as PRIVACY
from medrec.generation._utility import MEASURES as UTILITY
from medrec.measures import Measure

_MAIN = (
    "unigram_r2", "same_visit_r2", "sequential_r2", "tstr_jaccard", "membership_auc",
)  # fmt: skip
LIKELIHOOD = Measure(
    "Log-likelihood", "nats a visit", higher_is_better=True, decimals=2,
    description="natural logarithm of a record's probability, over its visits",
)  # fmt: skip
_GROUPS = {
    "Fidelity": {"log_likelihood": LIKELIHOOD, **FIDELITY},
    "Utility": UTILITY,
    "Privacy": PRIVACY,
}
MEASURES: dict[str, Measure] = {
    name: replace(measure, group=group, main=name in _MAIN)
    for group, found in _GROUPS.items()
    for name, measure in found.items()
}
