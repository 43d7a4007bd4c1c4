"""Prescriptions of MIMIC as ATC level 3 classes: by package (NDC) and by the drug's name."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int64

from medrec.datasets._gathering import RARE, Found, Gatherer
from medrec.datasets._options import HospitalOptions
from medrec.datasets._stays import DAY, Stays, seconds
from medrec.errors import KnowledgeError
from medrec.knowledge.atc import choose
from medrec.knowledge.drug_names import DrugNames, Match, load_drug_names
from medrec.knowledge.ndc import load_mapping, normalise
from medrec.raw_files import read_blocks
from medrec.raw_table import Column, Table

_NO_NDC = "0"
_STEPS = {
    "override": "classified by the table of overrides",
    "name": "classified by the drug's name",
    "synonym": "classified by a synonym of the drug's name",
    "excluded": "of diluents and supplies, left out",
    "unknown": "not classified",
}


class DrugClasses:
    """Decides which ATC classes a prescription stands for.

    With drug names, the table of overrides is asked first: it knows the carrier fluids and
    supplies, whose packages are listed in classes of drugs too, and corrections. Then the package
    (NDC) counts; of a package in several classes the one that the drug's name is known for, if it
    is among them, else by the rule. A row without a known package goes by its name.
    """

    def __init__(self, folders: Sequence[Path], options: HospitalOptions) -> None:
        """Reads the mapping tables.

        Raises:
            KnowledgeError: a table is malformed, or there is none although names are not to be
                used.
        """
        self._rule = options.atc_rule
        self._names: DrugNames | None = None
        if options.drug_names:
            self._names = load_drug_names(folders, options.atc_rule)
        by_name = self._names is not None and self._rule == "systemic"
        self._ndc = load_mapping(
            folders,
            options.ndc_rxcui,
            options.rxcui_atc,
            "all" if by_name else self._rule,
            required=not options.drug_names,
        )

    @property
    def inputs(self) -> dict[str, str]:
        """sha256 of the tables used, by file name."""
        names = self._names.origin.inputs if self._names else {}
        return {**names, **self._ndc.inputs}

    def find(self, cells: tuple[str, ...]) -> Found:
        """Returns the classes of a row's (NDC, drug name)."""
        ndc, name = cells
        classes = self._ndc.of(normalise(ndc))
        if self._names is None:
            if classes:
                return Found("classified by NDC", classes)
            return Found("not classified", (), ("NDC", ndc) if normalise(ndc) else None)
        match = self._names.find(name)
        if classes and match.step not in ("override", "excluded"):
            return Found("classified by NDC", self._of_package(classes, match))
        unknown = ("drug name", name) if match.step == "unknown" and name else None
        return Found(_STEPS[match.step], match.classes, unknown)

    def _of_package(self, classes: tuple[str, ...], named: Match) -> tuple[str, ...]:
        if self._rule == "systemic":
            known = tuple(code for code in named.classes if code in classes)
            return known or choose(classes, "systemic")
        return classes


@dataclass(frozen=True)
class Prescribed:
    """Medications of the stays.

    Attributes:
        medications: `visit` and `code`.
        visits: keys of the stays that have a usable row, classified or not.
        mapped, unmapped, dropped: for the card.
    """

    medications: pd.DataFrame
    visits: Int64[np.ndarray, " visits"]
    mapped: dict[str, int]
    unmapped: dict[str, dict[str, int]]
    dropped: dict[str, int]


def read_prescriptions(
    path: Path,
    headings: Mapping[str, tuple[str, ...]],
    stays: Stays,
    classes: DrugClasses,
    options: HospitalOptions,
) -> Prescribed:
    """Returns the medications of the stays; the file is read in blocks, never whole.

    Args:
        path: the table.
        headings: of `hadm_id`, `ndc`, `drug`, `start` and, in MIMIC-III, `icu_stay`.
        stays: of the cohort.
        classes: what a row becomes.
        options: window, forward fill, and so on.

    Raises:
        InputError: the file is malformed.
        KnowledgeError: no row could be classified.
    """
    first = _first_dates(path, headings, stays, options)
    gatherer = Gatherer(classes.find)
    seen = np.zeros(len(stays.visits), dtype=bool)
    rows = {
        "prescriptions rows of admissions unknown or left out": 0,
        "prescriptions rows out of the window": 0,
    }
    for table, stay in _rows(path, headings, stays, options):
        inside = np.ones(len(stay), dtype=bool)
        if options.medication_window == "first_24_hours":
            inside = _within_a_day(table, stay, stays)
        elif first is not None:
            inside = first.starts(table, stay)
        keep = (stay >= 0) & inside
        rows["prescriptions rows of admissions unknown or left out"] += int((stay < 0).sum())
        rows["prescriptions rows out of the window"] += int(((stay >= 0) & ~inside).sum())
        seen[stay[stay >= 0]] = True
        gatherer.add(stay[keep], *(table[name].rows(keep) for name in ("ndc", "drug")))
    mapped = {"prescriptions rows": sum(gatherer.rows.values())}
    mapped |= {f"prescriptions rows {s}": n for s, n in sorted(gatherer.rows.items())}
    medications = gatherer.frame(stays)
    if medications.empty and mapped["prescriptions rows"]:
        raise KnowledgeError(
            f"{path}: no prescription could be classified ({mapped}) with the tables "
            f"{sorted(classes.inputs)}. Name others with `knowledge`, `ndc_rxcui`, `rxcui_atc`."
        )
    return Prescribed(
        medications=medications,
        visits=stays.visits["visit"].to_numpy(np.int64)[seen],
        mapped=mapped,
        unmapped=gatherer.listed(RARE),
        dropped=rows,
    )


