"""Data card: what the cohort is that every number of the study rests on."""

from collections.abc import Mapping
from typing import Any

from medrec import splits
from sweeps.statistics.inference import Value
from sweeps.statistics.results import StudyResults
from sweeps.tables._base import Cell, Column, Row, Table, TableData, text_column

KINDS = ("diagnoses", "procedures", "medications")
_OPTIONS = {
    "preset": "Preset",
    "split": "Rule of the split by patient",
    "split_seed": "Seed of the split",
    "fractions": "Fractions to train, validate, test",
    "visit_order": "Order of a patient's visits",
    "require": "A visit must have",
    "min_visits": "Fewest visits of a patient",
    "min_prescribed_visits": "Fewest visits in the prescription table",
    "top_diagnoses": "Most frequent diagnoses kept",
    "top_procedures": "Most frequent procedures kept",
    "top_medications": "Most frequent medications kept",
    "drugs_with_structure": "Only drugs with a known molecule",
}


def build(results: StudyResults) -> list[TableData] | None:
    """Returns the card."""
    sections: Mapping[str, dict[str, Cell]] = {
        "Cohort": _identity(results),
        "Size": _size(results),
        "Per visit": _per_visit(results),
        "Split": _split(results),
        "Options": _options(results),
        "Interactions": _interactions(results),
    }
    rows = [
        Row((section, fact, value), block=section)
        for section, facts in sections.items()
        for fact, value in facts.items()
        if value is not None
    ]
    columns = (
        text_column("section", "About"),
        text_column("fact", "Fact"),
        Column("value", "Value", numeric=True),
    )
    return [TableData("data_card", "Data card", columns, tuple(rows), _caption(results))]


def _identity(results: StudyResults) -> dict[str, Cell]:
    cohort = results.record.cohort
    return {
        "Name": cohort.name,
        "Data set": cohort.dataset or None,
        "Fingerprint": cohort.fingerprint,
        "Single patients may be shown": _plain(cohort.open_data),
    }


def _size(results: StudyResults) -> dict[str, Cell]:
    count = results.record.cohort.counts
    return {
        "Patients": _whole(count, "patients"),
        "Visits": _whole(count, "visits"),
        "Visits per patient": _mean(count, "visits_per_patient"),
        "Most visits of a patient": _whole(count, "most_visits"),
        **{f"Different {kind}": _whole(count, kind) for kind in KINDS},
    }


def _per_visit(results: StudyResults) -> dict[str, Cell]:
    record = results.record
    means = {
        f"{kind.capitalize()}, mean": _mean(record.cohort.counts, f"{kind}_per_visit")
        for kind in KINDS
    }
    return {**means, "Medications prescribed, mean of test visits": Value(record.true_medications)}


def _split(results: StudyResults) -> dict[str, Cell]:
    count, tested = results.record.cohort.counts, results.scores["all"]
    found: dict[str, Cell] = {}
    for part in splits.NAMES:
        title = {"train": "Training"}.get(part, part.capitalize())
        found[f"{title} patients"] = _whole(count, f"{part}_patients")
        visits = _whole(count, f"{part}_visits")
        if part == "test" and visits is None and tested.visits:  # records made before
            visits = tested.visits
        found[f"{title} visits"] = visits
    return found


def _options(results: StudyResults) -> dict[str, Cell]:
    cohort = results.record.cohort
    told = cohort.options or {"split": cohort.split, "visit_order": cohort.visit_order}
    return {title: _plain(told[name]) for name, title in _OPTIONS.items() if name in told}


def _interactions(results: StudyResults) -> dict[str, Cell]:
    record = results.record
    drugs = len(record.medications)
    every = drugs * (drugs - 1) // 2
    return {
        "Graph": record.ddi.name,
        "Fingerprint of the graph": record.ddi.fingerprint,
        "Pairs of medications that interact": len(record.ddi.pairs),
        "Density of the graph": Value(len(record.ddi.pairs) / every) if every else None,
        "DDI rate of what was prescribed at test visits": Value(record.true_ddi_rate),
    }


def _whole(counts: Mapping[str, float], name: str) -> int | None:
    return int(counts[name]) if name in counts else None


def _mean(counts: Mapping[str, float], name: str) -> Value | None:
    return Value(counts[name]) if name in counts else None


def _plain(value: Any) -> str:
    """Returns an option as text.

    Example:
        >>> [_plain(value) for value in (True, None, [0.66, 0.34], "random")]
        ['yes', 'none', '0.66, 0.34', 'random']
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "none" if value is None else str(value)


def _caption(results: StudyResults) -> str:
    record = results.record
    return (
        f"The cohort of study {record.name} (fingerprint {record.cohort.fingerprint[:12]}), as "
        "its record tells it: counts and means, without intervals (no training seeds, no "
        "resamples). Per visit and size are of all splits together unless a row says otherwise. "
        "The DDI rate is pooled: interacting pairs by pairs of medications prescribed at one "
        "visit."
    )


TABLE = Table("Data card", build, needs="nothing")
