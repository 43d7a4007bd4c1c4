"""Clinical Classifications Software (AHRQ): a few hundred clinical categories over ICD codes.

Files, found by name in a folder or below it (upper or lower case, plain or gzip), as published:

    ICD-9-CM diagnoses     $dxref 2015.csv (Single_Level_CCS_2015.zip; some mirrors call it
                           ccs_single_dx_tool_2015.csv) and ccs_multi_dx_tool_2015.csv
                           (Multi_Level_CCS_2015.zip)
    ICD-9-CM procedures    $prref 2015.csv (or ccs_single_pr_tool_2015.csv) and
                           ccs_multi_pr_tool_2015.csv
    ICD-10-CM diagnoses    ccs_dx_icd10cm_2019_1.csv (beta; two of the levels)
    ICD-10-PCS procedures  ccs_pr_icd10pcs_2019_1.csv (beta; two of the levels)

Single-level categories are written "ccs:108" and those of the levels "ccs-multi:7.2.11": the
numbers 1 to 18 mean other things in the two. Both are the same for ICD-9 and ICD-10, but those of
diagnoses and of procedures are not: "ccs:1" is tuberculosis or a craniotomy.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from medrec.errors import KnowledgeError
from medrec.knowledge.hierarchy import Hierarchy
from medrec.knowledge.icd_tree import CodedKind, Version
from medrec.knowledge.origin import Origin
from medrec.knowledge.source_files import read_lines, require_files, wrong_line
from medrec.raw_table import digests

_LICENCE = "public domain (US Government: AHRQ, HCUP)"
_FILES = {
    ("diagnoses", "9"): {
        "$dxref 2015.csv (AHRQ, Single_Level_CCS_2015.zip)": (
            r"(\$dxref.*|ccs_single_dx_tool.*)\.csv(\.gz)?"
        ),
        "ccs_multi_dx_tool_2015.csv (AHRQ, Multi_Level_CCS_2015.zip)": (
            r"ccs_multi_dx_tool.*\.csv(\.gz)?"
        ),
    },
    ("procedures", "9"): {
        "$prref 2015.csv (AHRQ, Single_Level_CCS_2015.zip)": (
            r"(\$prref.*|ccs_single_pr_tool.*)\.csv(\.gz)?"
        ),
        "ccs_multi_pr_tool_2015.csv (AHRQ, Multi_Level_CCS_2015.zip)": (
            r"ccs_multi_pr_tool.*\.csv(\.gz)?"
        ),
    },
    ("diagnoses", "10"): {
        "ccs_dx_icd10cm_2019_1.csv (AHRQ, CCS beta)": r"ccs_dx_icd10cm.*\.csv(\.gz)?"
    },
    ("procedures", "10"): {
        "ccs_pr_icd10pcs_2019_1.csv (AHRQ, CCS beta)": r"ccs_pr_icd10pcs.*\.csv(\.gz)?"
    },
}
_SHORTEST = {("procedures", "9"): 2}  # characters of a header; 3 elsewhere

# A field is quoted with ' (codes, some labels) or with " (labels that may hold a comma), or bare.
_FIELD = re.compile(r"""(?:^|,)('[^']*'(?=,|$)|"[^"]*"(?=,|$)|[^,]*)""")
_QUOTES = " '\""
_CODE_HEADING = re.compile(r"icd-(9-cm|10-cm|10-pcs) code")
_LEVEL_HEADING = re.compile(r"(multi )?ccs lvl [1-4]")
_HEADER_WITHIN = 5  # lines; a line about the version may stand above the header
_CODE = re.compile(r"[0-9A-Z]{2,7}|")  # the empty code of the class "invalid codes"
_LEVEL = re.compile(r"[0-9]+(\.[0-9]+)*")
_NO_CELLS = ("",) * 10  # more than the columns that a damaged line can lack
_ALSO_SINGLE = re.compile(r"(.*\S) \[([0-9]+)\.\]")


