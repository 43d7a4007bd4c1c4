"""What goes wrong with files of patient data on their way, as functions that do it on purpose.

Each corruption edits a copy of a data set's folder and says what it did. Beside it stands what
may come of it:

    refused   an error that names the file
    same      the very same cohort: what was changed does not matter
    counted   another cohort, whose card accounts for what is left out

A corruption that makes other, equally valid data (another known code, another known patient) is
none: no reader could notice.
"""

import csv
import gzip
import io
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

T = TypeVar("T")
DATASETS = ("mimic3", "mimic4", "eicu")
MIMIC = DATASETS[:2]
REFUSED, SAME = frozenset({"refused"}), frozenset({"same"})
NOT_SAME = frozenset({"refused", "counted"})
HARMLESS = frozenset({"same", "counted"})  # a row that another row repeats may go without loss
ANY = frozenset({"refused", "same", "counted"})

# The columns that are read, by what they hold. Ethnicity is free text of which what is not known
# counts as another group, so it is no place for a corruption of one cell.
_MIMIC_ICD = {"ref": "hadm_id"}
COLUMNS: dict[str, dict[str, dict[str, tuple[str, ...]]]] = {
    "mimic3": {
        "patients": {"own": ("subject_id",), "time": ("dob",), "category": ("gender",)},
        "admissions": {"own": ("hadm_id",), "ref": ("subject_id",), "time": ("admittime",)},
        "services": {
            "ref": ("hadm_id",),
            "time": ("transfertime",),
            "category": ("curr_service",),
        },
        "diagnoses_icd": {"ref": ("hadm_id",), "code": ("icd9_code",)},
        "procedures_icd": {"ref": ("hadm_id",), "code": ("icd9_code",)},
        "prescriptions": {"ref": ("hadm_id",), "drug": ("ndc", "drug")},
    },
    "mimic4": {
        "patients": {
            "own": ("subject_id",),
            "age": ("anchor_age",),
            "number": ("anchor_year",),
            "category": ("gender",),
        },
        "admissions": {"own": ("hadm_id",), "ref": ("subject_id",), "time": ("admittime",)},
        "services": {
            "ref": ("hadm_id",),
            "time": ("transfertime",),
            "category": ("curr_service",),
        },
        "diagnoses_icd": {"ref": ("hadm_id",), "code": ("icd_code",), "version": ("icd_version",)},
        "procedures_icd": {
            "ref": ("hadm_id",),
            "code": ("icd_code",),
            "version": ("icd_version",),
        },
        "prescriptions": {"ref": ("hadm_id",), "drug": ("ndc", "drug")},
    },
    "eicu": {
        "patient": {
            "own": ("patientunitstayid",),
            "age": ("age",),
            "stay": ("patienthealthsystemstayid",),
            "offset": ("hospitaladmitoffset",),
            "number": ("hospitaldischargeyear", "unitvisitnumber"),
            "category": ("gender", "unittype"),
            "person": ("uniquepid",),
        },
        "diagnosis": {"ref": ("patientunitstayid",), "code": ("icd9code",)},
        "medication": {
            "ref": ("patientunitstayid",),
            "drug": ("drugname", "drughiclseqno", "drugordercancelled"),
        },
    },
}
ETHNICITY = {"mimic3": "ethnicity", "mimic4": "race", "eicu": "ethnicity"}
# Read under some options only.
SOMETIMES = {"startdate", "starttime", "icustay_id", "drugstartoffset", "gtc"}
_JUNK = ("#12?", "n/a", "--", "\u00bd", "0x1F", "=A1+B2", "\\N", "True", "1,5", "'")
_BAD_TIMES = ("31/12/2150", "2150-13-45 00:00:00", "yesterday", "", "2150-02-30", "21500101")
_FAR_TIMES = ("0001-01-01 00:00:00", "1066-10-14 00:00:00", "9999-12-31 23:59:59", "2999-01-01")
_BAD_CODES = ("?", "ABCDEFGHIJ", "4 2", "1", "\u0664\u0662\u0668")  # the last: digits, not ASCII
_LATIN = (b"\xe9", b"\xff\xfe", b"\xa0")
_CONTROLS = (b"\x1b[2J", b"\x7f", b"\x08")
_BAD_NAMES = ("12345678", "x" * 300, "2150-01-01")
_BAD_AGES = ("-5", "121", "999", "45.5", "old", "1e2", "\u0664\u0665")