def _rows(
    path: Path, headings: Mapping[str, tuple[str, ...]], stays: Stays, options: HospitalOptions
) -> Iterator[tuple[Table, Int64[np.ndarray, " rows"]]]:
    """Yields each block with the stay of each row, -1 where unknown."""
    dated = options.medication_window != "stay"
    needed = {k: v for k, v in headings.items() if dated or k not in ("start", "icu_stay")}
    fill = ForwardFill(needed.keys() - {"hadm_id"})
    for block in read_blocks(path, needed):
        table = fill.apply(block) if options.forward_fill else block
        yield table, stays.find(table, "hadm_id")


class ForwardFill:
    """Fills empty cells from the row above, after rows with NDC "0" were taken out.

    SafeDrug's and GAMENet's preprocessing does so over the whole table, so that a row without an
    NDC gets the drug of the row above, which may be another patient's. Rows come in blocks: the
    last cells of one block go on into the next.
    """

    def __init__(self, columns: Iterable[str]) -> None:
        self._columns = set(columns)
        self._last: dict[str, str] = {}

    def apply(self, table: Table) -> Table:
        """Returns the rows that have an NDC afterwards."""
        ndc = table["ndc"]
        table = table.only(~np.array([name == _NO_NDC for name in ndc.names], bool)[ndc.index])
        filled = {
            name: self._filled(name, table[name]) for name in self._columns & set(table.columns)
        }
        table = replace(table, columns={**table.columns, **filled})
        ndc = table["ndc"]
        return table.only(np.array([bool(name) for name in ndc.names], bool)[ndc.index])

    def _filled(self, name: str, column: Column) -> Column:
        names = (*column.names, self._last.get(name, ""))
        index = np.concatenate([[len(names) - 1], column.index])
        full = np.array([bool(each) for each in names])[index]
        full[0] = True
        place = np.maximum.accumulate(np.where(full, np.arange(len(index)), 0))
        index = index[place].astype(np.int32)
        self._last[name] = names[index[-1]]
        return Column(index[1:], names)


@dataclass(frozen=True)
class _FirstDates:
    """The first date of each stay, or of each ICU stay where the table names them."""

    first: pd.Series

    def starts(self, table: Table, stay: Int64[np.ndarray, " rows"]) -> Bool[np.ndarray, " rows"]:
        """Returns which rows start on it."""
        found = self.first.reindex(_parts(table, stay)).to_numpy()
        return _dates(table) == found


def _first_dates(
    path: Path, headings: Mapping[str, tuple[str, ...]], stays: Stays, options: HospitalOptions
) -> _FirstDates | None:
    if options.medication_window != "first_date":
        return None
    blocks = []
    for table, stay in _rows(path, headings, stays, options):
        dates = pd.Series(_dates(table), index=_parts(table, stay))
        dates = dates[dates > _dateless()]
        blocks.append(dates.groupby(level=[0, 1]).min())
    return _FirstDates(pd.concat(blocks).groupby(level=[0, 1]).min())


def _parts(table: Table, stay: Int64[np.ndarray, " rows"]) -> pd.MultiIndex:
    icu = np.full(len(stay), -1)
    if "icu_stay" in table.columns:
        icu = table.integers("icu_stay", empty=-1)[table["icu_stay"].index]
    return pd.MultiIndex.from_arrays([stay, icu])


def _dates(table: Table) -> Int64[np.ndarray, " rows"]:
    """Returns the date of each row's start, in days since 1970."""
    return seconds(table, "start", empty=True)[table["start"].index] // DAY


def _dateless() -> int:
    return int(np.iinfo(np.int64).min) // DAY


def _within_a_day(
    table: Table, stay: Int64[np.ndarray, " rows"], stays: Stays
) -> Bool[np.ndarray, " rows"]:
    """Returns which rows start less than 24 hours after admission; not those without a start."""
    start = seconds(table, "start", empty=True)[table["start"].index]
    admitted = np.rint(stays.visits["admitted"].to_numpy()[stay] * DAY)  # in whole seconds
    return (start < admitted + DAY) & (start // DAY > _dateless())
