"""From long tables, as hospitals export them, to a cohort. Every data set goes through here."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, cast

import numpy as np
import pandas as pd
from jaxtyping import Int8, Int64
from pydantic import BaseModel, ConfigDict, Field, model_validator

from medrec import presets, splits
from medrec.cohort import KINDS, Codes, Cohort, Kind, Provenance
from medrec.errors import CohortError
from medrec.knowledge.tables import read_structures
from medrec.raw_table import ascending

_MOST_CATEGORIES = 127  # int8


class CohortOptions(BaseModel):
    """Choices that every data set shares. Data sets add their own fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    dataset: ClassVar[str] = ""  # name of the data set, for its presets

    preset: presets.Name | None = Field(
        default=None,
        description="published pipeline whose choices are taken for every option not given",
    )
    visit_order: Literal["admission_time", "hadm_id"] = Field(
        default="admission_time",
        description="order of a patient's visits; hadm_id is the published pipelines' habit, "
        "which is random in time",
    )
    min_prescribed_visits: int = Field(
        default=1,
        ge=1,
        description="patients with fewer visits in the prescription table are left out before "
        "any other filter; 2 in the published pipelines, where patients with one visit remain",
    )
    top_diagnoses: int | None = Field(
        default=None,
        ge=1,
        description="keep the diagnoses of most visits, this many; 2000 in print",
    )
    top_procedures: int | None = Field(
        default=None, ge=1, description="keep the procedures of most visits, this many"
    )
    top_medications: int | None = Field(
        default=None,
        ge=1,
        description="keep the drug classes of most visits, this many; 300 in print",
    )
    drugs_with_structure: bool = Field(
        default=False,
        description="keep only drug classes with a known molecule, as SafeDrug's pipeline does",
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

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("preset") in presets.NAMES:
            return {**presets.cohort_options(given["preset"], cls.dataset), **given}
        return given


@dataclass(frozen=True)
class Records:
    """A data set's long tables, keys as in the source.

    Attributes:
        patients: one row a patient: `patient` (sortable key), `gender`, `group`, and `person`
            where several patients of the data are one person: they stay in one split. With
            `split` (index into `medrec.splits.NAMES`) that split counts, not the options'.
        visits: one row a visit: `visit` (unique whole number), `patient`, `admitted` (days, any
            origin), `order` (sortable: order in time within a patient), `age` (years at
            admission, or -1), `service`.
        codes: for each kind, rows of `visit`, `code` (str). Repeated rows and rows of unknown
            visits are ignored.
        prescribed: visits that have any usable row in the prescription table, mapped or not;
            None means those that have medications.
        dropped: what the data set itself left out, by reason.
        mapped: counts of its code mapping.
        unmapped: codes or names that its mapping does not know, with their rows.
        inputs: sha256 of the files read, by name.
    """

    patients: pd.DataFrame
    visits: pd.DataFrame
    codes: dict[Kind, pd.DataFrame]
    prescribed: Int64[np.ndarray, " some"] | None = None
    dropped: dict[str, int] = field(default_factory=dict)
    mapped: dict[str, int] = field(default_factory=dict)
    unmapped: dict[str, dict[str, int]] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)


def assemble(dataset: str, records: Records, options: CohortOptions) -> Cohort:
    """Returns the cohort of these records: filtered, ordered, indexed and split.

    The filters run in the order of the options: patients by prescribed visits, codes by
    frequency, visits by the kinds they must have, patients by visits left. Patients are in the
    order of their key; visits in `options.visit_order`, ties by visit key.

    Raises:
        CohortError: nothing is left after the filters.
    """
    codes = {kind: _Rows.of(records.codes[kind], records.visits["visit"]) for kind in KINDS}
    visits, dropped = _filtered(records, codes, options)
    order = {"admission_time": ["order", "visit"], "hadm_id": ["visit"]}[options.visit_order]
    visits = visits.sort_values(["patient", *order], kind="stable")
    patients = records.patients[records.patients["patient"].isin(visits["patient"])]
    patients = patients.sort_values("patient", kind="stable").reset_index(drop=True)
    counts = visits.groupby("patient", sort=True).size().to_numpy()
    first = visits.groupby("patient")["admitted"].transform("min")
    indexed = {kind: rows.index(visits.index.to_numpy()) for kind, rows in codes.items()}
    gender, genders = _categories(patients["gender"])
    group, groups = _categories(patients["group"])
    service, services = _categories(visits["service"])
    return Cohort(
        vocabulary={kind: names for kind, (names, _) in indexed.items()},
        visits=counts.astype(np.int64),
        split=_split(patients, options),
        gender=gender,
        group=group,
        admitted=(visits["admitted"] - first).to_numpy(np.float32),
        age=visits["age"].to_numpy(np.int16),
        service=service,
        codes={kind: found for kind, (_, found) in indexed.items()},
        genders=genders,
        groups=groups,
        services=services,
        provenance=Provenance(
            dataset=dataset,
            options=options.model_dump(mode="json"),
            inputs=dict(records.inputs),
            dropped={**records.dropped, **dropped},
            mapped=dict(records.mapped),
            unmapped=records.unmapped,
        ),
    )


