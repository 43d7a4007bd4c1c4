"""General Equivalence Mappings (CMS): from codes of ICD-9 to codes of ICD-10, and back.

Files, found by name in a folder or below it (upper or lower case, plain or gzip); of several, the
first of the row that is there counts:

    diagnoses  9 to 10     icd9toicd10cmgem.csv (NBER), 2018_I9gem.txt (CMS), or
                           icd_cm_9_to_10_gem.csv (several years together)
    diagnoses  10 to 9     icd10cmtoicd9gem.csv (NBER) or 2018_I10gem.txt (CMS)
    procedures 9 to 10     icd9toicd10pcsgem.csv (NBER), gem_i9pcs.txt (CMS), or
                           icd_pcs_9_to_10_gem.csv (several years together)
    procedures 10 to 9     icd10pcstoicd9gem.csv (NBER) or gem_pcsi9.txt (CMS); where there is
                           neither, a file of procedures 9 to 10 is read backwards

A csv file has a source, a target and the column `flags`; a txt file the same three without a
header, between blanks. The five flags are approximate, no map, combination, scenario, choice list.
An entry is one source code. Its rows without the flag combination are alternatives; those with it
give, in each scenario, one target from every choice list, and only all of these together say what
the source code says.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medrec.errors import KnowledgeError
from medrec.knowledge.icd_tree import CodedKind, Version
from medrec.knowledge.origin import Origin
from medrec.knowledge.source_files import cells, find_files, missing, read_lines, wrong_line
from medrec.raw_files import read_table
from medrec.raw_table import digests

Rule = Literal["first", "all"]

_LICENCE = "public domain (US Government: CMS)"
_FILES: dict[tuple[str, str], tuple[str, ...]] = {
    ("diagnoses", "9"): (
        r"icd9toicd10cmgem.*\.csv(\.gz)?",
        r".*_i9gem\.txt(\.gz)?",
        r"icd_cm_9_to_10_gem.*\.csv(\.gz)?",
    ),
    ("diagnoses", "10"): (r"icd10cmtoicd9gem.*\.csv(\.gz)?", r".*_i10gem\.txt(\.gz)?"),
    ("procedures", "9"): (
        r"icd9toicd10pcsgem.*\.csv(\.gz)?",
        r"gem_i9pcs.*\.txt(\.gz)?",
        r"icd_pcs_9_to_10_gem.*\.csv(\.gz)?",
    ),
    ("procedures", "10"): (r"icd10pcstoicd9gem.*\.csv(\.gz)?", r"gem_pcsi9.*\.txt(\.gz)?"),
}
_NAMES = {
    ("diagnoses", "9"): "icd9toicd10cmgem.csv (NBER) or 2018_I9gem.txt (CMS)",
    ("diagnoses", "10"): "icd10cmtoicd9gem.csv (NBER) or 2018_I10gem.txt (CMS)",
    ("procedures", "9"): "icd9toicd10pcsgem.csv (NBER) or gem_i9pcs.txt (CMS)",
    ("procedures", "10"): "gem_pcsi9.txt or gem_i9pcs.txt (CMS)",
}
_HEADINGS = {
    "9": ("icd9cm", "icd_9", "icd9", "icd9pcs"),
    "10": ("icd10cm", "icd_10", "icd10pcs", "icd10"),
}
_UNSPECIFIED = re.compile(r"unspecified|\bnos\b|not otherwise specified")
_FLAGS = re.compile(r"[01][01][01][0-9][0-9]")
_CODE = re.compile(r"[0-9A-Z]{3,7}|NoDx|NoPCS")
_RULES = {
    "first": "exact before approximate before combination; of alternatives, and in a choice list, "
    "the one whose title says unspecified most often, then the shortest title, then the "
    "alphabetically first; of a combination, the first scenario",
    "all": "every target",
}
_BACKWARDS = "9 to 10 read backwards, of several the source with the fewest targets"


# Of one source code: (combination, approximate, scenario, choice list, target), flags as digits.
_Option = tuple[str, str, str, str, str]


@dataclass(frozen=True)
class Gem:
    """Equivalents of the codes of one version in the other.

    Attributes:
        origin: where they come from.
        targets: equivalents of each code that has any, never empty: "10:I5023" to ("9:42823",).
        ambiguous: codes for which one of several equal alternatives was chosen.
    """

    origin: Origin
    targets: dict[str, tuple[str, ...]]
    ambiguous: frozenset[str] = frozenset()

    def map(self, code: str) -> tuple[str, ...]:
        """Returns the equivalents of a code; () for one without any, unknown, or a header.

        Several come from a combination (in the order of its choice lists), or from the rule "all".

        Example:
            >>> gem = Gem(Origin("", ""), {"10:I5023": ("9:42823",)})
            >>> gem.map("10:I5023"), gem.map("10:I50")
            (('9:42823',), ())
        """
        return self.targets.get(code, ())


def load_gem(
    kind: CodedKind,
    source_version: Version,
    folder: Path,
    rule: Rule = "first",
    titles: Mapping[str, str] | None = None,
) -> Gem:
    """Returns the mapping from one version to the other.

    Args:
        kind: which codes.
        source_version: "9" maps ICD-9 to ICD-10, "10" maps ICD-10 to ICD-9.
        folder: folder that holds the file, somewhere below.
        rule: `first` prefers exact equivalents, then approximate ones, then combinations, and of
            several the one that says least: whose title says unspecified, then that of the
            shortest title, then the alphabetically first ("10:I10" is 401.9, not malignant
            401.0). A combination gives all its members: of its first scenario one of every choice
            list. `all` gives every target, ascending.
        titles: of the codes of the other version; without them the alphabetically first counts.

    Procedures from 10 to 9 read from a file of 9 to 10: every row is an alternative, exact ones
    before approximate ones before parts of a combination, and of several the ICD-9 code with the
    fewest targets before the alphabetically first.

    Raises:
        KnowledgeError: the file is missing or malformed.
    """
    path, file_version = _find(kind, source_version, folder)
    inverted = file_version != source_version
    rows = _read(path, file_version)
    entries = _backwards(rows) if inverted else _entries(rows)
    target_version = _other(source_version)
    known = titles or {}
    targets = {}
    ambiguous = set()
    for source in sorted(entries):
        found, chosen = _chosen(
            entries[source],
            rule,
            lambda code: _least_said(known.get(f"{target_version}:{code}")) if known else (0, 0),
        )
        targets[f"{source_version}:{source}"] = tuple(f"{target_version}:{f}" for f in found)
        if chosen:
            ambiguous.add(f"{source_version}:{source}")
    title = f"General Equivalence Mappings of ICD-{source_version} {kind} to ICD-{target_version}"
    rules = {"choice": _RULES[rule], "direction": _BACKWARDS if inverted else "as published"}
    rules["titles"] = "read" if titles else "none"
    return Gem(Origin(title, _LICENCE, digests([path]), rules), targets, frozenset(ambiguous))


def _least_said(title: str | None) -> tuple[int, int]:
    """Returns a key that is less for titles that say less; codes without a title come last."""
    return (-len(_UNSPECIFIED.findall(title.lower())), len(title)) if title else (1, 0)


def _other(version: Version) -> Version:
    return "9" if version == "10" else "10"


def _find(kind: CodedKind, source_version: Version, folder: Path) -> tuple[Path, Version]:
    """Returns the file, and the version it maps from."""
    tried: list[Version] = [source_version]
    if (kind, source_version) == ("procedures", "10"):
        tried.append("9")
    for version in tried:
        for pattern in _FILES[kind, version]:
            found = find_files(folder, pattern)
            if found:
                return found[-1], version
    raise missing(folder, _NAMES[kind, source_version])


def _read(path: Path, source_version: Version) -> set[tuple[str, str, str]]:
    """Returns the distinct rows: source, target, flags."""
    if ".txt" in path.name.lower():
        return set(_text_rows(path))
    columns = {
        "source": _HEADINGS[source_version],
        "target": _HEADINGS[_other(source_version)],
        "flags": ("flags",),
    }
    table = read_table(path, columns, KnowledgeError)
    table.require(
        "source", lambda cell: bool(_CODE.fullmatch(cell)), "must be an ICD code without a dot"
    )
    table.require(
        "target",
        lambda cell: bool(_CODE.fullmatch(cell)),
        "must be an ICD code without a dot, or NoDx or NoPCS",
    )
    table.require("flags", _are_flags, "must be five digits, of which the first three 0 or 1")
    sources, targets, flags = (cells(table, name) for name in columns)
    return set(zip(sources, targets, flags, strict=True))


def _text_rows(path: Path) -> Iterator[tuple[str, str, str]]:
    for number, line in read_lines(path):
        parts = line.split()
        good = len(parts) == 3 and _is_code(parts[0]) and _is_code(parts[1])
        if not (good and _are_flags(parts[2])):
            rule = "a line must be a source code, a target code and five flags"
            raise wrong_line(path, number, rule, line)
        yield parts[0], parts[1], parts[2]


def _is_code(cell: str) -> bool:
    return _CODE.fullmatch(cell) is not None


def _are_flags(cell: str) -> bool:
    return _FLAGS.fullmatch(cell) is not None


def _entries(rows: Iterable[tuple[str, str, str]]) -> dict[str, list[_Option]]:
    """Returns the options of each source code that has an equivalent."""
    entries: dict[str, list[_Option]] = {}
    for source, target, flags in rows:
        approximate, no_map, combination, scenario, choice_list = tuple(flags)
        if no_map == "0":
            option = (combination, approximate, scenario, choice_list, target)
            entries.setdefault(source, []).append(option)
    return entries


def _backwards(rows: Iterable[tuple[str, str, str]]) -> dict[str, list[_Option]]:
    """Returns each target with the sources that fit it best as its options.

    Sources by combination (last) and approximation; of equals, those with the fewest targets,
    which say most exactly what the target says: 96.72 for 5A1955Z, not 96.70 "unspecified".
    """
    entries = _entries(rows)
    backwards: dict[str, list[tuple[str, str, int, str]]] = {}
    for source, options in entries.items():
        size = len({option[-1] for option in options})
        for combination, approximate, _, _, target in options:
            backwards.setdefault(target, []).append((combination, approximate, size, source))
    return {
        target: [
            ("0", f"{rank:06d}", "0", "0", found[-1]) for rank, found in enumerate(sorted(all_))
        ]
        for target, all_ in backwards.items()
    }


def _chosen(
    options: Sequence[_Option], rule: Rule, key: Callable[[str], tuple[int, int]]
) -> tuple[tuple[str, ...], bool]:
    """Returns the targets of one source code, and whether equal alternatives were passed over.

    Of alternatives that of the least key counts.
    """
    if rule == "all":
        return tuple(sorted({option[-1] for option in options})), False
    simple = sorted(
        (approximate, key(target), target)
        for single, approximate, _, _, target in options
        if single == "0"
    )
    if simple:
        equal = {target for approximate, _, target in simple if approximate == simple[0][0]}
        return (simple[0][-1],), len(equal) > 1
    first = min(scenario for _, _, scenario, _, _ in options)
    lists: dict[str, list[str]] = {}
    for _, _, scenario, choice_list, target in options:
        if scenario == first:
            lists.setdefault(choice_list, []).append(target)
    best = [min(lists[number], key=lambda code: (key(code), code)) for number in sorted(lists)]
    return tuple(dict.fromkeys(best)), any(len(set(found)) > 1 for found in lists.values())
