"""The choices of published pipelines, under the names of their models.

A preset sets the options of a data set together; what the user gives stands. Sources: the released
preprocessing of each (SafeDrug's, which KindMed, DKINet's predecessor DrugRec and BH3-MedRec
inherit; GAMENet's notebook), and the papers where the code is silent. On MIMIC-IV, `safedrug` is
what DrugRec's code makes of SafeDrug's. MIMIC-IV dates a prescription by the hour and names no ICU
stay: there "the first date" is taken as that of the admission. DKINet also leaves out patients
without symptoms in their notes, which are not read here.
"""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from medrec.errors import ConfigError

Name = Literal["safedrug", "gamenet", "kindmed", "dkinet", "bh3"]
NAMES: tuple[str, ...] = get_args(Name)

_SEQUENTIAL = {"split": "sequential", "fractions": (2 / 3, 1 / 6, 1 / 6)}
_LINEAGE: dict[str, Any] = {
    **_SEQUENTIAL,
    "visit_order": "hadm_id",
    "forward_fill": True,
    "drug_names": False,
    "atc_rule": "listed",
    "medication_window": "stay",
    "require": ("diagnoses", "procedures", "medications"),
}
_FILTERED = {
    **_LINEAGE,
    "min_prescribed_visits": 2,
    "top_diagnoses": 2000,
    "top_medications": 300,
}
_SAFEDRUG = {**_FILTERED, "drugs_with_structure": True}
_GAMENET = {**_FILTERED, "medication_window": "first_date"}
_KINDMED = {**_SAFEDRUG, "medication_window": "first_date"}
_DKINET = {**_SAFEDRUG, "min_visits": 2}
_BH3 = {**_LINEAGE, "drugs_with_structure": True}
_DKINET_EICU = {
    **_SEQUENTIAL,
    "patient": "patienthealthsystemstayid",
    "visit": "unit",
    "split_by": "patient",
    "min_visits": 2,
    "over_89": "dropped",
    "diagnosis_cell": "written",
    "drug_code": "gtc",
    "cancelled": "kept",
}
_OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "safedrug": {"mimic3": _SAFEDRUG, "mimic4": _SAFEDRUG},
    "gamenet": {"mimic3": _GAMENET},
    "kindmed": {"mimic3": _KINDMED, "mimic4": {**_KINDMED, "icd": "9"}},
    "dkinet": {"mimic3": _DKINET, "mimic4": _DKINET, "eicu": _DKINET_EICU},
    "bh3": {"mimic3": _BH3, "mimic4": {**_BH3, "code_version": "dropped"}},
}

# What makes two drugs interact: all of the lineage take the 40 *rarest* side effects of TWOSIDES,
# which their papers call the 40 most severe.
KNOWLEDGE = {"interactions": "twosides", "side_effects": "rarest40"}

# Counts that a paper or its README prints. Keys as in `Cohort.counts`; diagnoses, procedures and
# medications are vocabulary sizes. Printed codes per visit are left out: the lineage's scripts
# divide a patient's distinct codes by the visits, which is no mean of a visit.
_PUBLISHED: dict[tuple[str, str], tuple[str, Mapping[str, int | float]]] = {
    ("safedrug", "mimic3"): (
        "SafeDrug, README of the released code",
        {"patients": 6350, "visits": 15032, "most_visits": 29, "visits_per_patient": 2.37}
        | {"diagnoses": 1958, "procedures": 1430, "medications": 112},
    ),
    ("gamenet", "mimic3"): (
        "GAMENet, AAAI 2019 and its repository",
        {"patients": 6350, "visits": 15016, "diagnoses": 1958, "procedures": 1426}
        | {"medications": 145},
    ),
    ("kindmed", "mimic3"): (
        "KindMed, arXiv 2310.14552v2",
        {"patients": 6350, "visits": 15032, "diagnoses": 1958, "procedures": 1428}
        | {"medications": 113},
    ),
    ("kindmed", "mimic4"): (
        "KindMed, arXiv 2310.14552v2",
        {"patients": 46332, "visits": 111489, "diagnoses": 2000, "procedures": 1984}
        | {"medications": 128},
    ),
    ("dkinet", "mimic3"): (
        "DKINet",
        {"patients": 5208, "visits": 12490, "diagnoses": 1895, "procedures": 1378}
        | {"medications": 112},
    ),
    ("dkinet", "mimic4"): (
        "DKINet",
        {"patients": 6136, "visits": 17813, "diagnoses": 1851, "procedures": 4001}
        | {"medications": 121},
    ),
    ("dkinet", "eicu"): (
        "DKINet",
        {"patients": 9583, "visits": 21018, "diagnoses": 1371, "medications": 45},
    ),
}


def cohort_options(preset: str, dataset: str) -> dict[str, Any]:
    """Returns the options that a preset sets for a data set.

    Raises:
        ConfigError: the pipeline was not published for that data set.
    """
    options = _OPTIONS[preset].get(dataset)
    if options is None:
        raise ConfigError(
            f"The preset {preset!r} is for {' and '.join(_OPTIONS[preset])}, but the data set is "
            f"{dataset}. Leave the preset out, or give its options one by one."
        )
    return options


def published_counts(preset: str, dataset: str) -> tuple[str, Mapping[str, int | float]] | None:
    """Returns (source, counts) that were printed for this cohort, or None."""
    found = _PUBLISHED.get((preset, dataset))
    return found and (found[0], {name: float(count) for name, count in found[1].items()})
