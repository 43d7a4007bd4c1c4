"""Generated patients as patients of a cohort: added to real ones, or alone.

A generator draws codes alone. What else a cohort tells of a patient is drawn from the training
patients of the real cohort, at random and *unrelated to the codes*: gender, group and age at the
first visit together, from one patient; the service of each visit from any visit; the days between
admissions from any two consecutive visits of one patient. So the margins are real, and a model
that reads demographics learns nothing true of how they go with codes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int8, Int16, Int64

from medrec import splits
from medrec.cohort import KINDS, Codes, Cohort, Kind, Provenance
from medrec.generation._histories import Histories

UNUSED = -1
"""Split of real training patients whose place generated ones take; no split of `splits.NAMES`."""
DATASET = "generated"
FRACTIONS = (0.66, 0.17, 0.17)
_DAYS_A_YEAR = 365.25
_OLDEST = 120  # years; `Cohort.age` ends there


@dataclass(frozen=True)
class _People:
    """What a cohort says of patients and visits besides codes."""

    gender: Int8[np.ndarray, " patients"]
    group: Int8[np.ndarray, " patients"]
    admitted: Float32[np.ndarray, " visits"]
    age: Int16[np.ndarray, " visits"]
    service: Int8[np.ndarray, " visits"]


def extended(cohort: Cohort, drawn: Histories, seed: int, *, real: bool = True) -> Cohort:
    """Returns the cohort with generated patients at its end, in the training split.

    Real patients keep their rows. Gender, group, age, service and the gaps between admissions of
    the generated ones are drawn from training patients at random, unrelated to the codes.

    Args:
        cohort: the real patients.
        drawn: generated patients, codes in the cohort's vocabularies.
        seed: of what is drawn besides codes.
        real: whether real training patients stay training patients. Otherwise their split is
            `UNUSED`, so that nothing is trained on them; validation and test stay as they are.
            Such a cohort is for use in memory: exports name every patient's split.
    """
    people = _people(cohort, drawn.visits, seed)
    split = cohort.split if real else np.where(cohort.split == splits.TRAIN, UNUSED, cohort.split)
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(cohort, name), found])
        for name, found in vars(people).items()
    }
    added = np.full(len(drawn.visits), splits.TRAIN, dtype=np.int8)
    return replace(
        cohort,
        visits=np.concatenate([cohort.visits, drawn.visits]),
        split=np.concatenate([split.astype(np.int8), added]),
        codes={kind: _one_after_other(cohort.codes[kind], drawn.codes[kind]) for kind in KINDS},
        **joined,
    )


def as_cohort(
    source: Cohort, drawn: Histories, seed: int, options: Mapping[str, Any] | None = None
) -> Cohort:
    """Returns a cohort of generated patients alone, split at random.

    Gender, group, age, service and the gaps between admissions are drawn from the source's
    training patients at random, unrelated to the codes.

    Args:
        source: the real cohort, whose vocabularies and categories it has.
        drawn: generated patients.
        seed: of the split, and of what is drawn besides codes.
        options: further options for the provenance: values that JSON can hold.

    Raises:
        ConfigError: there are too few patients for three splits.
    """
    patients = len(drawn.visits)
    order = source.provenance.options.get("visit_order", "admission_time")
    split: dict[str, Any] = {
        "split": "random",
        "split_seed": seed,
        "fractions": list(FRACTIONS),
        "visit_order": order,  # generated as the source's visits were ordered
    }
    return Cohort(
        vocabulary=source.vocabulary,
        visits=drawn.visits.astype(np.int64),
        split=splits.split_patients(patients, "random", seed, FRACTIONS),
        codes={kind: _compact(drawn.codes[kind]) for kind in KINDS},
        genders=source.genders,
        groups=source.groups,
        services=source.services,
        provenance=Provenance(dataset=DATASET, options={**split, **(options or {})}),
        **vars(_people(source, drawn.visits, seed)),
    )


def only_codes(cohort: Cohort, keep: Mapping[Kind, Bool[np.ndarray, " codes"]]) -> Cohort:
    """Returns the cohort without the other codes, in its vocabularies too; visits may get empty.

    Args:
        cohort: the cohort.
        keep: which codes of each kind stay.
    """
    codes, vocabulary = {}, {}
    for kind in KINDS:
        own, kept = cohort.codes[kind], keep[kind]
        place = np.cumsum(kept) - 1
        there = kept[own.values]
        visit = np.repeat(np.arange(len(own.counts)), own.counts)[there]
        counts = np.bincount(visit, minlength=len(own.counts))
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        codes[kind] = Codes(offsets, place[own.values[there]].astype(np.int32))
        names = zip(cohort.vocabulary[kind], kept.tolist(), strict=True)
        vocabulary[kind] = tuple(name for name, stays in names if stays)
    return replace(cohort, codes=codes, vocabulary=vocabulary)


def _people(source: Cohort, visits: Int64[np.ndarray, " patients"], seed: int) -> _People:
    """Returns what is said of patients with so many visits, drawn from training patients."""
    (rng,) = np.random.default_rng(seed).spawn(1)  # apart from the split's stream
    training = source.members(splits.TRAIN)
    rows = source.visits_of(training)
    giver = training[rng.integers(len(training), size=len(visits))]
    total = int(visits.sum())
    service = source.service[rows[rng.integers(len(rows), size=total)]]
    later = np.setdiff1d(rows, source.offsets[training])
    gaps = source.admitted[later] - source.admitted[later - 1]
    if not len(gaps):  # nobody came twice
        gaps = np.zeros(1, np.float32)
    first = np.cumsum(visits) - visits
    days = gaps[rng.integers(len(gaps), size=total)].astype(np.float64)
    days[first] = 0.0
    days = np.cumsum(days)
    days -= np.repeat(days[first], visits)
    # The part of a year since the last birthday is in no cohort: any is as likely.
    age = np.repeat(source.age[source.offsets[giver]] + rng.random(len(visits)), visits)
    known = np.repeat(source.age[source.offsets[giver]] >= 0, visits)
    years = np.clip(np.floor(age + days / _DAYS_A_YEAR), 0, _OLDEST)
    # Where visits are not in the order of time, the first admission is not the first row.
    earliest = np.minimum.reduceat(days, first) if total else days
    return _People(
        gender=source.gender[giver].astype(np.int8),
        group=source.group[giver].astype(np.int8),
        admitted=(days - np.repeat(earliest, visits)).astype(np.float32),
        age=np.where(known, years, -1).astype(np.int16),
        service=service.astype(np.int8),
    )


def _one_after_other(first: Codes, second: Codes) -> Codes:
    offsets = np.concatenate([first.offsets, first.offsets[-1] + second.offsets[1:]])
    values = np.concatenate([first.values, second.values])
    return Codes(offsets.astype(np.int32), values.astype(np.int32))


def _compact(codes: Codes) -> Codes:
    """Returns the codes in the integers that a cohort on disk has."""
    return Codes(codes.offsets.astype(np.int32), codes.values.astype(np.int32))