@dataclass(frozen=True)
class Change:
    """What was done, and to which file."""

    text: str
    file: str


@dataclass(frozen=True)
class Folder:
    """A copy of a data set's files."""

    dataset: str
    root: Path

    @property
    def tables(self) -> list[str]:
        """Names of the tables that are read."""
        return sorted(COLUMNS[self.dataset])

    def path(self, table: str) -> Path:
        """Returns the file of a table."""
        return next(p for p in sorted(self.root.rglob("*.csv*")) if p.name == f"{table}.csv")

    def read(self, table: str) -> tuple[list[str], list[list[str]]]:
        """Returns header and rows."""
        with self.path(table).open(newline="", encoding="utf-8") as stream:
            header, *rows = csv.reader(stream)
        return header, rows

    def write(self, table: str, header: list[str], rows: list[list[str]]) -> None:
        """Writes header and rows."""
        write_rows(self.path(table), header, rows)

    def columns(self, table: str, *kinds: str) -> list[str]:
        """Returns the columns of these kinds that are read; of all kinds by default."""
        known = COLUMNS[self.dataset][table]
        return [c for kind, names in known.items() for c in names if not kinds or kind in kinds]

    def places(self, *kinds: str) -> list[tuple[str, str]]:
        """Returns every table and column of these kinds."""
        return [(table, c) for table in self.tables for c in self.columns(table, *kinds)]


