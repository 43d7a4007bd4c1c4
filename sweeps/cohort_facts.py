"""What a study's record says of its cohort: numbers and options, nothing of a single patient."""

import numpy as np

from medrec import splits
from medrec.cohort import Cohort
from medrec.records import CohortOptions
from sweeps.frequency import drug_quartiles
from sweeps.open_data import is_open
from sweeps.record import CohortFacts


def cohort_facts(name: str, cohort: Cohort) -> CohortFacts:
    """Returns the facts; of the options those that every data set has, since others name places.

    Args:
        name: of the cohort, for captions.
        cohort: the cohort.
    """
    options = cohort.provenance.options
    visits = np.bincount(cohort.split, cohort.visits, minlength=len(splits.NAMES)).tolist()
    parts = {f"{part}_visits": found for part, found in zip(splits.NAMES, visits, strict=True)}
    return CohortFacts(
        name=name,
        fingerprint=cohort.fingerprint,
        counts={**cohort.counts(), **parts},
        split=str(options.get("split", "unknown")),
        visit_order=str(options.get("visit_order", "unknown")),
        open_data=is_open(cohort.provenance),
        dataset=cohort.provenance.dataset,
        options={name: options[name] for name in CohortOptions.model_fields if name in options},
        drug_quartiles=tuple(drug_quartiles(cohort).tolist()),
    )
