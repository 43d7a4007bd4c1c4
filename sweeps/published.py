"""Numbers that papers print: results/published, one file a document, checked as they are read.

A study names a table and says which of its arms repeat which rows; the table then goes into
`study.json`, so that our tables need these files no more.
"""

import sysconfig
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from medrec import plugins
from medrec.spec import Frozen
from sweeps.errors import StudyError
from sweeps.record import PublishedCohort, PublishedRow, PublishedTable, PublishedValue
from sweeps.study import PublishedRequest, near, parse, read_yaml

_CHECKOUT = Path(__file__).parents[1] / "results" / "published"
_INSTALLED = Path(sysconfig.get_path("data")) / "share" / "medsweep" / "published"
FOLDER = _CHECKOUT if _CHECKOUT.is_dir() else _INSTALLED


class TableOnFile(Frozen):
    """A table as its file has it; see `PublishedTable`."""

    number: str
    title: str
    cohort: str = Field(description="one of the document's cohorts")
    rows: tuple[PublishedRow, ...] = Field(min_length=1)
    notes: tuple[str, ...] = ()

    @field_validator("rows", mode="before")
    @classmethod
    def _printed(cls, rows: Any) -> Any:
        """Returns the rows with labels, and with `[mean, spread]` and `[mean]` as values."""
        return [_row(row) for row in rows] if isinstance(rows, list) else rows

    @field_validator("rows")
    @classmethod
    def _possible(cls, rows: tuple[PublishedRow, ...]) -> tuple[PublishedRow, ...]:
        names = [row.row for row in rows]
        if len(set(names)) < len(names):
            raise ValueError(f"two rows have one name among {names}")
        for row in rows:
            for metric, value in row.values.items():
                _check(row.row, metric, value)
        return rows


class Document(Frozen):
    """A paper and its tables."""

    name: str = Field(description="of its file")
    citation: str
    spread: str = Field(description="what ± is")
    mark: str = Field(default="", description="what a row's mark means")
    cohorts: dict[str, PublishedCohort]
    tables: dict[str, TableOnFile] = Field(min_length=1)
    notes: tuple[str, ...] = Field(default=(), description="on every table")

    @model_validator(mode="after")
    def _known_cohorts(self) -> "Document":
        for name, table in self.tables.items():
            if table.cohort not in self.cohorts:
                raise ValueError(
                    f"tables.{name}.cohort names {table.cohort!r}, but the document has "
                    f"{sorted(self.cohorts)}"
                )
        return self


def documents(folder: Path = FOLDER) -> list[str]:
    """Returns the names of the documents, sorted.

    Raises:
        StudyError: there is no such folder.
    """
    if not folder.is_dir():
        raise StudyError(
            f"There is no folder {folder}: published numbers come with medsweep. Install it "
            "again, or leave `published` out of the study."
        )
    return sorted(path.stem for path in folder.glob("*.yaml"))


def read_document(name: str, folder: Path = FOLDER) -> Document:
    """Returns a document.

    Raises:
        StudyError: there is none of that name, or its file is malformed; with file and field.
    """
    known = documents(folder)
    if name not in known:
        raise StudyError(f"No document {name!r}.{near(name, known)} It has {known}.")
    path = folder / f"{name}.yaml"
    found: Document = parse(Document, {"name": name, **read_yaml(path)}, str(path))
    return found


def table(document: Document, name: str) -> PublishedTable:
    """Returns one table of a document, without arms.

    Raises:
        StudyError: the document has no such table.
    """
    if name not in document.tables:
        known = list(document.tables)
        raise StudyError(
            f"{document.name} has no table {name!r}.{near(name, known)} It has {known}."
        )
    found = document.tables[name]
    return PublishedTable(
        document=document.name,
        citation=document.citation,
        table=name,
        number=found.number,
        title=found.title,
        cohort=document.cohorts[found.cohort],
        spread=document.spread,
        mark=document.mark if any(row.mark for row in found.rows) else "",
        rows=found.rows,
        notes=(*document.notes, *found.notes),
    )


def row(found: PublishedTable, name: str) -> PublishedRow:
    """Returns one row of a table.

    Raises:
        StudyError: the table has no such row.
    """
    rows = {each.row: each for each in found.rows}
    if name not in rows:
        raise StudyError(
            f"{found.number} of {found.document} has no row {name!r}.{near(name, rows)} "
            f"It has {list(rows)}."
        )
    return rows[name]


def resolve(
    requests: Sequence[PublishedRequest], arms: Sequence[str]
) -> tuple[PublishedTable, ...]:
    """Returns the tables that a study asks for, with its arms beside their rows.

    Raises:
        StudyError: no such document, table, row or arm, or a table is asked for twice; the
            message names the field.
    """
    found: list[PublishedTable] = []
    for index, request in enumerate(requests):
        where = f"published.{index}"
        made = _resolved(request, arms, where)
        if any((made.document, made.table) == (one.document, one.table) for one in found):
            raise StudyError(
                f"field {where}.table: {request.table!r} is there twice. Join the rows."
            )
        found.append(made)
    return tuple(found)


def _resolved(request: PublishedRequest, arms: Sequence[str], where: str) -> PublishedTable:
    place = f"{where}.document"
    try:
        document = _document(request.document)
        place = f"{where}.table"
        found = table(document, request.table)
        for arm, name in request.rows.items():
            place = f"{where}.rows.{arm}"
            if arm not in arms:
                raise StudyError(f"no arm {arm!r}.{near(arm, arms)} It has {list(arms)}.")
            row(found, name)
    except StudyError as error:
        raise StudyError(f"field {place}: {error}") from error
    return found.model_copy(update={"arms": dict(request.rows)})


@cache
def _document(name: str) -> Document:
    return read_document(name)


def _row(content: Any) -> Any:
    if not isinstance(content, dict) or not isinstance(content.get("values"), dict):
        return content
    labelled = {"label": content.get("row"), **content}
    return {**labelled, "values": {key: _value(v) for key, v in content["values"].items()}}


def _value(printed: Any) -> Any:
    if isinstance(printed, list) and len(printed) in (1, 2):
        return dict(zip(("mean", "spread"), printed, strict=False))
    return printed


def _check(name: str, metric: str, value: PublishedValue) -> None:
    """Raises `ValueError` for an unknown metric or a value that it cannot have."""
    known = plugins.names("medrec.metrics")
    if metric not in known:
        raise ValueError(f"row {name}: no metric {metric!r}.{near(metric, known)} It has {known}.")
    if metric == "medications" and value.mean <= 1:
        raise ValueError(f"row {name}: medications per visit must exceed 1, not {value.mean}")
    if metric != "medications" and value.mean > 1:
        raise ValueError(f"row {name}: {metric} must be a fraction up to 1, not {value.mean}")
