"""What MIMIC-III and MIMIC-IV share: stays, services, ICD tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from medrec.cohort import Kind
from medrec.datasets._gathering import Gatherer
from medrec.datasets._icd import ICD_KINDS, IcdCodes
from medrec.datasets._options import HospitalOptions
from medrec.datasets._prescribing import DrugClasses, read_prescriptions
from medrec.datasets._stays import DAY, Stays, categories, genders, seconds
from medrec.demographics import group_of
from medrec.errors import InputError
from medrec.knowledge.folders import knowledge_folders
from medrec.raw_files import find_table, optional_table, read_blocks, read_table
from medrec.raw_table import Table, digests
from medrec.records import Records

_SERVICES = {
    "hadm_id": ("hadm_id",),
    "time": ("transfertime",),
    "service": ("curr_service",),
}
Headings = Mapping[str, tuple[str, ...]]


def admissions(table: Table, patients: Table, dropped: dict[str, int]) -> pd.DataFrame:
    """Returns visit, patient, admitted and order (days since 1970), year and group, by time.

    Args:
        table: with `hadm_id`, `subject_id`, `admittime`, `race`.
        patients: with `subject_id`; admissions of others are left out.
        dropped: gets their number.

    Raises:
        InputError: an admission stands twice, or a cell is malformed.
    """
    table.require_unique("hadm_id")
    moments = seconds(table, "admittime")[table["admittime"].index]
    groups = np.array([group_of(race) for race in table["race"].names], dtype=object)
    frame = pd.DataFrame(
        {
            "visit": table.integers("hadm_id")[table["hadm_id"].index],
            "patient": table.integers("subject_id")[table["subject_id"].index],
            "admitted": moments / DAY,
            "order": moments,
            "group": groups[table["race"].index],
        }
    )
    known = frame["patient"].isin(patients.integers("subject_id"))
    dropped["admissions of unknown patients"] = int((~known).sum())
    return frame[known].sort_values(["patient", "order", "visit"], ignore_index=True)


def patients_of(table: Table, stays: pd.DataFrame, dropped: dict[str, int]) -> pd.DataFrame:
    """Returns patient, gender, and the group of the first admission."""
    gender = genders(table, "gender")
    frame = pd.DataFrame(
        {
            "patient": table.integers("subject_id")[table["subject_id"].index],
            "gender": gender,
        }
    )
    first = stays.drop_duplicates("patient")[["patient", "group"]]
    joined = frame.merge(first, on="patient")
    dropped["patients without admissions"] = len(frame) - len(joined)
    return joined


def with_services(
    frame: pd.DataFrame,
    path: Path | None,
    options: HospitalOptions,
    dropped: dict[str, int],
    mapped: dict[str, int],
) -> pd.DataFrame:
    """Returns the admissions with their first service, those of the services asked for.

    `dropped` gets what is left out, `mapped` the rows and the admissions without a service.

    Raises:
        InputError: the file is malformed, or a service asked for is not in it.
    """
    if path is None:
        return frame.assign(service="unknown")
    table = read_table(path, _SERVICES)
    rows = pd.DataFrame(
        {
            "visit": table.integers("hadm_id", empty=-1)[table["hadm_id"].index],
            "time": seconds(table, "time")[table["time"].index],
            "service": categories(table, "service").str.upper(),
        }
    )
    mapped["services rows"] = len(rows)
    known = rows["visit"].isin(frame["visit"])
    dropped["services rows of admissions unknown or left out"] = int((~known).sum())
    first = rows.sort_values(["visit", "time", "service"]).drop_duplicates("visit")
    frame = frame.merge(first[["visit", "service"]], on="visit", how="left")
    mapped["admissions without a service"] = int(frame["service"].isna().sum())
    frame["service"] = frame["service"].fillna("unknown")
    if not options.service:
        return frame
    wanted = [name.upper() for name in options.service]
    for name in wanted:
        if name not in set(rows["service"]):
            raise table.error(
                f"{path}: no stay has the service {name!r} of `service`; there are "
                f"{sorted(set(rows['service']))}."
            )
    of_them = frame["visit"].isin(rows.loc[rows["service"].isin(wanted), "visit"])
    dropped["admissions of other services"] = int((~of_them).sum())
    return frame[of_them].reset_index(drop=True)


def read_icd(
    kind: Literal["diagnoses", "procedures"],
    path: Path,
    headings: Headings,
    stays: Stays,
    codes: IcdCodes,
    dropped: dict[str, int],
) -> tuple[pd.DataFrame, Gatherer]:
    """Returns visit and code of a table with `hadm_id`, `code` and maybe `version` (else 9).

    Raises:
        InputError: the file is malformed.
    """
    versioned = "version" in headings
    gatherer = Gatherer(
        lambda cells: codes.find(cells[1], cells[0]) if versioned else codes.find("9", cells[0])
    )
    unknown = 0
    for table in read_blocks(path, headings):
        if versioned:
            table.require("version", lambda v: v in ("9", "10"), "must be 9 or 10")
        stay = stays.find(table, "hadm_id")
        keep = stay >= 0
        unknown += int((~keep).sum())
        names = ("code", "version") if versioned else ("code",)
        gatherer.add(stay[keep], *(table[name].rows(keep) for name in names))
    dropped[f"{kind} rows of admissions unknown or left out"] = unknown
    return gatherer.frame(stays), gatherer


@dataclass(frozen=True)
class MimicFiles:
    """Where the tables lie.

    Attributes:
        root: folder given by the user.
        folder: that of the tables.
        headings: of the ICD tables (`icd`) and of `prescriptions`.
    """

    root: Path
    folder: Path
    headings: dict[str, Headings]


def records_of(
    files: MimicFiles,
    read: Sequence[Table],
    patients: pd.DataFrame,
    frame: pd.DataFrame,
    options: HospitalOptions,
    dropped: dict[str, int],
) -> Records:
    """Returns the records: the admissions given, with their services, codes and medications.

    Args:
        files: where to read.
        read: tables read already.
        patients: as `Records.patients`.
        frame: admissions with visit, patient, admitted, order, age.
        options: of the data set.
        dropped: what was left out before.

    Raises:
        InputError: a file is missing or malformed.
        KnowledgeError: a mapping table is, or no prescription can be classified.
    """
    services = optional_table(files.folder, "services")
    if options.service and services is None:
        raise InputError(f"`service` needs the table services.csv, but {files.folder} has none.")
    mapped: dict[str, int] = {}
    frame = with_services(frame, services, options, dropped, mapped)
    stays = Stays.of(frame[["visit", "patient", "admitted", "order", "age", "service"]])
    folders = knowledge_folders(files.root, options.knowledge)
    paths = [table.path for table in read] + ([services] if services else [])
    found: dict[Kind, pd.DataFrame] = {}
    unmapped: dict[str, dict[str, int]] = {}
    inputs: dict[str, str] = {}
    for kind in ICD_KINDS:
        path = find_table(files.folder, f"{kind}_icd")
        codes = IcdCodes(kind, options.icd, folders, versions=options.code_version == "kept")
        found[kind], gatherer = read_icd(kind, path, files.headings["icd"], stays, codes, dropped)
        mapped |= {f"{kind} rows {step}": n for step, n in sorted(gatherer.rows.items())}
        unmapped |= gatherer.listed()
        inputs |= codes.inputs
        paths.append(path)
    classes = DrugClasses(folders, options)
    path = find_table(files.folder, "prescriptions")
    prescribed = read_prescriptions(path, files.headings["prescriptions"], stays, classes, options)
    return Records(
        patients=patients[patients["patient"].isin(frame["patient"])],
        visits=stays.visits,
        codes={**found, "medications": prescribed.medications},
        prescribed=prescribed.visits,
        dropped={**dropped, **prescribed.dropped},
        mapped={**mapped, **prescribed.mapped},
        unmapped={**unmapped, **prescribed.unmapped},
        inputs={**digests([*paths, path]), **inputs, **classes.inputs},
    )