def _split(patients: pd.DataFrame, options: CohortOptions) -> Int8[np.ndarray, " patients"]:
    """Returns the split of each patient: the one that the data give, or that of the person."""
    if "split" in patients:
        given = patients["split"].to_numpy(np.int8)
        missing = [name for i, name in enumerate(splits.NAMES) if not (given == i).any()]
        if missing:
            raise CohortError(
                f"The split that the data give has no patient for {' and '.join(missing)}. Let "
                "one be drawn instead (`splits: drawn`)."
            )
        return given
    key = patients["person"] if "person" in patients else patients["patient"]
    person, persons = pd.factorize(key, sort=True)
    return splits.split_patients(
        len(persons), options.split, options.split_seed, options.fractions
    )[person]


@dataclass(frozen=True)
class _Rows:
    """Distinct (visit, code) pairs of one kind: visit as a row of the visit table, ascending."""

    row: Int64[np.ndarray, " pairs"]
    code: Int64[np.ndarray, " pairs"]
    names: tuple[str, ...]  # sorted

    @staticmethod
    def of(table: pd.DataFrame, visits: pd.Series) -> "_Rows":
        column = cast(pd.Categorical, pd.Categorical(table["code"]))
        names = np.array([str(name) for name in column.categories], dtype=object)
        order = np.argsort(names, kind="stable")
        rank = np.empty(len(names), dtype=np.int64)
        rank[order] = np.arange(len(names))
        row, known = _positions(table["visit"].to_numpy(np.int64), visits.to_numpy(np.int64))
        pairs = ascending(row[known] * max(len(names), 1) + rank[column.codes[known]])
        code = pairs % max(len(names), 1)
        return _Rows(pairs // max(len(names), 1), code, tuple(names[order]))

    def counts(self) -> Int64[np.ndarray, " codes"]:
        """Returns the visits of each code."""
        return np.bincount(self.code, minlength=len(self.names))

    def only(self, keep: np.ndarray) -> "_Rows":
        """Returns the pairs of the codes marked in `keep`."""
        kept = keep[self.code]
        return _Rows(self.row[kept], self.code[kept], self.names)

    def index(self, visits: Int64[np.ndarray, " visits"]) -> tuple[tuple[str, ...], Codes]:
        """Returns the vocabulary of these rows of the visit table, and the CSR form over them."""
        position, known = _positions(self.row, visits)
        code, row = self.code[known], position[known]
        used = np.flatnonzero(np.bincount(code, minlength=len(self.names)))
        rank = np.zeros(len(self.names), dtype=np.int64)
        rank[used] = np.arange(len(used))
        pairs = np.sort(row * max(len(used), 1) + rank[code])
        per_visit = np.bincount(pairs // max(len(used), 1), minlength=len(visits))
        offsets = np.concatenate([[0], np.cumsum(per_visit)]).astype(np.int32)
        values = (pairs % max(len(used), 1)).astype(np.int32)
        return tuple(self.names[i] for i in used), Codes(offsets, values)


def _positions(
    wanted: Int64[np.ndarray, " wanted"], keys: Int64[np.ndarray, " keys"]
) -> tuple[Int64[np.ndarray, " wanted"], np.ndarray]:
    """Returns where each wanted key stands in `keys` (distinct), and whether it does."""
    order = np.argsort(keys, kind="stable")
    place = np.minimum(np.searchsorted(keys, wanted, sorter=order), max(len(keys) - 1, 0))
    found = order[place] if len(keys) else np.zeros(len(wanted), dtype=np.int64)
    return found, (keys[found] == wanted if len(keys) else np.zeros(len(wanted), dtype=bool))


def _filtered(
    records: Records, codes: dict[Kind, _Rows], options: CohortOptions
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Returns the visits left, their index being rows of the visit table; narrows `codes`."""
    visits = records.visits.reset_index(drop=True)
    dropped: dict[str, int] = {}
    if options.min_prescribed_visits > 1:
        if records.prescribed is None:
            prescribed = pd.Series(np.isin(visits.index.to_numpy(), codes["medications"].row))
        else:
            prescribed = visits["visit"].isin(records.prescribed)
        counts = prescribed.groupby(visits["patient"]).transform("sum")
        visits = _patients(
            visits, counts, options.min_prescribed_visits, "prescribed visits", dropped
        )
        codes["medications"] = _of_visits(codes["medications"], visits)
    _keep_codes(codes, options, dropped)
    for kind in options.require:
        keep = np.isin(visits.index.to_numpy(), codes[kind].row)
        dropped[f"visits without {kind}"] = int((~keep).sum())
        visits = visits[keep]
    counts = visits.groupby("patient")["visit"].transform("size")
    visits = _patients(visits, counts, options.min_visits, "visits", dropped)
    if visits.empty:
        raise CohortError(
            f"No visit is left: require={list(options.require)}, "
            f"min_visits={options.min_visits}, {dropped}. Loosen the filters."
        )
    return visits, dropped


def _patients(
    visits: pd.DataFrame, counts: pd.Series, least: int, what: str, dropped: dict[str, int]
) -> pd.DataFrame:
    few = counts < least
    dropped[f"patients with fewer than {least} {what}"] = visits.loc[few, "patient"].nunique()
    return visits[~few]


def _of_visits(rows: _Rows, visits: pd.DataFrame) -> _Rows:
    kept = np.isin(rows.row, visits.index.to_numpy())
    return _Rows(rows.row[kept], rows.code[kept], rows.names)


def _keep_codes(codes: dict[Kind, _Rows], options: CohortOptions, dropped: dict[str, int]) -> None:
    limits: dict[Kind, int | None] = {
        "diagnoses": options.top_diagnoses,
        "procedures": options.top_procedures,
        "medications": options.top_medications,
    }
    for kind, limit in limits.items():
        if limit is not None:
            rows = codes[kind]
            keep = most_frequent(rows.counts(), limit)
            dropped[f"{kind} codes beyond the top {limit}"] = int(
                (rows.counts() > 0).sum() - keep.sum()
            )
            codes[kind] = rows.only(keep)
    if options.drugs_with_structure:
        known = read_structures("embedded")
        drugs = codes["medications"]
        keep = np.array([name in known for name in drugs.names], dtype=bool)
        dropped["drug classes without a structure"] = int((~keep & (drugs.counts() > 0)).sum())
        codes["medications"] = drugs.only(keep)


def most_frequent(counts: Int64[np.ndarray, " codes"], limit: int) -> np.ndarray:
    """Returns which codes are the `limit` most frequent; of equal ones the earlier.

    Example:
        >>> most_frequent(np.array([3, 9, 3, 0]), 2).tolist()
        [True, True, False, False]
    """
    keep = np.zeros(len(counts), dtype=bool)
    keep[np.argsort(-counts, kind="stable")[:limit]] = True
    return keep & (counts > 0)


def _categories(column: pd.Series) -> tuple[np.ndarray, tuple[str, ...]]:
    codes, names = pd.factorize(column.fillna("unknown").astype(str), sort=True)
    if len(names) > _MOST_CATEGORIES:
        raise CohortError(
            f"`{column.name}` must have at most {_MOST_CATEGORIES} different values, but it has "
            f"{len(names)}. The column seems to hold something else; check the file."
        )
    return codes.astype(np.int8), tuple(str(name) for name in names)