@dataclass(frozen=True)
class Ccs:
    """Clinical categories of one kind of code.

    Attributes:
        origin: where they come from.
        category: single-level category of each code, "9:42823" to "ccs:108".
        headers: category of each prefix whose codes all share it, "9:428" to "ccs:108".
        titles: English title of each single-level category.
        levels: the multi-level categories and, below the deepest, the codes: "9:42823" below
            "ccs-multi:7.2.11.1" or the like. The codes' titles are AHRQ's own, short ones.
    """

    origin: Origin
    category: dict[str, str]
    headers: dict[str, str]
    titles: dict[str, str]
    levels: Hierarchy

    def of(self, code: str) -> str | None:
        """Returns the category of a code, or of the longest prefix that has one, or None.

        A prefix stands for retired and for later codes; those in `category` are exact.

        Example:
            >>> none = Hierarchy(Origin("", ""), {}, {})
            >>> ccs = Ccs(Origin("", ""), {"9:4280": "ccs:108"}, {"9:428": "ccs:108"}, {}, none)
            >>> ccs.of("9:4280"), ccs.of("9:4289"), ccs.of("9:42")
            ('ccs:108', 'ccs:108', None)
        """
        for end in range(len(code), code.find(":") + 2, -1):
            found = self.category.get(code[:end]) or self.headers.get(code[:end])
            if found:
                return found
        return None


def load_ccs(kind: CodedKind, version: Version, folder: Path) -> Ccs:
    """Returns the categories of one of the four kinds of code.

    Of several files where one is needed, the last by name counts (the newest version). A title is
    the full one that the levels give ("Tuberculosis [1.]"), else the most frequent of the file.

    Raises:
        KnowledgeError: a file is missing or malformed.
    """
    wanted = _FILES[kind, version]
    paths = [require_files(folder, pattern, name)[-1] for name, pattern in wanted.items()]
    single = _read(paths[0])
    levels = _read(paths[1]) if len(paths) > 1 else single
    title = f"CCS of ICD-{version} {kind}"
    origin = Origin(
        title, _LICENCE, digests(paths), {"titles": "of the levels, else most frequent"}
    )
    category = {f"{version}:{row.code}": f"ccs:{row.category}" for row in single if row.category}
    if not category:
        raise KnowledgeError(f"{paths[0]} has no column `CCS CATEGORY`, or it is empty.")
    names = {f"{version}:{row.code}": row.name for row in single}
    tree = _levels(levels, version, names, origin)
    return Ccs(
        origin=origin,
        category=category,
        headers=_headers(category, _SHORTEST.get((kind, version), 3)),
        titles=_titles(single, levels),
        levels=tree,
    )


class _Row(NamedTuple):
    """One line: a code with its title, category, and (number, label) of each level."""

    code: str
    name: str
    category: str
    label: str
    levels: tuple[tuple[str, str], ...]


class _Columns(NamedTuple):
    """Places of the columns in a line; that of a column which the file lacks is None."""

    code: int
    name: int | None
    category: int | None
    label: int | None
    levels: tuple[tuple[int, int], ...]

    @property
    def fewest(self) -> int:
        """Fields that a line needs."""
        return 1 + max(self.code, self.category or 0, *(number for number, _ in self.levels), 0)

    def row(self, cells: Sequence[str]) -> _Row:
        """Returns a line's row."""
        return _Row(
            cells[self.code].strip(_QUOTES),
            "" if self.name is None else cells[self.name].strip(_QUOTES),
            "" if self.category is None else cells[self.category].strip(_QUOTES),
            "" if self.label is None else cells[self.label].strip(_QUOTES),
            tuple([(cells[n], cells[label]) for n, label in self.levels]),
        )


def _read(path: Path) -> list[_Row]:
    """Returns the rows that have a code, by code."""
    lines = read_lines(path)
    columns = _columns(path, lines)
    fewest = columns.fewest
    seen: dict[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...] | None] = {}
    rows = {}
    for number, line in lines:
        cells = _FIELD.findall(line)
        if len(cells) < fewest:
            raise wrong_line(path, number, f"a line must have at least {fewest} fields", line)
        row = columns.row([*cells, *_NO_CELLS])
        if not (_CODE.fullmatch(row.code) and (not row.category or row.category.isdecimal())):
            raise wrong_line(
                path, number, "a line must have an ICD code and a category number", line
            )
        if row.levels not in seen:
            seen[row.levels] = _stripped(row.levels)
        levels = seen[row.levels]
        if levels is None:
            raise wrong_line(path, number, "a level must be a number as 7.2.11", line)
        rows[row.code] = row._replace(levels=levels)
    rows.pop("", None)  # the class of codes that are none
    if not rows:
        raise KnowledgeError(f"{path} has a header, but no codes. Download it again.")
    return [rows[code] for code in sorted(rows)]


