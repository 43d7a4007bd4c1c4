"""From long tables, as hospitals export them, to a cohort. Every data set goes through here."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from medrec import splits
from medrec.cohort import KINDS, Codes, Cohort, Kind, Provenance
from medrec.errors import CohortError


class CohortOptions(BaseModel):
    """Choices that every data set shares. Data sets add their own fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    visit_order: Literal["admission_time", "hadm_id"] = Field(
        default="admission_time",
        description="order of a patient's visits; hadm_id is the published pipelines' habit, "
        "which is random in time",
    )
    require: tuple[Kind, ...] = Field(
        default=("diagnoses", "medications"),
        description="kinds of code a visit must have; the published pipelines require all three",
    )
    min_visits: int = Field(
        default=1, ge=1, description="patients with fewer visits, after `require`, are left out"
    )
    split: splits.Rule = Field(
        default="random", description="rule of the patient split; sequential is as published"
    )
    split_seed: int = Field(default=0, ge=0, description="seed of the random split")
    fractions: tuple[float, float, float] = Field(
        default=(0.66, 0.17, 0.17), description="share of patients to train, validate, test"
    )


@dataclass(frozen=True)
class Records:
    """A data set's long tables, keys as in the source.

    Attributes:
        patients: one row a patient: `patient` (sortable key), `gender`, `age` (years, or -1),
            `group`.
        visits: one row a visit: `visit` (unique key), `patient`, `admitted` (days, any origin).
        codes: for each kind, rows of `visit`, `code` (str). Repeated rows and rows of unknown
            visits are ignored.
        dropped: what the data set itself left out, by reason.
        mapped: counts of its code mapping.
        inputs: sha256 of the files read, by name.
    """

    patients: pd.DataFrame
    visits: pd.DataFrame
    codes: dict[Kind, pd.DataFrame]
    dropped: dict[str, int] = field(default_factory=dict)
    mapped: dict[str, int] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)


def assemble(dataset: str, records: Records, options: CohortOptions) -> Cohort:
    """Returns the cohort of these records: filtered, ordered, indexed and split.

    Patients are in the order of their key; visits in `options.visit_order`, ties by visit key.

    Raises:
        CohortError: nothing is left after the filters.
    """
    visits, dropped = _filtered(records, options)
    order = {"admission_time": ["admitted", "visit"], "hadm_id": ["visit"]}[options.visit_order]
    visits = visits.sort_values(["patient", *order], kind="stable").reset_index(drop=True)
    patients = records.patients[records.patients["patient"].isin(visits["patient"])]
    patients = patients.sort_values("patient", kind="stable").reset_index(drop=True)
    counts = visits.groupby("patient", sort=True).size().to_numpy()
    first = visits.groupby("patient")["admitted"].transform("min")
    vocabulary: dict[Kind, tuple[str, ...]] = {}
    codes: dict[Kind, Codes] = {}
    for kind in KINDS:
        vocabulary[kind], codes[kind] = _index(records.codes[kind], visits["visit"])
    gender, genders = _categories(patients["gender"])
    group, groups = _categories(patients["group"])
    return Cohort(
        vocabulary=vocabulary,
        visits=counts.astype(np.int64),
        split=splits.split_patients(
            len(patients), options.split, options.split_seed, options.fractions
        ),
        gender=gender,
        age=patients["age"].to_numpy(np.int16),
        group=group,
        admitted=(visits["admitted"] - first).to_numpy(np.float32),
        codes=codes,
        genders=genders,
        groups=groups,
        provenance=Provenance(
            dataset=dataset,
            options=options.model_dump(mode="json"),
            inputs=dict(records.inputs),
            dropped={**records.dropped, **dropped},
            mapped=dict(records.mapped),
        ),
    )


def _filtered(records: Records, options: CohortOptions) -> tuple[pd.DataFrame, dict[str, int]]:
    visits = records.visits
    dropped = {}
    for kind in options.require:
        keep = visits["visit"].isin(records.codes[kind]["visit"])
        dropped[f"visits without {kind}"] = int((~keep).sum())
        visits = visits[keep]
    many = visits.groupby("patient")["visit"].transform("size") >= options.min_visits
    few = visits.loc[~many, "patient"].nunique()
    dropped[f"patients with fewer than {options.min_visits} visits"] = int(few)
    visits = visits[many]
    if visits.empty:
        raise CohortError(
            f"No visit is left: require={list(options.require)}, "
            f"min_visits={options.min_visits}, {dropped}. Loosen the filters."
        )
    return visits, dropped


def _index(rows: pd.DataFrame, visits: pd.Series) -> tuple[tuple[str, ...], Codes]:
    """Returns the sorted vocabulary of the codes of `visits`, and their CSR form."""
    position = pd.Series(np.arange(len(visits)), index=visits.to_numpy())
    row = position.reindex(rows["visit"].to_numpy()).to_numpy()
    known = ~np.isnan(row)
    code, names = pd.factorize(rows["code"].to_numpy()[known], sort=True)
    pairs = np.unique(row[known].astype(np.int64) * max(len(names), 1) + code)
    per_visit = np.bincount(pairs // max(len(names), 1), minlength=len(visits))
    offsets = np.concatenate([[0], np.cumsum(per_visit)]).astype(np.int32)
    values = (pairs % max(len(names), 1)).astype(np.int32)
    return tuple(str(name) for name in names), Codes(offsets, values)


def _categories(column: pd.Series) -> tuple[np.ndarray, tuple[str, ...]]:
    codes, names = pd.factorize(column.fillna("unknown").astype(str), sort=True)
    return codes.astype(np.int8), tuple(str(name) for name in names)
