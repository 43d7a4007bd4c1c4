"""The published choices: what each preset sets, and that nothing else changes."""

from typing import Any

import pytest
from pydantic import ValidationError

from medrec import plugins, presets
from medrec.datasets._base import Dataset
from medrec.errors import ConfigError
from medrec.knowledge.options import KnowledgeOptions
from medrec.records import CohortOptions

SPLIT = {"split": "sequential", "fractions": (2 / 3, 1 / 6, 1 / 6)}
LINEAGE = {
    **SPLIT,
    "visit_order": "hadm_id",
    "forward_fill": True,
    "drug_names": False,
    "atc_rule": "listed",
    "require": ("diagnoses", "procedures", "medications"),
}
FILTERS = {"min_prescribed_visits": 2, "top_diagnoses": 2000, "top_medications": 300}
SAFEDRUG = {**LINEAGE, **FILTERS, "drugs_with_structure": True}
BH3 = {**LINEAGE, "drugs_with_structure": True}
CHANGED: dict[tuple[str, str], dict[str, Any]] = {
    ("safedrug", "mimic3"): SAFEDRUG,
    ("safedrug", "mimic4"): SAFEDRUG,
    ("gamenet", "mimic3"): {**LINEAGE, **FILTERS, "medication_window": "first_date"},
    ("kindmed", "mimic3"): {**SAFEDRUG, "medication_window": "first_date"},
    ("kindmed", "mimic4"): {**SAFEDRUG, "medication_window": "first_date", "icd": "9"},
    ("dkinet", "mimic3"): {**SAFEDRUG, "min_visits": 2},
    ("dkinet", "mimic4"): {**SAFEDRUG, "min_visits": 2},
    ("dkinet", "eicu"): {
        **SPLIT,
        "split_by": "patient",
        "min_visits": 2,
        "over_89": "dropped",
        "diagnosis_cell": "written",
        "drug_code": "gtc",
        "cancelled": "kept",
    },
    ("bh3", "mimic3"): BH3,
    ("bh3", "mimic4"): {**BH3, "code_version": "dropped"},
}
DATASETS = plugins.names("medrec.datasets")
PAIRS = [(preset, dataset) for preset in presets.NAMES for dataset in DATASETS]


def options(dataset: str) -> type[CohortOptions]:
    found: Dataset = plugins.load("medrec.datasets", dataset, "DATASET")
    return found.options


@pytest.mark.parametrize(("preset", "dataset"), sorted(CHANGED))
def test_a_preset_changes_exactly_these_options(preset, dataset):
    plain, made = options(dataset)(), options(dataset)(preset=preset)
    changed = {
        name: getattr(made, name)
        for name in options(dataset).model_fields
        if getattr(made, name) != getattr(plain, name)
    }
    assert changed.pop("preset") == preset
    assert changed == CHANGED[preset, dataset]


@pytest.mark.parametrize(("preset", "dataset"), sorted(set(PAIRS) - set(CHANGED)))
def test_where_a_pipeline_was_never_published_its_preset_is_refused(preset, dataset):
    known = [name for name in DATASETS if (preset, name) in CHANGED]
    with pytest.raises(ConfigError) as refused:
        options(dataset)(preset=preset)
    for part in (repr(preset), f"the data set is {dataset}.", *known, "Leave the preset out"):
        assert part in str(refused.value)


def test_every_pair_is_looked_at():
    assert set(CHANGED) <= set(PAIRS)


@pytest.mark.parametrize(("preset", "dataset"), sorted(CHANGED))
def test_what_the_user_gives_stands(preset, dataset):
    """Also where it is the default of the option."""
    for name, published in CHANGED[preset, dataset].items():
        default = options(dataset).model_fields[name].default
        made = options(dataset)(**{"preset": preset, name: default})
        assert getattr(made, name) == default != published


@pytest.mark.parametrize(("preset", "dataset"), sorted(CHANGED))
def test_stored_options_give_the_same_options_again(preset, dataset):
    made = options(dataset)(preset=preset)
    assert options(dataset)(**made.model_dump(mode="json")) == made


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValidationError, match="safedrug"):
        options("mimic3")(preset="safe-drug")


@pytest.mark.parametrize(("preset", "dataset"), sorted(CHANGED))
def test_published_counts_name_their_source(preset, dataset):
    found = presets.published_counts(preset, dataset)
    if found is None:
        assert (preset, dataset) in {("safedrug", "mimic4"), ("bh3", "mimic3"), ("bh3", "mimic4")}
        return
    source, counts = found
    assert source
    assert {"patients", "visits", "diagnoses", "medications"} <= counts.keys()
    per_patient = counts["visits"] / counts["patients"]
    assert per_patient == pytest.approx(counts.get("visits_per_patient", per_patient), abs=5e-3)


def test_the_published_name_says_what_it_does():
    assert presets.KNOWLEDGE == {"interactions": "twosides", "side_effects": "rarest40"}


@pytest.mark.parametrize("preset", presets.NAMES)
def test_a_preset_says_what_interacts(preset):
    made = KnowledgeOptions(preset=preset)
    assert (made.interactions, made.side_effects) == ("twosides", "rarest40")
    assert KnowledgeOptions(**made.model_dump(mode="json")) == made
    given = KnowledgeOptions(preset=preset, interactions="embedded", side_effects="all")
    assert (given.interactions, given.side_effects) == ("embedded", "all")
    plain = KnowledgeOptions()
    rest = {"preset", "interactions"}
    assert made.model_dump(exclude=rest) == plain.model_dump(exclude=rest)
    assert plain.interactions == "embedded"