def _stripped(levels: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...] | None:
    """Returns the levels that are there, without quotes and padding; None if one is no number."""
    found = [(number.strip(_QUOTES), label.strip(_QUOTES)) for number, label in levels]
    kept = tuple(pair for pair in found if pair[0])
    return kept if all(_LEVEL.fullmatch(number) for number, _ in kept) else None


def _columns(path: Path, lines: Iterator[tuple[int, str]]) -> _Columns:
    """Returns the places of the columns, and moves `lines` below the header."""
    for _, line in islice(lines, _HEADER_WITHIN):
        headings = [cell.strip(_QUOTES).lower() for cell in _FIELD.findall(line)]
        if headings and _CODE_HEADING.fullmatch(headings[0]):
            places = {heading: place for place, heading in enumerate(headings)}
            numbers = filter(_LEVEL_HEADING.fullmatch, headings)
            return _Columns(
                code=0,
                name=places.get(f"{headings[0]} description"),
                category=places.get("ccs category"),
                label=places.get("ccs category description"),
                levels=tuple((places[n], places.get(f"{n} label", len(places))) for n in numbers),
            )
    raise KnowledgeError(
        f"{path} must have a header that begins with 'ICD-9-CM CODE', 'ICD-10-CM CODE' or "
        f"'ICD-10-PCS CODE' in its first {_HEADER_WITHIN} lines. Use the file as published."
    )


def _headers(category: Mapping[str, str], shortest: int) -> dict[str, str]:
    """Returns the category of each proper prefix whose codes all have the same."""
    found: dict[str, str] = {}
    for code, its in category.items():
        for end in range(code.find(":") + 1 + shortest, len(code)):
            if found.setdefault(code[:end], its) != its:
                found[code[:end]] = ""
    return {prefix: its for prefix, its in found.items() if its and prefix not in category}


def _titles(single: Sequence[_Row], levels: Sequence[_Row]) -> dict[str, str]:
    """Returns the title of each single-level category."""
    counts = Counter((row.category, row.label) for row in single if row.category)
    titles: dict[str, str] = {}
    for category, label in sorted(counts, key=lambda pair: (pair[0], -counts[pair], pair[1])):
        titles.setdefault(category, label)
    full = sorted({label for row in levels for _, label in row.levels}, reverse=True)
    for match in filter(None, map(_ALSO_SINGLE.fullmatch, full)):
        if match[2] in titles:
            titles[match[2]] = match[1]
    return {f"ccs:{category}": titles[category] for category in sorted(titles, key=int)}


def _levels(
    rows: Sequence[_Row], version: Version, names: Mapping[str, str], origin: Origin
) -> Hierarchy:
    """Returns the tree of levels with the codes below; its labels lose their "[108.]"."""
    counts: Counter[tuple[str, str]] = Counter()
    parents: dict[str, str] = {}
    for levels, rows_of in Counter(row.levels for row in rows).items():
        counts.update(dict.fromkeys(levels, rows_of))
        chain = [f"ccs-multi:{number}" for number, _ in levels]
        parents.update(zip(chain[1:], chain, strict=False))
    for row in rows:
        if row.levels:
            parents[f"{version}:{row.code}"] = f"ccs-multi:{row.levels[-1][0]}"
    titles: dict[str, str] = {}
    for number, label in sorted(counts, key=lambda pair: (-counts[pair], pair)):
        titles.setdefault(f"ccs-multi:{number}", re.sub(r"\s*\[[0-9. and]*\]$", "", label))
    titles |= {code: names.get(code, "") for code in (f"{version}:{row.code}" for row in rows)}
    return Hierarchy(
        origin,
        {node: titles[node] for node in sorted(titles)},
        {node: parents[node] for node in sorted(parents)},
    )