def write_rows(path: Path, header: list[str], rows: list[list[str]]) -> None:
    """Writes a csv file with plain line ends."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([header, *rows])


Rng = np.random.Generator
Edit = Callable[[Rng, Folder], Change]


@dataclass(frozen=True)
class Corruption:
    """A corruption, the data sets it fits, and what may come of it."""

    name: str
    edit: Edit
    outcomes: frozenset[str]
    datasets: tuple[str, ...] = DATASETS


def pick(rng: Rng, options: Sequence[T]) -> T:
    """Returns one of the options."""
    return options[int(rng.integers(len(options)))]


def _set(folder: Folder, table: str, row: int, column: str, value: str) -> Change:
    header, rows = folder.read(table)
    rows[row][header.index(column)] = value
    folder.write(table, header, rows)
    shown = value if len(value) < 50 else f"{value[:20]}… ({len(value)} characters)"
    return Change(f"{table}.{column}, row {row}: {shown!r}", folder.path(table).name)


def _cell(
    kinds: tuple[str, ...], make: Callable[[Rng, str], str], wanted: Callable[[str], bool] = bool
) -> Edit:
    """Returns the edit that puts what `make` gives into a cell of these kinds."""

    def edit(rng: Rng, folder: Folder) -> Change:
        table, column = pick(rng, folder.places(*kinds))
        header, rows = folder.read(table)
        at = header.index(column)
        row = pick(rng, [i for i, cells in enumerate(rows) if wanted(cells[at])])
        return _set(folder, table, row, column, make(rng, rows[row][at]))

    return edit


def _table(change: Callable[[Rng, list[str], list[list[str]]], str]) -> Edit:
    """Returns the edit that changes header and rows of one table in place."""

    def edit(rng: Rng, folder: Folder) -> Change:
        table = pick(rng, folder.tables)
        header, rows = folder.read(table)
        text = change(rng, header, rows)
        folder.write(table, header, rows)
        return Change(f"{table}: {text}", folder.path(table).name)

    return edit


def _bytes(change: Callable[[Rng, bytes], bytes], text: str) -> Edit:
    """Returns the edit that changes the content of one file."""

    def edit(rng: Rng, folder: Folder) -> Change:
        path = folder.path(pick(rng, folder.tables))
        path.write_bytes(change(rng, path.read_bytes()))
        return Change(f"{path.name}: {text}", path.name)

    return edit


def _lines(change: Callable[[Rng, list[bytes]], list[bytes]], text: str) -> Edit:
    def lines(rng: Rng, content: bytes) -> bytes:
        return b"\n".join(change(rng, content.rstrip(b"\n").split(b"\n"))) + b"\n"

    return _bytes(lines, text)


# ------------------------------------------------------------------------------- headers


def _drop(rng: Rng, folder: Folder, unused: bool) -> Change:
    table = pick(rng, folder.tables)
    header, rows = folder.read(table)
    needed = {*folder.columns(table), ETHNICITY[folder.dataset]}
    unread = [c for c in header if c not in needed | SOMETIMES]
    name = pick(rng, unread if unused else [c for c in header if c in needed])
    at = header.index(name)
    folder.write(table, header[:at] + header[at + 1 :], [r[:at] + r[at + 1 :] for r in rows])
    return Change(f"{table}.{name} dropped", folder.path(table).name)


def _columns_shuffled(rng: Rng, header: list[str], rows: list[list[str]]) -> str:
    order = rng.permutation(len(header)).tolist()
    for cells in (header, *rows):
        cells[:] = [cells[i] for i in order]
    return "columns in another order"


def _headings_rotated(rng: Rng, header: list[str], rows: list[list[str]]) -> str:
    by = int(rng.integers(1, len(header)))
    header[:] = header[by:] + header[:by]
    return f"headings rotated by {by}"


def _heading_renamed(rng: Rng, folder: Folder) -> Change:
    table, column = pick(rng, folder.places())
    header, rows = folder.read(table)
    new = pick(rng, (column[:-1], column + "_", column.replace("_", " ") + "s", "x", ""))
    folder.write(table, [new if c == column else c for c in header], rows)
    return Change(f"{table}.{column} renamed {new!r}", folder.path(table).name)


def _headings_exchanged(rng: Rng, folder: Folder) -> Change:
    table, key = pick(rng, folder.places("own", "ref"))
    header, rows = folder.read(table)
    other = pick(rng, [c for c in folder.columns(table) if c != key])
    exchanged = {key: other, other: key}
    folder.write(table, [exchanged.get(c, c) for c in header], rows)
    return Change(f"{table}: headings {key} and {other} exchanged", folder.path(table).name)


def _heading_twice(rng: Rng, folder: Folder) -> Change:
    table, column = pick(rng, folder.places())
    header, rows = folder.read(table)
    at = header.index(column)
    folder.write(table, [*header, column.upper()], [[*row, row[at]] for row in rows])
    return Change(f"{table}.{column} twice", folder.path(table).name)


def _header_case(rng: Rng, header: list[str], rows: list[list[str]]) -> str:
    change = pick(rng, (str.upper, str.title, lambda c: f" {c} "))
    header[:] = [change(name) for name in header]
    return "headings in another case, or with blanks"


def _extra_column(rng: Rng, header: list[str], rows: list[list[str]]) -> str:
    at = int(rng.integers(len(header) + 1))
    header.insert(at, pick(rng, ("", "note", "Unnamed: 0", "n\u00f6te")))
    for row in rows:
        row.insert(at, pick(rng, ("", "x", 'a, "b"')))
    return f"one more column at {at}"


# ------------------------------------------------------------------------------- rows


def _row_repeated(rng: Rng, folder: Folder, stays: bool) -> Change:
    own = [t for t in folder.tables if bool(folder.columns(t, "own")) == stays]
    table = pick(rng, own)
    header, rows = folder.read(table)
    share = rows if rng.random() < 0.5 else [pick(rng, rows)]
    folder.write(table, header, rows + share)
    return Change(f"{table}: {len(share)} rows repeated", folder.path(table).name)


def _key_repeated(rng: Rng, folder: Folder) -> Change:
    table, column = pick(rng, folder.places("own"))
    header, rows = folder.read(table)
    one, other = (int(i) for i in rng.choice(len(rows), 2, replace=False))
    change = _set(folder, table, one, column, rows[other][header.index(column)])
    return Change(change.text.split(":")[0] + " repeats another", change.file)


def _rows_exchanged(rng: Rng, folder: Folder) -> Change:
    one, other = (folder.tables[int(i)] for i in rng.choice(len(folder.tables), 2, replace=False))
    (head1, rows1), (head2, rows2) = folder.read(one), folder.read(other)
    i, j = int(rng.integers(len(rows1))), int(rng.integers(len(rows2)))
    rows1[i], rows2[j] = rows2[j], rows1[i]
    folder.write(one, head1, rows1)
    folder.write(other, head2, rows2)
    return Change(f"row {i} of {one} exchanged with {j} of {other}", ".csv")


def _files_exchanged(rng: Rng, folder: Folder) -> Change:
    one, other = (folder.tables[int(i)] for i in rng.choice(len(folder.tables), 2, replace=False))
    first, second = folder.path(one), folder.path(other)
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    return Change(f"{one} and {other} exchanged", ".csv")


def _row_shifted(rng: Rng, header: list[str], rows: list[list[str]]) -> str:
    row = int(rng.integers(len(rows)))
    cells = rows[row]
    rows[row] = ["", *cells[:-1]] if rng.random() < 0.5 else [*cells[1:], ""]
    return f"cells of row {row} moved by one"


def _field_extra(rng: Rng, header: list[str], rows: list[list[str]]) -> str:
    row = int(rng.integers(len(rows)))
    rows[row].insert(int(rng.integers(len(header) + 1)), pick(rng, ("", "x")))
    return f"row {row} has a field too many"


def _field_missing(rng: Rng, header: list[str], rows: list[list[str]]) -> str:
    row = int(rng.integers(len(rows)))
    del rows[row][int(rng.integers(len(header))) :][:1]
    del rows[row][int(rng.integers(len(header)))]
    return f"row {row} lacks a field"


def _only_header(rng: Rng, header: list[str], rows: list[list[str]]) -> str:
    rows.clear()
    return "no rows"


def _header_twice(rng: Rng, header: list[str], rows: list[list[str]]) -> str:
    rows.insert(0, list(header))
    return "header repeated as a row"


def _newline_quoted(rng: Rng, folder: Folder) -> Change:
    table = pick(rng, folder.tables)
    header, rows = folder.read(table)
    needed = {*folder.columns(table), ETHNICITY[folder.dataset], *SOMETIMES}
    column = pick(rng, [c for c in header if c not in needed])
    value = pick(rng, ("two\nlines", "a\r\n\r\nb", 'say "x"\n', "\n"))
    return _set(folder, table, int(rng.integers(len(rows))), column, value)


def _huge_unused(rng: Rng, folder: Folder) -> Change:
    table = pick(rng, folder.tables)
    header, rows = folder.read(table)
    needed = {*folder.columns(table), ETHNICITY[folder.dataset], *SOMETIMES}
    column = pick(rng, [c for c in header if c not in needed])
    return _set(folder, table, int(rng.integers(len(rows))), column, "x" * 1_000_000)


# ------------------------------------------------------------------------------- bytes


def _within(lines: list[bytes], rng: Rng) -> tuple[int, int]:
    """Returns a line below the header and the start of a field in it."""
    line = int(rng.integers(1, len(lines)))
    starts = [0, *(i + 1 for i, byte in enumerate(lines[line]) if byte == ord(","))]
    return line, pick(rng, starts)


def _inserted(what: tuple[bytes, ...]) -> Callable[[Rng, list[bytes]], list[bytes]]:
    def edit(rng: Rng, lines: list[bytes]) -> list[bytes]:
        line, at = _within(lines, rng)
        lines[line] = lines[line][:at] + pick(rng, what) + lines[line][at:]
        return lines

    return edit


def _broken(rng: Rng, lines: list[bytes]) -> list[bytes]:
    line, at = _within(lines, rng)
    at = max(at, 1)
    lines[line : line + 1] = [lines[line][:at], lines[line][at:]]
    return lines


def _blank(rng: Rng, lines: list[bytes]) -> list[bytes]:
    lines.insert(int(rng.integers(1, len(lines) + 1)), b"")
    return [*lines, b"", b""]


def _commas(rng: Rng, lines: list[bytes], first: int) -> list[bytes]:
    return [*lines[:first], *(line + b"," for line in lines[first:])]


def _delimited(rng: Rng, content: bytes) -> bytes:
    out = io.StringIO()
    rows = csv.reader(io.StringIO(content.decode(), newline=""))
    csv.writer(out, delimiter=pick(rng, (";", "\t", "|", ":")), lineterminator="\n").writerows(
        rows
    )
    return out.getvalue().encode()


def _cut(rng: Rng, content: bytes) -> bytes:
    return content[: int(rng.integers(len(content) // 10, len(content) - 200))]


def _no_header(rng: Rng, lines: list[bytes]) -> list[bytes]:
    return lines[1:]


def _header_joined(rng: Rng, lines: list[bytes]) -> list[bytes]:
    return [lines[0] + lines[1], *lines[2:]]


# ------------------------------------------------------------------------------- files


def _missing(rng: Rng, folder: Folder) -> Change:
    table = pick(rng, [t for t in folder.tables if t != "services"])
    folder.path(table).unlink()
    return Change(f"{table} missing", table)


def _is_folder(rng: Rng, folder: Folder) -> Change:
    table = pick(rng, [t for t in folder.tables if t != "services"])
    path = folder.path(table)
    path.unlink()
    path.mkdir()
    return Change(f"{table} is a folder", table)


def _unreadable(rng: Rng, folder: Folder) -> Change:
    path = folder.path(pick(rng, folder.tables))
    path.chmod(0)
    return Change(f"{path.name} must not be read", path.name)


def _packed(make: Callable[[Rng, bytes], bytes], text: str, ending: str = ".gz") -> Edit:
    """Returns the edit that replaces a file by what `make` packs of its content."""

    def edit(rng: Rng, folder: Folder) -> Change:
        path = folder.path(pick(rng, folder.tables))
        content = make(rng, path.read_bytes())
        path.unlink()
        path.with_name(path.name + ending).write_bytes(content)
        return Change(f"{path.name}: {text}", path.name)

    return edit


def _gzip(rng: Rng, content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def _gzip_cut(rng: Rng, content: bytes) -> bytes:
    packed = _gzip(rng, content)
    return packed[: int(rng.integers(2, len(packed)))]


def _gzip_flipped(rng: Rng, content: bytes) -> bytes:
    packed = bytearray(_gzip(rng, content))
    packed[int(rng.integers(10, len(packed)))] ^= 1 << int(rng.integers(8))
    return bytes(packed)


def _gzip_members(rng: Rng, content: bytes, cut: bool = False) -> bytes:
    at = int(rng.integers(1, len(content)))
    second = _gzip(rng, content[at:])
    return _gzip(rng, content[:at]) + (second[: len(second) // 2] if cut else second)


def _gzip_and_more(rng: Rng, content: bytes) -> bytes:
    return _gzip(rng, content) + pick(rng, (b"garbage behind the end", b"\x1f\x8b", content[:99]))


def _knowledge(rng: Rng, folder: Folder) -> Change:
    path = folder.root / "knowledge" / pick(rng, ("ndc_rxcui.csv", "rxcui_atc.csv"))
    header, *rows = path.read_text().splitlines()
    row = int(rng.integers(len(rows)))
    text, lines = pick(
        rng,
        [
            ("a bad number", [header, *rows[:row], "x,y", *rows[row:]]),
            ("no header", rows),
            ("empty", []),
            ("a field more", [header, *rows[:row], rows[row] + ",z", *rows[row + 1 :]]),
            ("other headings", ["a,b", *rows]),
        ],
    )
    path.write_text("".join(line + "\n" for line in lines))
    return Change(f"{path.name}: {text}", path.name)


def _extra_files(rng: Rng, folder: Folder) -> Change:
    path = folder.path(folder.tables[0])
    for name in ("._" + path.name, "notes.csv", path.name + ".bak", "index.html"):
        (path.parent / name).write_bytes(b"\x00\x05\x16\x07, not a table")
    shutil.copy(path, path.parent / f"old-{path.name}")
    return Change("files that do not belong there", path.name)


def _latin(rng: Rng, old: str) -> str:
    return old[:1] + "\u00e9" + old[1:]


def _value(kind: str, *values: str) -> Edit:
    """Returns the edit that puts one of these values into a cell of this kind."""
    return _cell((kind,), lambda rng, old: pick(rng, values))


def _drug(rng: Rng, old: str) -> str:
    return pick(rng, (f"{old}.0", "1.2E+10", "zzqx", ""))


def _treatment(rng: Rng, folder: Folder) -> Change:
    _, rows = folder.read("treatment")
    row = int(rng.integers(len(rows)))
    return _set(folder, "treatment", row, "treatmentstring", pick(rng, ("", "\u00bd", "x")))


def _far(rng: Rng, old: str) -> str:
    return pick(rng, ("1801", "2399")) + old[4:]


def _elsewhere(edit: Edit) -> Edit:
    """Returns the edit whose fault shows in the table that it contradicts, perhaps."""
    return lambda rng, folder: replace(edit(rng, folder), file=".csv")


_KEYS, _ALL_KEYS = ("own", "ref"), ("own", "ref", "number", "stay")
_READ = (
    "own",
    "ref",
    "number",
    "stay",
    "offset",
    "time",
    "age",
    "category",
    "code",
    "version",
    "drug",
    "person",
)

CORRUPTIONS: tuple[Corruption, ...] = (
    Corruption("column dropped", lambda r, f: _drop(r, f, False), REFUSED),
    Corruption("unused column dropped", lambda r, f: _drop(r, f, True), SAME),
    Corruption("columns shuffled", _table(_columns_shuffled), SAME),
    Corruption("headings rotated", _table(_headings_rotated), NOT_SAME),
    Corruption("heading renamed", _heading_renamed, REFUSED),
    Corruption("headings exchanged", _headings_exchanged, NOT_SAME),
    Corruption("heading twice", _heading_twice, REFUSED),
    Corruption("heading case", _table(_header_case), SAME),
    Corruption("extra column", _table(_extra_column), SAME),
    Corruption("header missing", _lines(_no_header, "no header"), REFUSED),
    Corruption("header joined with a row", _lines(_header_joined, "header joined"), REFUSED),
    Corruption("header twice", _table(_header_twice), REFUSED),
    Corruption("header only", _table(_only_header), REFUSED),
    Corruption("row of a stay repeated", lambda r, f: _row_repeated(r, f, True), REFUSED),
    Corruption("row repeated", lambda r, f: _row_repeated(r, f, False), SAME),
    Corruption("key repeated", _key_repeated, REFUSED),
    Corruption("rows exchanged between tables", _rows_exchanged, NOT_SAME),
    Corruption("files exchanged", _files_exchanged, NOT_SAME),
    Corruption("row shifted", _table(_row_shifted), ANY),
    Corruption("field too many", _table(_field_extra), REFUSED),
    Corruption("field missing", _table(_field_missing), REFUSED),
    Corruption("line break quoted", _newline_quoted, SAME),
    Corruption("line break in a cell", _cell(_READ, lambda r, old: old[:2] + "\n" + old[2:]), ANY),
    Corruption("row broken in two", _lines(_broken, "a row on two lines"), REFUSED),
    Corruption("quote unbalanced", _lines(_inserted((b'"',)), "a quote too many"), ANY),
    Corruption("trailing commas", _lines(lambda r, x: _commas(r, x, 1), "commas"), REFUSED),
    Corruption(
        "trailing commas everywhere", _lines(lambda r, x: _commas(r, x, 0), "commas"), SAME
    ),
    Corruption("other delimiter", _bytes(_delimited, "another delimiter"), REFUSED),
    Corruption("plain file cut", _bytes(_cut, "cut short"), NOT_SAME),
    Corruption("bom", _bytes(lambda r, b: b"\xef\xbb\xbf" + b, "byte order mark"), SAME),
    Corruption("crlf", _bytes(lambda r, b: b.replace(b"\n", b"\r\n"), "CRLF"), SAME),
    Corruption("cr", _bytes(lambda r, b: b.replace(b"\n", b"\r"), "CR"), SAME),
    Corruption("no final newline", _bytes(lambda r, b: b.rstrip(b"\n"), "no newline"), SAME),
    Corruption("blank lines", _lines(_blank, "blank lines"), SAME),
    Corruption(
        "utf-16 file", _bytes(lambda r, b: b.decode().encode("utf-16"), "UTF-16"), REFUSED
    ),
    Corruption(
        "utf-16 cell",
        _cell(_READ, lambda r, old: old.encode("utf-16").decode("latin-1")),
        NOT_SAME | SAME,
    ),
    Corruption("latin-1 bytes", _lines(_inserted(_LATIN), "Latin-1"), ANY),
    Corruption("other letters", _cell(_READ, _latin), ANY),
    Corruption("nul byte", _lines(_inserted((b"\0", b"\0\0\0\0")), "NUL"), ANY),
    Corruption("control characters", _lines(_inserted(_CONTROLS), "ESC"), ANY),
    Corruption("key with decimals", _cell(_ALL_KEYS, lambda r, old: f"{old}.0"), REFUSED),
    Corruption(
        "key with exponent", _cell(_KEYS, lambda r, old: f"{float(old):.5E}"), REFUSED
    ),
    Corruption("key with separators", _cell(_KEYS, lambda r, old: f"{int(old):,}"), REFUSED),
    Corruption("key with sign", _cell(_KEYS, lambda r, old: pick(r, "+-") + old), REFUSED),
    Corruption("key padded", _cell(_ALL_KEYS, lambda r, old: f"  {old}\t"), SAME),
    Corruption("key with zeros in front", _cell(_KEYS, lambda r, old: f"000{old}"), SAME),
    Corruption("key of many digits", _cell(_KEYS, lambda r, old: old + "9" * 20), REFUSED),
    Corruption("key empty", _cell(_KEYS, lambda r, old: ""), ANY),
    Corruption("stay's key empty", _cell(("own",), lambda r, old: ""), REFUSED),
    Corruption("key unknown", _cell(("ref",), lambda r, old: "999999999"), HARMLESS),
    Corruption("number absurd", _cell(("number",), lambda r, old: "9" * 12), NOT_SAME,
               ("mimic4", "eicu")),
    Corruption("number negative", _cell(("number",), lambda r, old: f"-{abs(int(old))}5"), ANY,
               ("mimic4", "eicu")),
    Corruption("offset absurd", _value("offset", "9" * 12, "12:30", "1e3", ""),
               REFUSED, ("eicu",)),
    Corruption("time malformed", _value("time", *_BAD_TIMES), REFUSED,
               MIMIC),
    Corruption("time of an impossible year", _value("time", *_FAR_TIMES),
               REFUSED, MIMIC),
    Corruption("time centuries off", _elsewhere(_cell(("time",), _far)), ANY, MIMIC),
    Corruption("age absurd", _value("age", *_BAD_AGES), REFUSED,
               ("mimic4", "eicu")),
    Corruption("huge cell", _cell(_READ, lambda r, old: pick(r, "x7") * 1_000_000), ANY),
    Corruption("huge unused cell", _huge_unused, SAME),
    Corruption("junk", _cell(_READ, lambda r, old: pick(r, _JUNK)), ANY),
    Corruption("category unknown", _value("category", *_BAD_NAMES), REFUSED),
    Corruption("person malformed", _value("person", "", "x", "12"), REFUSED, ("eicu",)),
    Corruption("version 11", _value("version", "11", "9.0", "", "ICD9"),
               REFUSED, ("mimic4",)),
    Corruption("code with dots", _cell(("code",), lambda r, old: f"{old[:3]}.{old[3:]}"), HARMLESS,
               MIMIC),
    Corruption("code in lower case", _cell(("code",), lambda r, old: old.lower()), SAME),
    Corruption("code malformed", _value("code", *_BAD_CODES), HARMLESS),
    Corruption("treatment malformed", _treatment, HARMLESS, ("eicu",)),
    Corruption("code empty", _cell(("code",), lambda r, old: ""), HARMLESS),
    Corruption("drug altered", _cell(("drug",), _drug), HARMLESS),
    Corruption("file empty", _bytes(lambda r, b: b"", "empty"), REFUSED),
    Corruption("file blank", _bytes(lambda r, b: b"\n \n", "blank"), REFUSED),
    Corruption("file missing", _missing, REFUSED),
    Corruption("file is a folder", _is_folder, REFUSED),
    Corruption("file unreadable", _unreadable, REFUSED),
    Corruption("other files", _extra_files, SAME),
    Corruption("gz", _packed(_gzip, "packed"), SAME),
    Corruption("gz without its ending", _packed(_gzip, "packed", ""), SAME),
    Corruption("gz cut", _packed(_gzip_cut, "packed and cut"), REFUSED),
    Corruption("gz flipped", _packed(_gzip_flipped, "packed, a bit flipped"), REFUSED),
    Corruption("gz of two members", _packed(_gzip_members, "packed in two members"), SAME),
    Corruption("gz of two members cut", _packed(lambda r, b: _gzip_members(r, b, True), "cut"),
               REFUSED),
    Corruption("gz and more", _packed(_gzip_and_more, "garbage behind"), REFUSED),
    Corruption("not gz", _packed(lambda r, b: b, "plain under .gz"), REFUSED),
    Corruption("knowledge table", _knowledge, REFUSED, MIMIC),
)  # fmt: skip


def chosen(seed: int) -> tuple[str, Corruption]:
    """Returns data set and corruption of a seed: all in turn."""
    dataset = DATASETS[seed % len(DATASETS)]
    pool = [each for each in CORRUPTIONS if dataset in each.datasets]
    return dataset, pool[seed // len(DATASETS) % len(pool)]
